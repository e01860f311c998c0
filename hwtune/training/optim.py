"""Optimisers and lr schedules by name."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer, lr_scheduler

ScheduleName = Literal["constant", "onecycle", "exponential", "plateau"]
Schedule = lr_scheduler.LRScheduler


def plain(method: Any) -> Any:
    """Return a method of torch's optimisers without its guard against torch's compiler.

    The guard imports the compiler at its first use, which costs each process seconds and 160 MB,
    for what hwtune never compiles.
    """
    return getattr(method, "__wrapped__", method)


class LeanSGD(SGD):
    """SGD without the compiler."""

    step = torch.no_grad()(plain(SGD.step))


class LeanAdam(Adam):
    """Adam without the compiler."""

    step = torch.no_grad()(plain(Adam.step))


class LeanAdamW(AdamW):
    """AdamW without the compiler."""

    step = torch.no_grad()(plain(AdamW.step))


for _guarded in (
    Optimizer.add_param_group,
    Optimizer.load_state_dict,
    Optimizer.state_dict,
    Optimizer.zero_grad,
):
    plain(_guarded).__dynamo_disable = plain(_guarded)  # where torch looks before it imports


def build_optimizer(
    model: nn.Module,
    *,
    optimizer: Literal["adam", "adamw", "sgd"],
    lr: float,
    weight_decay: float,
    momentum: float,
    eps: float,
) -> Optimizer:
    """Return the optimiser; Adam and SGD take `weight_decay` as an L2 penalty, AdamW decoupled."""
    parameters = list(model.parameters())
    if optimizer == "sgd":
        fused = parameters[0].is_cuda  # one pass over the weights instead of three
        return LeanSGD(
            parameters,
            lr=lr,
            momentum=momentum,
            weight_decay=weight_decay,
            foreach=not fused,
            fused=fused,
        )
    kind = LeanAdamW if optimizer == "adamw" else LeanAdam
    return kind(parameters, lr=lr, weight_decay=weight_decay, eps=eps, fused=True)


def build_schedule(
    optimizer: Optimizer,
    *,
    lr_schedule: ScheduleName,
    lr: float,
    lr_decay: float,
    lr_patience: int,
    epochs: int,
    steps: int,
    max_steps: int,
) -> Schedule:
    """Return the lr schedule for at most `epochs` epochs of `steps` steps, `max_steps` in all.

    OneCycle (Smith and Topin, arXiv 1708.07120) warms up over 30 % of all steps, then falls along
    a cosine; Adam's first beta goes the other way, SGD keeps its own momentum. A single step is
    taken at the full rate. Plateau multiplies by `lr_decay` after `lr_patience` epochs without
    progress.
    """
    total = min(epochs * steps, max_steps or math.inf)
    if lr_schedule == "onecycle" and total > 1:  # the one step would have hardly any rate
        return lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=lr,
            total_steps=int(total),
            cycle_momentum=not isinstance(optimizer, SGD),
        )
    if lr_schedule == "exponential":
        return lr_scheduler.ExponentialLR(optimizer, lr_decay)
    if lr_schedule == "plateau":
        return lr_scheduler.ReduceLROnPlateau(
            optimizer,
            factor=lr_decay,
            patience=lr_patience - 1,  # torch counts those that it forgives
            threshold=1e-4,
            threshold_mode="abs",
            min_lr=1e-6,
        )
    return lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
