"""What a study ran on: hardware, versions, commit."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from hwtune.contract import AboutHardware, MadeBy

PACKAGES = ("hwtune", "torch", "torchvision", "ray", "optuna", "numpy")


def versions() -> dict[str, str]:
    """Return the versions of Python and of what computes, "" of what is not installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = ""
    return found


def hardware() -> AboutHardware:
    """Return processor, cores, memory in GiB and GPUs."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
        if hasattr(os, "sysconf")
        else None,
        "gpus": _gpus(),
    }


def made_by() -> MadeBy:
    """Return what a run or a test is made by: versions, commit, this machine's processor, GPUs."""
    found = hardware()
    return {
        "versions": versions(),
        "git_commit": git_commit(),
        "processor": found["processor"],
        "gpus": found["gpus"],
    }


@cache
def _gpus() -> list[str]:
    """Return the names of this machine's GPUs, as NVIDIA's driver tells them, asked once."""
    words = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        return []


def cpu_flags() -> list[str]:
    """Return what the processor can do, as Linux tells it; elsewhere nothing."""
    return _cpu("flags", "Features").split()


def _processor() -> str:
    return _cpu("model name") or platform.processor() or platform.machine()


def _cpu(*names: str) -> str:
    """Return what Linux tells of the first processor under one of these names, or ""."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    told = (line.partition(":") for line in lines)
    return next((text.strip() for name, _, text in told if name.strip() in names), "")


def git_commit() -> str | None:
    """Return the commit of hwtune's own checkout, with "+" when it was changed, or None."""
    here = Path(__file__).parent

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(here), *words],
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")  # or another repository holds this one
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None
