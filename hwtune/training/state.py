"""All that must outlive an epoch of training, and how it is saved."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from hwtune.config import TrialConfig
from hwtune.data.augment import augmentation_of
from hwtune.data.batches import Batches
from hwtune.data.splits import Part
from hwtune.models import build_model
from hwtune.training.average import WeightAverage
from hwtune.training.device import Fast
from hwtune.training.optim import Schedule, build_optimizer, build_schedule

Weights = dict[str, torch.Tensor]


@dataclass
class TrainState:
    """A training run between two epochs.

    Attributes:
        model: trained in place.
        ema: the weight average that is evaluated instead of `model`, or None.
        random: the generator of the order of the images and of the augmentation.
        epoch: how many are done.
        step: batches that are done.
        best_loss: the lowest validation loss so far, when early stopping watches it.
        best_weights: the evaluated weights at that epoch.
        epochs_since_best: epochs without progress.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    lr_schedule: Schedule
    ema: WeightAverage | None
    random: torch.Generator
    fast: Fast
    epoch: int = 0
    step: int = 0
    best_loss: float = float("inf")
    best_weights: Weights | None = None
    epochs_since_best: int = 0

    @property
    def evaluated(self) -> nn.Module:
        """Return the network that validation, test and the user get."""
        return self.model if self.ema is None else self.ema.module

    def to_dict(self) -> dict[str, Any]:
        """Return everything; taking it back goes on exactly as if nothing happened."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "lr_schedule": self.lr_schedule.state_dict(),
            "ema": None if self.ema is None else self.ema.state_dict(),
            "random": self.random.get_state(),
            "torch_random": torch.get_rng_state(),
            "cuda_random": torch.cuda.get_rng_state() if self.fast.device == "cuda" else None,
            "epoch": self.epoch,
            "step": self.step,
            "best_loss": self.best_loss,
            "best_weights": self.best_weights,
            "epochs_since_best": self.epochs_since_best,
        }

    def take(self, content: dict[str, Any]) -> None:
        """Take over what `to_dict` returned for the same configuration."""
        self.model.load_state_dict(content["model"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.lr_schedule.load_state_dict(content["lr_schedule"])
        if self.ema is not None:
            self.ema.load_state_dict(content["ema"])
        self.random.set_state(content["random"].cpu())
        torch.set_rng_state(content["torch_random"].cpu())
        if content["cuda_random"] is not None and self.fast.device == "cuda":
            torch.cuda.set_rng_state(content["cuda_random"].cpu())
        for name in ("epoch", "step", "best_loss", "best_weights", "epochs_since_best"):
            setattr(self, name, content[name])

    def remember_best(self, loss: float) -> None:
        """Keep a copy of the weights if `loss` is the lowest so far."""
        self.epochs_since_best += 1
        if loss < self.best_loss:
            self.best_loss, self.epochs_since_best = loss, 0
            self.best_weights = copy.deepcopy(self.evaluated.state_dict())


Started = tuple[TrainState, Batches, Batches | None]


def unpacked(saved: bytes | None, *, device: str) -> dict[str, Any]:
    """Return what a process saved of a training, {} where that is nothing or does not read.

    A copy of a study may be damaged, or have been cut short.
    """
    try:
        content = torch.load(io.BytesIO(saved or b""), map_location=device, weights_only=True)
    except Exception as error:  # by what was damaged, of almost any kind
        if isinstance(error, MemoryError) or "CUDA" in str(error):
            raise
        return {}
    return content if isinstance(content, dict) else {}


def gone_on_with(start: Callable[[], Started], saved: dict[str, Any] | None) -> Started:
    """Return a training that goes on from a saved state, or begins where that does not fit.

    One that another version left may be of a network that is built otherwise now.

    Args:
        start: begins the training, as `start_training` does.
        saved: what `TrainState.take` takes; nothing: it begins.
    """
    started = start()
    if not saved:
        return started
    try:
        started[0].take(saved)
    except (KeyError, RuntimeError, ValueError) as error:  # as torch says that something differs
        if isinstance(error, RuntimeError) and "loading state_dict" not in str(error):
            raise  # it may be the trouble of a GPU
    else:
        return started
    del started  # with what it holds of a GPU
    return start()


def start_training(
    config: TrialConfig,
    train: Part,
    validation: Part | None,
    *,
    classes: int,
    seed: int,
    fast: Fast,
) -> Started:
    """Return an untrained state with its batches; the same seed gives the same losses.

    Raises:
        SpaceError: when the configuration cannot be built.
    """
    torch.manual_seed(seed)
    random = torch.Generator().manual_seed(seed)
    model = build_model(config, classes=classes, side=train.images.shape[1])
    if config.init == "glorot":
        glorot(model)
    model = model.to(fast.device).to(memory_format=torch.channels_last)
    batches = Batches(
        train,
        batch_size=config.batch_size,
        side=config.side,
        pixel_scale=config.pixel_scale,
        augmentation=augmentation_of(config),
        generator=random,
        device=fast.device,
    )
    optimizer = build_optimizer(
        model,
        optimizer=config.optimizer,
        lr=config.lr,
        weight_decay=config.weight_decay,
        momentum=config.momentum,
        eps=config.eps,
    )
    schedule = build_schedule(
        optimizer,
        lr_schedule=config.lr_schedule,
        lr=config.lr,
        lr_decay=config.lr_decay,
        lr_patience=config.lr_patience,
        epochs=config.epochs,
        steps=len(batches),
        max_steps=config.max_steps,
    )
    ema = WeightAverage(model, decay=config.ema) if config.ema else None
    state = TrainState(model, optimizer, schedule, ema, random, fast)
    watched = None if validation is None else plain_batches(validation, config, fast=fast)
    return state, batches, watched


def glorot(model: nn.Module) -> None:
    """Draw the weights of all convolutions and linear layers anew, their biases 0.

    Glorot and Bengio, Understanding the difficulty of training deep feedforward neural networks,
    2010; Keras's default.
    """
    for layer in model.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


GPU_BATCH = 500  # images that validation and test read at once there
CPU_BATCH = 100 * 64 * 64  # pixels; what a layer of 64 filters gives for them takes 50 to 100 MB


def plain_batches(part: Part, config: TrialConfig, *, fast: Fast) -> Batches:
    """Return batches in order, as validation and test read them."""
    pixels = (config.side or part.images.shape[1]) ** 2
    return Batches(
        part,
        batch_size=max(100, CPU_BATCH // pixels) if fast.device == "cpu" else GPU_BATCH,
        side=config.side,
        pixel_scale=config.pixel_scale,
        device=fast.device,
    )


def weights_of(model: nn.Module) -> Weights:
    """Return a copy of the weights on the CPU, contiguous, as safetensors wants them."""
    return {k: v.detach().cpu().contiguous().clone() for k, v in model.state_dict().items()}
