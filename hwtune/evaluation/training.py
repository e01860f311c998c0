"""Trainings side by side as Ray tasks, which a killed process can take up again."""

from __future__ import annotations

import hashlib
import io
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from numpy.typing import NDArray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from hwtune.cluster import Slots
from hwtune.config import Hyperparameters, TrialConfig, trial_config
from hwtune.data.splits import Part
from hwtune.states import start_store
from hwtune.training.device import choose_device, keep_freed_memory
from hwtune.training.loop import evaluate, is_over, train_config
from hwtune.training.state import (
    TrainState,
    Weights,
    plain_batches,
    start_training,
    weights_of,
)

SILENCE = 30.0  # seconds after which a line says how far the trainings are
SAVE_SHARE = 0.05  # of the time of a retraining at most goes into its states


class Watch:
    """Knows how far each training is; runs as an actor."""

    def __init__(self) -> None:
        self.epochs: dict[str, int] = {}
        self.ended: set[str] = set()

    def note(self, title: str, epoch: int) -> None:
        """Take down the last epoch of a training."""
        if title not in self.ended:
            self.epochs[title] = epoch

    def words(self) -> str:
        """Return what runs, for people."""
        words = (f"{title} at epoch {epoch}" for title, epoch in self.epochs.items())
        return "; ".join(words) or "the first epochs"

    def over(self, title: str) -> None:
        """Forget a training, and what it may still say."""
        self.ended.add(title)
        self.epochs.pop(title, None)


@dataclass(frozen=True)
class Job:
    """A training: its name for people, what to train on, and the reference of the data.

    The data is a dict with "train" and "validation", each images and labels or None, and "classes".
    """

    title: str
    config: TrialConfig
    seed: int
    data: ray.ObjectRef


@dataclass(frozen=True)
class Trained:
    """What a training came to: its weights, and its accuracy on the validation images or NaN."""

    weights: Weights
    val_accuracy: float


def train_all(
    jobs: Sequence[Job], states: Path, *, slots: Slots, tell: Callable[[str], None]
) -> Iterator[tuple[Job, Trained | str]]:
    """Yield each job with what it came to, or why it failed, as the trainings end.

    States of trainings that were cut off lie in `states`, and new ones are put there.
    """
    states.mkdir(exist_ok=True)
    store = start_store(states)
    remote = ray.remote(num_cpus=slots.cpus, num_gpus=slots.gpus, max_retries=1)(train_one)
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor: Any = ray.remote(num_cpus=0, max_restarts=-1, scheduling_strategy=here)(Watch)
    watch = actor.remote()
    running = {
        remote.remote(job.config.to_dict(), job.data, job.seed, store, watch, job.title): job
        for job in jobs
    }
    waiting = list(running)
    while waiting:
        done, waiting = ray.wait(waiting, timeout=SILENCE)
        if not done:
            with suppress(ray.exceptions.RayError):  # it only speaks; the trainings go on
                tell(f"training: {ray.get(watch.words.remote())}")
        for reference in done:
            job = running[reference]
            watch.over.remote(job.title)
            try:
                arrays, accuracy = ray.get(reference)
            except ray.exceptions.RayError as error:
                cause = error.cause if isinstance(error, ray.exceptions.RayTaskError) else error
                yield job, (str(cause) or repr(cause)).splitlines()[-1]
            else:
                weights = {k: torch.from_numpy(np.array(a)) for k, a in arrays.items()}
                yield job, Trained(weights, accuracy)


def state_name(title: str, config: Hyperparameters, seed: int) -> str:
    """Return the name of a training's state, its own for each title, configuration and seed."""
    content = json.dumps([title, config, seed], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def train_one(
    config: Hyperparameters, data: dict[str, Any], seed: int, store: Any, watch: Any, title: str
) -> tuple[dict[str, NDArray[Any]], float]:
    """Train one configuration in this process; return its weights as arrays, and its accuracy.

    It goes on from the state that an earlier process left in `store`. Validation images are looked
    at while it trains only by a configuration that needs them.

    Raises:
        TrainingDiverged: when a loss is not finite.
    """
    keep_freed_memory()
    fast = choose_device(gpu=bool(ray.get_gpu_ids()))
    if fast.device == "cpu":
        torch.set_num_threads(1)
    values = trial_config(config)
    validation = data["validation"] and Part(*data["validation"])
    state, batches, watched = start_training(
        values,
        Part(*data["train"]),
        validation if values.needs_validation else None,
        classes=data["classes"],
        seed=seed,
        fast=fast,
    )
    name = state_name(title, config, seed)
    if saved := ray.get(store.load.remote(name)):
        content = torch.load(io.BytesIO(saved), map_location=fast.device, weights_only=True)
        state.take(content)
    if not is_over(state, values):
        next_save = time.monotonic() + 1
        for result in train_config(state, batches, watched, values):
            watch.note.remote(title, result.epoch)
            # At the very end the best weights may still have to be put back.
            if time.monotonic() > next_save and not is_over(state, values):
                seconds = save(state, store, name)
                next_save = time.monotonic() + max(1.0, seconds / SAVE_SHARE)
        save(state, store, name)
    accuracy = math.nan
    if validation:
        accuracy = evaluate(
            state.evaluated, plain_batches(validation, values, fast=fast), fast=fast
        )[1]
    arrays = {name: tensor.numpy() for name, tensor in weights_of(state.evaluated).items()}
    return arrays, accuracy


def save(state: TrainState, store: Any, name: str) -> float:
    """Put a state on the driver's disk and return the seconds; on a full disk nothing is kept."""
    began, buffer = time.monotonic(), io.BytesIO()
    torch.save(state.to_dict(), buffer)
    ray.get(store.save.remote(name, buffer.getvalue()))
    return time.monotonic() - began
