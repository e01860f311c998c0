"""A convolution of one channel, its ReLU and the max pooling, as one operation on a CPU."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from hwtune.models.kernels import ENDINGS, call, can_take
from hwtune.models.pooling import MaxPoolRelu

KERNELS = (3, 5)  # the sides of those that stem.cpp knows


class Stem(nn.Conv2d):
    """A convolution of one channel, and the max pooling and the ReLU behind it.

    Where one thread computes on a CPU, all this is one compiled function, which rounds nothing but
    what it writes; it has no second derivative. The maps that are pooled are never written: they
    are four times as large as what is left of them, and no others have so many pixels.
    """

    def __init__(
        self,
        filters: int,
        *,
        kernel: int,
        stride: int,
        padding: int,
        bias: bool,
        pool: MaxPoolRelu,
    ) -> None:
        super().__init__(1, filters, kernel, stride, padding, bias=bias)
        self.pool = pool
        self.how = kernel, stride, padding

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return (N, C, S', S') for (N, 1, S, S)."""
        kernel, stride, padding = self.how
        short = torch.is_autocast_enabled("cpu")
        dtype = torch.get_autocast_dtype("cpu") if short else torch.float32
        compiled = (
            self.pool.halves
            and kernel in KERNELS
            and dtype in ENDINGS
            and images.dtype == torch.float32
            and not images.requires_grad
            and can_take(images, self.weight)
            and images.shape[1] == 1
            and min(images.shape[2:]) + 2 * padding >= kernel + stride
        )
        if not compiled:
            return self.pool(super().forward(images))
        return Convolving.apply(images, self.weight, self.bias, self.how, dtype)


class Convolving(torch.autograd.Function):
    """relu(max_pool2d(convolution, 2)) of images (N, 1, S, S) on a CPU."""

    @staticmethod
    def forward(
        ctx: Any,
        images: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        how: tuple[int, int, int],
        dtype: torch.dtype,
    ) -> torch.Tensor:
        """Return (N, C, S', S') of `dtype`; see `Stem` for `how`."""
        images = images.contiguous()
        (count, _, *sides), channels = images.shape, len(weight)
        kernel, stride, padding = how
        size = [((side + 2 * padding - kernel) // stride + 1) // 2 for side in sides]
        maps = torch.empty(
            count, channels, *size, dtype=dtype, device="cpu", memory_format=torch.channels_last
        )
        which = torch.empty_like(maps, dtype=torch.uint8)
        biases = weight.new_zeros(channels) if bias is None else bias
        filters = torch.cat([weight.flatten(1).t(), biases[None]])
        ctx.stem = torch.tensor([count, *sides, *size, channels, *how])
        call("stem", maps, images, filters, which, ctx.stem)
        ctx.save_for_backward(images, which)
        ctx.shape = weight.shape
        return maps

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[Any, ...]:
        """Return the gradients of the weight and the bias."""
        images, which = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        channels, _, *sides = ctx.shape
        filters = images.new_zeros(math.prod(sides) + 1, channels)
        call("stem_back", gradient, images, which, filters, ctx.stem)
        of_bias = filters[-1] if ctx.needs_input_grad[2] else None
        return None, filters[:-1].t().reshape(ctx.shape), of_bias, None, None
