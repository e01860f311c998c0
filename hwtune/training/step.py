"""One step of training up to the gradients, on a GPU as a CUDA graph."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache

import torch
from torch import nn
from torch.nn import functional as F

from hwtune.training.device import Fast

# Takes images (B, 1, S, S) and labels (B,); returns the loss and leaves each weight its gradient.
Step = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

REHEARSALS = 3  # before a graph is recorded, as torch's documentation asks


def training_step(
    model: nn.Module, *, fast: Fast, softmax: bool = False, label_smoothing: float = 0.0
) -> Step:
    """Return the step of a network; `softmax` is applied before the cross-entropy."""
    weights = list(model.parameters())

    def step(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        with torch.autocast(fast.device, torch.bfloat16, enabled=fast.bf16):
            logits = model(images.contiguous(memory_format=torch.channels_last))
        logits = logits.float()
        scores = logits.softmax(1) if softmax else logits
        loss = F.cross_entropy(scores, labels, label_smoothing=label_smoothing)
        for weight in weights:
            weight.grad = None
        loss.backward()
        return loss.detach()

    return graphed(step, model) if fast.graphs else step


def graphed(step: Step, model: nn.Module) -> Step:
    """Return a step that is recorded with its first batch and then replayed on the GPU.

    A small network keeps a GPU waiting for Python to launch its kernels; a graph launches all of
    them at once. All batches must have the shape of the first. A network that cannot be recorded
    is trained as it is, with a warning.
    """
    recorded: list[Step] = []

    def first_or_later(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if not recorded:
            recorded.append(record(step, model, images, labels))
        return recorded[0](images, labels)

    return first_or_later


@cache
def rehearsal_stream() -> torch.cuda.Stream:
    """Return the one stream of all rehearsals: cuBLAS keeps memory for each that it has seen."""
    return torch.cuda.Stream()


def record(step: Step, model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> Step:
    """Return the graph of a step; statistics and random state are afterwards what they were."""
    fixed = images.clone(), labels.clone()  # where the graph reads its batch
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    random = torch.cuda.get_rng_state()
    beside, graph = rehearsal_stream(), torch.cuda.CUDAGraph()
    try:
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(REHEARSALS):
                step(*fixed)
        torch.cuda.current_stream().wait_stream(beside)
        with torch.cuda.graph(graph):
            loss = step(*fixed)
    except torch.cuda.OutOfMemoryError:
        raise
    except RuntimeError as error:
        torch.cuda.synchronize()
        warnings.warn(f"Training without CUDA graphs: {error}", stacklevel=2)
        return step
    finally:
        for buffer, before in buffers:
            buffer.copy_(before)
        torch.cuda.set_rng_state(random)

    def replay(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        for place, new in zip(fixed, (images, labels), strict=True):
            place.copy_(new)
        graph.replay()
        return loss.clone()  # the next replay writes over it

    return replay
