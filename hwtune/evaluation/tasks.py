"""What the evaluation does in Ray's processes: train one configuration, or read the test images."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hwtune.config import Hyperparameters, trial_config
from hwtune.data.images import Bytes
from hwtune.data.splits import Part
from hwtune.evaluation.answers import Answers
from hwtune.models import build_model
from hwtune.training.device import prepare_process
from hwtune.training.loop import evaluate, is_over, read_batches, train_config
from hwtune.training.state import (
    TrainState,
    gone_on_with,
    plain_batches,
    start_training,
    unpacked,
    weights_of,
)

SAVE_SHARE = 0.05  # of the time of a retraining at most goes into its states
SLOWEST_DISK = 10e6  # bytes a second, of all that may hold a study


def train_one(
    values: Hyperparameters,
    train: Part,
    validation: Part | None,
    *,
    classes: int,
    seed: int,
    gpu: bool,
    saved: bytes | None,
    note: Callable[[int], Any],
    keep: Callable[[bytes], Any],
) -> tuple[dict[str, NDArray[Any]], float, int, str]:
    """Train one configuration in this process.

    Return its weights as arrays, its accuracy, its epochs, and the type of numbers in the matrix
    products of this process.

    Validation images are looked at while it trains only by a configuration that needs them.

    Args:
        gpu: whether it may use one.
        saved: the state that an earlier process left, to go on from; one that does not read, or
            that another hwtune left of a network that is built otherwise now, is not.
        note: is told each epoch.
        keep: is given the state from time to time.

    Raises:
        TrainingDiverged: when a loss is not finite.
    """
    fast = prepare_process(gpu=gpu)
    config = trial_config(values)
    start = partial(
        start_training,
        config,
        train,
        validation if config.needs_validation else None,
        classes=classes,
        seed=seed,
        fast=fast,
    )
    state, batches, watched = gone_on_with(start, unpacked(saved, device=fast.device))
    if not is_over(state, config):
        next_save = time.monotonic() + 1
        for result in train_config(state, batches, watched, config):
            note(result.epoch)
            # At the very end the best weights may still have to be put back.
            if time.monotonic() > next_save and not is_over(state, config):
                began = time.monotonic()
                content = packed(state)
                keep(content)
                ended = time.monotonic()
                # Nobody waits for the disk, which must not fall behind.
                pause = max(1.0, (ended - began) / SAVE_SHARE, len(content) / SLOWEST_DISK)
                next_save = ended + pause
        keep(packed(state))
    accuracy = math.nan
    if validation:
        accuracy = evaluate(
            state.evaluated, plain_batches(validation, config, fast=fast), fast=fast
        )[1]
    arrays = {name: tensor.numpy() for name, tensor in weights_of(state.evaluated).items()}
    return arrays, accuracy, state.epoch, fast.dtype


def packed(state: TrainState) -> bytes:
    """Return a state as a file's content."""
    buffer = io.BytesIO()
    torch.save(state.to_dict(), buffer)
    return buffer.getvalue()


def read_one(
    values: Hyperparameters,
    weights: dict[str, NDArray[Any]],
    images: Bytes,
    classes: int,
    *,
    gpu: bool,
) -> Answers:
    """Return the classes that a trained network reads in images (N, side, side), and how sure."""
    fast = prepare_process(gpu=gpu)
    config = trial_config(values)
    model = build_model(config, classes=classes, side=images.shape[1])
    model.load_state_dict({name: torch.tensor(array) for name, array in weights.items()})
    model = model.to(fast.device).to(memory_format=torch.channels_last)
    batches = plain_batches(Part(images, np.zeros(len(images), np.int64)), config, fast=fast)
    best, sure = [], []
    for logits, _ in read_batches(model, batches, fast=fast):
        best.append(logits.argmax(1, keepdim=True))
        sure.append(logits.softmax(1).gather(1, best[-1]))
    return Answers(*(torch.cat(each).squeeze(1).cpu().numpy() for each in (best, sure)))
