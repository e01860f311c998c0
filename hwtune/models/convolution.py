"""A convolution by the matrix tiles of a CPU, with the batch norms and the ReLUs beside it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from hwtune.models.kernels import call, can_take, has_tiles
from hwtune.models.norm import STATISTICS, BatchNorm, Raw
from hwtune.models.pooling import pool_normed

WIDEST = 128  # channels and filters; with more the library that torch calls is as quick


class Convolution(nn.Conv2d):
    """A convolution, which can put off the batch norm and the ReLU behind it.

    On a CPU with AMX, where one thread computes in bfloat16, all this is compiled: with few
    channels the library that torch calls is slower, and to write a batch norm and read it again
    takes as long as a convolution. Sums are of float32; there is no second derivative.
    """

    def __init__(
        self, channels: int, filters: int, *, kernel: int, stride: int, padding: int, bias: bool
    ) -> None:
        super().__init__(channels, filters, kernel, stride, padding, bias=bias)
        self.how = kernel, stride, padding

    def takes(
        self, images: torch.Tensor | Raw, norm: BatchNorm | None = None, *, least: int = 1
    ) -> bool:
        """Return whether the compiled operation can and should do this, and a batch norm after.

        What it makes has to have sides of at least so many pixels.
        """
        maps = images.maps if isinstance(images, Raw) else images
        kernel, stride, padding = self.how
        return (
            torch.is_autocast_enabled("cpu")
            and torch.get_autocast_dtype("cpu") == torch.bfloat16
            and can_take(maps, self.weight)
            and len(maps) > 0
            and max(self.weight.shape[:2]) <= WIDEST
            and stride == 1
            and 2 * padding < kernel
            and maps.shape[1] == self.in_channels
            and min(maps.shape[2:]) + 2 * padding - kernel + 1 >= least
            and has_tiles()
            and (norm is None or self.puts_off(norm, maps))
        )

    def puts_off(self, norm: BatchNorm, maps: torch.Tensor) -> bool:
        """Return whether a batch norm behind this can be put off."""
        return (
            norm.num_features == self.out_channels
            and norm.weight.dtype == torch.float32
            # Of one pixel there is no deviation, which torch says.
            and (len(maps) > 1 if norm.training else not torch.is_grad_enabled())
        )

    def forward(self, images: torch.Tensor | Raw) -> torch.Tensor:
        """Return (N, O, S', S') for (N, C, S, S)."""
        if self.takes(images):
            maps, _ = self.convolve(images)
            return maps
        return super().forward(images.read() if isinstance(images, Raw) else images)

    def before(self, norm: BatchNorm, images: torch.Tensor | Raw) -> Raw:
        """Return the maps (N, O, S', S') whose batch norm and ReLU are put off."""
        if not norm.training:
            return Raw(self.forward(images), norm.known())
        return Raw(*self.convolve(images, norm))

    def pooled(self, norm: BatchNorm, images: torch.Tensor | Raw) -> torch.Tensor:
        """Return (N, O, S' // 2, S' // 2) after a batch norm that trains, a ReLU and a 2x2 pooling.

        Of the gradient of the maps, most of which is 0, nothing is written.
        """
        maps, _ = self.convolve(images, norm, halve=True)
        return maps

    def convolve(
        self, images: torch.Tensor | Raw, norm: BatchNorm | None = None, *, halve: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the maps, before or after pooling, and the statistics of a batch norm behind."""
        maps, statistics = images if isinstance(images, Raw) else (images, None)
        *_, padding = self.how
        of_norm = (None, None, 0.0) if norm is None else (norm.weight, norm.bias, norm.eps)
        maps, statistics = ConvolvingByTiles.apply(
            maps, statistics, self.weight, self.bias, padding, *of_norm, halve
        )
        if norm is not None:
            mean, variance, *_ = statistics
            norm.follow(mean, variance)
        return maps, statistics


class ConvolvingByTiles(torch.autograd.Function):
    """A convolution of stride 1 of maps (N, C, S, S), or of `Raw`, on a CPU that has AMX.

    Where a batch norm follows, its gradients are computed here; with `halve` a max pooling of 2x2
    of its ReLU, too.
    """

    @staticmethod
    def forward(
        ctx: Any,
        images: torch.Tensor,
        of_images: torch.Tensor | None,
        filters: torch.Tensor,
        bias: torch.Tensor | None,
        padding: int,
        norm_weight: torch.Tensor | None,
        norm_bias: torch.Tensor | None,
        epsilon: float,
        halve: bool,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the maps, before a batch norm or behind its pooling, and its statistics."""
        images = images.to(torch.bfloat16).contiguous(memory_format=torch.channels_last)
        filters = filters.contiguous(memory_format=torch.channels_last)
        (count, channels, *sides), (outputs, _, kernel, _) = images.shape, filters.shape
        size = [side + 2 * padding - kernel + 1 for side in sides]
        maps = torch.empty(
            count, outputs, *size, dtype=torch.bfloat16, memory_format=torch.channels_last
        )
        of_maps = None if norm_weight is None else filters.new_empty(STATISTICS, outputs)
        ctx.shape = count, *sides, channels, outputs, kernel, padding
        call(
            "convolve", images, of_images, maps, filters, bias, norm_weight, norm_bias, of_maps,
            ctx.shape, epsilon,
        )  # fmt: skip
        answer, which, found = maps, None, None
        if halve:
            assert of_maps is not None
            answer, which, found = pool_normed(maps, of_maps)
        kept = None if of_maps is None else maps
        ctx.save_for_backward(images, of_images, filters, kept, of_maps, which, found)
        ctx.has_bias = bias is not None
        if of_maps is not None:
            ctx.mark_non_differentiable(of_maps)
        return answer, of_maps

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor, *_: torch.Tensor) -> tuple[Any, ...]:
        """Return the gradients of the maps and of all weights."""
        images, of_images, filters, maps, of_maps, which, found = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        of_filters, of_norm = torch.empty_like(filters), filters.new_empty(2, len(filters))
        of_bias = filters.new_zeros(len(filters)) if ctx.has_bias else None
        gradients = torch.empty_like(images) if ctx.needs_input_grad[0] else None
        call(
            "convolve_back", gradient, which, found, maps, of_maps, images, of_images, gradients,
            filters, of_filters, of_bias, of_norm, ctx.shape,
        )  # fmt: skip
        return (
            gradients, None, of_filters, of_bias, None,
            *((None, None) if of_maps is None else of_norm), None, None,
        )  # fmt: skip
