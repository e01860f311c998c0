"""torch's modules for layers."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import torch
from torch import nn

from hwtune.models.layers import (
    Conv,
    Dropout,
    Flatten,
    Layer,
    Linear,
    Norm,
    Pool,
    Relu,
    Residual,
)

POOLS = {"max": nn.MaxPool2d, "avg": nn.AvgPool2d}
GLOBAL_POOLS = {"max": nn.AdaptiveMaxPool2d, "avg": nn.AdaptiveAvgPool2d}


class ResidualBlock(nn.Module):
    """A body with a shortcut around it."""

    def __init__(self, body: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.body, self.shortcut = body, shortcut

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return (N, filters, S', S') for (N, channels, S, S)."""
        return torch.relu(self.body(images) + self.shortcut(images))


def sequence(layers: Iterable[Layer]) -> nn.Sequential:
    """Return the network of `layers`, with torch's own initialisation.

    A ReLU before a max pooling is put behind it, where it has a quarter of the work: the outputs
    and the gradients are the same to the last bit, since neither cares which comes first.
    """
    ordered = list(layers)
    for index, (first, second) in enumerate(itertools.pairwise(ordered)):
        if isinstance(first, Relu) and isinstance(second, Pool) and second.kind == "max":
            ordered[index : index + 2] = [second, first]
    return nn.Sequential(*map(module, ordered))


def module(layer: Layer) -> nn.Module:
    """Return the module of a layer."""
    match layer:
        case Conv(channels, filters, kernel, stride, padding, bias):
            return nn.Conv2d(channels, filters, kernel, stride, padding, bias=bias)
        case Linear(features, outputs, bias):
            return nn.Linear(features, outputs, bias=bias)
        case Norm(features, flat):
            return nn.BatchNorm1d(features) if flat else nn.BatchNorm2d(features)
        case Pool(kind, 0):
            return GLOBAL_POOLS[kind](1)
        case Pool(kind, kernel, stride, padding):
            return POOLS[kind](kernel, stride, padding)
        case Relu():
            return nn.ReLU(inplace=True)
        case Dropout(rate, channels):
            return nn.Dropout2d(rate) if channels else nn.Dropout(rate)
        case Flatten():
            return nn.Flatten()
        case Residual(body, shortcut):
            return ResidualBlock(sequence(body), sequence(shortcut) if shortcut else nn.Identity())


def torchvision_resnet18(*, classes: int) -> nn.Module:
    """Return torchvision's ResNet-18, its stem taking one channel, its output `classes`."""
    from torchvision.models import resnet18  # seconds to import, rarely needed

    network = resnet18(num_classes=classes)
    network.conv1 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    return network
