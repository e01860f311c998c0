"""Studies side by side: what they searched, what they found, and whether they can be told apart."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from plotly.colors import qualitative

from hwtune.records import once_each, ranked, taken_over
from hwtune.report.content import trials_at_once
from hwtune.report.page import write_page
from hwtune.report.plots import ERRORS, LAYOUT, lowest_errors
from hwtune.report.verdicts import basis, compared_of, images_tested, verdicts
from hwtune.report.words import literal, percent
from hwtune.study_folder import StudyFolder
from hwtune.words import for_people

LINES = (  # of the table: title, key and form of what is compared
    ("space", "space", ""),
    ("data", "data", ""),
    ("split", "split", ""),
    ("sampler", "sampler", ""),
    ("scheduler", "scheduler", ""),
    ("status", "status", ""),
    ("trials", "trials", ""),
    ("trained", "trained", ""),
    ("epochs", "epochs", ","),
    ("minutes", "minutes", ".1f"),
    ("best on validation", "val_accuracy", ".2%"),
    ("winner", "winner", ""),
    ("parameters", "parameters", ","),
    ("test accuracy", "test_accuracy", ".2%"),
)
STUDIES = qualitative.Safe  # colours that can be told apart by everyone


def described(folders: Sequence[StudyFolder]) -> list[dict[str, Any]]:
    """Return what is compared of each study, called by its path where several have its name.

    Raises:
        StudyError: when the files of one do not read.
    """
    studies = [describe(folder) for folder in folders]
    names = [folder.name for folder in folders]
    for study, folder in zip(studies, folders, strict=True):
        if names.count(folder.name) > 1:
            study["study"] = for_people(folder.path)
    return studies


def describe(folder: StudyFolder) -> dict[str, Any]:
    """Return what is compared of a study; of one that tested nothing the test's values are None.

    Raises:
        StudyError: when its files do not read.
    """
    about, tested = folder.read_study_now(), folder.read_retrain()["configurations"]
    trials, epochs = folder.read_trials(), folder.read_epochs()
    order = once_each(ranked(trials))
    return {
        "study": folder.name,
        "space": about["space"]["name"],
        "data": about["data"]["name"],
        "split": f"{about['split']['kind']}, seed {about['split']['seed']}",
        "sampler": about.get("sampler", {}).get("name"),
        "scheduler": about.get("scheduler", {}).get("name"),
        "status": about["status"],
        "trials": len(trials),
        "trained": len(order),
        "epochs": len(epochs) - sum(taken_over(trials, epochs).values()),
        "minutes": about["seconds"] and about["seconds"] / 60,
        "val_accuracy": order[0].val_accuracy if order else None,
        "winner": tested[0]["name"] if tested else None,
        **compared_of(tested[0] if tested else None, about["split"]["kind"]),
        "test_part": images_tested(about["data"], about["split"]),
    }


def rows(studies: Sequence[dict[str, Any]]) -> list[tuple[str, list[str]]]:
    """Return the lines of the table: what is compared, and a text a study."""
    intervals = [
        "–" if s["low"] is None else f"{percent(s['low'])} to {percent(s['high'])}" for s in studies
    ]
    return [
        *((title, [cell(each[key], form) for each in studies]) for title, key, form in LINES),
        ("95 % interval", intervals),
        ("by seed", [", ".join(map(percent, s["per_seed"])) or "–" for s in studies]),
    ]


def cell(value: Any, form: str) -> str:
    """Return a value as the table shows it."""
    return "–" if value is None else f"{value:{form}}"


def raw_rows(studies: Sequence[dict[str, Any]]) -> list[list[Any]]:
    """Return what is compared as lines for programs: accuracies in [0, 1], None where unknown."""
    keys = [*(key for _, key, _ in LINES), "low", "high"]
    seeds = [" ".join(map(str, each["per_seed"])) for each in studies]
    return [[key, *(each[key] for each in studies)] for key in keys] + [["per_seed", *seeds]]


def write_comparison(
    path: Path, folders: Sequence[StudyFolder], studies: Sequence[dict[str, Any]]
) -> None:
    """Write the page of several studies, `studies` being what `described` says of them.

    Raises:
        StudyError: when the files of one do not read.
    """
    names = literal(each["study"] for each in studies)
    figures = {"progress": progress(folders, names), "seeds": seeds(studies)}
    write_page(
        path, "compare.html", figures,
        studies=studies, rows=rows(studies), verdicts=verdicts(studies), basis=basis(studies),
    )  # fmt: skip


def progress(folders: Sequence[StudyFolder], names: Sequence[str]) -> go.Figure:
    """Return the lowest validation error so far of each study against its time of training."""
    figure = go.Figure(layout={**LAYOUT, "showlegend": True, "legend": {"orientation": "h"}})
    for folder, name, colour in zip(folders, names, itertools.cycle(STUDIES)):
        epochs = folder.read_epochs()
        slots = trials_at_once(folder.read_study(), len(epochs))
        minutes, lowest = lowest_errors(folder.read_trials(), epochs, slots)
        figure.add_scatter(
            x=minutes,
            y=lowest,
            mode="lines",
            line={"shape": "hv", "color": colour},
            name=name,
            hovertemplate=f"{name}: error %{{y:.2%}}<extra></extra>",
        )
    figure.update_layout(legend={"y": 1.12})
    figure.update_xaxes(title="minutes of training", rangemode="tozero")
    figure.update_yaxes(**ERRORS)
    return figure


def seeds(studies: Sequence[dict[str, Any]]) -> go.Figure:
    """Return the test accuracy of each study's winner, seed by seed."""
    figure = go.Figure(layout={**LAYOUT, "height": 120 + 40 * len(studies)})
    for study, colour in zip(studies, itertools.cycle(STUDIES)):
        figure.add_scatter(
            x=study["per_seed"],
            y=literal([study["study"]]) * len(study["per_seed"]),
            mode="markers",
            marker={"color": colour, "size": 10, "opacity": 0.7},
            hovertemplate="%{y}: %{x:.2%}<extra></extra>",
        )
    figure.update_xaxes(title="test accuracy, a point a seed", tickformat=".2%")
    figure.update_yaxes(type="category", autorange="reversed", automargin=True)  # "7" is a name
    return figure
