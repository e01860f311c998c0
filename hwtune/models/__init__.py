"""Architectures by name, and what they cost."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from hwtune.config import TrialConfig
from hwtune.models.cnn import build_cnn
from hwtune.models.resnet import build_resnet

MODELS: dict[str, Callable[..., nn.Module]] = {"cnn": build_cnn, "resnet": build_resnet}


@dataclass(frozen=True)
class Cost:
    """What a network costs: its trainable parameters, its multiply-accumulates an image."""

    parameters: int
    macs: int


def build_model(config: TrialConfig, *, classes: int, side: int) -> nn.Module:
    """Return the network of a configuration for images of `side` pixels, on torch's current device.

    Raises:
        SpaceError: when the configuration cannot be built.
    """
    build = MODELS[config.model]
    wanted = inspect.signature(build).parameters.keys() - {"classes", "side"}
    values = {name: getattr(config, name) for name in wanted}
    return build(**values, classes=classes, side=side)


def measure_cost(config: TrialConfig, *, classes: int, side: int) -> Cost:
    """Return what a configuration's network costs, without allocating it.

    Raises:
        SpaceError: when the configuration cannot be built.
    """
    with torch.device("meta"), torch.no_grad():
        model = build_model(config, classes=classes, side=side).eval()
        macs = 0

        def count(layer: nn.Module, inputs: Any, output: torch.Tensor) -> None:
            nonlocal macs
            assert isinstance(layer.weight, torch.Tensor)
            macs += layer.weight[0].numel() * output.numel()

        for layer in model.modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                layer.register_forward_hook(count)
        model(torch.empty(1, 1, side, side))
    return Cost(sum(p.numel() for p in model.parameters()), macs)
