"""The scripts as a user on a fresh machine meets them."""

import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from scripts.kept import kept

ROOT = Path(__file__).parent.parent
NAMES = ("search", "test", "check", "setup", "results_table", "slurm")


@pytest.mark.parametrize("name", NAMES)
def test_a_script_says_what_it_does_in_its_first_line(name):
    script = ROOT / "scripts" / name
    lines = script.read_text().splitlines()
    assert script.stat().st_mode & stat.S_IXUSR
    assert lines[0].startswith("#!/usr/bin/env ")
    assert lines[1].startswith("# ")


def test_the_projects_own_studies_are_those_that_git_knows(monkeypatch):
    kept_with_git = kept("study.json")
    assert len(kept_with_git) > 20
    monkeypatch.setenv("PATH", "")
    assert {*kept("study.json")} >= {*kept_with_git}


def test_python_that_is_too_old_is_named(tmp_path):
    """Only programs named python3 that fail are on the PATH, beside the shell's own tools."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("bash", "env", "cat", "cksum", "dirname", "flock", "mv"):
        if found := shutil.which(tool):
            (tools / tool).symlink_to(found)
    (tools / "python3").write_text("#!/bin/sh\nexit 1\n")
    (tools / "python3").chmod(0o755)
    copy = tmp_path / "hwtune"
    shutil.copytree(ROOT / "scripts", copy / "scripts")
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, copy)
    done = subprocess.run(
        [copy / "scripts" / "search", "digits_cnn"],
        env={"PATH": str(tools)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert "needs Python 3.11" in done.stderr
    assert not (copy / ".venv").exists()


def test_a_second_start_installs_nothing_and_works_from_any_folder(tmp_path):
    if not (ROOT / ".venv" / ".hwtune-installed").exists():
        pytest.skip("not set up by scripts/setup")
    environment = {"PATH": os.environ["PATH"]}
    done = subprocess.run(
        [ROOT / "scripts" / "search", "nowhere"],
        cwd=tmp_path, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("hwtune: Unknown space 'nowhere'")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_an_interrupted_setup_is_mended(tmp_path):
    """The first setup is cut after the environment's folder exists; the second one finishes.

    Without torch and what only tests want, which take minutes and tell no more of it.
    """
    copy = tmp_path / "hwtune"
    ignored = shutil.ignore_patterns(".venv", ".git", "results", "__pycache__")
    shutil.copytree(ROOT, copy, ignore=ignored)
    project = (copy / "pyproject.toml").read_text()
    lighter = re.sub(r'^    "(torch|torchvision)",\n', "", project, flags=re.MULTILINE)
    lighter = re.sub(r"^test = \[.*?^\]", "test = []", lighter, flags=re.MULTILINE | re.DOTALL)
    lighter = re.sub(r"^check = \[.*?\]", "check = []", lighter, flags=re.MULTILINE)
    assert len(project) - len(lighter) > 300
    (copy / "pyproject.toml").write_text(lighter)
    (copy / ".venv" / "bin").mkdir(parents=True)
    (copy / ".venv" / "bin" / "python").write_text("")  # what a cut creation leaves
    done = subprocess.run(
        [copy / "scripts" / "search", "nowhere"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2, done.stderr
    assert "Unknown space 'nowhere'" in done.stderr
    assert (copy / ".venv" / ".hwtune-installed").exists()


@pytest.mark.slow
def test_the_wheel_carries_what_is_no_module(tmp_path):
    import sys
    import zipfile

    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "-w", tmp_path, ROOT],
        check=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    spaces = {path.name for path in (ROOT / "search_spaces").glob("*.py")}
    assert {f"hwtune/search_spaces/{name}" for name in spaces} <= set(names)
    assert {
        "hwtune/report/template.html",
        "hwtune/models/pooling.cpp",
        "hwtune/models/norm.cpp",
        "hwtune/models/stem.cpp",
        "hwtune/models/lanes.hpp",
    } <= (set(names))
