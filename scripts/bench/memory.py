"""Measure the memory of a whole study on Chinese MNIST: the driver, two trials, the shared images.

One trial is S0's network (the baseline `oafarih`), the other `lazhili8_cnn`. Linux only. Writes
results/bench/memory.json and .md:

    python -m scripts.bench.memory
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from scripts.bench.outcome import publish, table

PAUSE = 0.1  # seconds between two looks
KINDS = {
    "driver": r"python\S* -m hwtune search",
    "a trial": r"^ray::TrialRunner",
    "a retraining": r"^ray::_train",
    "reading the test images": r"^ray::_read",
    "measuring the speed": r"^ray::measure",
}
COMMAND = [
    sys.executable, "-m", "hwtune", "search", "chinese_cnn", "--data", "chinese_mnist",
    "--trials", "2", "--epochs", "2", "--seeds", "2", "--parallel", "2",
]  # fmt: skip


def descendants(root: int) -> Iterator[int]:
    """Yield a process and all that it started."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2]
        except OSError:
            continue  # it ended meanwhile
        parents[int(stat.parent.name)] = int(after_name.split()[1])
    family = {root}
    while grown := {child for child, parent in parents.items() if parent in family} - family:
        family |= grown
    yield from family


def look(process: int) -> tuple[str, dict[str, int]] | None:
    """Return the title of a process and its memory in bytes by kind, None when it ended."""
    folder = Path("/proc", str(process))
    try:
        title = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        status = (folder / "status").read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.findall(r"^(VmRSS|RssShmem):\s+(\d+) kB", status, re.MULTILINE)
    return title, {name: 1024 * int(value) for name, value in found}


def shared() -> int:
    """Return the bytes of shared memory in use on the machine."""
    text = Path("/proc/meminfo").read_text(encoding="ascii")
    found = re.search(r"^Shmem:\s+(\d+) kB", text, re.MULTILINE)
    assert found is not None
    return 1024 * int(found.group(1))


def watch(command: list[str]) -> tuple[dict[str, tuple[int, int]], int]:
    """Run a study; return the peaks (resident, of it shared) by kind, and of the shared memory."""
    before, peak = shared(), 0
    peaks: dict[str, tuple[int, int]] = {}
    study = subprocess.Popen(command)
    while study.poll() is None:
        for process in descendants(study.pid):
            seen = look(process)
            for kind, pattern in KINDS.items():
                if seen and re.search(pattern, seen[0]):
                    now = (seen[1].get("VmRSS", 0), seen[1].get("RssShmem", 0))
                    peaks[kind] = max(peaks.get(kind, (0, 0)), now)
        peak = max(peak, shared() - before)
        time.sleep(PAUSE)
    if study.returncode:
        raise SystemExit(f"The study ended with exit code {study.returncode}.")
    return peaks, peak


def main() -> None:
    """Measure and write the table."""
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args()
    with TemporaryDirectory() as folder:
        peaks, store = watch([*COMMAND, "--results", folder])
    rows = [
        {"process": kind, "peak_mb": resident / 1e6, "shared_mb": part / 1e6}
        for kind, (resident, part) in peaks.items()
    ]
    rows.append({"process": "shared memory, all of it", "peak_mb": store / 1e6})
    lines = [
        [str(r["process"]), f"{r['peak_mb']:.0f}", f"{r['shared_mb']:.0f}" if len(r) > 2 else ""]
        for r in rows
    ]
    words = " ".join(COMMAND[1:])
    text = f"Peak memory during `python {words}`: 15,000 images of 64x64, 61 MB.\n\n"
    publish("memory", text + table(["process", "peak, MB", "of it shared, MB"], lines), rows)


if __name__ == "__main__":
    main()
