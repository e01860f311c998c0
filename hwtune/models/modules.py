"""torch's modules for layers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

import torch
from torch import nn

from hwtune.models.convolution import Convolution
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
from hwtune.models.norm import BatchNorm, Raw
from hwtune.models.pooling import MaxPoolRelu
from hwtune.models.stem import Stem

POOLS = {"max": nn.MaxPool2d, "avg": nn.AvgPool2d}
GLOBAL_POOLS = {"max": nn.AdaptiveMaxPool2d, "avg": nn.AdaptiveAvgPool2d}


class Logits(nn.Linear):
    """The last linear layer, in float32 whatever the rest is.

    bfloat16 has steps of 0.06 between 8 and 16, in which many an image would have two best classes;
    and so small a product takes longer in it on a CPU.
    """

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return (N, classes) for (N, features)."""
        device = features.device.type
        if not torch.is_autocast_enabled(device):
            return super().forward(features)
        with torch.autocast(device, enabled=False):
            return super().forward(features.float())


class Network(nn.Sequential):
    """Modules one after the other, with batch norms put off to who reads their maps; see `run`."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return what the last module makes of images (N, 1, S, S)."""
        return run(self, images)


def run(modules: Iterable[nn.Module], images: torch.Tensor) -> torch.Tensor:
    """Return what modules make of maps (N, C, S, S), one after the other.

    A batch norm that the ReLU follows, perhaps within a pooling, becomes part of the convolution
    before it and of what reads its maps, where that convolution can take it.
    """
    maps: torch.Tensor | Raw = images
    left = list(modules)
    while left:
        match left:
            case [Convolution() as conv, BatchNorm() as norm, MaxPoolRelu() as pool, *left] if (
                pool.halves and norm.training and conv.takes(maps, norm, least=2)
            ):
                maps = conv.pooled(norm, maps)
            case [Convolution() as conv, BatchNorm() as norm, *left] if (
                norm.relu or (left and isinstance(left[0], MaxPoolRelu))
            ) and conv.takes(maps, norm):
                maps = conv.before(norm, maps)
            case [Convolution() | MaxPoolRelu() as reader, *left]:
                maps = reader(maps)
            case [module, *left]:
                maps = module(maps.read() if isinstance(maps, Raw) else maps)
    return maps.read() if isinstance(maps, Raw) else maps


class ResidualBlock(nn.Module):
    """relu(body(x) + shortcut(x)): with the batch norm that ends the body as one operation."""

    def __init__(self, body: nn.Sequential, shortcut: nn.Module) -> None:
        super().__init__()
        self.body, self.shortcut = body, shortcut

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return (N, filters, S', S') for (N, channels, S, S)."""
        shortcut = self.shortcut(images)
        *layers, last = self.body
        images = run(layers, images)
        if isinstance(last, BatchNorm):
            return last(images, plus=shortcut)
        return torch.relu(last(images) + shortcut)


def sequence(layers: Iterable[Layer]) -> nn.Sequential:
    """Return the network of `layers`, with torch's own initialisation.

    A ReLU becomes one module with the max pooling behind it, or the batch norm before it, and a
    convolution of one channel one with the two behind it. Modules are called after the place of
    their first layer: what is joined does not rename the weights.
    """
    modules: dict[str, nn.Module] = {}
    left = list(layers)
    count = len(left)
    while left:
        place = count - len(left)
        match left:
            case [Conv(1) as conv, Relu(), Pool("max") as pool, *left]:
                modules[f"{place}"] = Stem(
                    conv.filters, kernel=conv.kernel, stride=conv.stride, padding=conv.padding,
                    bias=conv.bias, pool=MaxPoolRelu(module(pool)),
                )  # fmt: skip
            case [Norm(_, flat=False) as norm, Relu(), Pool("max") as pool, *left]:
                modules[f"{place}"] = module(norm)
                modules[f"{place + 1}"] = MaxPoolRelu(module(pool))
            case [Norm(features, flat=False), Relu(), *left]:
                modules[f"{place}"] = BatchNorm(features, relu=True)
            case [Relu(), Pool("max") as pool, *left]:
                modules[f"{place}"] = MaxPoolRelu(module(pool))
            case [layer, *left]:
                modules[f"{place}"] = module(layer)
    return Network(OrderedDict(modules))


def module(layer: Layer) -> nn.Module:
    """Return the module of a layer."""
    match layer:
        case Conv(channels, filters, kernel, stride, padding, bias):
            return Convolution(
                channels, filters, kernel=kernel, stride=stride, padding=padding, bias=bias
            )
        case Linear(features, outputs, bias, logits):
            return (Logits if logits else nn.Linear)(features, outputs, bias=bias)
        case Norm(features, flat):
            return nn.BatchNorm1d(features) if flat else BatchNorm(features)
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
    logits = nn.utils.skip_init(Logits, 512, classes)
    logits.weight, logits.bias = network.fc.weight, network.fc.bias  # as torchvision drew them
    network.fc = logits
    return network
