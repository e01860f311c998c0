"""Run one study: Ray Tune schedules, Optuna proposes, ASHA stops."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from ray import tune
from ray.tune import RunConfig, TuneConfig, Tuner
from rich.console import Console

from hwtune.cluster import Slots
from hwtune.data.images import Dataset
from hwtune.data.splits import SearchSplit
from hwtune.models import Cost
from hwtune.records import StudyFolder, TrialRecord
from hwtune.search.budget import (
    DEFAULT_TRIALS,
    SLOWEST_SHARE,
    Budget,
    Clock,
    CostModel,
    expected_epochs,
)
from hwtune.search.feasible import cost_of, survey, too_large
from hwtune.search.ledger import Ledger
from hwtune.search.progress import StudyCallback
from hwtune.search.scheduler import Asha, Rungs
from hwtune.search.searcher import OptunaSearcher
from hwtune.search.tensorboard import TensorBoard
from hwtune.search.trial import TrialRunner
from hwtune.space import SearchSpace

GRACE_PERIOD, REDUCTION_FACTOR = 1, 3
ENOUGH_TRIALS = 5  # that ended, to measure what a trial costs
STARTUP_TRIALS = 10  # random ones before TPE models anything


@dataclass(frozen=True)
class Outcome:
    """How a search ended: whether before its time, and the leader if there is one."""

    interrupted: bool
    best: TrialRecord | None


class Pace:
    """Decides, while a study runs, whether another trial fits and when the search must end.

    Without `budget.trials` as many trials are trained as fit into the time, at most 50; the cost
    model says how many that will be, as soon as the first epochs have calibrated it.
    """

    def __init__(
        self,
        budget: Budget,
        clock: Clock,
        cost: CostModel,
        ledger: Ledger,
        *,
        typical: list[Cost],
        images: int,
        epochs: int,
        tell: Callable[[str], None],
    ) -> None:
        self.budget, self.clock, self.cost, self.ledger = budget, clock, cost, ledger
        self.typical, self.images, self.epochs, self.tell = typical, images, epochs, tell
        self.forecast: int | None = None

    @property
    def mean_epoch(self) -> float:
        """Return the predicted seconds of an epoch of a random configuration."""
        seconds = [self.cost.epoch_seconds(macs=c.macs, images=self.images) for c in self.typical]
        return sum(seconds) / len(seconds)

    @property
    def mean_trial(self) -> float:
        """Return the seconds of a trial under ASHA: measured on those that ended, or predicted."""
        ended = [t.seconds for t in self.ledger.trained if t.state != "running" and not t.baseline]
        if len(ended) >= ENOUGH_TRIALS:
            return sum(ended) / len(ended)
        epochs = expected_epochs(self.epochs, grace=GRACE_PERIOD, factor=REDUCTION_FACTOR)
        return epochs * self.mean_epoch

    @property
    def seconds_left(self) -> float:
        """Return the seconds left for searching, infinite without a time budget."""
        return self.clock.search_left(self.ledger.best, self.mean_epoch)

    def out_of_time(self) -> bool:
        """Return whether the retraining needs all the time that is left."""
        return self.seconds_left <= 0

    def finished(self) -> bool:
        """Return whether no further trial should start."""
        if self.forecast is None and self.cost.calibrated:
            self._announce()
        if len(self.ledger.trained) >= (self.budget.trials or DEFAULT_TRIALS):
            return True
        patience = self.mean_trial if self.ledger.best else 0.0
        return self.seconds_left <= patience

    def accept(self, cost: Cost) -> str:
        """Return why a network would take too much of the time budget, or ""."""
        if self.budget.seconds is None or not self.cost.calibrated:
            return ""
        seconds = self.epochs * self.cost.epoch_seconds(macs=cost.macs, images=self.images)
        if seconds <= SLOWEST_SHARE * self.budget.seconds:
            return ""
        return (
            f"about {seconds / 60:.1f} minutes to train, over {SLOWEST_SHARE:.0%} of the "
            f"{self.budget.seconds / 60:.0f} minutes"
        )

    def _announce(self) -> None:
        """Say how many trials will fit; the baselines that are running take their full length."""
        limit = self.budget.trials or DEFAULT_TRIALS
        left = self.seconds_left
        if math.isfinite(left):
            running = [t for t in self.ledger.trained if t.state == "running" and t.epochs]
            busy = sum((self.epochs - t.epochs) * t.seconds / t.epochs for t in running)
            work = max(0.0, left * self.clock.parallel - busy)
            limit = min(limit, len(self.ledger.trained) + int(work / max(self.mean_trial, 1e-3)))
        self.forecast = limit
        budget = self.budget.seconds
        within = f" in {budget / 60:.0f} minutes, retraining and report included" if budget else ""
        self.tell(f"Forecast: about {limit} trials of up to {self.epochs} epochs{within}.")


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
    dataset: Dataset,
    split: SearchSplit,
    folder: StudyFolder,
    *,
    budget: Budget,
    clock: Clock,
    slots: Slots,
    seed: int,
    scheduler: Literal["asha", "none"] = "asha",
    console: Console,
) -> Outcome:
    """Search a space inside a running Ray cluster, writing the study folder as it goes.

    Raises:
        SpaceError: when nothing of the space can be trained on this data.
    """
    images, classes, side = len(split.train.labels), len(dataset.classes), dataset.side
    typical = survey(space, classes=classes, side=side)
    epochs = longest(space)
    cost, ledger = CostModel(), Ledger(folder, space.search)
    pace = Pace(
        budget, clock, cost, ledger, typical=typical, images=images, epochs=epochs,
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
        accept=lambda each: too_large(space, each) or pace.accept(each),
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
    return max(space.config(space.corner(largest=large)).epochs for large in (False, True))


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
