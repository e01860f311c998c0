"""Measure how many training states a second reach the disk from trials that run at once.

Each trial waits for its state before it reports an epoch. One store writes all of them: one state
after the other, or several at once. Writes results/bench/states.json and .md:

    python -m scripts.bench.states
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from hwtune import cluster
from hwtune.states import STATES_AT_ONCE, start_store
from scripts.bench.outcome import publish, table

TRIALS, REPETITIONS = 8, 3
STATES = {0.5: 60, 5.0: 30, 50.0: 6}  # how many each trial saves, by their megabytes
WAYS = (1, STATES_AT_ONCE)  # states at once


def save(store: Any, trial: int, size: int, states: int) -> None:
    """Save the states of a trial, each when the last one is on the disk."""
    import ray  # after hwtune, which keeps it on the loopback interface

    content = bytes(size)
    for _ in range(states):
        assert not ray.get(store.save.remote(trial, content))


def rate(at_once: int, megabytes: float, folder: Path) -> float:
    """Return how many states a second are saved."""
    import ray

    store, task = start_store(folder, at_once=at_once), ray.remote(num_cpus=1)(save)
    ray.get([task.remote(store, trial, 1000, 1) for trial in range(TRIALS)])  # processes begin
    began, states = time.monotonic(), STATES[megabytes]
    ray.get([task.remote(store, n, int(megabytes * 1e6), states) for n in range(TRIALS)])
    seconds = time.monotonic() - began
    ray.kill(store)
    return TRIALS * states / seconds


def main() -> None:
    """Measure and write the table."""
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args()
    rates: dict[tuple[float, int], list[float]] = {}
    with TemporaryDirectory(dir=".") as folder, cluster.started(cpus=TRIALS):
        for _ in range(REPETITIONS):
            for megabytes in STATES:
                for at_once in WAYS:
                    found = rate(at_once, megabytes, Path(folder).absolute())
                    rates.setdefault((megabytes, at_once), []).append(found)
    rows = [
        {"megabytes": megabytes, "at_once": at_once, "states_a_second": median(found)}
        for (megabytes, at_once), found in rates.items()
    ]
    publish("states", page(rows), rows)


def page(rows: list[dict[str, Any]]) -> str:
    """Return the table for people."""
    found = {(row["megabytes"], row["at_once"]): row["states_a_second"] for row in rows}
    lines = []
    for megabytes in STATES:
        one, several = (found[megabytes, at_once] for at_once in WAYS)
        lines.append([f"{megabytes:g} MB", f"{one:.1f}", f"{several:.1f}", f"{several / one:.1f}"])
    columns = ["a state", "one at once, a second", f"{STATES_AT_ONCE} at once, a second", "ratio"]
    return (
        f"States of {TRIALS} trials at once that reach the disk, medians of {REPETITIONS} "
        f"repetitions in turns.\n\n{table(columns, lines)}"
    )


if __name__ == "__main__":
    main()
