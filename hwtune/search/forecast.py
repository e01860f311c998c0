"""What a study will cost: before it starts, from measured speed and ASHA's survival."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass

from hwtune.contract import AboutForecast
from hwtune.models.layers import Cost
from hwtune.search.budget import Budget, Clock, CostModel
from hwtune.search.samplers import STARTUP_TRIALS

STARTUP_SECONDS = 6.0  # from the forecast until the first trial trains
BASELINES_SHARE = 1 / 3  # of the time for the search, that all baselines together may take
CLOSING_SHARE = 1 / 2  # of the time of the command, that retraining may take


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a study is expected to be; `seconds` of all its runs together."""

    trials: int
    epochs: int
    seconds: float

    def describe(self) -> AboutForecast:
        """Return it for `study.json`."""
        return {"trials": self.trials, "epochs": self.epochs, "seconds": round(self.seconds, 1)}


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """What is known of a study before its search.

    Attributes:
        baselines, starts: costs of the known points that are still to be trained, by name.
        retrained: how many baselines are retrained.
        good, typical: costs of points known to work, and those of `survey`.
        images: that an epoch trains on.
        epochs: the length of a trial.
        points: how many the space has.
        expected: returns how many epochs a trial of a length trains on average.
        learns: whether the sampler learns.
        done: trials of earlier runs of this study.
        running: those of them that go on: cost, epochs so far, whether no rule stops it.
        cut_off: how many of these are gone on with as another trial, or were.
    """

    cost: CostModel
    budget: Budget
    clock: Clock
    baselines: Mapping[str, Cost]
    starts: Mapping[str, Cost]
    retrained: int
    good: Sequence[Cost]
    typical: Sequence[Cost]
    images: int
    epochs: int
    points: float
    expected: Callable[[int], float]
    learns: bool
    done: int = 0
    running: Sequence[tuple[Cost, int, bool]] = ()
    cut_off: int = 0

    def mean_epoch(self, *costs: Cost) -> float:
        """Return the mean seconds of an epoch, of random points where no costs are given."""
        return self.cost.mean_epoch(costs or self.typical, images=self.images)

    @property
    def limit(self) -> float:
        """Return how many configurations the study trains at most."""
        return min(self.points, self.budget.most)

    def closing(self, epochs: int) -> float:
        """Return the seconds of what follows a search whose best is retrained for so long."""
        after, limit = self.clock.retraining, self.limit
        return self.clock.closing(
            epochs * self.mean_epoch(*self.good),
            candidates=int(min(after.top, limit)) + self.retrained,
            finalists=int(min(after.finalists, limit)),
        )

    def affordable_epochs(self) -> int:
        """Return how long trials may be, at most `epochs`, so that retraining leaves half the time.

        At least 1, however short the time.
        """
        if self.budget.seconds is None:
            return self.epochs
        rest = self.closing(0)
        each = self.closing(1) - rest
        left = CLOSING_SHARE * (self.budget.seconds - self.clock.elapsed - rest)
        return max(1, min(self.epochs, int(left / each)))

    @property
    def searching(self) -> float:
        """Return the seconds that the time budget leaves for the search, its start included."""
        if self.budget.seconds is None:
            return math.inf
        closing = min(self.closing(self.epochs), self.budget.longest_closing)
        return self.budget.seconds - self.clock.elapsed - closing

    def left_out(self, queued: Container[str] = ()) -> dict[str, float]:
        """Return the baselines that are not trained, with their predicted seconds.

        They are kept from the cheapest on, while each fits the search and can be retrained, and all
        that are kept take a third of the slots' time at most. A new study without starts keeps one
        in any case.

        Args:
            queued: names of those that wait in the study's queue already.
        """
        searching = self.searching - STARTUP_SECONDS
        seconds = {
            name: self.epochs * self.mean_epoch(cost)
            for name, cost in self.baselines.items()
            if name not in queued
        }
        order = sorted(seconds, key=seconds.__getitem__)
        sums = itertools.accumulate(seconds[name] for name in order)
        fitting = sum(
            together <= BASELINES_SHARE * self.clock.parallel * searching
            and seconds[name] <= searching
            and self.clock.closing(seconds[name], candidates=1, finalists=1)
            <= self.budget.longest_closing
            for name, together in zip(order, sums, strict=True)
        )
        kept = order[: fitting or (0 if self.good or self.done else 1)]
        return {name: each for name, each in seconds.items() if name not in kept}

    def forecast(self) -> Forecast:
        """Return how many trials and epochs will be trained, and how long the whole study takes.

        Baselines and starts take their full length; a trial that can be stopped takes the
        `expected` epochs. After the startup trials a sampler that learns moves towards
        configurations like the best: half-way between the cost of a random point and that of the
        points known to work, as studies of chinese_cnn showed (`results/LOG.md`).
        """
        each = self.expected(self.epochs)
        random, good = self.mean_epoch(), self.mean_epoch(*self.good)
        learned = (random + good) / 2 if self.learns else random
        known = [*self.baselines.values(), *self.starts.values()]
        plan = [
            (max(1.0, (self.epochs if whole else each) - before), self.mean_epoch(one))
            for one, before, whole in self.running
        ]
        plan += [(float(self.epochs), self.mean_epoch(one)) for one in known]
        done = self.done - len(self.running)
        plan += [(each, random)] * max(0, STARTUP_TRIALS - done - len(plan))
        left = max(0.0, min(self.budget.most, self.points + self.cut_off) - done)
        slots_time = (self.searching - STARTUP_SECONDS) * self.clock.parallel
        sums = [0.0, *itertools.accumulate(length * seconds for length, seconds in plan)]
        fitting = max(1, sum(spent <= slots_time for spent in sums[1:]))  # one in any case
        trials = int(min(left, fitting, len(plan)))
        trained, busy = sum(length for length, _ in plan[:trials]), sums[trials]
        if trials == len(plan):
            more = max((slots_time - busy) / (each * learned), 0 if trials else 1)
            usual = int(min(left - trials, more))
            trials += usual
            trained, busy = trained + usual * each, busy + usual * each * learned
        searching = STARTUP_SECONDS + busy / min(self.clock.parallel, max(trials, 1))
        return Forecast(
            trials=trials,
            epochs=round(trained),
            seconds=self.clock.elapsed + searching + self.closing(self.epochs),
        )
