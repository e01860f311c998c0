"""Run one study: Ray Tune schedules, Optuna proposes, ASHA stops."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from ray import tune
from ray.tune import RunConfig, TuneConfig, Tuner
from rich.console import Console

from hwtune.cluster import Slots
from hwtune.data.splits import SearchSplit
from hwtune.models import Cost
from hwtune.records import StudyFolder, TrialRecord
from hwtune.search.budget import Budget, Clock, CostModel
from hwtune.search.feasible import cost_of, too_large
from hwtune.search.ledger import Ledger
from hwtune.search.pace import GRACE_PERIOD, REDUCTION_FACTOR, Pace
from hwtune.search.progress import StudyCallback
from hwtune.search.scheduler import Asha, Rungs
from hwtune.search.searcher import OptunaSearcher
from hwtune.search.tensorboard import TensorBoard
from hwtune.search.trial import TrialRunner
from hwtune.space import SearchSpace

STARTUP_TRIALS = 10  # random ones before TPE models anything


@dataclass(frozen=True)
class Outcome:
    """How a search ended: whether before its time, and the leader if there is one."""

    interrupted: bool
    best: TrialRecord | None


def open_optuna_study(folder: StudyFolder, *, seed: int, parallel: int) -> optuna.Study:
    """Return the Optuna study in the journal of a study folder, made if it is not there."""
    journal = str(folder.journal)
    sampler = optuna.samplers.TPESampler(
        seed=seed,
        n_startup_trials=STARTUP_TRIALS,
        multivariate=True,
        constant_liar=parallel > 1,
    )
    return optuna.create_study(
        storage=JournalStorage(JournalFileBackend(journal, JournalFileOpenLock(journal))),
        sampler=sampler,
        study_name=folder.name,
        direction="maximize",
        load_if_exists=True,
    )


def run_search(
    space: SearchSpace,
    split: SearchSplit,
    folder: StudyFolder,
    *,
    classes: int,
    costs: Sequence[Cost],
    budget: Budget,
    clock: Clock,
    slots: Slots,
    seed: int,
    scheduler: Literal["asha", "none"] = "asha",
    console: Console,
) -> Outcome:
    """Search a space inside a running Ray cluster, writing the study folder as it goes.

    `costs` are those of random points of the space, as `survey` returns them.
    """
    images, side = len(split.train.labels), split.train.images.shape[1]
    epochs = longest(space)
    cost, ledger = CostModel(), Ledger(folder, space.search)
    pace = Pace(
        budget, clock, cost, ledger, typical=costs, images=images, epochs=epochs,
        tell=console.print,
    )  # fmt: skip
    rungs = Rungs(GRACE_PERIOD, REDUCTION_FACTOR, epochs) if scheduler == "asha" else None
    asha = Asha(rungs, pace.out_of_time)
    study = open_optuna_study(folder, seed=seed, parallel=slots.parallel)
    for name, values in space.baselines.items():
        study.enqueue_trial(values, user_attrs={"baseline": name})
    for name, values in space.starts.items():
        study.enqueue_trial(values, user_attrs={"start": name})
    searcher = OptunaSearcher(
        study,
        space,
        ledger,
        seed=seed,
        measure=partial(cost_of, space, classes=classes, side=side),
        accept=lambda each, config: too_large(space, each) or pace.accept(each, config.epochs),
        finished=pace.finished,
        reasons=asha.reasons,
    )
    callback = StudyCallback(
        searcher,
        cost,
        TensorBoard(folder.tensorboard),
        images=images,
        seconds_left=lambda: pace.seconds_left,
        console=console,
    )
    interrupted = _fit(searcher, asha, callback, arrays_of(split, classes), slots)
    return Outcome(interrupted, ledger.best)


def longest(space: SearchSpace) -> int:
    """Return the most epochs that a trial of the space may have."""
    searched = space.search.get("epochs")
    if searched is None:
        return space.config(space.corner(largest=True)).epochs
    if isinstance(searched, CategoricalDistribution):
        return max(each for each in searched.choices if isinstance(each, int))
    return int(searched.high)  # type: ignore[attr-defined]


def arrays_of(split: SearchSplit, classes: int) -> dict[str, Any]:
    """Return what trials need of the data: train and validation, never a test image."""
    return {
        "train_images": split.train.images,
        "train_labels": split.train.labels,
        "val_images": split.validation.images,
        "val_labels": split.validation.labels,
        "classes": classes,
    }


def _fit(
    searcher: OptunaSearcher,
    asha: Asha,
    callback: StudyCallback,
    arrays: dict[str, Any],
    slots: Slots,
) -> bool:
    """Let Ray Tune run trials until the searcher has finished; return whether it was stopped."""
    trainable = tune.with_resources(
        tune.with_parameters(TrialRunner, data=arrays), {"cpu": slots.cpus, "gpu": slots.gpus}
    )
    with tempfile.TemporaryDirectory(prefix="hwtune-") as scratch:
        tuner = Tuner(
            trainable,
            tune_config=TuneConfig(
                metric="val_accuracy",
                mode="max",
                search_alg=searcher,
                scheduler=asha,
                num_samples=1_000_000,  # the searcher says when it has finished
                max_concurrent_trials=slots.parallel,
                reuse_actors=True,
            ),
            run_config=RunConfig(
                name="study", storage_path=scratch, verbose=0, callbacks=[callback]
            ),
        )
        tuner.fit()
    # After Ctrl-C Ray returns as if nothing had happened; trials that run tell the truth.
    return any(t.state == "running" for t in searcher.ledger.trials.values())
