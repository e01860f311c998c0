"""The training loop, a generator without hooks, and the evaluation of a network."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import ReduceLROnPlateau

from hwtune.config import TrialConfig
from hwtune.data.batches import Batch, Batches
from hwtune.errors import TrainingDiverged
from hwtune.training.device import Fast
from hwtune.training.state import TrainState
from hwtune.training.step import training_step


@dataclass(frozen=True)
class EpochResult:
    """One epoch, counted from 1. Losses are means over images; accuracy is in [0, 1].

    `val_loss` is the plain cross-entropy, also where training smooths labels; it and
    `val_accuracy` are NaN without validation images. `lr` is the rate of the epoch's last step.
    """

    epoch: int
    train_loss: float
    val_loss: float
    val_accuracy: float
    lr: float
    seconds: float


def train(
    state: TrainState,
    train_batches: Batches,
    val_batches: Batches | None,
    *,
    epochs: int,
    max_steps: int = 0,
    softmax: bool = False,
    label_smoothing: float = 0.0,
    clip_value: float = 0.0,
    early_stop: int = 0,
) -> Iterator[EpochResult]:
    """Train `state` in place, yielding after each epoch; the caller reports, saves or stops.

    Training ends after `epochs`, or within an epoch after `max_steps` batches; 0 is off. `softmax`
    is applied before the cross-entropy, as one published system does. Gradients are clipped to +-
    `clip_value`; 0 is off. After `early_stop` epochs without a lower validation loss training ends
    and the weights of the best epoch are restored; 0 is off.

    Raises:
        TrainingDiverged: when an epoch's mean training loss is not finite.
    """
    fast = state.fast
    step = training_step(state.model, fast=fast, softmax=softmax, label_smoothing=label_smoothing)
    last_step = max_steps or math.inf
    while not over(state, epochs=epochs, max_steps=max_steps, early_stop=early_stop):
        started = time.perf_counter()
        begun = state.step
        # .item() would wait for the GPU; losses that are kept take places of maps, for which the
        # next step then needs new memory.
        total = torch.zeros((), dtype=torch.float64, device=fast.device)
        rate = 0.0
        state.model.train()
        for images, labels in train_batches:  # (B, 1, S, S) float, (B,) int64
            loss = step(images, labels)
            if clip_value:
                # On a CPU one pass each; as a group of tensors they take two.
                nn.utils.clip_grad_value_(
                    state.model.parameters(), clip_value, foreach=fast.device != "cpu"
                )
            state.optimizer.step()
            rate = state.optimizer.param_groups[0]["lr"]
            if isinstance(state.lr_schedule, torch.optim.lr_scheduler.OneCycleLR):
                state.lr_schedule.step()
            if state.ema is not None:
                state.ema.update()
            total += loss
            state.step += 1
            if state.step >= last_step:
                break
        train_loss = total.item() / (state.step - begun)
        state.epoch += 1
        if not math.isfinite(train_loss):
            raise TrainingDiverged(f"epoch {state.epoch}: the training loss is {train_loss}")
        val_loss = val_accuracy = math.nan
        if val_batches is not None:
            val_loss, val_accuracy = evaluate(state.evaluated, val_batches, fast=fast)
        if isinstance(state.lr_schedule, ReduceLROnPlateau):
            state.lr_schedule.step(val_loss)
        elif not isinstance(state.lr_schedule, torch.optim.lr_scheduler.OneCycleLR):
            state.lr_schedule.step()
        if early_stop:
            state.remember_best(val_loss)
        seconds = time.perf_counter() - started
        yield EpochResult(state.epoch, train_loss, val_loss, val_accuracy, rate, seconds)
    if early_stop and state.best_weights is not None:
        state.evaluated.load_state_dict(state.best_weights)


def train_config(
    state: TrainState, train_batches: Batches, val_batches: Batches | None, config: TrialConfig
) -> Iterator[EpochResult]:
    """Train with a configuration's own settings; see `train`."""
    return train(
        state,
        train_batches,
        val_batches,
        epochs=config.epochs,
        max_steps=config.max_steps,
        softmax=config.softmax,
        label_smoothing=config.label_smoothing,
        clip_value=config.clip_value,
        early_stop=config.early_stop,
    )


def is_over(state: TrainState, config: TrialConfig) -> bool:
    """Return whether a configuration has been trained for as long as it wants."""
    return over(
        state, epochs=config.epochs, max_steps=config.max_steps, early_stop=config.early_stop
    )


def over(state: TrainState, *, epochs: int, max_steps: int, early_stop: int) -> bool:
    """Return whether training that ends as `train` says has ended."""
    return (
        state.epoch >= epochs
        or 0 < max_steps <= state.step
        or 0 < early_stop <= state.epochs_since_best
    )


@torch.no_grad()
def read_batches(model: nn.Module, batches: Iterable[Batch], *, fast: Fast) -> Iterator[Batch]:
    """Yield the logits (B, classes) of each batch in order, as floats, and its labels."""
    model.eval()
    for images, labels in batches:
        with torch.autocast(fast.device, torch.bfloat16, enabled=fast.bf16):
            logits = model(images.contiguous(memory_format=torch.channels_last))
        yield logits.float(), labels


def predict_logits(model: nn.Module, batches: Iterable[Batch], *, fast: Fast) -> torch.Tensor:
    """Return the logits (N, classes) of all images, in order, as floats on the CPU."""
    return torch.cat([logits for logits, _ in read_batches(model, batches, fast=fast)]).cpu()


def evaluate(model: nn.Module, batches: Batches, *, fast: Fast) -> tuple[float, float]:
    """Return the mean cross-entropy and the accuracy in [0, 1] over all images.

    A network that gives NaN or infinity for any image has accuracy 0 and an infinite loss. Nothing
    is read back before the last batch, and no more than one batch's logits are held, of which many
    classes make many.
    """
    sums = torch.zeros(3, dtype=torch.float64, device=batches.labels.device)
    for logits, labels in read_batches(model, batches, fast=fast):
        loss = F.cross_entropy(logits, labels, reduction="sum")
        right = (logits.argmax(1) == labels).sum()
        sums += torch.stack([loss, right, (~torch.isfinite(logits)).sum()]).double()
    loss, right, wrong = sums.tolist()
    images = len(batches.labels)
    return (math.inf, 0.0) if wrong else (loss / images, right / images)
