"""The lines of `epochs.csv` and `trials.csv`."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import get_args

from hwtune.files import csv_line
from hwtune.records import EpochRecord, TrialRecord, TrialState

EPOCH_COLUMNS = ("trial", "epoch", "train_loss", "val_loss", "val_accuracy", "lr", "seconds")
TRIAL_COLUMNS = (
    "trial", "baseline", "state", "epochs", "val_accuracy", "val_loss", "parameters", "seconds",
    "reason",
)  # fmt: skip
SEARCHED = "config."  # begins the column of a hyperparameter that has the name of another


def epoch_line(epoch: EpochRecord) -> str:
    """Return an epoch as a line."""
    return csv_line(getattr(epoch, column) for column in EPOCH_COLUMNS)


def epochs_csv(epochs: Iterable[EpochRecord]) -> str:
    """Return epochs as lines, below the names of the columns."""
    return csv_line(EPOCH_COLUMNS) + "".join(map(epoch_line, epochs))


def epochs_of(text: str) -> list[EpochRecord]:
    """Return the epochs of a file; a torn last line is left out.

    Raises:
        ValueError, TypeError, KeyError: when it does not read.
    """
    return [
        EpochRecord(
            int(row["trial"]),
            int(row["epoch"]),
            *(float(row[column]) for column in EPOCH_COLUMNS[2:]),
        )
        for row in csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1]))
    ]


def column_of(hyperparameter: str) -> str:
    """Return the column of a hyperparameter in `trials.csv`; `epochs` is what a trial had."""
    return f"{SEARCHED}{hyperparameter}" if hyperparameter in TRIAL_COLUMNS else hyperparameter


def trial_of(row: dict[str, str]) -> TrialRecord:
    """Return a trial from its line of `trials.csv`, without its epochs."""
    if row["state"] not in get_args(TrialState):
        raise ValueError(f"trial {row['trial']} is {row['state']!r}")
    return TrialRecord(
        trial=int(row["trial"]),
        baseline=row["baseline"],
        state=row["state"],  # type: ignore[arg-type]
        parameters=int(row["parameters"]),
        reason=row["reason"],
        config={k.removeprefix(SEARCHED): v for k, v in row.items() if k not in TRIAL_COLUMNS},
    )


def trials_csv(trials: Iterable[TrialRecord], searched: Iterable[str]) -> str:
    """Return trials as lines, with one column a searched hyperparameter at the end."""
    names = list(searched)
    text = csv_line([*TRIAL_COLUMNS, *map(column_of, names)])
    for trial in trials:
        values = [getattr(trial, column) for column in TRIAL_COLUMNS]
        text += csv_line([*values, *(str(trial.config.get(name, "")) for name in names)])
    return text
