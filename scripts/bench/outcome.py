"""How every benchmark tells what it measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hwtune.files import dump
from hwtune.hardware import cpu_flags, git_commit, hardware, versions

RESULTS = Path(__file__).resolve().parents[2] / "results" / "bench"


def publish(name: str, text: str, rows: Sequence[dict[str, Any]], **more: Any) -> None:
    """Print a page, and write it with its figures and their origin to `results/bench/NAME.*`.

    With `git checkout results/bench` what was committed is there again.
    """
    print(text)
    about = {
        **more, "rows": list(rows), "hardware": hardware(), "versions": versions(),
        "git_commit": git_commit(),  # before a file here makes it another tree
    }  # fmt: skip
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.md").write_text(text + "\n", encoding="utf-8")
    (RESULTS / f"{name}.json").write_text(dump(about), encoding="utf-8")


def of_processor(name: str) -> str:
    """Return the name under which a benchmark of training is published: with AMX it has its own."""
    return f"{name}-amx" if "amx_bf16" in cpu_flags() else name


def in_process(module: str, *words: str) -> Any:
    """Return what `python -m MODULE --one WORDS` measures with one thread, and prints as JSON."""
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", module, "--one", *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=alone)
    return json.loads(done.stdout)


def give_ray_its_defaults() -> None:
    """Undo what hwtune changes in Ray Tune when it is imported, for Ray Tune as documented."""
    for name in list(os.environ):
        if name.startswith(("TUNE_", "RAY_AIR_")):
            del os.environ[name]


def search(words: Sequence[str], log: Path, look: Callable[[], object], *, every: float) -> float:
    """Run `hwtune search WORDS` until its search is over, and end it before it retrains.

    Args:
        log: gets what it prints.
        look: is called every so many seconds meanwhile.

    Returns when the search was over, by `time.monotonic()`.
    """
    command = [sys.executable, "-m", "hwtune", "search", *words]
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(command, stdout=file)
    try:
        while "Winner on validation" not in log.read_text(encoding="utf-8"):
            if process.poll() is not None:
                raise SystemExit(f"hwtune ended before its time:\n{log.read_text()}")
            look()
            time.sleep(every)
        return time.monotonic()
    finally:
        process.terminate()
        process.wait()


def ratio_in_words(*values: float) -> str:
    """Return how many times as fast a search was, with its interval; 0 stands for under twice."""
    return "{} ({} to {})".format(*(f"{each:.1f}" if each else "< 2" for each in values))


def table(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    rows = [columns, ["---"] * len(columns), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
