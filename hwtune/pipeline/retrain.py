"""From a searched study to a tested model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray
from rich.console import Console

from hwtune import cluster
from hwtune.cluster import Slots
from hwtune.data.images import Dataset
from hwtune.data.splits import search_split
from hwtune.errors import OptionError, StudyError
from hwtune.evaluation.finalists import as_judged, check_folds, judge
from hwtune.evaluation.retrain import candidate, retrain
from hwtune.files import counted
from hwtune.pipeline.reporting import reported
from hwtune.pipeline.session import (
    Command,
    Place,
    close_last_run,
    mirrored,
    planned_slots,
    same_data,
    split_of,
    writable,
)
from hwtune.records import once_each, ranked
from hwtune.search.budget import Retraining
from hwtune.signals import catch_sigterm
from hwtune.space import space_from_json
from hwtune.study_folder import StudyFolder
from hwtune.values import checked, folds_of, positive


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
    if folds != Retraining.folds and finalists == 1:
        raise OptionError(
            f"--folds {folds} belongs to --finalists N, with N above 1; add it, or leave it out."
        )
    return Retraining(**whole, baselines=baselines)


def retrain_study(
    folder: StudyFolder, *, retraining: Retraining, place: Place, command: Command
) -> None:
    """Retrain and test the best of a study that was searched before.

    Raises:
        StudyError: when the study has no trial to retrain.
        DataError: when the data set is not the one that was searched.
        HwtuneFailure: when no training ends well, or the report cannot be written.
    """
    catch_sigterm()
    with folder.locked():
        about = folder.read_study()
        dataset = same_data(folder, about)
        if "baseline" in about:
            raise StudyError(
                f"{folder.name} is a baseline's training: resume {folder.called}, or train it "
                f"anew: retrain {about['space']['name']} --baseline {about['baseline']['name']}."
            )
        if not ranked(folder.read_trials()):
            raise StudyError(f"Study {folder.name!r} has no trained trial; search it first.")
        if retraining.finalists > 1:
            check_folds(dataset, split_of(about), retraining.folds)
        with (
            mirrored(folder, about.get("mirror"), command.console) as changed,
            writable(folder, command.text),
            reported(folder, command.console),
            repeatable(command),
            cluster.started(place.address),
        ):
            close_last_run(folder, about)  # before states of this retraining look like its own
            folder.write_study(about)
            changed()
            slots = planned_slots(place, about)
            data = ray.put(search_split(dataset, split_of(about)))
            retrain_best(
                folder, about, dataset, data, slots, retraining, command, changed=changed,
                again=True,
            )  # fmt: skip


@contextmanager
def repeatable(command: Command) -> Iterator[None]:
    """Say how to go on when the user ends the block, which keeps the states of its trainings."""
    try:
        yield
    except KeyboardInterrupt:
        command.console.print(f"What was trained is kept. Go on: {command.text}")
        raise


def retrain_best(
    folder: StudyFolder,
    about: dict[str, Any],
    dataset: Dataset,
    data: ray.ObjectRef,
    slots: Slots,
    retraining: Retraining,
    command: Command,
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
    space, split, console = space_from_json(about["space"]), split_of(about), command.console
    tried = {
        candidate(trial, space.config(space.parse(trial.config))): trial
        for trial in once_each(ranked(folder.read_trials()))
    }
    order, chosen_by = list(tried), "on validation"
    record, folds = folder.read_retrain(), retraining.folds
    count = min(retraining.finalists, len(order))
    judged = None if again else as_judged(order[:count], record.get("finalists", []), folds)
    if judged is None and record.pop("finalists", None):
        folder.write_retrain(record)  # of an earlier choice
    if count > 1:
        chosen_by = "by cross-validation"
        if judged is None:
            console.print(f"Judging the {count} best by {folds}-fold cross-validation.")
            judged = judge(
                order[:count], dataset, split, data, folder, folds=folds, slots=slots,
                console=console,
            )  # fmt: skip
        order[:count] = judged
    if retraining.top > len(order):
        console.print(f"--top {retraining.top}: all {len(order)} that there are will be retrained.")
    chosen = retraining.chosen(order)
    known = {each.baseline for each in order}
    if retraining.baselines and (untrained := [n for n in space.baselines if n not in known]):
        console.print(f"Not trained, so not retrained either: {', '.join(untrained)}.")
    winner = tried[chosen[0]]
    console.print(
        f"Winner {chosen_by}: {chosen[0].name}, on validation {winner.val_accuracy:.2%} after "
        f"{counted(winner.best_epoch, 'epoch')}, {winner.parameters:,} parameters."
    )
    entries = retrain(
        chosen, dataset, split, data, folder, seeds=list(range(retraining.seeds)), slots=slots,
        again=again, opened=changed, command=command.text, console=console,
    )  # fmt: skip
    record = folder.read_retrain()
    record["configurations"][0]["chosen_among"] = len(tried)  # an extended search has more
    folder.write_retrain(record)
    say_tested(entries, console)


def say_tested(entries: Sequence[dict[str, Any]], console: Console) -> None:
    """Say how each configuration did on the test set."""
    for entry in entries:
        accuracy = entry["test_accuracy"]
        spread = f", spread {accuracy['spread']:.2%}" if accuracy["spread"] is not None else ""
        lost = "".join(f"; seed {seed} failed" for seed in entry.get("failed", {}))
        console.print(
            f"Test: {entry['name']} {accuracy['mean']:.2%} (95 % interval {accuracy['low']:.2%} "
            f"to {accuracy['high']:.2%} on {entry['test_images']:,} images; by seed "
            f"{', '.join(f'{value:.2%}' for value in accuracy['per_seed'])}{spread}{lost})"
        )
