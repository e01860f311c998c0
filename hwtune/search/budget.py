"""How long a study may take, what it will cost, and when it must stop."""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any, TypeVar

from hwtune.contract import AboutBudget, AboutRetraining
from hwtune.models.layers import Cost
from hwtune.records import TrialRecord, once_each, ranked, rung_epochs
from hwtune.values import FINALISTS, FOLDS, SEEDS, TOP

DEFAULT_SECONDS = 15 * 60.0
DEFAULT_TRIALS = 50
CLOSING_SECONDS = 15.0  # starting the retraining, testing, writing the report
RECENT_EPOCHS = 200  # that the cost model remembers
OTHER_MACHINES = 3.0  # times as fast or slow as those of an earlier run, or more
SLOWEST_SHARE = 0.25  # of the time budget, that one trial may take
LONGEST_CLOSING = 0.75  # of the time budget, that is kept for what follows the search

Tried = TypeVar("Tried", bound=Any)  # with the name of its baseline


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a study may spend.

    Attributes:
        trials: how many are trained, or None for as many as fit into the time.
        epochs: the length of every trial, or None where the space says it.
        seconds: for the study, from search to report, earlier runs included, or None without limit.
        target: the validation accuracy in [0, 1] that is enough, or None.
        before: how many of `seconds` were spent when an extension added the rest.
    """

    trials: int | None = None
    epochs: int | None = None
    seconds: float | None = None
    target: float | None = None
    before: float = 0.0

    def describe(self) -> AboutBudget:
        """Return it for `study.json`, once it is known how long trials are."""
        assert self.epochs is not None
        return {
            "trials": self.trials, "epochs": self.epochs, "seconds": self.seconds,
            "target": self.target, "before": self.before,
        }  # fmt: skip

    @property
    def most(self) -> float:
        """Return how many trials there are at most."""
        return math.inf if self.trials is None else self.trials

    @property
    def available(self) -> float:
        """Return the seconds that were asked for last, infinite without a limit."""
        return math.inf if self.seconds is None else self.seconds - self.before

    @property
    def longest_closing(self) -> float:
        """Return the most seconds that are kept for what follows the search.

        However costly the trial that leads, the rest of the time is searched.
        """
        return LONGEST_CLOSING * self.available

    def filled(self) -> Budget:
        """Return the budget with the defaults where neither trials nor time is given."""
        if self.trials is None and self.seconds is None:
            return replace(self, trials=DEFAULT_TRIALS, seconds=DEFAULT_SECONDS)
        return self


@dataclass
class CostModel:
    """Predicts the seconds of an epoch from the network's multiply-accumulates.

    The shape is a prior (an image costs its MACs, and a constant for augmentation, optimiser and
    Python); its one scale is measured, as the median over the latest epochs.
    """

    mac_seconds: float = 1 / 40e9  # forward and backward, per MAC of the forward pass
    image_seconds: float = 1e-4
    ratios: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT_EPOCHS))
    scale: float = 1.0

    def observe(self, *, macs: int, images: int, seconds: float) -> None:
        """Learn from a measured epoch of `images` training images."""
        self.ratios.append(seconds / self._prior(macs, images))
        self.scale = statistics.median(self.ratios)

    @property
    def calibrated(self) -> bool:
        """Return whether any epoch was measured."""
        return bool(self.ratios)

    def epoch_seconds(self, *, macs: int, images: int) -> float:
        """Return the predicted seconds of an epoch on one slot."""
        return self.scale * self._prior(macs, images)

    def mean_epoch(self, costs: Sequence[Cost], *, images: int) -> float:
        """Return the mean of the predicted seconds of an epoch of networks, 0 of none."""
        each = [self.epoch_seconds(macs=cost.macs, images=images) for cost in costs]
        return sum(each) / len(each) if each else 0.0

    def _prior(self, macs: int, images: int) -> float:
        return images * (macs * self.mac_seconds + self.image_seconds)


def drifts(runs: Sequence[Mapping[str, Any]], *, scale: float, epochs: int) -> list[float]:
    """Return the seconds that each recorded epoch would take now over those that it took.

    That is 1, unless the probes of its run and of this one differ so much that the machines must be
    others.

    Args:
        runs: the earlier ones, of `study.json`: with the scale of the cost model as it was probed
            and the number of epochs before, where one searched.
        scale: as probed now.
        epochs: how many are recorded.
    """
    found = [1.0] * epochs
    for run in runs:
        drift = scale / (run.get("probed") or scale)
        same = 1 / OTHER_MACHINES < drift < OTHER_MACHINES
        for index in range(run.get("epochs_before", epochs), epochs):  # a later run's below
            found[index] = 1.0 if same else drift
    return found


def expected_epochs(epochs: int, *, grace: int, factor: int) -> float:
    """Return how many epochs a trial trains on average under ASHA.

    At each rung one in `factor` goes on. An asynchronous rung cannot know who is still to come and
    lets more pass, so the square root of the factor is taken: about what studies here showed,
    whose factor was 3.
    """
    rungs = rung_epochs(grace_period=grace, reduction_factor=factor, longest=epochs)
    ends = [*(rung for rung in rungs if rung < epochs), epochs]
    return sum(
        (end - begin) / math.sqrt(factor) ** passed
        for passed, (begin, end) in enumerate(itertools.pairwise([0, *ends]))
    )


@dataclass(frozen=True, kw_only=True)
class Retraining:
    """What follows a search.

    Attributes:
        finalists: how many of the best are judged by cross-validation before one is chosen; with 1
            the search's own validation chooses.
        folds: of that cross-validation.
        top: how many are retrained and tested, each on `seeds` seeds.
        baselines: whether the baselines are, too.
    """

    finalists: int = FINALISTS
    folds: int = FOLDS
    top: int = TOP
    seeds: int = SEEDS
    baselines: bool = False

    def describe(self) -> AboutRetraining:
        """Return it for `study.json`."""
        return {
            "finalists": self.finalists, "folds": self.folds, "top": self.top, "seeds": self.seeds,
            "baselines": self.baselines,
        }  # fmt: skip

    def chosen(self, order: Sequence[Tried]) -> list[Tried]:
        """Return what is retrained of trials in their order, the best first."""
        others = [each for each in order[self.top :] if self.baselines and each.baseline]
        return [*order[: self.top], *others]


@dataclass(kw_only=True)
class Clock:
    """The time of a study, part of which belongs to the retraining after the search.

    Attributes:
        parallel: trials at once.
        retrainings: trainings at once after the search; fewer where GPUs alone retrain.
        retraining: what follows the search.
        retrain_growth: images of train and validation over images of train.
        retrain_epochs: how long a trial would be retrained.
        extra: by trial, how many more seconds (or fewer) its epochs from other machines would take
            here.
        beside: by trial, how many more seconds, or fewer, its epochs that CPUs trained would take
            on the GPUs that retrain it.
        started: when it began, by `time.monotonic()`; earlier runs move that back by their length.
    """

    parallel: int
    retrainings: int
    retraining: Retraining
    retrain_growth: float
    retrain_epochs: Callable[[TrialRecord], int]
    extra: dict[int, float] = field(default_factory=dict)
    beside: dict[int, float] = field(default_factory=lambda: defaultdict(float))
    started: float = field(default_factory=time.monotonic)

    @property
    def elapsed(self) -> float:
        """Return the seconds that the study has taken, earlier runs included."""
        return time.monotonic() - self.started

    def seconds(self, trial: TrialRecord) -> float:
        """Return what the epochs of a trial take on these machines."""
        return trial.seconds + self.extra.get(trial.trial, 0.0)

    def reserve(self, trials: Iterable[TrialRecord], epoch_seconds: float) -> float:
        """Return the seconds to keep for retraining and report.

        Args:
            trials: of the study so far.
            epoch_seconds: the cost of an epoch where nothing is trained yet.
        """
        order = once_each(ranked(trials))
        if not order:
            return self.closing(12 * epoch_seconds, candidates=1, finalists=1)
        chosen, finalists = self.retraining.chosen(order), order[: self.retraining.finalists]
        return self.closing(
            self.training(chosen),
            candidates=len(chosen),
            finalists=len(finalists),
            judging=self.training(finalists),
        )

    def training(self, trials: Sequence[TrialRecord]) -> float:
        """Return the mean seconds of retraining one of the trials on the train images alone."""
        return fmean(
            (self.seconds(t) + self.beside.get(t.trial, 0.0)) / t.epochs * self.retrain_epochs(t)
            for t in trials
        )

    def closing(
        self, training: float, *, candidates: int, finalists: int, judging: float | None = None
    ) -> float:
        """Return the seconds of what follows a search.

        Args:
            training: seconds of one on the train images, on average.
            candidates: how many configurations are retrained.
            finalists: how many are judged before.
            judging: seconds of one of these on the train images; default: as `training`.
        """
        plan = self.retraining
        busy = math.ceil(plan.seeds * candidates / self.retrainings) * training
        if finalists > 1:
            folds = math.ceil(finalists * plan.folds / self.retrainings) * (1 - 1 / plan.folds)
            busy += folds * (training if judging is None else judging)
        return CLOSING_SECONDS + busy * self.retrain_growth
