"""From a searched study to a tested model."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import ray
from rich.console import Console

from hwtune import cluster
from hwtune.commands import once_more
from hwtune.contract import TestRecord
from hwtune.data.splits import search_split
from hwtune.errors import NoneTrained, OptionError, StudyError
from hwtune.evaluation.candidates import Candidate, Ground, candidate
from hwtune.evaluation.finalists import as_judged, check_folds, judge
from hwtune.evaluation.retrain import retrain
from hwtune.pipeline.command import Command, Place
from hwtune.pipeline.mending import remake_trials
from hwtune.pipeline.mirroring import mirrored, remirror
from hwtune.pipeline.reporting import reported
from hwtune.pipeline.session import (
    Session,
    at_once,
    close_last_run,
    same_data,
    was_killed,
    writable,
)
from hwtune.records import CLOSE, TrialRecord, more_trials, once_each, ranked, too_close
from hwtune.report.verdicts import verdicts_within
from hwtune.report.words import by_writers
from hwtune.search.budget import Retraining
from hwtune.signals import told_at_once
from hwtune.study_folder import StudyFolder
from hwtune.values import FOLDS, checked, folds_of, positive
from hwtune.words import counted

MOST_FINALISTS = 8  # that are recommended; each is trained once a fold
MOST_TRIED = 3  # of the best, until one can be trained


def retraining_of(
    *, finalists: int, folds: int, top: int, seeds: int, baselines: bool
) -> Retraining:
    """Return what follows a search, from what the user gave.

    Raises:
        HwtuneError: when a value is none.
    """
    values = {
        "finalists": (positive, finalists), "folds": (folds_of, folds), "top": (positive, top),
        "seeds": (positive, seeds),
    }  # fmt: skip
    whole = {name: checked(name, *parsed) for name, parsed in values.items()}
    if folds != FOLDS and finalists == 1:
        raise OptionError(
            f"--folds {folds} belongs to --finalists N, with N above 1; add it, or leave it out."
        )
    return Retraining(**whole, baselines=baselines)


def retrain_study(
    folder: StudyFolder,
    *,
    retraining: Retraining,
    place: Place,
    mirror: str | None,
    command: Command,
) -> None:
    """Retrain and test the best of a study that was searched before.

    Args:
        mirror: see `remirror`.

    Raises:
        StudyError: when the study has no trial to retrain.
        DataError: when the data set is not the one that was searched.
        HwtuneFailure: when no training ends well, or the report cannot be written.
    """
    with folder.locked():
        about = folder.read_study()
        if "baseline" in about:
            go_on = ""
            if about["status"] != "complete":
                go_on = f" Continue it: {folder.command('resume', *place.options)}; or:"
            raise StudyError(
                f"{folder.name} is a baseline's training, not a search.{go_on} To train it anew, "
                f"also with --seeds 5, give another name to: {once_more(about['command'])}"
            )
        if was_killed(about) and folder.journal.is_file():
            remake_trials(folder, about)  # which may be behind
        if not ranked(trials := folder.read_trials()):
            raise StudyError(
                f"Study {folder.name!r} has no trained trial; continue it first: "
                f"{folder.command('resume', *more_trials(trials), *place.options)}"
            )
        remirror(about, mirror)
        session = Session(folder, about, same_data(folder, about), place, command)
        if retraining.finalists > 1:
            check_folds(session.dataset, session.split, retraining.folds)
        with (
            mirrored(session) as changed,
            writable(folder, once_more(command.text)),
            reported(folder, command.console),
            ExitStack() as after,
            repeatable(command),
        ):
            after.enter_context(cluster.started(place.address))  # it ends after the words
            close_last_run(folder, about)  # before states of this retraining look like its own
            session.write()
            changed()
            data = ray.put(search_split(session.dataset, session.split))
            retrain_best(session, data, retraining, changed=changed, again=True)


@contextmanager
def repeatable(command: Command) -> Iterator[None]:
    """Say how to go on when the user ends the block, which keeps the states of its trainings."""
    again = once_more(command.text)
    try:
        with told_at_once(lambda: command.console.print(at_once(again))):
            yield
    except KeyboardInterrupt:
        command.console.print(f"What was trained is kept. To continue: {again}")
        raise


def retrain_best(
    session: Session,
    data: ray.ObjectRef,
    retraining: Retraining,
    *,
    changed: Callable[[], None],
    again: bool = False,
) -> None:
    """Choose among the finalists, retrain and test the best, and the baselines if asked.

    Args:
        data: the `SearchSplit` of the study, in Ray's object store.
        changed: called when an opening of the test set was recorded.
        again: whether what was tested before is trained and tested once more.
    """
    folder, space, command, say = session.folder, session.space, session.command, session.say
    tried = {
        candidate(trial, space.config(space.parse(trial.config))): trial
        for trial in once_each(ranked(folder.read_trials()))
    }
    ground = session.ground(data, session.slots())
    order, judged = judged_first(list(tried), ground, retraining, again=again)
    if retraining.top > len(order):
        say(f"--top {retraining.top}: all {len(order)} that there are will be retrained.")
    known = {each.baseline for each in order}
    if retraining.baselines and (without := [n for n in space.baselines if n not in known]):
        say(f"Without an accuracy in the search, so not retrained: {', '.join(without)}.")
    entries, passed_over = retrain_first(
        order, tried, ground, retraining, session, judged=judged, changed=changed, again=again
    )
    record = folder.read_retrain()
    record["configurations"][0] |= {
        "chosen_among": len(tried),  # an extended search has more
        "passed_over": passed_over,
    }
    folder.write_retrain(record)
    say_tested(entries, session.split.kind, command.console, judged=record["configurations"])


def retrain_first(
    order: Sequence[Candidate],
    tried: Mapping[Candidate, TrialRecord],
    ground: Ground,
    retraining: Retraining,
    session: Session,
    *,
    judged: int,
    changed: Callable[[], None],
    again: bool,
) -> tuple[list[TestRecord], list[str]]:
    """Retrain and test the first, or the next where no training of it ends well.

    Args:
        order: the best first.
        tried: their trials.
        judged: how many of them cross-validation put in order.
        changed, again: as of `retrain_best`.

    Returns what was tested, and the names of those that were passed over.

    Raises:
        NoneTrained: when none of the first few can be trained.
    """
    images = session.about["split"]["counts"]["validation"]
    for number, first in enumerate(order[:MOST_TRIED]):
        how = "by cross-validation" if number < judged else "on validation"
        say_winner(tried[first], how, tried.values(), images, session)
        here = replace(ground, slots=session.slots())  # machines may have come or gone meanwhile
        try:
            entries = retrain(
                retraining.chosen(order[number:]), here, seeds=range(retraining.seeds),
                command=session.command.text, again=again, asked=retraining.chosen(order),
                opened=changed,
            )  # fmt: skip
        except NoneTrained as error:
            session.say(f"{error}")
        else:
            return entries, [each.name for each in order[:number]]
    more = session.again("resume", f"--trials {2 * len(session.folder.read_trials())}")
    few = counted(min(len(order), MOST_TRIED), "configuration")
    raise NoneTrained(
        f"No training of the best {few} ended well, so that nothing was tested; more trials may "
        f"find others: {more}"
    )


def say_winner(
    winner: TrialRecord, how: str, others: Collection[TrialRecord], images: int, session: Session
) -> None:
    """Say which trial was chosen, and from how many others validation cannot tell it.

    Args:
        others: all that it was chosen among, itself included.
        images: that validate.
    """
    session.say(
        f"Winner {how}: {winner.name}, which read {winner.val_accuracy:.2%} of {images:,} "
        f"validation images after {counted(winner.best_epoch, 'epoch')}, {winner.parameters:,} "
        "parameters."
    )
    if how == "on validation" and (near := too_close(winner, others, images)):
        finalists = min(near, MOST_FINALISTS - 1) + 1
        more = session.again("retrain", f"--finalists {finalists}")
        session.say(
            f"{counted(near, 'other trial')} read at most {CLOSE} more or fewer of the {images:,} "
            f"validation images, too close to tell apart. Cross-validation tells more: {more}"
        )


def judged_first(
    order: list[Candidate], ground: Ground, retraining: Retraining, *, again: bool
) -> tuple[list[Candidate], int]:
    """Return the candidates, those first that cross-validation ordered, and how many these are.

    Args:
        order: by the search's own validation.
        again: whether an earlier judgment of the same finalists does not count.
    """
    finalists, folds = order[: retraining.finalists], retraining.folds
    record = ground.folder.read_retrain()
    judged = None if again else as_judged(finalists, record.get("finalists", []), folds)
    if judged is None and "finalists" in record:
        del record["finalists"]  # of an earlier choice
        ground.folder.write_retrain(record)
    if len(finalists) < 2:
        return order, 0
    if judged is None:
        ground.console.print(f"Judging the {len(finalists)} best by {folds}-fold cross-validation.")
        judged = judge(finalists, ground, folds=folds)
    return [*judged, *order[len(finalists) :]], len(finalists)


def say_tested(
    entries: Sequence[TestRecord], kind: str, console: Console, *, judged: Sequence[TestRecord]
) -> None:
    """Say how each configuration did on the test set, and whether the first is told apart.

    Args:
        kind: of the split.
        judged: what is judged together, as on the page: all that were tested, the winner first.
    """
    for entry in entries:
        accuracy = entry["test_accuracy"]
        spread = f", spread {accuracy['spread']:.2%}" if accuracy["spread"] is not None else ""
        lost = "".join(f"; seed {seed} failed" for seed in entry.get("failed", {}))
        console.print(
            f"Test: {entry['name']} {accuracy['mean']:.2%} (95 % interval {accuracy['low']:.2%} "
            f"to {accuracy['high']:.2%} on {entry['test_images']:,} images{by_writers(entry)}; "
            f"by seed {', '.join(f'{value:.2%}' for value in accuracy['per_seed'])}{spread}{lost})"
        )
    words, basis = verdicts_within(judged, kind)
    for each in (*words, basis):
        if each:
            console.print(each)
