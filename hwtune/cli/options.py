"""What can be given on the command line, and the words that it is given in."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from hwtune.errors import HwtuneError, OptionError
from hwtune.files import expanded
from hwtune.values import (
    Sampler,
    Scheduler,
    SplitKind,
    Value,
    accuracy_of,
    bytes_of,
    folds_of,
    number_of,
    positive,
    seconds_of,
    seed_of,
    share_of,
)


def option(parse: Callable[[Any], Value]) -> Callable[[Any], Value]:
    """Return a parser whose errors Typer shows with the option's name.

    Typer's own checks would not name a wrong value.
    """

    def parsed(text: Any) -> Value:
        try:
            return parse(text)
        except HwtuneError as error:
            raise typer.BadParameter(str(error)) from None

    return parsed


def for_programs(wanted: bool) -> bool:
    """Let the output be UTF-8, whatever the terminal is, where a program will read it."""
    if wanted and isinstance(sys.stdout, io.TextIOWrapper):  # a test's own may be another
        sys.stdout.reconfigure(encoding="utf-8", errors="replace")
    return wanted


def one_format(as_json: bool, as_csv: bool) -> None:
    """Refuse two formats at once."""
    if as_json and as_csv:
        raise OptionError("--json and --csv are two formats; give one.")


Results = Annotated[
    Path,
    typer.Option(
        parser=option(expanded),
        metavar="FOLDER",
        envvar="HWTUNE_RESULTS",
        help="The folder that holds the studies.",
    ),
]
Csv = Annotated[
    bool, typer.Option("--csv", callback=for_programs, help="Print lines for a spreadsheet.")
]
Json = Annotated[
    bool, typer.Option("--json", callback=for_programs, help="Print JSON for scripts.")
]
Study = Annotated[str, typer.Argument(help="A name under the results folder, or a path.")]
TrialNumber = Annotated[
    int | None,
    typer.Argument(
        parser=option(number_of),
        metavar="TRIAL",
        help="One trial's number, to see its hyperparameters and epochs.",
    ),
]
Finalists = Annotated[
    int,
    typer.Option(
        parser=option(positive),
        metavar="N",
        help="Judge this many of the best by cross-validation before one is chosen; 1: do not.",
    ),
]
Folds = Annotated[
    int,
    typer.Option(parser=option(folds_of), metavar="N", help="Folds of that cross-validation."),
]
Top = Annotated[
    int,
    typer.Option(
        parser=option(positive), metavar="N", help="How many of the best to retrain and test."
    ),
]
Seeds = Annotated[
    int,
    typer.Option(
        parser=option(positive), metavar="N", help="Trainings of each retrained configuration."
    ),
]
Parallel = Annotated[
    int | None,
    typer.Option(
        parser=option(positive),
        metavar="N",
        help="Trainings at once; default: one a CPU, or by GPU memory; on resume: as before.",
    ),
]
Address = Annotated[
    str | None,
    typer.Option(help="A running Ray cluster: auto, or HOST:PORT; default: this machine alone."),
]
GpusPerTrial = Annotated[
    float | None,
    typer.Option(
        parser=option(share_of),
        metavar="SHARE",
        help="Part of a GPU a training takes; default: by memory; on resume: as before.",
    ),
]
Baselines = Annotated[bool, typer.Option("--baselines", help="Retrain and test the baselines too.")]
Target = Annotated[
    float | None,
    typer.Option(
        parser=option(accuracy_of),
        metavar="ACCURACY",
        help="Validation accuracy that is enough: 0.998.",
    ),
]
Data = Annotated[
    str,
    typer.Option(
        help="A data set, or auto: the space's own, downloaded if need be; drawn characters where "
        "Chinese MNIST cannot be had."
    ),
]
Kind = Annotated[SplitKind, typer.Option(help="Random within classes, or by writer.")]
SplitSeed = Annotated[
    int, typer.Option(parser=option(seed_of), metavar="N", help="Another one draws another split.")
]
Name = Annotated[
    str | None,
    typer.Option(
        help="Name of the folder; default: SPACE, SPACE-BASELINE or SPACE-BASELINE-honest, with "
        "-DATA for other data; if taken, with -2 ..."
    ),
]
StartsFrom = Annotated[
    list[str] | None,
    typer.Option(
        metavar="STUDY",
        help="An earlier study, also of other data, whose three best trials that are new here are "
        "tried right after the baselines; may be given several times.",
    ),
]
Trials = Annotated[
    int | None,
    typer.Option(
        parser=option(positive),
        metavar="N",
        help="Configurations to try; default: what fits, at most 50 in the default 15m.",
    ),
]
Epochs = Annotated[
    int | None,
    typer.Option(
        parser=option(positive),
        metavar="N",
        help="Length of every trial; default: the space's, less where time is short.",
    ),
]
TimeBudget = Annotated[
    float | None,
    typer.Option(
        parser=option(seconds_of),
        metavar="DURATION",
        help="Time for the whole command, such as 30m; default: 15m unless --trials is given.",
    ),
]
SamplerOption = Annotated[
    Sampler,
    typer.Option(
        help="What proposes trials; gp and cmaes learn from trials of full length alone, and want "
        "--scheduler none."
    ),
]
SchedulerOption = Annotated[
    Scheduler,
    typer.Option(
        help="What stops poor trials early: successive halving, the median of the others, nothing."
    ),
]
Brackets = Annotated[
    int,
    typer.Option(
        parser=option(positive), metavar="N", help="ASHA's brackets, each with a later first stop."
    ),
]
Objective = Annotated[
    list[str] | None,
    typer.Option(
        help="Give several times: val_accuracy, and parameters, val_loss or seconds_per_image; "
        "Optuna then stores the values of each trial's best epoch alone."
    ),
]
Seed = Annotated[
    int,
    typer.Option(
        parser=option(seed_of),
        metavar="N",
        help="Seed of the sampler and the trials. One trial at a time with --trials repeats "
        "a study exactly, on a CPU; in parallel only the startup points repeat.",
    ),
]
DiskLimit = Annotated[
    int,
    typer.Option(
        parser=option(bytes_of),
        metavar="SIZE",
        help="Space for the states of trials, such as 500MB; what is still needed is kept in any "
        "case.",
    ),
]
MirrorUri = Annotated[
    str | None,
    typer.Option(metavar="URI", help="Copy the study there as it grows: s3://BUCKET/FOLDER."),
]
MovedMirror = Annotated[
    str | None,
    typer.Option(
        metavar="URI|none",
        help="Copy the study there, or nowhere, from now on; default: as before.",
    ),
]
MoreTrials = Annotated[
    int | None,
    typer.Option(
        parser=option(positive),
        metavar="N",
        help="Trials of the whole study, those begun included.",
    ),
]
MoreTime = Annotated[
    float | None,
    typer.Option(
        parser=option(seconds_of),
        metavar="DURATION",
        help="Time from now on; default: what was left; more --trials alone have no limit.",
    ),
]
Baseline = Annotated[
    str | None,
    typer.Option(help="Train this baseline or start of a space; a baseline as published."),
]
Honest = Annotated[
    bool,
    typer.Option("--honest", help="By the authors' recipe on hwtune's split; a start needs it."),
]
BaselineEpochs = Annotated[
    int | None,
    typer.Option(
        parser=option(positive),
        metavar="N",
        help="Epochs of a baseline's training; default: as published.",
    ),
]
