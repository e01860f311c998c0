"""The Ray cluster of one command: this machine alone, ended with it, or one that runs already."""

from __future__ import annotations

import logging
import math
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Read by Ray when it is imported.
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # hwtune stops a study itself
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "1000000000")  # and keeps its own records
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# This makes a local cluster listen on loopback alone, on Linux too; without it Ray's own ports
# would be open to the network, guarded by its token only. `--address` sets it to 1 before.
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")

import ray

from hwtune.errors import ClusterError

# What `os.environ` says above must hold in the processes of other machines, too.
WORKER_VARIABLES = {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
GPU_BYTES_PER_TRIAL = 4 * 2**30
MAX_TRIALS_PER_GPU = 8
CONNECT_SECONDS = 10.0


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


def plan_slots(
    parallel: int | None, *, gpu_share: float | None = None, gpu_bytes: int = 0
) -> Slots:
    """Return one slot a CPU, or on a machine with GPUs as many a GPU as its memory holds.

    Args:
        gpu_share: the part of a GPU that each training asks for; None: by memory.
        gpu_bytes: what a training was seen to need; 0: not measured.
    """
    import torch

    gpus = torch.cuda.device_count()
    memory = min((torch.cuda.get_device_properties(i).total_memory for i in range(gpus)), default=0)
    each = MAX_TRIALS_PER_GPU if not gpus else memory // (gpu_bytes or GPU_BYTES_PER_TRIAL)
    return divide(
        cpus=usable_cpus(), gpus=gpus, per_gpu=each, parallel=parallel, gpu_share=gpu_share
    )


def cluster_slots(parallel: int | None, *, gpu_share: float | None = None) -> Slots:
    """Return the slots of the Ray cluster that this process is connected to."""
    resources = ray.cluster_resources()
    return divide(
        cpus=int(resources.get("CPU", 1)),
        gpus=int(resources.get("GPU", 0)),
        per_gpu=MAX_TRIALS_PER_GPU,
        parallel=parallel,
        gpu_share=gpu_share,
    )


def divide(
    *, cpus: int, gpus: int, per_gpu: int, parallel: int | None, gpu_share: float | None = None
) -> Slots:
    """Return slots that all fit at once; `per_gpu` is how many trainings a GPU's memory holds.

    Shares are cut after four digits, as Ray counts them: rounded up, the last slot never starts.
    """
    if not gpus:
        slots = parallel or cpus
        return Slots(slots, cpus=share(cpus, slots))
    if gpu_share is not None:
        each = max(1, math.floor(1 / gpu_share + 1e-9))
        slots = min(parallel or each * gpus, each * gpus)
        return Slots(slots, cpus=share(cpus, slots), gpus=gpu_share)
    each = max(1, min(MAX_TRIALS_PER_GPU, per_gpu, cpus // gpus))
    slots = parallel or each * gpus
    return Slots(slots, cpus=share(cpus, slots), gpus=share(1, math.ceil(slots / gpus)))


def share(whole: int, parts: int) -> float:
    """Return the part of `whole`, at most 1, that `parts` slots can have at once."""
    return min(1.0, math.floor(whole / parts * 10_000) / 10_000)


def usable_cpus() -> int:
    """Return the CPUs that this process may use, a container's quota included."""
    cpus = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cpus = len(os.sched_getaffinity(0))
    with suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        cpus = min(cpus, max(1, int(quota) // int(period)))  # "max" is no number: no quota
    return cpus


@contextmanager
def started(
    parallel: int | None,
    *,
    address: str | None = None,
    gpu_share: float | None = None,
    gpu_bytes: int = 0,
) -> Iterator[tuple[Slots, str]]:
    """Hold a Ray cluster while the block runs: one of this machine alone, or the one at `address`.

    Yields its slots and the dashboard's address, "" where there is none. A process that is in a
    cluster already stays in it.

    Raises:
        HwtuneError: when there is no cluster at `address`.
    """
    if ray.is_initialized():
        yield cluster_slots(parallel, gpu_share=gpu_share), ""
        return
    if address:
        context = _connect(address)
        slots = cluster_slots(parallel, gpu_share=gpu_share)
    else:
        slots = plan_slots(parallel, gpu_share=gpu_share, gpu_bytes=gpu_bytes)
        context = _start_here(slots)
    catch_sigterm()  # Ray has put its own handler
    try:
        yield slots, f"http://{context.dashboard_url}" if context.dashboard_url else ""
    finally:
        ray.shutdown()


def _connect(address: str) -> Any:
    """Join a running cluster and send hwtune itself along."""
    try:
        host, _, port = address.rpartition(":")
        if port.isdecimal() and "/" not in host:  # Ray itself would try for minutes
            socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
        return ray.init(
            address=address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"py_modules": [str(Path(__file__).parent)], "env_vars": WORKER_VARIABLES},
        )
    except (OSError, RuntimeError, ValueError) as error:
        why = " ".join(str(error).split())[:200]
        raise ClusterError(
            f"--address {address!r}: no Ray cluster answers ({why}); start one with "
            "'ray start --head', or leave the option out."
        ) from None


def catch_sigterm() -> None:
    """Let SIGTERM end the main thread as Ctrl-C does, through every `finally`."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, interrupt)


def _start_here(slots: Slots) -> Any:
    """Start Ray on this machine, reachable from this machine alone."""
    if not os.access(Path.home(), os.W_OK):  # Ray would keep the cluster's token there
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    return ray.init(
        address="local",  # a bare call could attach to a leftover cluster
        num_cpus=max(1, math.ceil(slots.cpus * slots.parallel)),
        include_dashboard=True,
        dashboard_host="127.0.0.1",
        log_to_driver=False,
        logging_level=logging.ERROR,
        configure_logging=True,
        runtime_env={
            "env_vars": {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        },
    )
