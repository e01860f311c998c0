"""Batches without a loader: the whole data set is one uint8 tensor on the device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from torch.nn import functional as F

from hwtune.data.augment import Augmentation, augment
from hwtune.data.splits import Part

PixelScale = Literal["unit", "root", "symmetric", "raw"]
Batch = tuple[torch.Tensor, torch.Tensor]


def to_pixels(images: torch.Tensor, *, side: int) -> torch.Tensor:
    """Return uint8 images (N, S, S) as (N, 1, side, side) uint8, scaled to it; 0 keeps S."""
    pixels = images.unsqueeze(1)
    if side in (0, pixels.shape[-1]):
        return pixels
    scaled = pixels.new_empty(len(pixels), 1, side, side)  # filled in place: held once
    for piece, into in zip(pixels.split(1024), scaled.split(1024), strict=True):
        into.copy_(_scaled(piece, side))
    return scaled


def _scaled(pixels: torch.Tensor, side: int) -> torch.Tensor:
    scaled = F.interpolate(pixels.float(), size=(side, side), mode="bilinear", antialias=True)
    return scaled.round_().clamp_(0, 255).to(torch.uint8)


def to_floats(pixels: torch.Tensor, scale: PixelScale) -> torch.Tensor:
    """Return pixels of 0..255 as floats in [0, 1], its square root, in [-1, 1] or in 0..255.

    Those that are floats are changed in place.
    """
    if scale == "raw":
        return pixels.float()
    unit = pixels.float().mul_(1 / 255)
    if scale == "root":
        return unit.sqrt_()
    return unit if scale == "unit" else unit.mul_(2).sub_(1)


class Batches:
    """The batches of one part of a data set; each iteration is an epoch.

    Training batches are shuffled and augmented and the last incomplete one is left out (batch
    norm cannot take a single image); others come in order, all of them.
    """

    def __init__(
        self,
        part: Part,
        *,
        batch_size: int,
        side: int = 0,
        pixel_scale: PixelScale = "unit",
        augmentation: Augmentation | None = None,
        generator: torch.Generator | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        images, labels, self.positions = part.images, part.labels, None
        if part.positions is not None:
            labels = labels[part.positions]
            if torch.device(device).type == "cpu" and side in (0, images.shape[1]):
                self.positions = torch.from_numpy(part.positions)
            else:  # a copy is needed anyway
                images = images[part.positions]
        self.pixels = to_pixels(torch.from_numpy(images).to(device), side=side)
        self.labels = torch.from_numpy(labels).to(device)
        self.batch_size = min(batch_size, len(self.labels))
        self.pixel_scale: PixelScale = pixel_scale
        self.augmentation = augmentation or Augmentation()
        self.generator = generator  # of the order and the augmentation; None: in order, plain

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        whole, rest = divmod(len(self.labels), self.batch_size)
        return whole if self.generator is not None or not rest else whole + 1

    def __iter__(self) -> Iterator[Batch]:
        """Yield (B, 1, S, S) floats and (B,) int64 labels."""
        count = len(self.labels)
        if self.generator is None:
            for start in range(0, count, self.batch_size):
                piece = slice(start, start + self.batch_size)
                yield to_floats(self._at(piece), self.pixel_scale), self.labels[piece]
            return
        order = torch.randperm(count, generator=self.generator).to(self.labels.device)
        for index in range(len(self)):
            chosen = order[index * self.batch_size : (index + 1) * self.batch_size]
            yield self._augmented(self._at(chosen)), self.labels[chosen]

    def _at(self, which: slice | torch.Tensor) -> torch.Tensor:
        """Return some of the images of the part (B, 1, S, S), uint8."""
        if self.positions is not None:
            which = self.positions[which]
        if isinstance(which, slice):
            return self.pixels[which]
        return self.pixels.index_select(0, which)  # copies whole images, which indexing does not

    def _augmented(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the floats of a batch, distorted while the background is still 0."""
        if self.augmentation:
            assert self.generator is not None
            pixels = augment(pixels.float(), self.augmentation, self.generator)
        return to_floats(pixels, self.pixel_scale)
