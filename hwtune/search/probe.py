"""What training costs on the machines at hand: a few batches of some configurations, measured."""

from __future__ import annotations

import itertools
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from hwtune.cluster import LOST, gpu_nodes
from hwtune.config import Hyperparameters, TrialConfig, trial_config
from hwtune.data.splits import SearchSplit
from hwtune.errors import SpaceError, TrainingDiverged
from hwtune.imports import lasting_imports
from hwtune.models.layers import Cost
from hwtune.search.budget import CostModel
from hwtune.search.feasible import cost_of, random_points, too_large
from hwtune.slots import GpuNeed
from hwtune.space import SearchSpace
from hwtune.words import first_line

RANDOM_POINTS = 4  # beside the known ones
BATCHES = 3  # of each configuration, after as many that warm up
TINY_RATE = 1e-9
SECONDS = 12.0  # for all points of a process
PROCESSES = 2  # at most
PATIENCE = 60.0  # seconds until a word is said
GPU_CONTEXT_BYTES = 600 * 2**20  # that CUDA takes for each process
GPU_HEADROOM = 1.2  # over what was seen

Job = tuple[Hyperparameters, int]  # a configuration and its multiply-accumulates an image


@dataclass(frozen=True)
class Probed:
    """What one process measured.

    Attributes:
        epochs: (multiply-accumulates an image, images, seconds) of each configuration.
        need: of a GPU's memory, None on a CPU.
        broke: what a configuration raised last.
        warnings: of torch, on its way to a GPU and there.
    """

    epochs: list[tuple[int, int, float]]
    need: GpuNeed | None
    broke: str = ""
    warnings: Sequence[str] = ()


def probe(
    space: SearchSpace,
    data: ray.ObjectRef,
    cost: CostModel,
    *,
    tell: Callable[[str], None],
) -> GpuNeed | None:
    """Teach a cost model the machines of the running Ray cluster.

    On CPUs two processes measure at once, as trials will run; with GPUs one process on one GPU.

    Args:
        data: the `SearchSplit`, in the object store.

    Returns what the hungriest configuration takes of the smallest GPU's memory, None without GPUs.
    """
    resources = ray.cluster_resources()
    gpu = resources.get("GPU", 0) >= 1
    processes = 1 if gpu else min(PROCESSES, int(resources.get("CPU", 1)))
    split: SearchSplit = ray.get(data)
    jobs = probed_points(space, classes=split.classes, side=split.side)
    # Without Ray's retries: what has killed a process would kill the next one.
    task = ray.remote(num_cpus=1, num_gpus=int(gpu), max_retries=0)(measure)
    named = [(config.to_dict(), each.macs) for config, each in jobs]
    shares = [named[first::processes] for first in range(processes)]
    ask = ray.remote(num_cpus=0, max_calls=1)(free_memories)  # and lets go of the GPUs at once
    others = ray.get([
        ask.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=True)).remote()
        for node in (gpu_nodes() if resources.get("GPU", 0) > 1 else ())
    ])  # fmt: skip
    waiting = [task.remote(share, data) for share in shares]
    if ray.wait(waiting, num_returns=processes, timeout=PATIENCE)[1]:
        tell("Waiting for free processors or a free GPU to measure the speed of the cluster.")
    results = [
        answer(task, share, data, first) for share, first in zip(shares, waiting, strict=True)
    ]
    for macs, images, seconds in itertools.chain.from_iterable(each.epochs for each in results):
        cost.observe(macs=macs, images=images, seconds=seconds)
    for warning in results[0].warnings:
        tell(warning)
    need = results[0].need
    if jobs and not any(each.epochs for each in results):
        why = next((each.broke for each in results if each.broke), "its process was lost")
        tell(f"No configuration that was tried could be trained to measure the machine: {why}")
    if need is None:
        if gpu and results[0].epochs:
            tell(
                "torch cannot use the GPU that Ray has found, so that it trains on CPUs; a newer "
                "driver, or a torch that was built for this GPU, may help, and --parallel N uses "
                "more CPUs."
            )
        return None
    need = replace(need, memory=min([need.memory, *itertools.chain(*others)]))
    if short := short_of_memory(need):
        tell(short)
    return need


def short_of_memory(need: GpuNeed) -> str:
    """Return what to say of a GPU on which the hungriest configuration does not fit, or ""."""
    if need.bytes <= need.memory:
        return ""
    return (
        f"A GPU has {need.memory / 2**30:.1f} GiB free, where the hungriest configuration needs "
        f"{need.bytes / 2**30:.1f}: trials may break there. End what else uses that GPU, or leave "
        "it out (CUDA_VISIBLE_DEVICES names those to use)."
    )


def answer(task: Any, jobs: Sequence[Job], data: ray.ObjectRef, first: ray.ObjectRef) -> Probed:
    """Return what a process measured; where it is lost, another one goes without the costliest.

    Args:
        task: `measure` as a Ray task.
        first: its first answer, awaited.
    """
    left, waiting = sorted(jobs, key=lambda job: job[1]), first
    while left:
        try:
            return ray.get(waiting)
        except LOST:
            left.pop()  # its trial will break, too, and be recorded
            waiting = task.remote(left, data)
    return Probed([], None)


def free_memories() -> list[int]:
    """Return the bytes of each GPU of this machine that no other program holds.

    Ray hides none of them from a task that asks for none; see `WORKER_VARIABLES`.
    """
    import torch

    free = []
    for each in range(torch.cuda.device_count()):
        try:
            free.append(torch.cuda.mem_get_info(each)[0] + GPU_CONTEXT_BYTES)
        except RuntimeError:  # nobody else may use it, or it is full
            free.append(0)
    return free


def probed_points(space: SearchSpace, *, classes: int, side: int) -> list[tuple[TrialConfig, Cost]]:
    """Return the known and some random points of a space that will be trained, with their costs.

    Baselines are trained however large they are.
    """
    baselines = list(space.baselines.values())
    found = []
    for values in [*space.points.values(), *random_points(space)[:RANDOM_POINTS]]:
        with suppress(SpaceError):
            cost = cost_of(space, values, classes=classes, side=side)
            if values in baselines or not too_large(space, cost):
                found.append((space.config(values), cost))
    return found


def measure(jobs: Sequence[Job], data: SearchSplit, *, seconds: float = SECONDS) -> Probed:
    """Train a few batches of each configuration in this process; on a GPU validate, too.

    What other programs hold of the GPU is not counted.

    Args:
        seconds: after which no further configuration is begun.
    """
    with warnings.catch_warnings(record=True) as caught:
        probed = trained(jobs, data, seconds)
    said = {" ".join(str(each.message).split()): None for each in caught}
    return replace(probed, warnings=list(said) if ray.get_gpu_ids() else [])


def trained(jobs: Sequence[Job], data: SearchSplit, seconds: float) -> Probed:
    """Return what `measure` does, without the warnings of torch."""
    with lasting_imports():
        import torch

        from hwtune.training.device import free_gpu_memory, prepare_process
        from hwtune.training.loop import evaluate, train_config
        from hwtune.training.state import GPU_BATCH, plain_batches, start_training

    fast = prepare_process(gpu=bool(ray.get_gpu_ids()))  # as a trial
    on_gpu = fast.device == "cuda"
    free = torch.cuda.mem_get_info()[0] if on_gpu else 0
    deadline = time.monotonic() + seconds
    epochs, side, broke = [], data.side, ""
    if on_gpu and jobs:  # the hungriest first, before the time is over: its memory counts
        largest = max(jobs, key=lambda job: job[1] * trial_config(job[0]).batch_size)
        jobs = [largest, *(job for job in jobs if job is not largest)]
    for values, macs in jobs:
        # Two short epochs, of which the first warms up, at a rate that lets nothing diverge.
        config = replace(trial_config(values), epochs=2, max_steps=0, early_stop=0, lr=TINY_RATE)
        side = max(side, config.side)
        few = data.part(slice(min(data.train_images, BATCHES * config.batch_size)))
        # What breaks here will do so in its trial, and be recorded there.
        try:
            state, batches, _ = start_training(
                config, few, None, classes=data.classes, seed=0, fast=fast
            )
            _, timed = train_config(state, batches, None, config)
            epochs.append((macs, len(few.labels), timed.seconds))
            if on_gpu:  # a batch of validation takes more of its memory than one of training
                watched = plain_batches(data.part(slice(GPU_BATCH)), config, fast=fast)
                evaluate(state.model, watched, fast=fast)
        except (TrainingDiverged, RuntimeError, MemoryError) as error:
            broke = f"{type(error).__name__}: {first_line(error)}"
        state = batches = watched = None  # type: ignore[assignment]  # as between two trials
        with suppress(RuntimeError):  # an error of CUDA may last
            free_gpu_memory()
        if time.monotonic() > deadline:
            break
    if not on_gpu:
        return Probed(epochs, None, broke)
    held = data.images.nbytes * side**2 // data.side**2  # of what a trial keeps on its GPU
    seen = int(GPU_HEADROOM * torch.cuda.max_memory_reserved()) + GPU_CONTEXT_BYTES + held
    return Probed(epochs, GpuNeed(bytes=seen, memory=free + GPU_CONTEXT_BYTES), broke)
