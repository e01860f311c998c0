"""What a study will cost: before it starts, from a few measured steps and ASHA's survival."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import torch

from hwtune.data.splits import Part, SearchSplit
from hwtune.errors import SpaceError, TrainingDiverged
from hwtune.models import Cost
from hwtune.search.budget import (
    CLOSING_SECONDS,
    DEFAULT_TRIALS,
    Budget,
    Clock,
    CostModel,
    expected_epochs,
)
from hwtune.search.feasible import cost_of, random_points, too_large
from hwtune.search.samplers import STARTUP_TRIALS
from hwtune.search.settings import GRACE_PERIOD, REDUCTION_FACTOR
from hwtune.space import SearchSpace
from hwtune.training.device import choose_device
from hwtune.training.loop import train_config
from hwtune.training.state import start_training

PROBED = 4  # random points, beside the known ones
PROBE_BATCHES = 5
PROBE_SECONDS = 12.0  # for all probes
GPU_CONTEXT_BYTES = 600 * 2**20  # that CUDA takes for each process
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


def probe(space: SearchSpace, split: SearchSplit, cost: CostModel, *, classes: int) -> int:
    """Teach the cost model this machine: train a few batches of the known and of random points.

    Returns the bytes of GPU memory that a training needs at most, 0 without a GPU.
    """
    gpu = torch.cuda.is_available()
    side = split.train.images.shape[1]
    threads = torch.get_num_threads()
    if not gpu:
        torch.set_num_threads(1)  # as a trial
    deadline = time.monotonic() + PROBE_SECONDS
    known = [*space.baselines.values(), *space.starts.values()]
    try:
        for values in itertools.chain(known, random_points(space)[:PROBED]):
            try:
                network = cost_of(space, values, classes=classes, side=side)
                if too_large(space, network):
                    continue
            except SpaceError:
                continue
            config = space.config(values)
            count = min(len(split.train.labels), PROBE_BATCHES * config.batch_size)
            part = Part(split.train.images[:count], split.train.labels[:count])
            for _ in range(2):  # the first pass warms up
                state, batches, _ = start_training(
                    config, part, None, classes=classes, seed=0, fast=choose_device(gpu=gpu)
                )
                began = time.perf_counter()
                with suppress(TrainingDiverged):
                    next(train_config(state, batches, None, config))
                seconds = time.perf_counter() - began
            cost.observe(macs=network.macs, images=count, seconds=seconds)
            if time.monotonic() > deadline:
                break
    finally:
        torch.set_num_threads(threads)
    return int(1.2 * torch.cuda.max_memory_reserved()) + GPU_CONTEXT_BYTES if gpu else 0


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
    trainings = clock.top + (len(baselines) if clock.baselines else 0)
    rounds = math.ceil(clock.seeds * trainings / clock.parallel)
    retraining = CLOSING_SECONDS + rounds * epochs * good * clock.retrain_growth
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
