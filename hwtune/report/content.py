"""What the files of a study say, in values and in words."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from hwtune.contract import About, AboutBaseline, Tested, TestRecord
from hwtune.errors import OptionError
from hwtune.records import (
    CLOSE,
    EpochRecord,
    TrialRecord,
    front_in_words,
    once_each,
    pareto_front,
    ranked,
    too_close,
)
from hwtune.report.effects import Effect, effects
from hwtune.report.words import by_writers, percent
from hwtune.space import SearchSpace, space_from_json
from hwtune.statistics import is_matrix
from hwtune.study_folder import StudyFolder
from hwtune.words import counted


@dataclass(frozen=True)
class Content:
    """What the files of a study say.

    Attributes:
        about: `study.json`.
        trials: the best first, those without an accuracy at the end.
        tested: `retrain.json`.
    """

    about: About
    trials: list[TrialRecord]
    epochs: list[EpochRecord]
    tested: Tested

    @cached_property
    def space(self) -> SearchSpace:
        """Return the space that was searched."""
        return space_from_json(self.about["space"])

    @cached_property
    def names(self) -> dict[int, str]:
        """Return what the space calls the points of trials, by number: its baselines and starts."""
        named = {t.trial: self.space.name_of(self.space.parse(t.config)) for t in self.trials}
        return {trial: name for trial, name in named.items() if name}

    @property
    def winner(self) -> TestRecord | None:
        """Return what was tested first, None before that."""
        return next(iter(self.tested["configurations"]), None)

    @property
    def winner_known_as(self) -> str:
        """Return what the space calls the winner, "" where it is called so, or has no name."""
        winner = self.winner["name"] if self.winner else ""
        known = next((self.names.get(t.trial, "") for t in self.trials if t.name == winner), "")
        return "" if known == winner else known

    @property
    def front(self) -> str:
        """Return the Pareto front of a search for several objectives in words, or ""."""
        objectives = self.about.get("objectives", [])
        several = len(objectives) > 1
        front = pareto_front(self.trials, objectives, self.trained) if several else []
        return front_in_words(front, objectives) if front else ""

    @property
    def compared_after(self) -> int:
        """Return after how many epochs choices are compared, 0 where that is after all.

        A scheduler lets those go on that read well, so that what trials reached later, or at most,
        is no sample of what their choices give; at its first comparison all of them are there.
        """
        scheduler = self.about.get("scheduler", {"name": "none"})
        return 0 if scheduler["name"] == "none" else int(scheduler.get("grace_period", 1))

    @cached_property
    def comparable(self) -> list[TrialRecord]:
        """Return the trials whose choices are compared, with the accuracy that they count with."""
        tried = once_each(self.trials)
        if not (after := self.compared_after):
            return [t for t in tried if t.state == "complete" or t.diverged]
        then = {e.trial: e for e in self.epochs if e.epoch == after}
        return [
            replace(
                t, state="complete", epochs=after, best_epoch=after,
                val_accuracy=then[t.trial].val_accuracy, val_loss=then[t.trial].val_loss,
            )
            if t.trial in then
            else t
            for t in tried
            if t.trial in then or t.diverged
        ]  # fmt: skip

    @cached_property
    def effects(self) -> list[Effect]:
        """Return what each choice was worth."""
        return effects(self.space, self.comparable)

    def trial(self, number: int) -> TrialRecord:
        """Return the trial of a number.

        Raises:
            OptionError: when there is none.
        """
        if (found := next((t for t in self.trials if t.trial == number), None)) is None:
            raise OptionError(
                f"Study {self.about['study']!r} has no trial {number}, or it repeated another; "
                "without a number its trials are listed."
            )
        return found

    def trained(self, trial: TrialRecord) -> float:
        """Return how many epochs a trial has trained; `max_steps` may end the last within it."""
        images = self.about["split"]["counts"]["train"]
        return self.space.epochs_seen(trial.config, trial.epochs, images=images)


def read_content(folder: StudyFolder) -> Content:
    """Read what a study's page, or a notebook, shows.

    Raises:
        StudyError: when the study's files do not read.
    """
    trials = folder.read_trials()
    order = ranked(trials)
    placed = {trial.trial for trial in order}
    order += [trial for trial in trials if trial.trial not in placed]
    about = folder.read_study_now()
    about["study"] = folder.name  # which may have been renamed
    about.setdefault("baseline", None)
    return Content(about, order, folder.read_epochs(), folder.read_retrain())


def answer(content: Content) -> str:
    """Return the outcome in a sentence."""
    about, winner = content.about, content.winner
    if winner is None:
        return "No configuration was retrained and tested yet."
    test = winner["test_accuracy"]
    trained, since = len(once_each(ranked(content.trials))), ""
    if published := about["baseline"]:
        title = f"{winner['name']}, trained {how_trained(content, published)}"
    else:
        among = winner.get("chosen_among", trained)
        known = content.winner_known_as
        also = f" ({known}, which the space names)" if known else ""
        if winner["baseline"] and "passed_over" not in winner:
            also = " (a baseline; no other configuration was chosen over it)"
        title = f"The best of {counted(among, 'trained configuration')}, {winner['name']}{also}"
        if more := max(0, trained - among):
            since = f" {counted(more, 'configuration')} trained since took no part in that choice."
    if better := winner.get("passed_over"):
        were = "was" if len(better) == 1 else "were"
        names = " and ".join(better)
        since += f" Before it {names} {were} chosen, of which no retraining ended well."
    failed = winner.get("failed", {})
    lost = f" ({len(failed)} more failed)" if failed else ""
    seeds = len(winner["seeds"])
    trainings = "in one training" if seeds == 1 else f"the mean of {seeds} trainings"
    shared = content.tested.get("leaks", {"images": 0, "writers": None})
    images = f"{'' if shared['images'] else 'unseen '}images of {about['data']['name']}"
    if shared["writers"]:
        images += ", by writers whom it was trained on,"
    if shared["images"]:
        comma = "" if shared["writers"] else ","
        images += f"{comma} {shared['images']:,} of which have a twin among the others,"
    if told := by_writers(winner):
        since = f" The test images are{told}.{since}"
    return (
        f"{title}, reads {percent(test['mean'])} of {winner['test_images']:,} {images} correctly: "
        f"{trainings}{lost}, 95 % interval over such images {percent(test['low'])} to "
        f"{percent(test['high'])}, with {winner['parameters']:,} parameters."
        f"{against_guessing(content, winner)}{since}{reported_by(published)}"
    )


def images_by_class(confusion: list[Any], classes: list[str]) -> dict[str, int]:
    """Return how many test images each class has."""
    if is_matrix(confusion):
        return dict(zip(classes, map(sum, confusion), strict=True))
    counts: Counter[str] = Counter()
    for each in confusion:
        counts[classes[each["true"]]] += each["count"]
    return counts


def against_guessing(content: Content, winner: TestRecord) -> str:
    """Return that the winner may read no more than who always gives the same answer, or ""."""
    images = images_by_class(winner["confusion"], content.about["data"]["classes"])
    commonest = max(images, key=lambda name: images[name])
    share = images[commonest] / winner["test_images"]
    if winner["test_accuracy"]["low"] > share:
        return ""
    better = winner["test_accuracy"]["mean"] > share
    words = (
        "The interval does not exclude guessing" if better else "That is no better than guessing"
    )
    return f" {words}: who answers {commonest!r} to every image reads {percent(share)} correctly."


def rivals(content: Content) -> str:
    """Return in words how many trials read about as much on validation as the winner, or ""."""
    winner = content.winner
    if content.about["baseline"] or winner is None or "finalists" in content.tested:
        return ""
    order, images = (
        once_each(ranked(content.trials)),
        content.about["split"]["counts"]["validation"],
    )
    chosen = next((t for t in order if t.name == winner["name"]), None)
    if chosen is None:
        return ""
    near = too_close(chosen, order, images)
    return (
        f"The choice of {chosen.name} rests on {images:,} validation images, of which "
        f"{counted(near, 'other trial')} read at most {CLOSE} more or fewer: too close to tell "
        "apart."
        if near
        else ""
    )


def how_trained(content: Content, published: AboutBaseline) -> str:
    """Return how a baseline was trained, and what was not as its authors did it."""
    about, space = content.about, content.space
    if published["honest"]:
        return "by hwtune"
    name = published["name"]
    usual = space.config({**space.points[name], **space.published[name].values}).epochs
    changes = []
    if published["epochs"] != usual:
        changes.append(f"for {published['epochs']} instead of {usual} epochs")
    if about["data"]["name"] != space.data:
        changes.append(f"on {about['data']['name']} instead of {space.data}")
    return "as published" + (f", but {' and '.join(changes)}" if changes else "")


def reported_by(published: AboutBaseline | None) -> str:
    """Return what the authors of a baseline report, as a sentence, or ""."""
    if not published or published["headline"] is None:
        return ""
    return f" Its authors report {percent(published['headline'])}: {published['really']}."


def gains(content: Content) -> list[dict[str, Any]]:
    """Return what the winner, or the best so far, gained over each baseline on validation."""
    order, winner = ranked(content.trials), content.winner
    if not order:
        return []
    best = next((t for t in order if winner and t.name == winner["name"]), order[0])
    return [
        {
            "name": t.baseline,
            "epochs": t.epochs,
            "whole": t.state == "complete",
            "accuracy": t.val_accuracy,
            "gain": best.val_accuracy - t.val_accuracy,
            "parameters": t.parameters,
        }
        for t in once_each(order)
        if t.baseline
    ]


def left_out(content: Content) -> list[str]:
    """Return the baselines for which the search had no time, not even for a part."""
    trained = {trial.baseline for trial in ranked(content.trials)}
    return [name for name in content.about.get("left_out", ()) if name not in trained]


def without_accuracy(content: Content) -> list[str]:
    """Return what became of the other baselines that have no accuracy, in words."""
    if content.about["baseline"]:
        return []
    space, over = content.space, content.about["status"] != "running"
    trained = {trial.baseline for trial in ranked(content.trials)}
    begun = {trial.baseline: trial for trial in content.trials}
    known = [space.baselines[name] for name in begun if name in space.baselines]
    told = []
    for name, values in space.baselines.items():
        if name in trained:
            continue
        if name in begun and begun[name].state == "failed":
            told.append(f"{name} failed ({begun[name].reason})")
        elif over and values not in known and name not in left_out(content):
            told.append(f"{name} was not begun")
    return told


def commands(content: Content) -> list[str]:
    """Return the commands that made what the page shows, each once, in their order."""
    about, openings = content.about, content.tested["test_openings"]
    runs = [run["command"] for run in about.get("runs", ())]
    tests = [opening["command"] for opening in openings if "command" in opening]
    return list(dict.fromkeys([about["command"], *runs, *tests]))


def made_elsewhere(content: Content) -> list[str]:
    """Return which runs and tests had other versions or another machine than `study.json` names."""
    about = content.about
    machine, versions = about["hardware"], about["versions"]
    openings = content.tested["test_openings"]
    makers = [(f"the run of {run['started']}", run.get("made_by")) for run in about.get("runs", ())]
    makers += [(f"the test of {test['time']}", test.get("made_by")) for test in openings]
    told = []
    for what, by in makers:
        if by:
            other = [f"{k} {v}" for k, v in by["versions"].items() if v != versions.get(k)]
            if by["git_commit"] != about.get("git_commit"):
                other.append(f"commit {by['git_commit'] or 'unknown'}")
            if (by["processor"], by["gpus"]) != (machine["processor"], machine["gpus"]):
                other.append(" and ".join([by["processor"], *by["gpus"]]))
            if other:
                told.append(f"{what}: {', '.join(other)}")
    return told


def trials_at_once(about: About, epochs: int) -> list[int]:
    """Return how many trials trained at once, by epoch as recorded; a resume may change that."""
    slots = [about["hardware"].get("parallel") or 1] * epochs
    for run in about.get("runs", ()):
        if "epochs_before" in run:
            begin = run["epochs_before"]
            slots[begin:] = [run["parallel"]] * len(slots[begin:])
    return slots


def other_split(content: Content) -> str:
    """Return a warning where points of the space were found on another split, or ""."""
    about = content.about
    names = content.space.found_elsewhere(about["data"], about["split"])
    if published := about.get("baseline"):
        names = [name for name in names if name == published["name"]]
    if not names:
        return ""
    return (
        f"Found on another split of the same data set, which trained on or validated with images "
        f"that are tested here: {', '.join(names)}."
    )
