"""The exponential average of a network's weights."""

from __future__ import annotations

import copy

import torch
from torch import nn


class WeightAverage(nn.Module):
    """The exponential average of a network's weights and statistics.

    Its decay rises to the given one, so that the first epochs are not dominated by the untrained
    network (the rule (1 + n) / (10 + n) of TensorFlow's ExponentialMovingAverage). Its state has
    the names of torch's AveragedModel, which waits for a GPU at every step. The network's tensors
    are looked up once: it must neither move nor get others.

    Attributes:
        module: the average, a network like the averaged one.
        n_averaged: steps that are in it; on the CPU, where reading it waits for nothing.
    """

    n_averaged: torch.Tensor

    def __init__(self, model: nn.Module, *, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.module = copy.deepcopy(model)
        self.register_buffer("n_averaged", torch.tensor(0))
        self.averaged, self.current = floats_of(self.module), floats_of(model)

    @torch.no_grad()
    def update(self) -> None:
        """Take the network's weights of now into the average; the first are the average."""
        count = int(self.n_averaged)
        decay = min(self.decay, (1 + count) / (10 + count)) if count else 0.0
        torch._foreach_lerp_(self.averaged, self.current, 1 - decay)
        self.n_averaged += 1


def floats_of(model: nn.Module) -> list[torch.Tensor]:
    """Return the parameters and the buffers of a network, without its counters of batches."""
    return [each for each in (*model.parameters(), *model.buffers()) if each.is_floating_point()]
