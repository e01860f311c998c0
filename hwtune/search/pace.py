"""The pace of a running study: whether another trial fits, and when the search must end."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from hwtune.models import Cost
from hwtune.search.budget import (
    DEFAULT_TRIALS,
    SLOWEST_SHARE,
    Budget,
    Clock,
    CostModel,
    expected_epochs,
)
from hwtune.search.ledger import Ledger

GRACE_PERIOD, REDUCTION_FACTOR = 1, 3  # of ASHA
ENOUGH_TRIALS = 5  # that ended, to measure what a trial costs


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
        typical: Sequence[Cost],
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
        return self.clock.search_left(self.ledger.trials.values(), self.mean_epoch)

    def out_of_time(self) -> bool:
        """Return whether the retraining needs all the time that is left.

        However short the time, one epoch is trained, so that there is something to retrain.
        """
        return self.ledger.best is not None and self.seconds_left <= 0

    def finished(self) -> bool:
        """Return whether no further trial should start."""
        if self.forecast is None and self.cost.calibrated:
            self._announce()
        if len(self.ledger.trained) >= (self.budget.trials or DEFAULT_TRIALS):
            return True
        return bool(self.ledger.trained) and self.seconds_left <= self.mean_trial

    def accept(self, cost: Cost, epochs: int) -> str:
        """Return why a network of that length would take too much of the time budget, or ""."""
        if self.budget.seconds is None or not self.cost.calibrated:
            return ""
        seconds = epochs * self.cost.epoch_seconds(macs=cost.macs, images=self.images)
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
