"""What a study will cost: before it starts, from measured speed and ASHA's survival."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hwtune.models.layers import Cost
from hwtune.search.budget import (
    DEFAULT_TRIALS,
    Budget,
    Clock,
    CostModel,
    expected_epochs,
)
from hwtune.search.samplers import STARTUP_TRIALS
from hwtune.search.settings import GRACE_PERIOD, REDUCTION_FACTOR

STARTUP_SECONDS = 12.0  # until the first trial trains


@dataclass(frozen=True)
class Forecast:
    """What a study is expected to be; `seconds` of the whole command."""

    trials: int
    epochs: int
    seconds: float

    def describe(self) -> dict[str, Any]:
        """Return it for `study.json`."""
        return {**asdict(self), "seconds": round(self.seconds, 1)}


def forecast(
    cost: CostModel,
    budget: Budget,
    clock: Clock,
    *,
    baselines: Sequence[Cost],
    starts: Sequence[Cost],
    typical: Sequence[Cost],
    images: int,
    epochs: int,
    stops: bool,
    learns: bool,
    done: int = 0,
) -> Forecast:
    """Return how many trials and epochs will be trained, and how long the whole command takes.

    Baselines take their full length; a trial that can be stopped takes `expected_epochs`. After
    the startup trials a sampler that learns moves towards configurations like the best: half-way
    between the cost of a random point and that of the points known to work, as studies of
    chinese_cnn showed (`results/LOG.md`).

    Args:
        baselines, starts, typical: costs of the known points, and of random ones.
        stops: whether a scheduler stops trials.
        learns: whether the sampler learns.
        done: trials of an earlier run of this study.
    """

    def mean_epoch(costs: Sequence[Cost]) -> float:
        seconds = [cost.epoch_seconds(macs=c.macs, images=images) for c in costs]
        return sum(seconds) / len(seconds)

    each = expected_epochs(epochs, grace=GRACE_PERIOD, factor=REDUCTION_FACTOR)
    each = each if stops else float(epochs)
    random = mean_epoch(typical)
    good = mean_epoch(starts) if starts else random
    plan = [(float(epochs), mean_epoch([one])) for one in baselines]
    plan += [(each, mean_epoch([one])) for one in starts]
    after = clock.retraining
    retraining = clock.closing(
        epochs * good,
        candidates=after.top + (len(baselines) if after.baselines else 0),
        finalists=after.finalists,
    )
    limit = math.inf if budget.seconds is None else budget.seconds - clock.elapsed - retraining
    trials, trained, busy = 0, 0.0, 0.0
    for number in range(done, budget.trials or DEFAULT_TRIALS):
        later = number >= STARTUP_TRIALS and learns
        length, seconds = (
            plan[number] if number < len(plan) else (each, (random + good) / 2 if later else random)
        )
        if trials and STARTUP_SECONDS + (busy + length * seconds) / clock.parallel > limit:
            break
        trials, trained, busy = trials + 1, trained + length, busy + length * seconds
    searching = STARTUP_SECONDS + busy / min(clock.parallel, max(trials, 1))
    return Forecast(trials, round(trained), clock.elapsed + searching + retraining)
