"""The Ray cluster of one command: started on this machine, alone, and ended with it."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

# Read by Ray when it is imported.
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray

GPU_BYTES_PER_TRIAL = 4 * 2**30
MAX_TRIALS_PER_GPU = 8


@dataclass(frozen=True)
class Slots:
    """Where trainings run.

    Attributes:
        parallel: how many at once.
        cpus, gpus: what each asks Ray for.
    """

    parallel: int
    cpus: float = 1.0
    gpus: float = 0.0


def plan_slots(parallel: int | None) -> Slots:
    """Return one slot a CPU, or on a machine with GPUs as many a GPU as its memory suggests."""
    import torch

    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    gpus = torch.cuda.device_count()
    if not gpus:
        return Slots(parallel or cpus, cpus=min(1.0, cpus / (parallel or cpus)))
    memory = min(torch.cuda.get_device_properties(i).total_memory for i in range(gpus))
    each = max(1, min(MAX_TRIALS_PER_GPU, memory // GPU_BYTES_PER_TRIAL, cpus // gpus))
    slots = parallel or each * gpus
    return Slots(slots, cpus=min(1.0, cpus / slots), gpus=min(1.0, gpus / slots))


@contextmanager
def started(slots: Slots) -> Iterator[str]:
    """Hold a local Ray cluster while the block runs, or use the one that this process has.

    Yields the dashboard's address, "" where there is none.
    """
    if ray.is_initialized():
        yield ""
        return
    context = ray.init(
        address="local",  # a bare call could attach to a leftover cluster
        num_cpus=max(1, round(slots.cpus * slots.parallel)),
        include_dashboard=True,
        dashboard_host="127.0.0.1",
        log_to_driver=False,
        logging_level=logging.ERROR,
        configure_logging=True,
        runtime_env={
            "env_vars": {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        },
    )
    try:
        yield f"http://{context.dashboard_url}" if context.dashboard_url else ""
    finally:
        ray.shutdown()
