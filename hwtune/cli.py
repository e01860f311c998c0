"""The command line: words in, words out; no logic. Heavy imports wait until a command runs."""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Iterable
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console

from hwtune import __version__
from hwtune.errors import HwtuneError, HwtuneFailure

if TYPE_CHECKING:
    from hwtune.pipeline import Place
    from hwtune.records import StudyFolder

INTERRUPTED = 130  # exit code

app = typer.Typer(
    name="hwtune",
    help="Find the best classifier for a set of handwriting, and prove that it is the best.",
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
data_app = typer.Typer()
app.add_typer(data_app, name="data")


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
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
Study = Annotated[str, typer.Argument(help="A name under the results folder, or a path.")]
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
DEFAULT_RESULTS = Path("results")


def reach_out(address: str | None) -> None:
    """Let Ray leave the loopback interface for a cluster that does; it reads this when imported."""
    if address and not on_loopback_alone(address):
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "1"


def on_loopback_alone(address: str) -> bool:
    """Return whether a cluster at 127.0.0.1:PORT does not listen on this machine's own address.

    Ray would look for it there.
    """
    host, _, port = address.rpartition(":")
    if host not in ("127.0.0.1", "localhost") or not port.isdecimal():
        return False
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as route:
        try:
            route.connect(("192.0.2.1", 9))  # sends nothing, but chooses an interface
            socket.create_connection((route.getsockname()[0], int(port)), timeout=2).close()
        except OSError:
            return True
    return False


def place_of(parallel: int | None, address: str | None, gpu_share: float | None) -> Place:
    """Return where a command trains."""
    from hwtune.pipeline import Place

    return Place(parallel=parallel, address=address, gpu_share=gpu_share)


def command_line() -> list[str]:
    """Return the command as the user gave it, without the paths of this machine."""
    return ["hwtune", *sys.argv[1:]]


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Find the best classifier for a set of handwriting, and prove that it is the best."""
    if version:
        print(f"hwtune {__version__}")
    elif context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def search(
    space: Annotated[str, typer.Argument(help="A name in search_spaces/, or a .py file.")],
    data: Data = "auto",
    split: Kind = SplitKind.random,
    split_seed: SplitSeed = 0,
    trials: Annotated[
        int | None,
        typer.Option(
            parser=positive,
            metavar="N",
            help="Configurations to try; default: what fits, up to 50.",
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            parser=positive, metavar="N", help="Length of every trial; default: the space's."
        ),
    ] = None,
    time_budget: Annotated[
        float | None,
        typer.Option(
            parser=seconds_of,
            metavar="DURATION",
            help="For the whole command, such as 30m; default: 15m unless --trials is given.",
        ),
    ] = None,
    target: Target = None,
    parallel: Parallel = None,
    address: Address = None,
    gpus_per_trial: GpusPerTrial = None,
    sampler: Annotated[Sampler, typer.Option(help="What proposes trials.")] = Sampler.tpe,
    scheduler: Annotated[Scheduler, typer.Option(help="What stops trials.")] = Scheduler.asha,
    brackets: Annotated[
        int,
        typer.Option(parser=positive, metavar="N", help="Of ASHA, each with a later first stop."),
    ] = 1,
    objective: Annotated[
        list[str] | None,
        typer.Option(
            help="Give several times: val_accuracy, and parameters, val_loss or "
            "seconds_per_image. Optuna then stores no value before a trial's last."
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(
            parser=seed_of,
            metavar="N",
            help="Of the sampler and the trials. One trial at a time with --trials repeats "
            "a study exactly, on a CPU; in parallel only the startup points repeat.",
        ),
    ] = 0,
    disk_limit: Annotated[
        int,
        typer.Option(
            parser=bytes_of, metavar="SIZE", help="For the states of all trials, such as 500MB."
        ),
    ] = 2_000_000_000,
    mirror: Annotated[
        str | None,
        typer.Option(metavar="URI", help="Copy the study there as it grows: s3://BUCKET/FOLDER."),
    ] = None,
    name: Name = None,
    top: Top = 1,
    seeds: Seeds = 3,
    baselines: Baselines = False,
    results: Results = DEFAULT_RESULTS,
) -> None:
    """Search one space, retrain the best, test once, and write results/STUDY/.

    Example: `python -m hwtune search chinese_cnn --time-budget 30m --split writer`
    """
    reach_out(address)
    from hwtune import pipeline
    from hwtune.data.splits import SplitSpec
    from hwtune.search.budget import Budget
    from hwtune.search.settings import checked_settings

    console = Console(soft_wrap=True, highlight=False)
    folder, code = pipeline.search(
        space,
        data=data,
        split=SplitSpec(kind=split.value, seed=split_seed),
        budget=Budget(trials=trials, epochs=epochs, seconds=time_budget, target=target),
        settings=checked_settings(
            sampler=sampler.value,
            scheduler=scheduler.value,
            brackets=brackets,
            objectives=objective or [],
            seed=seed,
            disk_limit=disk_limit,
        ),
        retraining=pipeline.Retraining(top=top, seeds=seeds, baselines=baselines),
        place=place_of(parallel, address, gpus_per_trial),
        mirror=mirror,
        name=name,
        results=results.absolute(),
        command=command_line(),
        console=console,
    )
    say_end(folder, code, console)


@app.command()
def resume(
    study: Annotated[
        str, typer.Argument(help="A name under the results folder, a path, or a mirror's URI.")
    ],
    trials: Annotated[
        int | None,
        typer.Option(parser=positive, metavar="N", help="Trials of the whole study; more extend."),
    ] = None,
    time_budget: Annotated[
        float | None,
        typer.Option(
            parser=seconds_of, metavar="DURATION", help="From now on; default: what was left."
        ),
    ] = None,
    target: Target = None,
    parallel: Parallel = None,
    address: Address = None,
    gpus_per_trial: GpusPerTrial = None,
    results: Results = DEFAULT_RESULTS,
) -> None:
    """Go on with a study that was interrupted or killed, or extend one that ended.

    Example: `python -m hwtune resume chinese_cnn --trials 400`
    """
    reach_out(address)
    from hwtune import pipeline
    from hwtune.mirror import fetch
    from hwtune.records import find_study

    console = Console(soft_wrap=True, highlight=False)
    here = results.absolute()
    folder = fetch(study, here) if "://" in study else find_study(here, study)
    place = place_of(parallel, address, gpus_per_trial)
    if "baseline" in folder.read_study():
        from hwtune.published import resume_baseline

        if trials or time_budget or target:
            raise HwtuneError(f"{folder.name} is no search: resume it without a budget.")
        resume_baseline(folder, place=place, command=command_line(), console=console)
        console.print(f"Report: {folder.report}")
        return
    code = pipeline.resume(
        folder, trials=trials, time_budget=time_budget, target=target, place=place,
        command=command_line(), console=console,
    )  # fmt: skip
    say_end(folder, code, console)


def say_end(folder: StudyFolder, code: int, console: Console) -> None:
    """Say how a search ended and what can be done next; leave unless it ended well."""
    if code == INTERRUPTED:
        console.print(
            f"Interrupted; nothing was tested. Go on: python -m hwtune resume {folder.name}\n"
            f"Or test the best so far: python -m hwtune retrain {folder.name}"
        )
        raise typer.Exit(code)
    if code:
        raise HwtuneFailure(f"No trial of {folder.name} was trained; see {folder.path}/trials.csv.")
    console.print(f"Report: {folder.report}")


@app.command()
def retrain(
    study: Annotated[
        str, typer.Argument(help="A study's name or path; with --baseline a space's.")
    ],
    top: Top = 1,
    seeds: Seeds = 3,
    baselines: Baselines = False,
    baseline: Annotated[
        str | None,
        typer.Option(help="Train this baseline or start of a space; a baseline as published."),
    ] = None,
    honest: Annotated[
        bool, typer.Option("--honest", help="A baseline on the split of hwtune's own studies.")
    ] = False,
    epochs: Annotated[
        int | None,
        typer.Option(parser=positive, metavar="N", help="Of a baseline; default: as published."),
    ] = None,
    data: Data = "auto",
    split: Kind = SplitKind.random,
    split_seed: SplitSeed = 0,
    name: Name = None,
    parallel: Parallel = None,
    address: Address = None,
    gpus_per_trial: GpusPerTrial = None,
    results: Results = DEFAULT_RESULTS,
) -> None:
    """Retrain the best of a study on several seeds and test them once.

    Example: `python -m hwtune retrain chinese_cnn --top 3 --seeds 5`

    With --baseline, train a published system of a space instead:
    `python -m hwtune retrain chinese_cnn --baseline oafarih --honest`
    """
    reach_out(address)
    from hwtune import pipeline
    from hwtune.records import find_study

    console = Console(soft_wrap=True, highlight=False)
    place = place_of(parallel, address, gpus_per_trial)
    if baseline is None:
        if honest or epochs or name or split_seed or split != "random" or data != "auto":
            raise HwtuneError(
                "--honest, --epochs, --data, --split, --split-seed and --name belong to --baseline "
                "NAME; add it."
            )
        folder = find_study(results.absolute(), study)
        pipeline.retrain_study(
            folder, top=top, seeds=seeds, baselines=baselines, place=place,
            command=command_line(), console=console,
        )  # fmt: skip
    else:
        if not honest and (split_seed or split != "random"):
            raise HwtuneError("--split and --split-seed belong to --honest; add it.")
        from hwtune.data.splits import SplitSpec
        from hwtune.published import retrain_baseline

        folder = retrain_baseline(
            study, baseline, honest=honest, epochs=epochs, data=data,
            split=SplitSpec(kind=split.value, seed=split_seed), seeds=seeds, place=place,
            name=name, results=results.absolute(), command=command_line(), console=console,
        )  # fmt: skip
    console.print(f"Report: {folder.report}")


@app.command()
def report(study: Study, results: Results = DEFAULT_RESULTS) -> None:
    """Write the page of a study anew from its files.

    Example: `python -m hwtune report chinese_cnn`
    """
    from hwtune.records import find_study
    from hwtune.report.report import write_report

    folder = find_study(results.absolute(), study)
    write_report(folder)
    print(folder.report)


@app.command()
def trials(study: Study, as_json: Json = False, results: Results = DEFAULT_RESULTS) -> None:
    """Show a study's trials, the best first, and why each was stopped.

    Example: `python -m hwtune trials chinese_cnn`
    """
    from hwtune.records import dump, find_study, ranked

    folder = find_study(results.absolute(), study)
    everything = folder.read_trials()
    order = ranked(everything)
    order += [t for t in everything if t not in order]
    if as_json:
        print(dump([vars(t) for t in order]), end="")
        return
    show_table(
        ("trial", "baseline", "state", "epochs", "accuracy", "parameters", "reason"),
        (
            (t.trial, t.baseline, t.state, t.epochs, f"{t.val_accuracy:.2%}" if t.epochs else "-",
             f"{t.parameters:,}", t.reason)
            for t in order
        ),
    )  # fmt: skip


@app.command()
def predict(
    study: Study,
    images: Annotated[list[Path], typer.Argument(help="Pictures of one character each.")],
    as_json: Json = False,
    results: Results = DEFAULT_RESULTS,
) -> None:
    """Read pictures with the model of a study.

    Example: `python -m hwtune predict chinese_cnn photo.jpg`
    """
    import numpy as np

    from hwtune.evaluation.classifier import load_classifier, read_image
    from hwtune.records import dump, find_study

    classifier = load_classifier(find_study(results.absolute(), study).model)
    answers = classifier.predict(np.stack([read_image(p, classifier.side) for p in images]))
    if as_json:
        rows = [{"image": str(p), **vars(a)} for p, a in zip(images, answers, strict=True)]
        print(dump(rows), end="")
        return
    for path, answer in zip(images, answers, strict=True):
        print(f"{path}: {answer.label} ({answer.probability:.1%})")


@app.command()
def spaces(
    space: Annotated[
        str | None, typer.Argument(help="A name or a .py file to check and show; none: list all.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the search spaces, or check one and show it with its baselines.

    Example: `python -m hwtune spaces chinese_cnn`
    """
    from hwtune.overview import describe_space, list_spaces
    from hwtune.records import dump

    if space is None:
        listed = list_spaces()
        if as_json:
            print(dump(listed), end="")
        else:
            show_table(("space", "data", "question"), (each.values() for each in listed))
        return
    shown = describe_space(space)
    if as_json:
        print(dump(shown), end="")
        return
    print(shown["question"])
    show_table(("hyperparameter", "values"), shown["search"].items())
    show_table(("fixed", "value"), shown["fixed"].items())
    show_table(
        ("point", "parameters", "multiply-accumulates", "trained"),
        (
            (p["name"], f"{p['parameters']:,}", f"{p['macs']:,}", p["trained"])
            for p in shown["points"]
        ),
    )


@data_app.callback(invoke_without_command=True)
def data(context: typer.Context) -> None:
    """List, get, add and check data sets."""
    if context.invoked_subcommand is None:
        print(context.get_help())


@data_app.command("list")
def data_list(as_json: Json = False) -> None:
    """List the data sets, and whether each is at hand.

    Example: `python -m hwtune data list`
    """
    from hwtune.data import DATASETS, find_data, is_at_hand
    from hwtune.data.images import data_folder
    from hwtune.records import dump

    rows = [
        {
            "name": name,
            "at_hand": is_at_hand(name),
            "place": str(find_data(name) or ("built in" if is_at_hand(name) else "")),
            "title": source.title,
        }
        for name, source in DATASETS.items()
    ]
    if as_json:
        print(dump(rows), end="")
        return
    show_table(
        ("data set", "at hand", "what it is", "place"),
        ((r["name"], "yes" if r["at_hand"] else "no", r["title"], r["place"]) for r in rows),
    )
    print(f"Data folder: {data_folder()}")


@data_app.command("get")
def data_get(name: Annotated[str, typer.Argument(help="A data set's name.")]) -> None:
    """Download a data set, unless it is at hand, and check it.

    Example: `python -m hwtune data get chinese_mnist`
    """
    from hwtune.data import get_data, load_data

    get_data(name)
    dataset = load_data(name)
    print(f"{name}: {len(dataset.images):,} images.")


@data_app.command("add")
def data_add(
    name: Annotated[str, typer.Argument(help="A data set's name.")],
    path: Annotated[Path, typer.Argument(help="Its archive or folder.")],
) -> None:
    """Check an archive or folder of a data set and copy it into the data folder.

    Example: `python -m hwtune data add chinese_mnist archive.zip`
    """
    from hwtune.data import add_data

    print(f"{name}: checked and copied to {add_data(name, path.absolute())}")


@data_app.command("check")
def data_check(
    name: Annotated[str, typer.Argument(help="A data set's name.")], as_json: Json = False
) -> None:
    """Decode a data set from its source, whatever the cache holds, and count it.

    Example: `python -m hwtune data check chinese_mnist`
    """
    from hwtune.overview import describe_data
    from hwtune.records import dump

    shown = describe_data(name)
    if as_json:
        print(dump(shown), end="")
        return
    for key, value in shown.items():
        print(f"{key}: {value}")


def show_table(columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    """Print rows under column heads, as wide as the terminal allows."""
    from rich import box
    from rich.table import Table

    table = Table(*columns, box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(*(str(value) for value in row))
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def main() -> None:
    """Run the command line; a user's mistake ends with one line and exit code 2."""
    try:
        code = app(standalone_mode=False)
    except typer.TyperException as error:  # Typer's own checks, one line instead of its box
        fail(f"{error.format_message().rstrip('.')}. See --help.", error.exit_code)
    except HwtuneError as error:
        fail(error, 2)
    except HwtuneFailure as error:
        fail(error, 1)
    except (KeyboardInterrupt, typer.Abort):
        fail("Interrupted.", INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)


def fail(error: object, code: int) -> NoReturn:
    """Print one line to the standard error and leave."""
    print(f"hwtune: {' '.join(str(error).split())}", file=sys.stderr)
    sys.stderr.flush()
    sys.exit(code)
