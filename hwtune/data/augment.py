"""Random distortion of a whole batch at once, on the tensor's own device."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from hwtune.config import TrialConfig


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Limits of the distortion, each drawn uniformly from +- the value for every image.

    Attributes:
        rotation: degrees.
        translation: fraction of the side.
        scaling: fraction; 0.1 draws from 0.9..1.1.
        gamma: natural logarithm of the power to which the pixels, as a fraction of white, are
            raised: 0.5 draws from 0.61 (faint strokes come out) to 1.65 (they fade).
    """

    rotation: float = 0.0
    translation: float = 0.0
    scaling: float = 0.0
    gamma: float = 0.0

    def __bool__(self) -> bool:
        return bool(self.rotation or self.translation or self.scaling or self.gamma)


def augmentation_of(config: TrialConfig) -> Augmentation:
    """Return the limits of a trial."""
    return Augmentation(
        rotation=config.rotation,
        translation=config.translation,
        scaling=config.scaling,
        gamma=config.gamma,
    )


def augment(images: torch.Tensor, limits: Augmentation, generator: torch.Generator) -> torch.Tensor:
    """Return images (B, 1, S, S), floats from 0, the background, to 255, each distorted anew."""
    batch = len(images)
    draw = torch.rand(4, batch, generator=generator, device=generator.device)
    draw = draw.to(images.device, non_blocking=True)  # else each step waits for the GPU
    angle, scale, right, down = draw * 2 - 1
    angle = angle * math.radians(limits.rotation)
    scale = 1 / (1 + scale * limits.scaling)  # the grid maps output to input
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    shift = 2 * limits.translation  # the grid is 2 wide
    x, y = right * shift, down * shift  # of the turned and scaled image: the last of the three
    rows = torch.stack([cos, -sin, cos * x - sin * y, sin, cos, sin * x + cos * y], 1)
    grid = F.affine_grid(rows.view(batch, 2, 3), list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, align_corners=False)
    if limits.gamma:
        draw = torch.rand(batch, 1, 1, 1, generator=generator, device=generator.device)
        draw = draw.to(images.device, non_blocking=True)
        power = torch.exp((draw * 2 - 1) * limits.gamma)
        moved = moved.div_(255).pow_(power).mul_(255)
    return moved
