"""Plain convolutional classifiers: stages of convolutions, a head, hidden layers."""

from __future__ import annotations

from typing import Literal

from torch import nn

from hwtune.config import numbers, per_stage
from hwtune.errors import NoPixelError, SpaceError

POOLS = {"max": nn.MaxPool2d, "avg": nn.AvgPool2d}
HEADS = {"avg": nn.AdaptiveAvgPool2d, "max": nn.AdaptiveMaxPool2d}


def build_cnn(
    *,
    filters: str,
    convs_per_stage: int,
    kernel: str,
    stem_stride: int,
    padding: Literal["same", "none"],
    conv_bias: bool,
    activation: Literal["relu", "none"],
    norm: Literal["none", "before", "after"],
    pool: str,
    spatial_dropout: str,
    head: Literal["flatten", "avg", "max"],
    hidden: str,
    dropout: str,
    hidden_norm: bool,
    output_norm: bool,
    classes: int,
    side: int,
) -> nn.Sequential:
    """Return a network for (N, 1, side, side) floats that gives (N, classes) logits.

    A stage is `convs_per_stage` times [convolution, batch norm if norm is "before", activation],
    then spatial dropout, pooling by 2, and batch norm if norm is "after". Only the first
    convolution of all has `stem_stride`. Hidden layers are linear, ReLU, dropout, batch norm;
    `output_norm` is a batch norm on the logits, whose linear layer then has no bias.

    Raises:
        NoPixelError: when strides and poolings leave no pixel.
        SpaceError: when a list does not fit the number of stages.
    """
    widths = numbers(filters, name="filters")
    if not widths:
        raise SpaceError(f"filters={filters!r} names no stage; give a list such as '16-32'.")
    kernels = per_stage(numbers(kernel, name="kernel"), len(widths), name="kernel")
    pools = per_stage(pool.split("-"), len(widths), name="pool")
    dropouts = per_stage(
        numbers(spatial_dropout, name="spatial_dropout", kind=float),
        len(widths),
        name="spatial_dropout",
    )
    layers: list[nn.Module] = []
    channels, size = 1, side
    for width, k, pooling, drop in zip(widths, kernels, pools, dropouts, strict=True):
        for _ in range(convs_per_stage):
            stride = 1 if layers else stem_stride
            pad = k // 2 if padding == "same" else 0
            size = (size + 2 * pad - k) // stride + 1
            if size < 1:
                raise NoPixelError(
                    no_pixel(side, f"filters={filters}, kernel={kernel}, pool={pool}")
                )
            layers.append(nn.Conv2d(channels, width, k, stride, pad, bias=conv_bias))
            if norm == "before":
                layers.append(nn.BatchNorm2d(width))
            if activation == "relu":
                layers.append(nn.ReLU(inplace=True))
            channels = width
        if drop:
            layers.append(nn.Dropout2d(drop))
        if pooling != "none":
            if pooling not in POOLS:
                raise SpaceError(f"pool={pool!r} is made of max, avg and none alone.")
            size //= 2
            if size < 1:
                raise NoPixelError(no_pixel(side, f"filters={filters}, pool={pool}"))
            layers.append(POOLS[pooling](2))
        if norm == "after":
            layers.append(nn.BatchNorm2d(width))

    if head != "flatten":
        layers.append(HEADS[head](1))
        size = 1
    layers.append(nn.Flatten())
    features = channels * size * size
    hidden_widths = numbers(hidden, name="hidden")
    drops = numbers(dropout, name="dropout", kind=float)
    if hidden_widths:
        drops = per_stage(drops, len(hidden_widths), name="dropout")
    for width, drop in zip(hidden_widths, drops, strict=False):
        layers += [nn.Linear(features, width), nn.ReLU(inplace=True)]
        if drop:
            layers.append(nn.Dropout(drop))
        if hidden_norm:
            layers.append(nn.BatchNorm1d(width))
        features = width
    layers.append(nn.Linear(features, classes, bias=not output_norm))
    if output_norm:
        layers.append(nn.BatchNorm1d(classes))
    return nn.Sequential(*layers)


def no_pixel(side: int, values: str) -> str:
    """Return the sentence for an image of `side` pixels that shrinks to nothing."""
    return f"{values} leave no pixel of a {side}x{side} image; use fewer stages or poolings."
