"""One retraining inside its Ray task, and who knows how far it is."""

from __future__ import annotations

import hashlib
import io
import json
import time
from typing import Any

import ray
import torch
from numpy.typing import NDArray

from hwtune.config import Hyperparameters, trial_config
from hwtune.data.splits import Part
from hwtune.training.device import choose_device, keep_freed_memory
from hwtune.training.loop import is_over, train_config
from hwtune.training.state import TrainState, start_training, weights_of

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


def state_name(config: Hyperparameters, seed: int) -> str:
    """Return the name of a retraining's state, its own for each configuration and seed."""
    content = json.dumps([config, seed], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def train_one(
    config: Hyperparameters, data: dict[str, Any], seed: int, store: Any, watch: Any, title: str
) -> dict[str, NDArray[Any]]:
    """Train one configuration in this process and return its weights as arrays.

    It goes on from the state that an earlier process left in `store`.

    Raises:
        TrainingDiverged: when a loss is not finite.
    """
    keep_freed_memory()
    fast = choose_device(gpu=bool(ray.get_gpu_ids()))
    if fast.device == "cpu":
        torch.set_num_threads(1)
    values = trial_config(config)
    validation = data["validation"]
    state, batches, watched = start_training(
        values,
        Part(*data["train"]),
        None if validation is None else Part(*validation),
        classes=data["classes"],
        seed=seed,
        fast=fast,
    )
    name = state_name(config, seed)
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
    return {name: tensor.numpy() for name, tensor in weights_of(state.evaluated).items()}


def save(state: TrainState, store: Any, name: str) -> float:
    """Put a state on the driver's disk and return the seconds; on a full disk nothing is kept."""
    began, buffer = time.monotonic(), io.BytesIO()
    torch.save(state.to_dict(), buffer)
    ray.get(store.save.remote(name, buffer.getvalue()))
    return time.monotonic() - began
