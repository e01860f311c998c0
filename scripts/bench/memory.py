"""Measure the memory of a whole study on Chinese MNIST: the driver, its trials, the shared images.

A study of two trials at once, S0's network (the baseline `oafarih`) and `lazhili8_cnn`, then one of
four, the other baselines beside them: what the images take must not grow. Linux only. Writes
results/bench/memory.json and .md:

    python -m scripts.bench.memory
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from scripts.bench.outcome import publish, table

PAUSE = 0.1  # seconds between two looks
KINDS = {
    "driver": r"python\S* -m hwtune search",
    "a trial": r"^ray::TrialRunner",
    "a retraining": r"^ray::_train",
    "reading the test images": r"^ray::_read",
    "scoring what was read": r"^ray::scores",
    "measuring the speed": r"^ray::measure",
    "the report": r"python\S* -P -m hwtune report",
}
COMMAND = [
    "-m", "hwtune", "search", "chinese_cnn", "--data", "chinese_mnist", "--epochs", "2",
    "--seeds", "2",
]  # fmt: skip
TRIALS = (2, 4)  # of each study, all of them at once
AIMS = {"driver": 500, "a trial": 1200}  # MB
OWN = " without mapped files"  # the code of libraries, which all share and each is charged for


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
    found = re.findall(r"^(VmHWM|VmRSS|RssFile|RssShmem):\s+(\d+) kB", status, re.MULTILINE)
    return title, {name: 1024 * int(value) for name, value in found}


def shared() -> int:
    """Return the bytes of shared memory in use on the machine."""
    text = Path("/proc/meminfo").read_text(encoding="ascii")
    found = re.search(r"^Shmem:\s+(\d+) kB", text, re.MULTILINE)
    assert found is not None
    return 1024 * int(found.group(1))


def watch(command: list[str]) -> dict[str, int]:
    """Run a study; return the peaks in bytes by kind, of the shared memory and of all together."""
    before = shared()
    peaks: Counter[str] = Counter()
    study = subprocess.Popen(command)
    while study.poll() is None:
        stored, private = shared() - before, 0
        for process in descendants(study.pid):
            seen = look(process)
            if seen is None or "VmRSS" not in seen[1]:
                continue
            title, now = seen
            private += now["VmRSS"] - now.get("RssShmem", 0)
            for kind, pattern in KINDS.items():
                if re.search(pattern, title):
                    peaks[kind] = max(peaks[kind], now["VmHWM"])  # the kernel's own peak
                    own = now["VmRSS"] - now["RssFile"]
                    peaks[kind + OWN] = max(peaks[kind + OWN], own)
        peaks["shared memory, once"] = max(peaks["shared memory, once"], stored)
        everything = "all processes of the study, Ray's own too"
        peaks[everything] = max(peaks[everything], private + stored)
        time.sleep(PAUSE)
    if study.returncode:
        raise SystemExit(f"The study ended with exit code {study.returncode}.")
    return dict(peaks)


def main() -> None:
    """Measure and write the table."""
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args()
    rows = []
    for trials in TRIALS:
        with TemporaryDirectory() as folder:
            wish = ["--trials", str(trials), "--parallel", str(trials), "--results", folder]
            peaks = watch([sys.executable, *COMMAND, *wish])
        rows += [
            {"trials": trials, "process": kind, "peak_mb": value / 1e6}
            for kind, value in peaks.items()
        ]
    publish("memory", page(rows), rows)


def page(rows: list[dict[str, Any]]) -> str:
    """Return the table for people."""
    peaks = {(row["process"], row["trials"]): f"{row['peak_mb']:.0f}" for row in rows}
    kinds = dict.fromkeys(row["process"] for row in rows)
    lines = [
        [kind, *(peaks.get((kind, trials), "") for trials in TRIALS), str(AIMS.get(kind, ""))]
        for kind in sorted(kinds, key=lambda kind: kind.endswith(OWN))
    ]
    columns = ["peak, MB", *(f"{trials} trials at once" for trials in TRIALS), "aim"]
    return (
        f"Peak memory during `python {' '.join(COMMAND)}`: 15,000 images of 64x64, 61 MB. What a "
        "process has of the shared memory counts in its own figure, too, and what it has of mapped "
        "files, the code of libraries: some hundreds of MB, the more the larger the pages in which "
        f"the system keeps it. Peaks are the kernel's own; without files, of looks {PAUSE} s apart."
        "\n\n" + table(columns, lines)
    )


if __name__ == "__main__":
    main()
