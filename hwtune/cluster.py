"""The Ray cluster of one command: this machine alone, ended with it, or one that runs already."""

from __future__ import annotations

import logging
import math
import os
import queue
import secrets
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
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
MAX_TRIALS_PER_GPU = 8
UNMEASURED_PER_GPU = 4  # trainings, where their need of memory is not known
LOST = (  # what a task raises whose process, machine or result is gone
    ray.exceptions.WorkerCrashedError,
    ray.exceptions.NodeDiedError,
    ray.exceptions.OutOfMemoryError,
    ray.exceptions.ObjectLostError,
)
CONNECT_SECONDS = 10.0  # until somebody listens
TIMED_OUT = "timed out during startup"  # says Ray after 30 s, too few on a busy machine
# What a training takes of a machine's memory, without mapped files: results/bench/memory.md. On a
# GPU that was not measured: CUDA's own libraries come to it.
TRAINING_BYTES, GPU_TRAINING_BYTES = 0.8e9, 3e9
INIT_SECONDS = 90.0  # until this process is part of the cluster
END_SECONDS = 1.0  # until something of it has ended


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
    parallel: int | None = None,
    *,
    gpu_share: float | None = None,
    need: GpuNeed | None = None,
    held: int = 0,
) -> Slots:
    """Return the slots of the Ray cluster that this process is connected to.

    One slot a CPU, or in a cluster with GPUs as many a GPU as its memory holds, and one for each
    CPU of the machines without; where neither number nor share is given, as far as the free memory
    of the machines goes.

    Args:
        parallel: trainings at once, on the GPUs alone where there are any; None for as many as fit.
        gpu_share: the part of a GPU that each training asks for; None: by memory.
        need: what a training was seen to take of a GPU; None: not measured.
        held: bytes of images, scaled for its network, that each training without a GPU keeps.
    """
    machines = machines_alive()
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
    """Return the slots of machines, by Ray's ids, whatever their own memory."""
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
