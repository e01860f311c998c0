"""Residual networks: torchvision's ResNet-18, and a small one of chosen widths.

He et al., Deep Residual Learning for Image Recognition, arXiv 1512.03385.
"""

from __future__ import annotations

from hwtune.config import numbers, per_stage
from hwtune.errors import SpaceError
from hwtune.models.layers import Conv, Flatten, Layer, Linear, Norm, Pool, Relu, Residual, shrink

RESNET18 = "resnet18"  # in place of widths


def resnet_layers(
    *,
    filters: str,
    strides: str,
    stem_kernel: int,
    stem_stride: int,
    conv_bias: bool,
    classes: int,
    side: int,
) -> list[Layer]:
    """Return a residual network for (N, 1, side, side) floats that gives (N, classes) logits.

    `filters` is "resnet18" for torchvision's with a stem of one channel, or the width of the stem
    and then one width a block; `strides` has one stride a block (torchvision's keeps its own).

    Raises:
        NoPixelError: when the strides leave no pixel.
        SpaceError: when a list does not fit the number of blocks.
    """
    if filters == RESNET18:
        return resnet18_layers(classes=classes)
    widths = numbers(filters, name="filters")
    if len(widths) < 2:
        raise SpaceError(f"filters={filters!r} needs a stem and a block, such as '32-64'.")
    steps = per_stage(numbers(strides, name="strides"), len(widths) - 1, name="strides")
    stem = Conv(1, widths[0], stem_kernel, stem_stride, 0, conv_bias)
    shrink(side, stem)  # later layers leave a pixel of whatever the stem leaves
    return [
        stem,
        Norm(widths[0]),
        Relu(),
        *residuals(widths, steps, bias=conv_bias),
        Pool("avg", 0),
        Flatten(),
        Linear(widths[-1], classes, logits=True),
    ]


def resnet18_layers(*, classes: int) -> list[Layer]:
    """Return the layers of torchvision's ResNet-18 for one channel."""
    widths = [64, 64, 64, 128, 128, 256, 256, 512, 512]
    return [
        Conv(1, 64, 7, 2, 3, bias=False),
        Norm(64),
        Relu(),
        Pool("max", 3, 2, 1),
        *residuals(widths, [1, 1, 2, 1, 2, 1, 2, 1], bias=False),
        Pool("avg", 0),
        Flatten(),
        Linear(512, classes, logits=True),
    ]


def residuals(widths: list[int], strides: list[int], *, bias: bool) -> list[Layer]:
    """Return one basic block a stride; its shortcut is a 1x1 convolution where the shape changes.

    Args:
        widths: what the first block gets, and what each block gives.
    """
    return [
        Residual(
            body=(
                Conv(channels, width, 3, stride, 1, bias),
                Norm(width),
                Relu(),
                Conv(width, width, 3, 1, 1, bias),
                Norm(width),
            ),
            shortcut=(Conv(channels, width, 1, stride, 0, bias), Norm(width))
            if stride != 1 or channels != width
            else (),
        )
        for channels, width, stride in zip(widths, widths[1:], strides, strict=False)
    ]
