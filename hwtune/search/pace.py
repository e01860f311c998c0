"""The pace of a running study: whether another trial fits, and when the search must end."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from hwtune.config import TrialConfig
from hwtune.models.layers import Cost
from hwtune.search.budget import LONGEST_CLOSING, SLOWEST_SHARE, Budget, Clock, CostModel
from hwtune.search.ledger import Ledger
from hwtune.words import duration

ENOUGH_TRIALS = 5  # that ended, to measure what a trial costs
RESERVE_SECONDS = 1.0  # a reserve stays good for so long; making it anew looks at every trial
RESERVE_SHARE = 0.02  # of the time, that this may take


class Pace:
    """Decides, while a study runs, whether another trial fits and when the search must end.

    Args:
        images: to train on.
        an_epoch: images that an epoch of a trial has, on average.
        points: how many the space has.
        expected: epochs that a trial trains on average.
        gpus: whether trials run on GPUs, some perhaps on CPUs beside them; GPUs alone retrain.
    """

    def __init__(
        self,
        budget: Budget,
        clock: Clock,
        cost: CostModel,
        ledger: Ledger,
        *,
        typical: Sequence[Cost],
        images: int,
        an_epoch: int,
        points: float,
        expected: float,
        gpus: bool = False,
    ) -> None:
        self.budget, self.clock, self.cost, self.ledger = budget, clock, cost, ledger
        self.typical, self.images, self.an_epoch = typical, images, an_epoch
        self.points, self.expected, self.gpus = points, expected, gpus
        self._reserve, self._reserve_until = 0.0, -math.inf

    def learn(self, trial: int, epoch: int, *, by: int, seconds: float) -> None:
        """Learn from an epoch of a trial what training costs: on GPUs, where there are any.

        Of one that a CPU trained beside them, what a GPU would have taken is noted.

        Args:
            by: the trial that trained it, from which this one may have taken it over.
        """
        macs, images = self.ledger.costs[trial].macs, self.ledger.images_of(trial, epoch)
        if self.gpus and self.ledger.on_cpu(by, epoch):
            there = self.cost.epoch_seconds(macs=macs, images=images)
            self.clock.beside[trial] += there - seconds
        elif by == trial:
            self.cost.observe(macs=macs, images=images, seconds=seconds)

    @property
    def mean_epoch(self) -> float:
        """Return the predicted seconds of an epoch of a typical configuration."""
        return self.cost.mean_epoch(self.typical, images=self.an_epoch)

    @property
    def mean_trial(self) -> float:
        """Return the seconds of a trial: measured on those that ended, or predicted."""
        ended = [
            self.clock.seconds(t)
            for t in self.ledger.trials.values()
            if t.epochs and t.state != "running" and t.trial not in self.ledger.known
        ]
        if len(ended) >= ENOUGH_TRIALS:
            return sum(ended) / len(ended)
        return self.expected * self.mean_epoch

    @property
    def search_left(self) -> float:
        """Return the seconds that the time budget leaves for searching, infinite without one."""
        if self.budget.seconds is None:
            return math.inf
        now = time.monotonic()
        if now >= self._reserve_until:
            self._reserve = self.clock.reserve(self.ledger.trials.values(), self.mean_epoch)
            spent = time.monotonic() - now
            self._reserve_until = now + max(RESERVE_SECONDS, spent / RESERVE_SHARE)
        reserve = min(self._reserve, self.budget.longest_closing)
        return self.budget.seconds - self.clock.elapsed - reserve

    @property
    def seconds_left(self) -> float:
        """Return the seconds that the search will still take: by its time, or by its trials."""
        points = self.points + len(self.ledger.continues)  # trials of a point that has one
        new = max(0, min(self.budget.most, points) - self.ledger.trained)
        to_come = new + len(self.ledger.running) / 2
        return min(self.search_left, to_come * self.mean_trial / self.clock.parallel)

    def over(self, latest: float) -> str:
        """Return why the search must end now, or "".

        However short the time, one epoch is trained, so that there is something to retrain.

        Args:
            latest: the validation accuracy of an epoch that is not yet recorded; it may be NaN.
        """
        if self._target_reached(latest):
            return f"the target of {self.budget.target} was reached"
        trained = self.ledger.best is not None or math.isfinite(latest)
        if trained and self.search_left <= 0:
            return "the time for the search was over"
        return ""

    def finished(self) -> bool:
        """Return whether no further trial should start, as things are."""
        if self.ledger.trained >= self.budget.most or self._target_reached():
            return True
        if self.budget.seconds is None:
            return False
        return bool(self.ledger.trained) and self.search_left <= self.mean_trial

    def too_slow(self, cost: Cost, config: TrialConfig) -> str:
        """Return why a trial, or retraining it, would take too much of the time budget, or "".

        However short the time, one trial is begun. On GPUs an epoch's time does not follow from
        what other networks multiply.
        """
        foreseen = self.cost.calibrated and not self.gpus
        if self.budget.seconds is None or not (foreseen and self.ledger.trained):
            return ""
        images = config.images_seen(config.longest(self.images), images=self.images)
        seconds = self.cost.epoch_seconds(macs=cost.macs, images=images)
        retraining = self.clock.closing(seconds, candidates=1, finalists=1)
        for each, share, what in (
            (seconds, SLOWEST_SHARE, "train"), (retraining, LONGEST_CLOSING, "retrain"),
        ):  # fmt: skip
            if each > share * self.budget.available:
                return (
                    f"about {duration(each)} to {what}, over {share:.0%} of the "
                    f"{duration(self.budget.available)}"
                )
        return ""

    def _target_reached(self, latest: float = math.nan) -> bool:
        best, target = self.ledger.best, self.budget.target
        if target is None:
            return False
        return latest >= target or (best is not None and best.val_accuracy >= target)
