"""Studies side by side: what they searched, what they found, and whether they can be told apart."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from hwtune.records import once_each, ranked, taken_over
from hwtune.report.content import trials_at_once
from hwtune.report.page import write_page
from hwtune.report.plots import LAYOUT, lowest_errors, scale_errors, steps_of, unit_of
from hwtune.report.verdicts import Contender, basis, images_tested, verdicts
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
# Seen on white and on dark paper (3 : 1 at least); colours, and ways to draw a line, as they pair.
STUDIES = ("#3b7dd8", "#b8651b", "#8a5bc7", "#1d8a66", "#c9504a")
DASHES = ("solid", "dash", "dot", "dashdot")


@dataclass(frozen=True)
class Compared:
    """What is compared of a study.

    Attributes:
        name: what it is called.
        found: what it searched, and what it found on validation, by name.
        tested: its winner, None where nothing was tested.
    """

    name: str
    found: Mapping[str, Any]
    tested: Contender | None

    @property
    def per_seed(self) -> list[float]:
        """Return the test accuracy of each seed of the winner, in [0, 1]."""
        return self.tested.per_seed if self.tested else []

    @property
    def values(self) -> dict[str, Any]:
        """Return it all by name; where nothing was tested the test's values are None."""
        record = self.tested and self.tested.record
        accuracy: Mapping[str, Any] = record["test_accuracy"] if record else {}
        return {
            "study": self.name,
            **self.found,
            "winner": record and record["name"],
            "parameters": record and record["parameters"],
            "test_accuracy": accuracy.get("mean"),
            "low": accuracy.get("low"),
            "high": accuracy.get("high"),
            "per_seed": self.per_seed,
        }


def described(folders: Sequence[StudyFolder]) -> list[Compared]:
    """Return what is compared of each study, called by its path where several have its name.

    Raises:
        StudyError: when the files of one do not read.
    """
    names = Counter(folder.name for folder in folders)
    return [
        describe(each, for_people(each.path) if names[each.name] > 1 else each.name)
        for each in folders
    ]


def describe(folder: StudyFolder, name: str) -> Compared:
    """Return what is compared of a study of this name.

    Raises:
        StudyError: when its files do not read.
    """
    about, tested = folder.read_study_now(), folder.read_retrain()["configurations"]
    trials, epochs = folder.read_trials(), folder.read_epochs()
    order, kind = once_each(ranked(trials)), about["split"]["kind"]
    found = {
        "space": about["space"]["name"],
        "data": about["data"]["name"],
        "split": f"{kind}, seed {about['split']['seed']}",
        "sampler": about.get("sampler", {}).get("name"),
        "scheduler": about.get("scheduler", {}).get("name"),
        "status": about["status"],
        "trials": len(trials),
        "trained": len(order),
        "epochs": len(epochs) - sum(taken_over(trials, epochs).values()),
        "minutes": about["seconds"] and about["seconds"] / 60,
        "val_accuracy": order[0].val_accuracy if order else None,
        "test_part": (part := images_tested(about["data"], about["split"])),
    }
    return Compared(name, found, Contender(name, tested[0], kind, part) if tested else None)


def winners(studies: Sequence[Compared]) -> list[Contender]:
    """Return what was tested of the studies."""
    return [each.tested for each in studies if each.tested]


def rows(studies: Sequence[Compared]) -> list[tuple[str, list[str]]]:
    """Return the lines of the table: what is compared, and a text a study."""
    values = [each.values for each in studies]
    intervals = [
        "–" if s["low"] is None else f"{percent(s['low'])} to {percent(s['high'])}" for s in values
    ]
    return [
        *((title, [cell(each[key], form) for each in values]) for title, key, form in LINES),
        ("95 % interval", intervals),
        ("by seed", [", ".join(map(percent, s["per_seed"])) or "–" for s in values]),
    ]


def cell(value: Any, form: str) -> str:
    """Return a value as the table shows it."""
    return "–" if value is None else f"{value:{form}}"


def raw_rows(studies: Sequence[Compared]) -> list[list[Any]]:
    """Return what is compared as lines for programs: accuracies in [0, 1], None where unknown."""
    keys, values = [*(key for _, key, _ in LINES), "low", "high"], [each.values for each in studies]
    seeds = [" ".join(map(str, each.per_seed)) for each in studies]
    return [[key, *(each[key] for each in values)] for key in keys] + [["per_seed", *seeds]]


def write_comparison(
    path: Path, folders: Sequence[StudyFolder], studies: Sequence[Compared]
) -> None:
    """Write the page of several studies, `studies` being what `described` says of them.

    Raises:
        StudyError: when the files of one do not read.
    """
    names, tested = [each.name for each in studies], winners(studies)
    figures = {"progress": progress(folders, literal(names)), "seeds": seeds(studies)}
    write_page(
        path, "compare.html", figures,
        names=names, rows=rows(studies), verdicts=verdicts(tested), basis=basis(tested),
    )  # fmt: skip


def progress(folders: Sequence[StudyFolder], names: Sequence[str]) -> go.Figure:
    """Return the lowest validation error so far of each study against its time of training."""
    legend = {"orientation": "h", "y": 1.02, "yanchor": "bottom"}  # above the lines, many or few
    figure = go.Figure(layout={**LAYOUT, "showlegend": True, "legend": legend})
    drawn = []
    for folder in folders:
        epochs = folder.read_epochs()
        slots = trials_at_once(folder.read_study(), len(epochs))
        drawn.append(lowest_errors(folder.read_trials(), epochs, slots))
    unit, per_minute = unit_of([minute for minutes, _ in drawn for minute in minutes[-1:]])
    for (minutes, lowest), name, colour, dash in zip(
        drawn, names, itertools.cycle(STUDIES), itertools.cycle(DASHES)
    ):
        steps = steps_of(lowest)
        figure.add_scatter(
            x=[per_minute * minutes[i] for i in steps],
            y=[lowest[i] for i in steps],
            mode="lines",
            line={"shape": "hv", "color": colour, "dash": dash},
            name=name,
            hovertemplate=f"{name}: error %{{y:.2%}}<extra></extra>",
        )
    figure.update_xaxes(title=f"{unit} of training", rangemode="tozero")
    scale_errors(figure)
    return figure


def seeds(studies: Sequence[Compared]) -> go.Figure:
    """Return the test accuracy of each study's winner, seed by seed."""
    figure = go.Figure(layout={**LAYOUT, "height": 120 + 40 * len(studies)})
    for study, colour in zip(studies, itertools.cycle(STUDIES)):
        figure.add_scatter(
            x=study.per_seed,
            y=literal([study.name]) * len(study.per_seed),
            mode="markers",
            marker={"color": colour, "size": 10, "opacity": 0.7},
            hovertemplate="%{y}: %{x:.2%}<extra></extra>",
        )
    figure.update_xaxes(title="test accuracy, a point a seed", tickformat=".2%")
    figure.update_yaxes(type="category", autorange="reversed", automargin=True)  # "7" is a name
    return figure
