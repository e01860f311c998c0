"""Architectures by name, what they cost, and their networks."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING

from hwtune.config import TrialConfig
from hwtune.errors import NoPixelError
from hwtune.models.cnn import cnn_layers
from hwtune.models.layers import Cost, Layer, count
from hwtune.models.resnet import RESNET18, resnet_layers

if TYPE_CHECKING:
    from torch import nn

MODELS: dict[str, Callable[..., list[Layer]]] = {"cnn": cnn_layers, "resnet": resnet_layers}
# What has a use only with some choices of another hyperparameter: which that is, and with which.
BELONGS_TO: dict[str, tuple[str, Callable[[str], bool]]] = {
    "momentum": ("optimizer", lambda own: own == "sgd"),
    "eps": ("optimizer", lambda own: own in ("adam", "adamw")),
    "lr_decay": ("lr_schedule", lambda own: own in ("exponential", "plateau")),
    "lr_patience": ("lr_schedule", lambda own: own == "plateau"),
    "dropout": ("hidden", lambda own: own != "none"),
    "hidden_norm": ("hidden", lambda own: own != "none"),
    "strides": ("filters", lambda own: own != RESNET18),
    "stem_kernel": ("filters", lambda own: own != RESNET18),
    "stem_stride": ("filters", lambda own: own != RESNET18),
    "conv_bias": ("filters", lambda own: own != RESNET18),
}
SHRINKING = ("filters", "kernel", "padding", "pool", "strides", "stem_kernel", "stem_stride")


def idle(name: str, config: TrialConfig) -> str:
    """Return why a hyperparameter changes nothing in configurations like one, or ""."""
    takes = {model: inspect.signature(layers).parameters for model, layers in MODELS.items()}
    if name not in takes[config.model] and any(name in each for each in takes.values()):
        return f"model {config.model!r} has none"
    if name in BELONGS_TO:
        other, has_one = BELONGS_TO[name]
        if not has_one(own := getattr(config, other)):
            return f"{other} {own!r} has none"
    return ""


def layers_of(config: TrialConfig, *, classes: int, side: int) -> list[Layer]:
    """Return the layers of a configuration's network.

    Args:
        side: of the data set's images, which the configuration may scale.

    Raises:
        NoPixelError: when strides and poolings leave no pixel.
        SpaceError: when the configuration cannot be built for another reason.
    """
    architecture, side = MODELS[config.model], config.side or side
    wanted = inspect.signature(architecture).parameters.keys() - {"classes", "side"}
    values = {name: getattr(config, name) for name in wanted}
    try:
        return architecture(**values, classes=classes, side=side)
    except NoPixelError:
        shown = ", ".join(f"{name}={values[name]}" for name in SHRINKING if name in values)
        raise NoPixelError(
            f"{shown} leave no pixel of a {side}x{side} image; use fewer stages or poolings, or "
            "larger images."
        ) from None


def measure_cost(config: TrialConfig, *, classes: int, side: int) -> Cost:
    """Return what a configuration's network costs, without building it; see `layers_of`.

    Raises:
        SpaceError: when the configuration cannot be built.
    """
    layers = layers_of(config, classes=classes, side=side)
    return count(layers, side=config.side or side)


def build_model(config: TrialConfig, *, classes: int, side: int) -> nn.Module:
    """Return the network of a configuration: (N, 1, S, S) floats -> (N, classes) logits.

    S is its own side, or else `side`, that of the data set's images.

    Raises:
        SpaceError: when the configuration cannot be built.
    """
    from hwtune.models.modules import sequence, torchvision_resnet18

    layers = layers_of(config, classes=classes, side=side)
    if config.model == "resnet" and config.filters == RESNET18:
        return torchvision_resnet18(classes=classes)
    return sequence(layers)
