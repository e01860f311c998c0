"""Studies side by side: what they searched, what they found, and whether they can be told apart."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from plotly.colors import qualitative

from hwtune.files import for_people
from hwtune.records import once_each, ranked, taken_over
from hwtune.report.content import trials_at_once
from hwtune.report.page import write_page
from hwtune.report.plots import ERRORS, LAYOUT, lowest_errors
from hwtune.report.words import literal, percent
from hwtune.statistics import welch_interval
from hwtune.study_folder import StudyFolder

BASIS = (
    "Differences are between the means over seeds, with Welch's 95 % interval for the chance of "
    "training (with three studies or more, of all pairs together), on the same test images; other "
    "images, or other writers, may order them otherwise."
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
    winner = tested[0] if tested else None
    test = winner["test_accuracy"] if winner else {}
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
        "minutes": (about["seconds"] or 0) / 60,
        "val_accuracy": order[0].val_accuracy if order else None,
        "winner": winner and winner["name"],
        "parameters": winner and winner["parameters"],
        "test_accuracy": test.get("mean"),
        "low": test.get("low"),
        "high": test.get("high"),
        "per_seed": test.get("per_seed", []),
        "test_part": images_tested(about["data"], about["split"]),
    }


def images_tested(data: dict[str, Any], split: dict[str, Any]) -> list[Any]:
    """Return what two studies share that were tested on the same images."""
    own = data.get("test_from") is not None and split["kind"] in ("random", "ordered")
    drawn = [split[name] for name in ("kind", "seed", "test")]  # before those to validate with
    return [data["sha256"], "its own" if own else drawn]


def verdicts(studies: Sequence[dict[str, Any]]) -> list[str]:
    """Return in words how the studies that were tested differ from the best on the same images."""
    groups = alike_tested(studies)
    words = [verdict(best, other, of) for best, other, of in pairs(studies)]
    if len(groups) > 1:
        names = "; ".join(", ".join(each["study"] for each in group) for group in groups)
        words.append(f"Tested on different images, so that they do not compare: {names}.")
    return words


def alike_tested(studies: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Return the studies that were tested, those on the same images together."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for study in studies:
        if study["test_accuracy"] is not None:
            groups.setdefault(json.dumps(study["test_part"]), []).append(study)
    return list(groups.values())


def basis(studies: Sequence[dict[str, Any]]) -> str:
    """Return what the verdicts rest on, "" where none could be given."""
    return "" if all(obstacle(best, other) for best, other, _ in pairs(studies)) else BASIS


def pairs(
    studies: Sequence[dict[str, Any]],
) -> list[tuple[dict[str, Any], dict[str, Any], int]]:
    """Return of studies tested on the same images the best, each other, and how many they are."""
    bests = [(max(g, key=lambda s: s["test_accuracy"]), g) for g in alike_tested(studies)]
    return [(best, each, len(group)) for best, group in bests for each in group if each is not best]


def obstacle(best: dict[str, Any], other: dict[str, Any]) -> str:
    """Return why two studies cannot be judged, or ""."""
    names = f"{best['study']} and {other['study']}"
    few = [each["study"] for each in (best, other) if len(each["per_seed"]) < 2]
    if few:
        return (
            f"{names} cannot be told apart by a single seed of {' and '.join(few)}: retrain with "
            "--seeds 5."
        )
    if alike := [each["study"] for each in (best, other) if len({*each["per_seed"]}) == 1]:
        vary = "does not vary over its" if len(alike) == 1 else "do not vary over their"
        gain = 100 * (best["test_accuracy"] - other["test_accuracy"])
        return (
            f"{names} differ by {gain:.2f} points, which cannot be judged: {' and '.join(alike)} "
            f"{vary} seeds, which therefore tell nothing of chance; retrain with more."
        )
    return ""


def verdict(best: dict[str, Any], other: dict[str, Any], of: int = 2) -> str:
    """Return in words how a study differs from the best `of` so many."""
    if why := obstacle(best, other):
        return why
    gain, low, high = welch_interval(best["per_seed"], over=other["per_seed"], chosen_of=of)
    ratio = other["parameters"] / best["parameters"]
    times = f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.2g}"
    size = "as many" if times == "1" else f"{times} times the"
    difference = f"{100 * gain:.2f} points ({100 * low:+.2f} to {100 * high:+.2f})"
    if low > 0:
        words = (
            f"{best['study']} reads these test images better than {other['study']}: {difference}"
        )
    else:
        words = f"{best['study']} and {other['study']} cannot be told apart: {difference}"
    return f"{words}; {other['study']} has {size} parameters."


def rows(studies: Sequence[dict[str, Any]]) -> list[tuple[str, list[str]]]:
    """Return the lines of the table: what is compared, and a text a study."""

    def line(title: str, key: str, form: str = "") -> tuple[str, list[str]]:
        values = [each[key] for each in studies]
        return title, ["–" if value is None else f"{value:{form}}" for value in values]

    intervals = [
        "–" if s["low"] is None else f"{percent(s['low'])} to {percent(s['high'])}" for s in studies
    ]
    return [
        line("space", "space"),
        line("data", "data"),
        line("split", "split"),
        line("sampler", "sampler"),
        line("scheduler", "scheduler"),
        line("status", "status"),
        line("trials", "trials"),
        line("trained", "trained"),
        line("epochs", "epochs", ","),
        line("minutes", "minutes", ".1f"),
        line("best on validation", "val_accuracy", ".2%"),
        line("winner", "winner"),
        line("parameters", "parameters", ","),
        line("test accuracy", "test_accuracy", ".2%"),
        ("95 % interval", intervals),
        ("by seed", [", ".join(map(percent, s["per_seed"])) or "–" for s in studies]),
    ]


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
