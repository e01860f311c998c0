"""Commands that show: report, trials, predict, spaces."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hwtune.cli.options import DEFAULT_RESULTS, Json, Results, Study
from hwtune.cli.tables import show_table


def report(study: Study, results: Results = DEFAULT_RESULTS) -> None:
    """Write the page of a study anew from its files.

    Example: `python -m hwtune report chinese_cnn`
    """
    from hwtune.records import find_study
    from hwtune.report.report import write_report

    folder = find_study(results.absolute(), study)
    write_report(folder)
    print(folder.report)


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
