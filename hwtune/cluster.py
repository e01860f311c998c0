"""The Ray cluster of one command: this machine alone, ended with it, or one that runs already."""

from __future__ import annotations

import logging
import os
import queue
import secrets
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ray
from ray._private import ray_constants
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from hwtune.errors import ClusterError, ClusterFailure
from hwtune.imports import import_path
from hwtune.signals import catch_signals, check_signals
from hwtune.words import in_a_line

# What `hwtune/__init__.py` says must hold in the processes of other machines, too.
WORKER_VARIABLES = {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
logging.getLogger("ray.widgets").setLevel(logging.ERROR)  # a notebook may lack widgets
LOST = (  # what a task raises whose process, machine or result is gone
    ray.exceptions.WorkerCrashedError,
    ray.exceptions.NodeDiedError,
    ray.exceptions.OutOfMemoryError,
    ray.exceptions.ObjectLostError,
)
CONNECT_SECONDS = 10.0  # until somebody listens
TIMED_OUT = "timed out during startup"  # says Ray after 30 s, too few on a busy machine
INIT_SECONDS = 90.0  # until this process is part of the cluster
END_SECONDS = 1.0  # until something of it has ended


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
def started(address: str | None = None, *, cpus: int = 0) -> Iterator[str]:
    """Hold a Ray cluster while the block runs: one of this machine alone, or the one at `address`.

    Yields the dashboard's address, "" where there is none. A process that is in a cluster already
    stays in it.

    Args:
        cpus: of this machine's cluster; 0: those that the process may use.

    Raises:
        ClusterError: when there is no cluster at `address`, or Ray was imported before hwtune.
        ClusterFailure: when Ray does not start here.
    """
    if ray.is_initialized():
        if address not in (None, "auto"):
            here = ray.get_runtime_context().gcs_address
            if address != here:
                raise ClusterError(
                    f"--address {address!r}: this process is in the Ray cluster at {here} already; "
                    "give that, leave it out, or call ray.shutdown() first."
                )
        yield ""
        return
    try:
        context = _connect(address) if address else _start_here(cpus or usable_cpus())
    except KeyboardInterrupt:
        ray.shutdown()  # what had started
        raise KeyboardInterrupt from None
    catch_signals()
    try:
        check_signals()
        yield f"http://{context.dashboard_url}" if context.dashboard_url else ""
    finally:
        ray.shutdown()


def _connect(address: str) -> Any:
    """Join a running cluster and send hwtune itself along."""
    try:
        host, _, port = address.rpartition(":")
        if port.isdecimal() and "/" not in host:  # Ray itself would try for minutes
            socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
        return answered(
            lambda: ray.init(
                address=address,
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env={
                    "py_modules": [str(Path(__file__).parent)],
                    "env_vars": WORKER_VARIABLES,
                },
            )
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise ClusterError(
            f"--address {address!r}: no Ray cluster answers ({in_a_line(error)}); start one with "
            "'ray start --head', or leave the option out."
        ) from None


def answered(connect: Callable[[], Any], *, seconds: float = INIT_SECONDS) -> Any:
    """Return what `connect` returns; it may itself go on trying for many minutes, deaf to Ctrl-C.

    Raises:
        TimeoutError: when it takes longer than `seconds`.
    """
    answers: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
    threading.Thread(target=_ask, args=(connect, answers), daemon=True).start()
    try:
        answer, error = answers.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"it did not answer within {seconds:.0f} s") from None
    if error is not None:
        raise error
    return answer


def _ask(connect: Callable[[], Any], answers: queue.SimpleQueue[Any]) -> None:
    try:
        answers.put((connect(), None))
    except BaseException as error:  # raised again in the thread that waits
        answers.put((None, error))


def if_ray_is_there(end: Callable[[], object]) -> None:
    """Let Ray end something of ours, for a second at most; what is left ends with our job.

    Where a signal came to all processes at once, as from Slurm or a closed terminal, Ray has ended
    before us: it would wait a minute for itself, deaf to everything, and then kill this process.
    """
    if ray.is_initialized():
        with suppress(Exception):  # why we end is what counts
            answered(end, seconds=END_SECONDS)


def resources_in_words() -> str:
    """Return what the cluster has, such as "32 CPUs and 4 GPUs of 2 machines"."""
    found = ray.cluster_resources()
    cpus, gpus = int(found.get("CPU", 0)), int(found.get("GPU", 0))
    machines = len(machines_alive())
    words = f"{cpus} CPU{'s' * (cpus != 1)}" + (f" and {gpus} GPU{'s' * (gpus > 1)}" * bool(gpus))
    return words + f" of {machines} machines" * (machines > 1)


def gpu_nodes() -> list[str]:
    """Return Ray's ids of the machines with GPUs."""
    return [name for name, resources in machines_alive().items() if resources["GPU"]]


def gpu_types() -> list[str]:
    """Return Ray's names of the kinds of GPU in the cluster."""
    return sorted(name for name in ray.cluster_resources() if name.startswith("accelerator_type:"))


def machines_alive() -> dict[str, Counter[str]]:
    """Return what each machine of the cluster has, by Ray's id."""
    return {node["NodeID"]: Counter(node["Resources"]) for node in ray.nodes() if node["Alive"]}


def on_driver_node() -> NodeAffinitySchedulingStrategy:
    """Return the place of an actor that must live where this process does."""
    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)


def _start_here(cpus: int, *, again: bool = False) -> Any:
    """Start Ray on this machine, reachable from this machine alone; once `again` if it is slow."""
    if getattr(ray_constants, "ENABLE_RAY_CLUSTER", False):
        raise ClusterError(
            "Ray would open its ports to the network: in this process it was imported before "
            "hwtune, or for a cluster's --address. Start a new process that imports hwtune first "
            "(in a notebook: restart the kernel)."
        )
    keep_token_from_others()
    if not os.access(Path.home(), os.W_OK):  # Ray would keep the cluster's token there
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    try:
        with importing_alike(), without_rays_handler():
            return ray.init(
                address="local",  # a bare call could attach to a leftover cluster
                num_cpus=cpus,
                include_dashboard=True,
                dashboard_host="127.0.0.1",
                log_to_driver=False,
                logging_level=logging.ERROR,
                configure_logging=True,
            )
    except Exception as error:  # Ray raises nothing better for much of what may go wrong
        ray.shutdown()
        if TIMED_OUT in str(error) and not again:
            return _start_here(cpus, again=True)
        raise ClusterFailure(
            f"Ray does not start on this machine ({in_a_line(error)}); try again when less runs on "
            "it. Ray's files lie in the temporary folder: it needs room, and a short name (TMPDIR)."
        ) from None


def keep_token_from_others() -> None:
    """Let nobody else read the token with which one may run code in the user's clusters.

    Ray makes its file as any other, for all who can reach it.
    """
    folder = Path.home() / ".ray"
    with suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.stat().st_mode & 0o077:
            folder.chmod(0o700)


@contextmanager
def without_rays_handler() -> Iterator[None]:
    """Let Ray take no signal for itself within the block.

    Its handler of SIGTERM raises SystemExit, which Python passes over where a process is forked
    just then: nobody would hear of it. Ours keeps what it heard; see `check_signals`.
    """
    before = ray._private.utils.set_sigterm_handler
    ray._private.utils.set_sigterm_handler = lambda handler: None
    try:
        yield
    finally:
        ray._private.utils.set_sigterm_handler = before


@contextmanager
def importing_alike() -> Iterator[None]:
    """Let the processes that begin in the block, and theirs, import what this one does.

    Ray's runtime environment could do it, too, by a second process before each worker's own.
    """
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = import_path()
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
