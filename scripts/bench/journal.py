"""Measure what a trial costs in Optuna's journal: as Optuna writes it, and as hwtune does.

Each trial of `chinese_cnn` is drawn at random, reports three epochs and is told to be pruned.
Writes results/bench/journal.json and .md:

    python -m scripts.bench.journal --folder /on/a/shared/disk
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from hwtune.search.journal import Journal, together
from hwtune.space import load_space
from scripts.bench.outcome import publish, table

TRIALS, EPOCHS, REPETITIONS = 200, 3, 5
SPACE = "chinese_cnn"


def own(path: str) -> JournalFileBackend:
    """Return Optuna's journal with the lock that hwtune's has."""
    return JournalFileBackend(path, JournalFileOpenLock(path))


def apart(study: optuna.Study) -> AbstractContextManager[None]:
    """Return a block in which each line is written by itself."""
    return nullcontext()


WAYS: dict[str, tuple[Callable[[str], JournalFileBackend], Callable[..., Any]]] = {
    "Optuna's": (own, apart),
    "hwtune's": (Journal, together),
}


@contextmanager
def counted_waits() -> Iterator[list[int]]:
    """Give a list that has an entry for each time that a file is awaited on the disk."""
    fsync, waits = os.fsync, []

    def counting(file: int) -> None:
        waits.append(file)
        fsync(file)

    os.fsync = counting  # type: ignore[assignment]
    try:
        yield waits
    finally:
        os.fsync = fsync


def trial_costs(way: str, folder: Path) -> dict[str, Any]:
    """Return the milliseconds a trial, and how often it waits for the disk."""
    backend, block = WAYS[way]
    space = load_space(SPACE).search
    study = optuna.create_study(
        storage=JournalStorage(backend(str(folder / "journal"))),
        sampler=optuna.samplers.RandomSampler(seed=0),
        direction="maximize",
    )
    with counted_waits() as waits:
        began = time.monotonic()
        for _ in range(TRIALS):
            with block(study):
                trial = study.ask(dict(space))
            trial.set_user_attr("cost", [1, 1])
            for epoch in range(1, EPOCHS + 1):
                trial.report(0.5, epoch)
            with block(study):
                trial.set_user_attr("ended", {"state": "stopped"})
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        seconds = time.monotonic() - began
    return {
        "journal": way, "milliseconds": 1000 * seconds / TRIALS, "waits": len(waits) / TRIALS,
    }  # fmt: skip


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", default=".", help="where the journals lie meanwhile")
    where = parser.parse_args().folder
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    rows = []
    for _ in range(REPETITIONS):
        for way in WAYS:
            with TemporaryDirectory(dir=where) as folder:
                rows.append(trial_costs(way, Path(folder)))
    publish("journal", page(rows), rows)


def page(rows: list[dict[str, Any]]) -> str:
    """Return the table for people."""
    took = {
        way: median(row["milliseconds"] for row in rows if row["journal"] == way) for way in WAYS
    }
    waits = {row["journal"]: row["waits"] for row in rows}
    lines = [
        [way, f"{waits[way]:.1f}", f"{took[way]:.1f}", f"{took[way] / min(took.values()):.1f}"]
        for way in WAYS
    ]
    columns = ["journal", "waits for the disk", "ms a trial", "times the quickest"]
    return (
        f"What a trial of `{SPACE}` with {EPOCHS} epochs costs the driver in Optuna's journal, "
        f"medians of {REPETITIONS} repetitions of {TRIALS} trials in turns.\n\n"
        f"{table(columns, lines)}"
    )


if __name__ == "__main__":
    main()
