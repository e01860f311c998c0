"""Write `report.html`: one file that works offline."""

from __future__ import annotations

from typing import Any

from plotly.graph_objects import Figure
from plotly.offline import get_plotlyjs

from hwtune.records import (
    EpochRecord,
    StudyFolder,
    TrialRecord,
    pareto_front,
    ranked,
    write_atomic,
)
from hwtune.report.choices import effect_intervals, importance_bars, parallel_coordinates
from hwtune.report.effects import effects
from hwtune.report.gallery import data_of, gallery
from hwtune.report.importance import importances
from hwtune.report.page import environment, percent
from hwtune.report.plots import (
    best_so_far,
    class_counts,
    confusion_map,
    learning_curves,
    tradeoff,
)
from hwtune.space import in_words, space_from_json


def write_report(folder: StudyFolder) -> None:
    """Make the page of a study from its files, and from the data where it is at hand.

    Raises:
        StudyError: when the study's files do not read.
    """
    about = {"baseline": None, **folder.read_study()}
    trials, tested = folder.read_trials(), folder.read_retrain()
    order = ranked(trials)
    winner = tested["configurations"][0] if tested["configurations"] else None
    dataset = data_of(about) if winner and winner["misread"] else None
    several = about.get("objectives", [])
    objectives = several if len(several) > 1 else ["val_accuracy", "parameters"]
    front = pareto_front(trials, objectives)
    figures = plots(about, trials, folder.read_epochs(), front, winner)
    page = environment().get_template("template.html").render(
        about=about,
        answer=answer(about, order, winner),
        gains=gains(order, winner),
        winner=winner,
        misread=gallery(dataset, winner["misread"]) if winner and dataset else [],
        trials=[*order, *(t for t in trials if t not in order)],
        front=front,
        objectives=objectives,
        space={name: in_words(d) for name, d in space_from_json(about["space"]).search.items()},
        tested=tested,
        finalists=tested.get("finalists", []),
        leaks=tested.get("leaks"),
        plotlyjs=get_plotlyjs(),
        plots={
            name: figure.to_html(full_html=False, include_plotlyjs=False, div_id=name,
                                 config={"displayModeBar": False, "responsive": True})
            for name, figure in figures.items()
        },
    )  # fmt: skip
    write_atomic(folder.report, page)


def plots(
    about: dict[str, Any],
    trials: list[TrialRecord],
    epochs: list[EpochRecord],
    front: list[int],
    winner: dict[str, Any] | None,
) -> dict[str, Figure]:
    """Return the figures of a page by name, those for which there is enough to see."""
    data, space = about["data"]["name"], space_from_json(about["space"])
    figures: dict[str, Figure] = {}
    if epochs:
        quick = pareto_front(trials, ["val_accuracy", "seconds_per_image"])
        figures |= {
            "curves": learning_curves(trials, epochs, data, rungs=rungs(about)),
            "progress": best_so_far(
                trials, epochs, data, slots=about["hardware"].get("parallel") or 1
            ),
            "size": tradeoff(trials, front, data, cost=lambda t: t.parameters, title="parameters"),
            "time": tradeoff(
                trials, quick, data, cost=lambda t: t.seconds / t.epochs, title="seconds an epoch"
            ),
        }
    if shares := importances(space, trials):
        figures["importance"] = importance_bars(shares, data)
        figures["coordinates"] = parallel_coordinates(space, ranked(trials), shares, data)
    if worth := effects(space, trials):
        figures["effects"] = effect_intervals(worth, data)
    classes = about["data"]["classes"]
    if counts := about["data"].get("per_class"):
        figures["classes"] = class_counts(counts, classes, data)
    if winner and isinstance(winner["confusion"][0], list):
        figures["confusion"] = confusion_map(winner["confusion"], classes, data)
    return figures


def rungs(about: dict[str, Any]) -> list[int]:
    """Return the epochs after which a study's ASHA compared trials."""
    scheduler, longest = about.get("scheduler", {}), about["budget"]["epochs"]
    if scheduler.get("name") != "asha":
        return []
    found = [scheduler["grace_period"]]  # longer ones of more brackets are among these
    while found[-1] * scheduler["reduction_factor"] <= longest:
        found.append(found[-1] * scheduler["reduction_factor"])
    return found


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


def gains(order: list[TrialRecord], winner: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Return what the winner, or the best so far, gained over each baseline on validation."""
    chosen = [t for t in order if winner and winner["name"] in (t.baseline, f"trial {t.trial}")]
    best = (chosen or order)[0] if order else None
    return (
        []
        if best is None
        else [
            {
                "name": t.baseline,
                "accuracy": t.val_accuracy,
                "gain": best.val_accuracy - t.val_accuracy,
                "parameters": t.parameters,
            }
            for t in order
            if t.baseline
        ]
    )
