"""How many trainings run at once on the machines of a cluster, and what each asks for."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

MAX_TRIALS_PER_GPU = 8
UNMEASURED_PER_GPU = 4  # trainings, where their need of memory is not known
# What a training takes of a machine's memory, without mapped files: results/bench/memory.md. On a
# GPU that was not measured: CUDA's own libraries come to it.
TRAINING_BYTES, GPU_TRAINING_BYTES = 0.8e9, 3e9


@dataclass(frozen=True)
class Slots:
    """Where trainings run.

    Attributes:
        parallel: how many at once on the fastest kind of device.
        cpus, gpus: what each of these asks Ray for.
        plain: how many more run on the CPUs of machines without a GPU, beside those with one.
        plain_nodes: Ray's ids of these machines.
        short_of_memory: whether more CPUs are there than trainings whose memory would fit.
    """

    parallel: int
    cpus: float = 1.0
    gpus: float = 0.0
    plain: int = 0
    plain_nodes: tuple[str, ...] = ()
    short_of_memory: bool = False

    @property
    def total(self) -> int:
        """Return how many trainings run at once."""
        return self.parallel + self.plain

    def placement(self, *, gpu: bool) -> dict[str, list[Any]]:
        """Return the keywords of the placement group of a training."""
        if self.gpus and not gpu:
            here = {"ray.io/node-id": f"in({','.join(self.plain_nodes)})"}
            return {"bundles": [{"CPU": 1.0}], "bundle_label_selector": [here]}
        return {"bundles": [{"CPU": self.cpus, "GPU": self.gpus}]}


@dataclass(frozen=True, kw_only=True)
class GpuNeed:
    """What a training was seen to take of a GPU's memory: bytes, of how many."""

    bytes: int
    memory: int

    @property
    def per_gpu(self) -> int:
        """Return how many trainings a GPU's memory holds."""
        return self.memory // self.bytes


def plan_slots(
    machines: Mapping[str, Counter[str]],
    parallel: int | None = None,
    *,
    gpu_share: float | None = None,
    need: GpuNeed | None = None,
    held: int = 0,
) -> Slots:
    """Return the slots of a cluster.

    One slot a CPU, or in a cluster with GPUs as many a GPU as its memory holds, and one for each
    CPU of the machines without; where neither number nor share is given, as far as the free memory
    of the machines goes.

    Args:
        machines: what each has, by Ray's id and Ray's names of resources.
        parallel: trainings at once, on the GPUs alone where there are any; None for as many as fit.
        gpu_share: the part of a GPU that each training asks for; None: by memory.
        need: what a training was seen to take of a GPU; None: not measured.
        held: bytes of images, scaled for its network, that each training without a GPU keeps.
    """
    per_gpu = need.per_gpu if need else UNMEASURED_PER_GPU
    plan = partial(slots_of, per_gpu=per_gpu, parallel=parallel, gpu_share=gpu_share)
    if parallel or gpu_share:
        return plan(machines)
    slots = plan({name: in_memory(each, held) for name, each in machines.items()})
    return replace(slots, short_of_memory=slots.total < plan(machines).total)


def slots_of(
    machines: Mapping[str, Counter[str]],
    *,
    per_gpu: int,
    parallel: int | None,
    gpu_share: float | None,
) -> Slots:
    """Return the slots of machines, whatever their own memory."""
    with_gpus = [each for each in machines.values() if each["GPU"]]
    without = {name: each for name, each in machines.items() if not each["GPU"]}
    plain = {name: int(each["CPU"]) for name, each in without.items()} if with_gpus else {}
    slots = divide(
        [(int(each["CPU"]), int(each["GPU"])) for each in with_gpus or without.values()],
        per_gpu=per_gpu,
        parallel=parallel,
        gpu_share=gpu_share,
    )
    if parallel or not sum(plain.values()):
        return slots
    return replace(slots, plain=sum(plain.values()), plain_nodes=tuple(plain))


def in_memory(node: Counter[str], held: int) -> Counter[str]:
    """Return a machine with no more CPUs than trainings fit into its memory.

    One stays at least, or one a GPU.
    """
    free = node["memory"] + node["object_store_memory"]  # when Ray started
    if not free:  # it keeps no account of it
        return node
    each = GPU_TRAINING_BYTES if node["GPU"] else TRAINING_BYTES + held
    fitting = max(1, int(node["GPU"]), int(free // each))
    return Counter({**node, "CPU": min(node["CPU"], fitting)})


def divide(
    machines: Sequence[tuple[int, int]],
    *,
    per_gpu: int,
    parallel: int | None,
    gpu_share: float | None = None,
) -> Slots:
    """Return slots that all fit at once, each of them on any of the machines.

    Where machines differ, the one with the fewest CPUs a GPU decides for all. Shares are cut after
    four digits, as Ray counts them: rounded up, the last slot never starts.

    Args:
        machines: CPUs and GPUs of each; all of them have GPUs, or none.
        per_gpu: how many trainings a GPU's memory holds.
    """
    gpus = sum(each for _, each in machines)
    if not gpus:
        slots = parallel or sum(each for each, _ in machines) or 1
        return Slots(slots, cpus=largest_share([each for each, _ in machines], slots))
    if gpu_share is not None:
        each_gpu = max(1, math.floor(1 / gpu_share + 1e-9))
    elif parallel:
        each_gpu = math.ceil(parallel / gpus)
    else:
        fewest = min(cpus // gpus for cpus, gpus in machines)
        each_gpu = max(1, min(MAX_TRIALS_PER_GPU, per_gpu, fewest))
    slots = min(parallel or each_gpu * gpus, each_gpu * gpus)
    return Slots(
        slots,
        cpus=min(share(cpus or 1, min(slots, each_gpu * held)) for cpus, held in machines),
        gpus=min(gpu_share or 1.0, share(1, each_gpu)),
    )


def largest_share(cpus: Sequence[int], slots: int) -> float:
    """Return the most CPUs, at most 1, that so many slots can have at once, each on one machine."""
    every = {share(each, parts) for each in cpus for parts in range(max(1, each), slots + 1)}
    fitting = (s for s in every if s and sum(math.floor(each / s) for each in cpus) >= slots)
    return max(fitting, default=1.0)


def share(whole: int, parts: int) -> float:
    """Return the part of `whole`, at most 1, that `parts` slots can have at once."""
    return min(1.0, math.floor(whole / parts * 10_000) / 10_000)
