"""Plain convolutional classifiers: stages of convolutions, a head, hidden layers."""

from __future__ import annotations

from typing import Literal

from hwtune.config import numbers, per_stage
from hwtune.errors import SpaceError
from hwtune.models.layers import Conv, Dropout, Flatten, Layer, Linear, Norm, Pool, Relu, shrink

POOLS = {"max", "avg", "none"}


def cnn_layers(
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
) -> list[Layer]:
    """Return a network for (N, 1, side, side) floats that gives (N, classes) logits.

    A stage is `convs_per_stage` times [convolution, batch norm if norm is "before", activation],
    then spatial dropout, pooling by 2, and batch norm if norm is "after". Only the first
    convolution of all has `stem_stride`. Hidden layers are linear, ReLU, dropout, batch norm;
    `output_norm` is a batch norm on the logits, whose linear layer then has no bias.

    Raises:
        NoPixelError: when strides and poolings leave no pixel.
        SpaceError: when a list does not fit the number of stages, or a kernel the padding.
    """
    widths = numbers(filters, name="filters")
    if not widths:
        raise SpaceError(f"filters={filters!r} names no stage; give a list such as '16-32'.")
    kernels = per_stage(numbers(kernel, name="kernel"), len(widths), name="kernel")
    if padding == "same" and any(k % 2 == 0 for k in kernels):
        raise SpaceError(f"kernel={kernel!r}: padding 'same' wants odd kernels; or give 'none'.")
    pools = per_stage(pool.split("-"), len(widths), name="pool")
    if not set(pools) <= POOLS:
        raise SpaceError(f"pool={pool!r} is made of max, avg and none alone.")
    drops = numbers(spatial_dropout, name="spatial_dropout", kind=float)
    drops = per_stage(drops, len(widths), name="spatial_dropout")
    layers: list[Layer] = []
    channels, size = 1, side
    for width, k, pooling, drop in zip(widths, kernels, pools, drops, strict=True):
        pad = k // 2 if padding == "same" else 0
        for _ in range(convs_per_stage):
            stride = 1 if layers else stem_stride
            layers.append(conv := Conv(channels, width, k, stride, pad, conv_bias))
            size, channels = shrink(size, conv), width
            if norm == "before":
                layers.append(Norm(width))
            if activation == "relu":
                layers.append(Relu())
        if drop:
            layers.append(Dropout(drop, channels=True))
        if pooling != "none":
            layers.append(pooled := Pool(pooling))
            size = shrink(size, pooled)
        if norm == "after":
            layers.append(Norm(width))
    if head != "flatten":
        layers.append(Pool(head, 0))
        size = 1
    last, features = _hidden(channels * size * size, hidden, dropout, norm=hidden_norm)
    last.append(Linear(features, classes, bias=not output_norm, logits=True))
    if output_norm:
        last.append(Norm(classes, flat=True))
    return [*layers, Flatten(), *last]


def _hidden(features: int, hidden: str, dropout: str, *, norm: bool) -> tuple[list[Layer], int]:
    """Return the hidden layers for so many features, and the features that they leave."""
    widths = numbers(hidden, name="hidden")
    drops = numbers(dropout, name="dropout", kind=float)
    layers: list[Layer] = []
    for width, drop in zip(widths, per_stage(drops, len(widths), name="dropout"), strict=True):
        layers += [Linear(features, width), Relu()]
        if drop:
            layers.append(Dropout(drop))
        if norm:
            layers.append(Norm(width, flat=True))
        features = width
    return layers, features
