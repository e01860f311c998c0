"""Write `report.html`: one file that works offline."""

from __future__ import annotations

import math
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from plotly.offline import get_plotlyjs

from hwtune.records import StudyFolder, TrialRecord, pareto_front, ranked, write_atomic
from hwtune.report.effects import effects
from hwtune.report.plots import (
    best_so_far,
    confusion_map,
    effect_intervals,
    learning_curves,
    tradeoff,
)
from hwtune.space import space_from_json


def write_report(folder: StudyFolder) -> None:
    """Make the page of a study from its files.

    Raises:
        StudyError: when the study's files do not read.
    """
    about = {"baseline": None, **folder.read_study()}
    trials, epochs = folder.read_trials(), folder.read_epochs()
    tested = folder.read_retrain()
    order = ranked(trials)
    rest = [t for t in trials if t not in order]
    data = about["data"]["name"]
    several = about.get("objectives", [])
    objectives = several if len(several) > 1 else ["val_accuracy", "parameters"]
    front = pareto_front(trials, objectives)
    figures = {
        "curves": learning_curves(trials, epochs, data),
        "progress": best_so_far(trials, data),
        "tradeoff": tradeoff(trials, front, data),
    }
    if worth := effects(space_from_json(about["space"]), trials):
        figures["effects"] = effect_intervals(worth, data)
    winner = tested["configurations"][0] if tested["configurations"] else None
    classes = about["data"]["classes"]
    if winner and isinstance(winner["confusion"][0], list):
        figures["confusion"] = confusion_map(winner["confusion"], classes, data)
    environment = Environment(
        loader=PackageLoader("hwtune.report", ""), autoescape=True, undefined=StrictUndefined
    )
    environment.filters["percent"] = percent
    page = environment.get_template("template.html").render(
        about=about,
        answer=answer(about, order, winner),
        gains=gains(order),
        winner=winner,
        trials=[*order, *rest],
        front=front,
        objectives=objectives,
        searched=list(about["space"]["search"]),
        tested=tested,
        finalists=tested.get("finalists", []),
        plotlyjs=get_plotlyjs(),
        plots={
            name: figure.to_html(full_html=False, include_plotlyjs=False, div_id=name,
                                 config={"displayModeBar": False, "responsive": True})
            for name, figure in figures.items()
        },
    )  # fmt: skip
    write_atomic(folder.report, page)


def percent(value: float | None) -> str:
    """Return a fraction as a percentage with two digits, a dash for none."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.2%}"


def answer(about: dict[str, Any], order: list[TrialRecord], winner: Any) -> str:
    """Return the outcome in a sentence."""
    if winner is None:
        return "No configuration was retrained and tested yet."
    test = winner["test_accuracy"]
    if published := about["baseline"]:
        title = (
            f"{winner['name']}, trained {'by hwtune' if published['honest'] else 'as published'}"
        )
    else:
        title = f"The best of {len(order)} trained configurations, {winner['name']}"
    return (
        f"{title}, reads "
        f"{percent(test['mean'])} of {winner['test_images']:,} unseen images of "
        f"{about['data']['name']} correctly: the mean of {len(winner['seeds'])} trainings, 95 % "
        f"interval {percent(test['low'])} to {percent(test['high'])}, with "
        f"{winner['parameters']:,} parameters.{reported_by(published)}"
    )


def reported_by(published: dict[str, Any] | None) -> str:
    """Return what the authors of a baseline report, as a sentence, or ""."""
    if not published or published["headline"] is None:
        return ""
    return f" Its authors report {percent(published['headline'])}: {published['really']}."


def gains(order: list[TrialRecord]) -> list[dict[str, Any]]:
    """Return what the winner gained over each baseline, on validation."""
    return [
        {
            "name": t.baseline,
            "accuracy": t.val_accuracy,
            "gain": order[0].val_accuracy - t.val_accuracy,
            "parameters": t.parameters,
        }
        for t in order
        if t.baseline
    ]
