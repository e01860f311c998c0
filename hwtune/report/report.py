"""Write `report.html`: one file that works offline."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from statistics import fmean
from typing import Any

from optuna.distributions import CategoricalDistribution
from plotly.graph_objects import Figure

from hwtune.contract import About, Scores, Tested, WriterRead
from hwtune.data.own import writer_names
from hwtune.distributions import in_words
from hwtune.errors import StudyError
from hwtune.records import more_trials, once_each, pareto_front, ranked, rung_epochs
from hwtune.report.choices import effect_intervals, importance_bars, parallel_coordinates
from hwtune.report.content import (
    Content,
    answer,
    commands,
    gains,
    images_by_class,
    left_out,
    made_elsewhere,
    other_split,
    read_content,
    rivals,
    trials_at_once,
    without_accuracy,
)
from hwtune.report.effects import worth_in_words
from hwtune.report.gallery import misread_images
from hwtune.report.importance import importances
from hwtune.report.page import write_page
from hwtune.report.plots import (
    MOST_BARS,
    MOST_POINTS,
    best_so_far,
    class_counts,
    confusion_map,
    foremost,
    learning_curves,
    tradeoff,
)
from hwtune.report.verdicts import images_tested, verdicts_within
from hwtune.report.words import state_of
from hwtune.results import studies_in
from hwtune.statistics import is_matrix
from hwtune.study_folder import StudyFolder
from hwtune.words import counted

MOST_ROWS = 500  # trials in a table, beside the baselines
MOST_CLASSES, MOST_CONFUSED = 100, 50  # rows of the tables of classes


def write_report(folder: StudyFolder) -> None:
    """Make the page of a study from its files, and from the data where it is at hand.

    Raises:
        StudyError: when the study's files do not read.
    """
    content = read_content(folder)
    about, winner, tested = content.about, content.winner, content.tested
    # Before the plots: the images of a data set and they need not lie in memory together.
    misread = misread_images(about, winner["misread"]) if winner else []
    read_by_writer = by_writer(winner["writers"], about) if winner and "writers" in winner else []
    figures = plots(content)
    verdicts, basis = verdicts_within(tested["configurations"], about["split"]["kind"])
    write_page(
        folder.report,
        "template.html",
        figures,
        content=content,
        about=about,
        state=state_of(about, content.tested),
        answer=answer(content),
        commands=commands(content),
        rivals=rivals(content),
        gains=gains(content),
        left_out=left_out(content),
        without_accuracy=without_accuracy(content),
        other_split=other_split(content),
        made_elsewhere=made_elsewhere(content),
        to_go_on="".join(f" {option}" for option in more_trials(content.trials)),
        at_length=at_length(content),
        times=times,
        has_model=folder.model.is_dir(),
        untold=untold(content),
        worth=worth_in_words(content.effects, at_length(content)),
        openings_beside=openings_beside(folder, content),
        winner=winner,
        misread=misread,
        verdicts=verdicts,
        basis=basis,
        images_of=images_by_class(winner["confusion"], about["data"]["classes"]) if winner else {},
        by_class=worst_classes(winner["per_class"]) if winner else {},
        by_writer=read_by_writer,
        confusions=most_confused(winner["confusion"], about["data"]["classes"]) if winner else [],
        trials=foremost(content.trials, MOST_ROWS),
        all_trials=len(content.trials),
        not_drawn=len(content.trials) - len(figures["curves"].data) if content.epochs else 0,
        most_points=MOST_POINTS,
        most_classes=MOST_CLASSES,
        space={name: in_words(d) for name, d in content.space.search.items()},
        tested=tested,
        finalists=tested.get("finalists", []),
        leaks=tested.get("leaks"),
    )


def at_length(content: Content) -> str:
    """Return in words how long what is compared was trained."""
    after = content.compared_after
    return f"after {counted(after, 'epoch')}" if after else "after whole trainings"


def times(number: int) -> str:
    """Return in words how often something happened."""
    return "once" if number == 1 else f"{number} times"


def worst_classes(per_class: dict[str, Scores]) -> dict[str, Scores]:
    """Return the scores by class; of many classes those of the lowest F1, the lowest first."""
    if len(per_class) <= MOST_CLASSES:
        return per_class
    known = [(name, each) for name, each in per_class.items() if each["f1"] is not None]
    return dict(sorted(known, key=lambda each: each[1]["f1"] or 0.0)[:MOST_CLASSES])


def by_writer(writers: Mapping[str, WriterRead], about: About) -> list[tuple[str, int, float]]:
    """Return (writer, test images, mean accuracy), the worst read first."""
    names = writer_names(about["data"])
    read = [
        (
            names.get(int(writer), writer),
            each["images"],
            1 - fmean(each["misread"]) / each["images"],
        )
        for writer, each in writers.items()
    ]
    return sorted(read, key=lambda each: each[2])


def most_confused(confusion: list[Any], classes: list[str]) -> list[tuple[str, str, int]]:
    """Return which class was read as which, and how often, the most frequent first.

    Only of a confusion of too many classes for a matrix, which lists them.
    """
    if is_matrix(confusion):
        return []
    wrong = [each for each in confusion if each["true"] != each["predicted"]]
    wrong.sort(key=lambda each: -each["count"])
    return [
        (classes[each["true"]], classes[each["predicted"]], each["count"])
        for each in wrong[:MOST_CONFUSED]
    ]


def plots(content: Content) -> dict[str, Figure]:
    """Return the figures of a page by name, those for which there is enough to see."""
    about, trials, epochs, winner = content.about, content.trials, content.epochs, content.winner
    data, space = about["data"]["name"], content.space
    figures: dict[str, Figure] = {}
    if epochs:
        small, quick = (
            pareto_front(trials, ["val_accuracy", cost], content.trained)
            for cost in ("parameters", "seconds_per_image")
        )
        figures |= {
            "curves": learning_curves(trials, epochs, data, rungs=rungs(about)),
            "progress": best_so_far(trials, epochs, data, slots=trials_at_once(about, len(epochs))),
            "size": tradeoff(
                trials, small, data, cost=lambda t: t.parameters, title="parameters", form="~s"
            ),
            "time": tradeoff(
                trials,
                quick,
                data,
                cost=lambda t: t.seconds / content.trained(t),
                title="seconds an epoch",
                form="~g",
            ),
        }
    shares, best = importances(space, content.comparable), once_each(ranked(trials))[:MOST_POINTS]
    if shares:
        figures["importance"] = importance_bars(shares, data)
    if len(best) > 1 and space.search:
        figures["coordinates"] = parallel_coordinates(space, best, shares or space.search, data)
    if content.effects:
        figures["effects"] = effect_intervals(content.effects, data)
    classes = about["data"]["classes"]
    counts = about["data"].get("per_class", [])
    if len({*counts}) > 1 or 0 < len(counts) <= MOST_BARS:
        figures["classes"] = class_counts(counts, classes, data)
    if winner and is_matrix(winner["confusion"]):
        figures["confusion"] = confusion_map(winner["confusion"], classes, data)
    return figures


def untold(content: Content) -> list[str]:
    """Return, by hyperparameter, the values on a list that are not compared with another.

    They were too seldom tried, or other choices foretell them.
    """
    told = {(e.name, v) for e in content.effects for v in (e.value, e.against)}
    missing = {
        name: [str(value) for value in d.choices if (name, value) not in told]
        for name, d in content.space.search.items()
        if isinstance(d, CategoricalDistribution) and len(d.choices) > 1
    }
    return [f"{name} {', '.join(values)}" for name, values in missing.items() if values]


def openings_beside(folder: StudyFolder, content: Content) -> int:
    """Return how often other studies beside this one opened the same test images."""
    about, others = content.about, set[tuple[str, str]]()
    part = images_tested(about["data"], about["split"])
    for other in studies_in(folder.path.parent):
        with suppress(StudyError):  # a damaged study is not this one's fault
            other.check()
            known = other.read_study()
            if part == images_tested(known["data"], known["split"]):
                others |= opened(other.read_retrain())
    return len(others - opened(content.tested))


def opened(tested: Tested) -> set[tuple[str, str]]:
    """Return when the test set was opened, and for what; a copy of a study has the same."""
    return {(each["time"], each["configuration"]) for each in tested["test_openings"]}


def rungs(about: About) -> list[int]:
    """Return the epochs after which a study's ASHA compared trials."""
    scheduler = about.get("scheduler", {})
    if scheduler.get("name") != "asha":
        return []
    return rung_epochs(  # those of more brackets are among these
        grace_period=max(1, scheduler["grace_period"]),
        reduction_factor=max(2, scheduler["reduction_factor"]),
        longest=about["budget"]["epochs"],
    )
