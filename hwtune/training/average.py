"""The exponential average of a network's weights."""

from __future__ import annotations

import copy
import itertools

import torch
from torch import nn


class WeightAverage(nn.Module):
    """The exponential average of a network's weights and statistics.

    Its decay rises to the given one, so that the first epochs are not dominated by the untrained
    network (the rule (1 + n) / (10 + n) of TensorFlow's ExponentialMovingAverage). Its state has
    the names of torch's AveragedModel, which waits for a GPU at every step.

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

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Take the weights of `model` into the average; the first are the average."""
        count = int(self.n_averaged)
        decay = min(self.decay, (1 + count) / (10 + count)) if count else 0.0
        averaged, current = tensors_of(self.module), tensors_of(model)
        floats = [old.is_floating_point() for old in averaged]
        torch._foreach_lerp_(
            list(itertools.compress(averaged, floats)),
            list(itertools.compress(current, floats)),
            1 - decay,
        )
        for old, new, is_float in zip(averaged, current, floats, strict=True):
            if not is_float:
                old.copy_(new)
        self.n_averaged += 1


def tensors_of(model: nn.Module) -> list[torch.Tensor]:
    """Return the parameters and the buffers of a network."""
    return [*model.parameters(), *model.buffers()]
