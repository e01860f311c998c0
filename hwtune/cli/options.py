"""What can be given on the command line, and the words that it is given in."""

from __future__ import annotations

import re
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class SplitKind(StrEnum):
    """How images are divided into train, validation and test."""

    random = "random"
    writer = "writer"


class Scheduler(StrEnum):
    """What stops trials early."""

    asha = "asha"
    median = "median"
    none = "none"


class Sampler(StrEnum):
    """What proposes configurations."""

    tpe = "tpe"
    random = "random"
    gp = "gp"
    cmaes = "cmaes"


def bytes_of(text: str | int) -> int:
    """Return the bytes of "500MB" or "2GB"."""
    match = re.fullmatch(r"(\d+)(MB|GB)?", str(text))
    if not match or not int(match[1]):
        raise typer.BadParameter(f"{text!r} is no size; write 500MB or 2GB.")
    return int(match[1]) * {"MB": 10**6, "GB": 10**9, None: 1}[match[2]]


def accuracy_of(text: str | float) -> float:
    """Return an accuracy above 0 and at most 1."""
    return fraction(text, name="accuracy", example=0.998)


def share_of(text: str | float) -> float:
    """Return a part of a GPU, above 0 and at most 1."""
    return fraction(text, name="share", example=0.25)


def fraction(text: str | float, *, name: str, example: float) -> float:
    """Return the number above 0 and at most 1 that `text` writes."""
    with suppress(ValueError):
        if 0 < float(text) <= 1:
            return float(text)
    raise typer.BadParameter(f"{text!r} is no {name} above 0 and at most 1, such as {example}.")


def seconds_of(text: str) -> float:
    """Return the seconds of "90s", "30m", "2h" or "1h30m"."""
    match = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", text)
    parts = [int(part or 0) for part in match.groups()] if match else []
    if not any(parts):
        raise typer.BadParameter(f"{text!r} is no duration; write 90s, 30m, 2h or 1h30m.")
    return float(parts[0] * 3600 + parts[1] * 60 + parts[2])


def positive(text: str | int) -> int:
    """Return a whole number of at least 1."""
    return whole_number(text, at_least=1)


def folds_of(text: str | int) -> int:
    """Return a whole number of at least 2."""
    return whole_number(text, at_least=2)


def seed_of(text: str | int) -> int:
    """Return a seed: a whole number of at least 0, as NumPy takes them."""
    number = whole_number(text, at_least=0)
    if number >= 2**32:
        raise typer.BadParameter(f"{text!r} is too large; seeds lie below {2**32}.")
    return number


def whole_number(text: str | int, *, at_least: int) -> int:
    """Return the number that `text` writes; Typer's own check would not name a wrong one."""
    if not re.fullmatch(r"\d+", str(text)) or int(text) < at_least:
        raise typer.BadParameter(f"{text!r} is no whole number of at least {at_least}.")
    return int(text)


Results = Annotated[
    Path, typer.Option(envvar="HWTUNE_RESULTS", help="The folder that holds the studies.")
]
Csv = Annotated[bool, typer.Option("--csv", help="Print lines for a spreadsheet.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
Study = Annotated[str, typer.Argument(help="A name under the results folder, or a path.")]
Finalists = Annotated[
    int,
    typer.Option(
        parser=positive,
        metavar="N",
        help="Judge this many of the best by cross-validation before one is chosen; 1: do not.",
    ),
]
Folds = Annotated[
    int, typer.Option(parser=folds_of, metavar="N", help="Of that cross-validation, 2 or more.")
]
Top = Annotated[
    int,
    typer.Option(parser=positive, metavar="N", help="How many of the best to retrain and test."),
]
Seeds = Annotated[
    int,
    typer.Option(parser=positive, metavar="N", help="Trainings of each retrained configuration."),
]
Parallel = Annotated[
    int | None,
    typer.Option(
        parser=positive,
        metavar="N",
        help="Trainings at once; default: one a CPU, or by GPU memory.",
    ),
]
Address = Annotated[
    str | None,
    typer.Option(help="Of a running Ray cluster: auto, or HOST:PORT; default: this machine alone."),
]
GpusPerTrial = Annotated[
    float | None,
    typer.Option(
        parser=share_of, metavar="SHARE", help="Part of a GPU a training takes; default: by memory."
    ),
]
Baselines = Annotated[bool, typer.Option("--baselines", help="Retrain and test the baselines too.")]
Target = Annotated[
    float | None,
    typer.Option(
        parser=accuracy_of, metavar="ACCURACY", help="Validation accuracy that is enough: 0.998."
    ),
]
Data = Annotated[
    str, typer.Option(help="A data set, or auto: the space's own, else drawn characters.")
]
Kind = Annotated[SplitKind, typer.Option(help="Random within classes, or by writer.")]
SplitSeed = Annotated[int, typer.Option(parser=seed_of, metavar="N", help="Seed of the split.")]
Name = Annotated[str | None, typer.Option(help="Name of the folder; default: SPACE, SPACE-2, ...")]
Trials = Annotated[
    int | None,
    typer.Option(
        parser=positive,
        metavar="N",
        help="Configurations to try; default: what fits, up to 50.",
    ),
]
Epochs = Annotated[
    int | None,
    typer.Option(parser=positive, metavar="N", help="Length of every trial; default: the space's."),
]
TimeBudget = Annotated[
    float | None,
    typer.Option(
        parser=seconds_of,
        metavar="DURATION",
        help="For the whole command, such as 30m; default: 15m unless --trials is given.",
    ),
]
SamplerOption = Annotated[Sampler, typer.Option(help="What proposes trials.")]
SchedulerOption = Annotated[Scheduler, typer.Option(help="What stops trials.")]
Brackets = Annotated[
    int,
    typer.Option(parser=positive, metavar="N", help="Of ASHA, each with a later first stop."),
]
Objective = Annotated[
    list[str] | None,
    typer.Option(
        help="Give several times: val_accuracy, and parameters, val_loss or "
        "seconds_per_image. Optuna then stores no value before a trial's last."
    ),
]
Seed = Annotated[
    int,
    typer.Option(
        parser=seed_of,
        metavar="N",
        help="Of the sampler and the trials. One trial at a time with --trials repeats "
        "a study exactly, on a CPU; in parallel only the startup points repeat.",
    ),
]
DiskLimit = Annotated[
    int,
    typer.Option(
        parser=bytes_of, metavar="SIZE", help="For the states of all trials, such as 500MB."
    ),
]
MirrorUri = Annotated[
    str | None,
    typer.Option(metavar="URI", help="Copy the study there as it grows: s3://BUCKET/FOLDER."),
]
MoreTrials = Annotated[
    int | None,
    typer.Option(parser=positive, metavar="N", help="Trials of the whole study; more extend."),
]
MoreTime = Annotated[
    float | None,
    typer.Option(
        parser=seconds_of, metavar="DURATION", help="From now on; default: what was left."
    ),
]
Baseline = Annotated[
    str | None,
    typer.Option(help="Train this baseline or start of a space; a baseline as published."),
]
Honest = Annotated[
    bool, typer.Option("--honest", help="A baseline on the split of hwtune's own studies.")
]
BaselineEpochs = Annotated[
    int | None,
    typer.Option(parser=positive, metavar="N", help="Of a baseline; default: as published."),
]
