"""The table and the plot of what the tuners reached."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from scripts.bench.outcome import table
from scripts.bench.peers.task import EPOCHS, WORKERS

Rows = list[dict[str, Any]]


def by_peer(rows: Rows) -> dict[str, Rows]:
    """Return the runs of each tuner, in the order of the rows."""
    return {
        peer: [row for row in rows if row["peer"] == peer]
        for peer in dict.fromkeys(row["peer"] for row in rows)
    }


def page(rows: Rows, seconds: float) -> str:
    """Return the table for people: means over the runs, and the range of the accuracies."""
    columns = ["", "trials", "epochs", "s to the first epoch", "idle", "best on validation",
               "tested after retraining"]  # fmt: skip
    lines = [
        [
            peer, f"{mean(runs, 'trials'):.0f}", f"{mean(runs, 'epochs'):.0f}",
            f"{mean(runs, 'first_epoch_seconds'):.1f}", f"{mean(runs, 'idle_share'):.0%}",
            ranged(row["val_accuracy"] for row in runs),
            ranged(each for row in runs for each in row["test_accuracy"]),
        ]
        for peer, runs in by_peer(rows).items()
    ]  # fmt: skip
    runs, retrainings = len(by_peer(rows)[rows[0]["peer"]]), len(rows[0]["test_accuracy"])
    return (
        f"{seconds / 60:g} minutes each, {runs} seeds, {WORKERS} workers of one core, "
        f"Chinese MNIST at 32x32, small networks, at most {EPOCHS} epochs, one train function. "
        "Means over the seeds, accuracies with their range. Idle is the share of the workers' "
        "time that was not spent in epochs that ended in time, start-up included. Syne Tune looks "
        "at its trials every 0.2 seconds instead of every 5. The best point of each run was "
        f"retrained {retrainings} times on train and validation and read the test images "
        "once each time.\n\n" + table(columns, lines)
    )


def mean(runs: Rows, key: str) -> float:
    """Return the mean of a figure over the runs."""
    return statistics.fmean(row[key] for row in runs)


def ranged(values: Iterable[float]) -> str:
    """Return a mean with its range."""
    all_of = list(values)
    return f"{statistics.fmean(all_of):.2%} ({min(all_of):.2%} to {max(all_of):.2%})"


def best_so_far(curve: list[tuple[float, float]], times: np.ndarray) -> np.ndarray:
    """Return the best accuracy at each time, 0 before the first epoch."""
    at, best = np.array(curve).T
    return np.concatenate([[0.0], best])[np.searchsorted(at, times, side="right")]


def plot(rows: Rows, seconds: float, file: Path) -> None:
    """Draw the best validation error so far against time, mean and range over the seeds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 5.5))
    times = np.linspace(0, seconds, 600)
    for peer, runs in by_peer(rows).items():
        errors = 100 * (1 - np.array([best_so_far(row["curve"], times) for row in runs]))
        (line,) = axes.plot(times / 60, errors.mean(0), label=peer)
        axes.fill_between(
            times / 60, errors.min(0), errors.max(0), alpha=0.12, color=line.get_color()
        )
    axes.set(
        yscale="log", xlim=(0, seconds / 60), xlabel="minutes since the command was given",
        ylabel="error of the best so far on validation, %",
        title=f"Equal time, space and train function; mean and range of {len(runs)} seeds",
    )  # fmt: skip
    axes.legend(fontsize=8)
    axes.grid(alpha=0.2, which="both")
    figure.tight_layout()
    figure.savefig(file, dpi=110)
    pyplot.close(figure)
