"""A max pooling and the ReLU beside it, as one operation on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from hwtune.models.kernels import call, can_take
from hwtune.models.norm import Raw


class MaxPoolRelu(nn.Module):
    """relu(pool(x)) for a max pooling, which is pool(relu(x)) to the last bit, gradients too.

    In that order the ReLU has a quarter of the work. Where one thread computes on a CPU, a pooling
    of 2x2 and the ReLU are one compiled function: torch's pooling converts to float32, and keeps
    eight bytes for each output to know where it came from.
    """

    def __init__(self, pool: nn.Module) -> None:
        super().__init__()
        self.pool = pool
        self.halves = isinstance(pool, nn.MaxPool2d) and (
            (pool.kernel_size, pool.stride, pool.padding, pool.dilation, pool.ceil_mode)
            == (2, 2, 0, 1, False)
        )

    def forward(self, images: torch.Tensor | Raw) -> torch.Tensor:
        """Return (N, C, S', S') for (N, C, S, S)."""
        if isinstance(images, Raw):
            if self.takes(images.maps) and not torch.is_grad_enabled():
                pooled, *_ = pool_normed(*images)
                return pooled
            images = images.read()
        return Halving.apply(images) if self.takes(images) else torch.relu_(self.pool(images))

    def takes(self, maps: torch.Tensor) -> bool:
        """Return whether the compiled operation can do this."""
        return self.halves and can_take(maps) and min(maps.shape[2:]) >= 2


def pool_normed(
    maps: torch.Tensor, statistics: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return relu(max_pool2d(batch_norm(x), 2)) for `Raw` whose maps lie in channels_last.

    And which of four pixels each is, 4 where it is 0, and what that pixel was, all of them
    (N, C, S // 2, S // 2).
    """
    pooled, which = halves(maps)
    found = torch.empty_like(pooled)
    call("pool_normed", maps, statistics, pooled, which, found, *sizes(maps))
    return pooled, which, found


def halves(maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return room for maps of half the sides, and for a byte for each of their pixels."""
    count, channels, height, width = maps.shape
    pooled, which = (
        torch.empty(
            count, channels, height // 2, width // 2, dtype=dtype, memory_format=torch.channels_last
        )
        for dtype in (maps.dtype, torch.uint8)
    )
    return pooled, which


def sizes(maps: torch.Tensor) -> tuple[int, int, int, int]:
    """Return images, height, width and channels of maps."""
    count, channels, height, width = maps.shape
    return count, height, width, channels


class Halving(torch.autograd.Function):
    """relu(max_pool2d(x, 2)) for maps (N, C, S, S) on a CPU."""

    @staticmethod
    def forward(ctx: Any, images: torch.Tensor) -> torch.Tensor:
        """Return (N, C, S // 2, S // 2)."""
        images = images.contiguous(memory_format=torch.channels_last)
        ctx.shape = images.shape
        pooled, which = halves(images)
        call("pool", images, pooled, which, *sizes(images))
        ctx.save_for_backward(which)
        return pooled

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        """Return the gradient of the maps (N, C, S, S)."""
        (which,) = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        *_, height, width = ctx.shape
        spread = torch.empty(ctx.shape, dtype=gradient.dtype, memory_format=torch.channels_last)
        if height % 2 or width % 2:
            spread.zero_()  # what is left over has no gradient
        call("spread", gradient, which, spread, *sizes(spread))
        return spread
