"""Residual networks: torchvision's ResNet-18, and a small one of chosen widths.

He et al., Deep Residual Learning for Image Recognition, arXiv 1512.03385.
"""

from __future__ import annotations

import torch
from torch import nn

from hwtune.config import numbers, per_stage
from hwtune.errors import NoPixelError, SpaceError
from hwtune.models.cnn import no_pixel


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, which is a 1x1 convolution where the shape changes."""

    def __init__(self, channels: int, width: int, stride: int, *, bias: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride, 1, bias=bias),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, 1, 1, bias=bias),
            nn.BatchNorm2d(width),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, width, 1, stride, bias=bias), nn.BatchNorm2d(width)
            )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return (N, width, S / stride, S / stride) for (N, channels, S, S)."""
        return torch.relu(self.body(images) + self.shortcut(images))


def build_resnet(
    *,
    filters: str,
    strides: str,
    stem_kernel: int,
    stem_stride: int,
    conv_bias: bool,
    classes: int,
    side: int,
) -> nn.Module:
    """Return a residual network for (N, 1, side, side) floats that gives (N, classes) logits.

    `filters` is "resnet18" for torchvision's with a stem of one channel, or the width of the stem
    and then one width a block; `strides` has one stride a block (torchvision's keeps its own).

    Raises:
        NoPixelError: when the strides leave no pixel.
        SpaceError: when a list does not fit the number of blocks.
    """
    if filters == "resnet18":
        from torchvision.models import resnet18  # seconds to import, rarely needed

        network = resnet18(num_classes=classes)
        network.conv1 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
        return network
    widths = numbers(filters, name="filters")
    if len(widths) < 2:
        raise SpaceError(f"filters={filters!r} needs a stem and a block, such as '32-64'.")
    steps = per_stage(numbers(strides, name="strides"), len(widths) - 1, name="strides")
    if (side - stem_kernel) // stem_stride < 0:
        raise NoPixelError(no_pixel(side, f"stem_kernel={stem_kernel}"))
    channels = widths[0]
    layers: list[nn.Module] = [
        nn.Conv2d(1, channels, stem_kernel, stem_stride, bias=conv_bias),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
    ]
    for width, stride in zip(widths[1:], steps, strict=True):
        layers.append(BasicBlock(channels, width, stride, bias=conv_bias))
        channels = width
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)]
    return nn.Sequential(*layers)
