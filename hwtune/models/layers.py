"""Layers as data: what an architecture is made of, before torch is asked for anything.

The process that searches counts what networks cost thousands of times; it needs no torch for that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hwtune.errors import NoPixelError


@dataclass(frozen=True)
class Conv:
    """A convolution with square kernels."""

    channels: int
    filters: int
    kernel: int
    stride: int
    padding: int
    bias: bool


@dataclass(frozen=True)
class Linear:
    """A linear layer.

    Attributes:
        logits: whether what it gives is what the network answers.
    """

    features: int
    outputs: int
    bias: bool = True
    logits: bool = False


@dataclass(frozen=True)
class Norm:
    """A batch norm, of channels of maps or of flat features."""

    features: int
    flat: bool = False


@dataclass(frozen=True)
class Pool:
    """A pooling, "max" or "avg"; a kernel of 0 pools all that there is."""

    kind: str
    kernel: int = 2
    stride: int = 2
    padding: int = 0


@dataclass(frozen=True)
class Relu:
    """max(x, 0)."""


@dataclass(frozen=True)
class Dropout:
    """Dropout of single values, or of whole channels."""

    rate: float
    channels: bool = False


@dataclass(frozen=True)
class Flatten:
    """(N, C, S, S) -> (N, C S S)."""


@dataclass(frozen=True)
class Residual:
    """relu(body(x) + shortcut(x)); an empty shortcut is x itself.

    He et al., Deep Residual Learning for Image Recognition, arXiv 1512.03385.
    """

    body: tuple[Layer, ...]
    shortcut: tuple[Layer, ...]


Layer = Conv | Linear | Norm | Pool | Relu | Dropout | Flatten | Residual


@dataclass(frozen=True)
class Cost:
    """What a network costs: its trainable parameters, its multiply-accumulates an image."""

    parameters: int
    macs: int


def count(layers: Sequence[Layer], *, side: int) -> Cost:
    """Return what a network costs on images of `side` pixels; linear and convolutions count."""
    parameters, macs, _ = _counted(layers, side)
    return Cost(parameters, macs)


def shrink(size: int, layer: Conv | Pool) -> int:
    """Return the side of what a layer makes of maps of `size` pixels.

    Raises:
        NoPixelError: when nothing is left.
    """
    if not layer.kernel:
        return 1
    left = (size + 2 * layer.padding - layer.kernel) // layer.stride + 1
    if left < 1:
        raise NoPixelError(f"Nothing of {size}x{size} pixels is left.")
    return left


def _counted(layers: Sequence[Layer], size: int) -> tuple[int, int, int]:
    """Return parameters, multiply-accumulates, and the side of the maps that are left."""
    parameters = macs = 0
    for layer in layers:
        if isinstance(layer, Conv):
            size = shrink(size, layer)
            weights = layer.filters * layer.channels * layer.kernel**2
            parameters += weights + layer.filters * layer.bias
            macs += weights * size**2
        elif isinstance(layer, Linear):
            weights = layer.features * layer.outputs
            parameters += weights + layer.outputs * layer.bias
            macs += weights
        elif isinstance(layer, Norm):
            parameters += 2 * layer.features
        elif isinstance(layer, Pool):
            size = shrink(size, layer)
        elif isinstance(layer, Residual):
            for path in (layer.shortcut, layer.body):
                more, work, after = _counted(path, size)
                parameters, macs = parameters + more, macs + work
            size = after
    return parameters, macs, size
