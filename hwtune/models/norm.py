"""A batch norm, what is added to it and the ReLU behind it: one operation on a CPU, or put off."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from hwtune.models.kernels import call, can_take

STATISTICS = 7  # of a channel, which norm.hpp names; the last two are of gradients


class Raw(NamedTuple):
    """Maps whose batch norm and ReLU are put off: who reads them next does both on the way.

    Attributes:
        maps: (N, C, S, S), before both; their gradient is that of what is read. They are for
            `Convolution` and `read` alone: what these tell the batch norm is not seen in it.
        statistics: (STATISTICS, C): what the batch norm does to each channel, and what the reader
            tells it of its gradient.
    """

    maps: torch.Tensor
    statistics: torch.Tensor

    def read(self) -> torch.Tensor:
        """Return the maps as they are after both."""
        return Reading.apply(*self)


class BatchNorm(nn.BatchNorm2d):
    """A batch norm, and with `relu` the ReLU behind it.

    Where one thread trains on a CPU in bfloat16, they are one compiled operation, which reads and
    writes less than torch's two or three. Its sums are of float32, as theirs.
    """

    running_mean: torch.Tensor  # (C,), as the next
    running_var: torch.Tensor
    num_batches_tracked: torch.Tensor
    momentum: float

    def __init__(self, channels: int, *, relu: bool = False) -> None:
        super().__init__(channels)
        self.relu = relu

    def forward(self, images: torch.Tensor, plus: torch.Tensor | None = None) -> torch.Tensor:
        """Return (N, C, S, S) for (N, C, S, S): with `plus`, as many, the ReLU of both's sum."""
        rows = images.numel() // self.num_features
        compiled = (
            self.training
            and images.dtype == torch.bfloat16
            and images.shape[1] == self.num_features
            and rows > 1
            and can_take(images, self.weight)
            and (plus is None or (plus.dtype == images.dtype and plus.shape == images.shape))
        )
        relu = self.relu or plus is not None
        if not compiled:
            normed = super().forward(images)
            normed = normed if plus is None else normed + plus
            return torch.relu_(normed) if relu else normed
        normed, mean, variance = Normalizing.apply(
            images, plus, self.weight, self.bias, self.eps, relu
        )
        self.follow(mean, variance)
        return normed

    def known(self) -> torch.Tensor:
        """Return the statistics for `Raw` of a batch norm that does not train."""
        inverse = (self.running_var + self.eps).rsqrt()
        scale = self.weight * inverse
        shift = self.bias - self.running_mean * scale
        unknown = torch.full_like(shift, torch.nan)
        return torch.stack(
            [self.running_mean, self.running_var, inverse, scale, shift, unknown, unknown]
        )

    def follow(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        """Let the running statistics follow those that a batch says (C,)."""
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)


class Normalizing(torch.autograd.Function):
    """A batch norm by the batch's own statistics, for maps (N, C, S, S) on a CPU."""

    @staticmethod
    def forward(
        ctx: Any,
        images: torch.Tensor,
        plus: torch.Tensor | None,
        weight: torch.Tensor,
        bias: torch.Tensor,
        epsilon: float,
        relu: bool,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the maps, and each channel's mean and estimated variance (C,)."""
        images = images.contiguous(memory_format=torch.channels_last)
        if plus is not None:
            plus = plus.contiguous(memory_format=torch.channels_last)
        channels = images.shape[1]
        normed, statistics = torch.empty_like(images), weight.new_empty(STATISTICS, channels)
        call(
            "normalize", images, plus, normed, weight, bias, statistics,
            images.numel() // channels, channels, epsilon, relu,
        )  # fmt: skip
        ctx.save_for_backward(images, statistics, None if plus is None else normed)
        ctx.relu = relu
        mean, variance = statistics[0], statistics[1]
        ctx.mark_non_differentiable(mean, variance)
        return normed, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor, *_: torch.Tensor) -> tuple[Any, ...]:
        """Return the gradients of the maps, of what was added, the weight and the bias."""
        images, statistics, normed = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        channels = images.shape[1]
        rows = images.numel() // channels
        of_images = torch.empty_like(images)
        of_weight, of_bias = statistics.new_empty(2, channels).unbind()
        of_plus = None if normed is None else torch.empty_like(images)
        if normed is None:
            call(
                "differentiate", gradient, images, of_images, of_weight, of_bias,
                statistics, rows, channels, ctx.relu,
            )  # fmt: skip
        else:
            call(
                "differentiate_sum", gradient, images, normed, of_images, of_plus, of_weight,
                of_bias, statistics, rows, channels,
            )  # fmt: skip
        return of_images, of_plus, of_weight, of_bias, None, None


class Reading(torch.autograd.Function):
    """relu(batch_norm(x)) for `Raw`."""

    @staticmethod
    def forward(ctx: Any, maps: torch.Tensor, statistics: torch.Tensor) -> torch.Tensor:
        """Return (N, C, S, S) for `Raw`."""
        read, channels = torch.empty_like(maps), maps.shape[1]
        ctx.save_for_backward(statistics)
        call("read", maps, read, statistics, maps.numel() // channels, channels)
        return read

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Return the gradient of what was read."""
        (statistics,) = ctx.saved_tensors
        statistics.data[-2] = torch.inf  # nothing is told here, which autograd need not know
        return gradient, None
