"""Trainings and readings side by side, as Ray tasks; torch stays in their processes."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import ray
from numpy.typing import NDArray
from rich.console import Console

from hwtune.cluster import LOST, if_ray_is_there, on_driver_node
from hwtune.config import Hyperparameters, TrialConfig
from hwtune.contract import Scored
from hwtune.data.images import Bytes, Integers
from hwtune.data.splits import SearchSplit
from hwtune.errors import HwtuneFailure
from hwtune.evaluation.answers import Answers
from hwtune.evaluation.view import shown
from hwtune.imports import lasting_imports
from hwtune.signals import check_signals
from hwtune.slots import Slots
from hwtune.states import start_store, state_file
from hwtune.statistics import scores
from hwtune.words import first_line

Weights = dict[str, NDArray[Any]]
Which = slice | Integers  # of the images of a SearchSplit

MAX_LOST = 2  # times that a training goes on in another process after its own was lost
LOOK = 1.0  # seconds between two looks at how far the trainings are


class Watch:
    """Knows how far each training is; runs as an actor. Trainings end where it was killed."""

    def __init__(self) -> None:
        self.epochs: dict[str, int] = {}

    def note(self, title: str, epoch: int) -> None:
        """Take down the last epoch of a training."""
        self.epochs[title] = epoch

    def look(self) -> dict[str, int]:
        """Return the last epoch of every training that has begun, by its title."""
        return self.epochs


@dataclass(frozen=True, eq=False)  # arrays of indices have no hash
class Job:
    """A training.

    Attributes:
        title: for people.
        data: the `SearchSplit`, in Ray's object store.
        train, validation: which of its images, or no validation.
    """

    title: str
    config: TrialConfig
    seed: int
    data: ray.ObjectRef
    train: Which
    validation: Which | None = None


@dataclass(frozen=True)
class Trained:
    """What a training came to.

    Attributes:
        weights: the arrays by name, in Ray's object store.
        held: the same arrays, which this machine's store keeps as long as they are held.
        val_accuracy: on the validation images, or NaN.
        epochs: that it was trained for.
        dtype: of the matrix products where it ended, such as "bfloat16".
    """

    weights: ray.ObjectRef
    held: Weights
    val_accuracy: float
    epochs: int
    dtype: str


def train_all(
    jobs: Sequence[Job], states: Path, *, slots: Slots, console: Console
) -> Iterator[tuple[Job, Trained | str]]:
    """Yield each job with what it came to, or why it failed, as the trainings end.

    No more run at once than there are slots, which may be fewer than the CPUs that Ray knows of.
    States of trainings that were cut off lie in `states`, and new ones are put there: one whose
    process is lost goes on from its last, and so does one that breaks on a GPU, which may have been
    full of another's. How far they are is shown on the console.
    """
    states.mkdir(exist_ok=True)
    store = start_store(states)
    actor: Any = ray.remote(Watch)
    watch = actor.options(
        num_cpus=0, max_restarts=-1, scheduling_strategy=on_driver_node()
    ).remote()
    # Without Ray's retries: it does not know the last state, from which a lost training goes on.
    task = placed(_train, slots, retries=0, returns=2)
    running: dict[ray.ObjectRef, tuple[Job, ray.ObjectRef]] = {}

    def start(job: Job) -> None:
        name = state_name(job)
        saved = state_file(states, name)
        before = saved.read_bytes() if saved.is_file() else None
        weights, measured = task.remote(
            job.config.to_dict(), job.data, job.train, job.validation, job.seed, before, store,
            name, watch, job.title,
        )  # fmt: skip
        running[measured] = job, weights

    waiting, lost = deque(jobs), Counter[Job]()
    lengths, over = {job.title: job.config.epochs for job in jobs}, dict[str, int]()
    with listening(watch), shown(lengths, console) as look:
        while waiting or running:
            while waiting and len(running) < slots.parallel:
                start(waiting.popleft())
            done, _ = ray.wait(list(running), timeout=LOOK)
            check_signals()
            with suppress(ray.exceptions.RayError):  # it only looks; the trainings go on
                look({**ray.get(watch.look.remote()), **over})
            for reference in done:
                job, weights = running.pop(reference)
                outcome = _outcome(weights, reference, gpu=bool(slots.gpus))
                if isinstance(outcome, Exception):
                    lost[job] += 1
                    if lost[job] <= MAX_LOST:
                        start(job)
                        continue
                    words = "its process was lost" if isinstance(outcome, LOST) else "it broke"
                    outcome = f"{words} {lost[job]} times ({first_line(outcome)})"
                over[job.title] = lengths[job.title]  # also where it stopped early
                yield job, outcome


@contextmanager
def listening(watch: Any) -> Iterator[None]:
    """Kill the watch when the block is left, so that no training goes on for nobody.

    They end after two epochs, in a cluster that others started, which outlives us. Ray's `cancel`
    now and then ends nothing, or this process, by a failed check ("not pending").
    """
    try:
        yield
    finally:
        if_ray_is_there(partial(ray.kill, watch))


def _outcome(weights: ray.ObjectRef, measured: ray.ObjectRef, *, gpu: bool) -> Any:
    """Return what a training came to, why it failed, or an error that is worth another try.

    Raises:
        HwtuneFailure: when Ray itself has ended.
    """
    try:
        return Trained(weights, ray.get(weights), *ray.get(measured))
    except ray.exceptions.RayError as error:
        cause = cause_of(error)
        if isinstance(cause, ray.exceptions.LocalRayletDiedError):  # no fault of the training
            raise HwtuneFailure(
                f"Ray has ended on this machine ({first_line(cause)}); what was trained is kept: "
                "give the command again, or resume the study."
            ) from None
        if passing(cause, gpu=gpu):
            return cause
        return (str(cause) or repr(cause)).splitlines()[-1]


def cause_of(error: ray.exceptions.RayError) -> Exception:
    """Return what a task raised, or what Ray says of one that could raise nothing."""
    return error.cause if isinstance(error, ray.exceptions.RayTaskError) else error


def passing(error: Exception, *, gpu: bool) -> bool:
    """Return whether what broke a task may be gone at the next try: a process, or a full GPU."""
    return isinstance(error, LOST) or (gpu and isinstance(error, RuntimeError))  # as torch's are


def read_all(
    config: TrialConfig, nets: Sequence[ray.ObjectRef], images: Bytes, classes: int, *, slots: Slots
) -> list[Answers]:
    """Return, for the weights of each network, what it reads in the images.

    Raises:
        HwtuneFailure: as `read_out`.
    """
    task, shared = placed(_read, slots, retries=1), ray.put(images)
    answers: list[Answers] = []
    for first in range(0, len(nets), slots.parallel):
        some = nets[first : first + slots.parallel]
        begun = [task.remote(config.to_dict(), each, shared, classes) for each in some]
        answers += read_out(begun, gpu=bool(slots.gpus))
    return answers


def read_out(waiting: Any, *, gpu: bool) -> Any:
    """Return what tasks of a test came to.

    Raises:
        HwtuneFailure: when a process was lost again, or a GPU fails, full of another's, it may be.
    """
    try:
        return ray.get(waiting)
    except ray.exceptions.RayError as error:
        cause = cause_of(error)
        if not (passing(cause, gpu=gpu) or isinstance(cause, ray.exceptions.LocalRayletDiedError)):
            raise
        raise HwtuneFailure(
            f"The test was not finished ({first_line(cause)}); what was trained is kept: give the "
            "command again."
        ) from None


def score(
    *, labels: Integers, predicted: Integers, classes: tuple[str, ...], slots: Slots
) -> Scored:
    """Return the scores by class and the confusion.

    In a task, whose scikit-learn would take some 70 MB of the driver.
    """
    task = placed(scores, replace(slots, gpus=0.0), retries=1)
    found: Scored = read_out(
        task.remote(labels=labels, predicted=predicted, classes=classes), gpu=False
    )
    return found


def placed(function: Callable[..., Any], slots: Slots, *, retries: int, returns: int = 1) -> Any:
    """Return a function as a Ray task that takes the place of one trial."""
    return ray.remote(
        num_cpus=slots.cpus,
        num_gpus=slots.gpus,
        max_retries=retries,
        retry_exceptions=bool(slots.gpus and retries),  # it may have been full of another's
        num_returns=returns,
    )(function)


def state_name(job: Job) -> str:
    """Return the name of a training's state, its own for each title, configuration and seed."""
    content = json.dumps([job.title, job.config.to_dict(), job.seed], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _train(
    config: Hyperparameters, data: SearchSplit, train: Which, validation: Which | None, seed: int,
    saved: bytes | None, store: Any, name: str, watch: Any, title: str,
) -> tuple[Weights, list[Any]]:  # fmt: skip
    """Train in a task. It waits for no answer: Ray gives the core of a task that waits away."""
    with lasting_imports():
        from hwtune.evaluation.tasks import train_one  # torch, which the driver can do without

    heard: list[Future[None]] = []  # of what was told last

    def note(epoch: int) -> None:
        """Tell how far it is; end where the watch was killed, since nobody waits then."""
        answer = heard[0].exception() if heard and heard[0].done() else None
        if isinstance(answer, ray.exceptions.ActorDiedError):
            raise answer
        heard[:] = [watch.note.remote(title, epoch).future()]

    weights, *measured = train_one(
        config, data.part(train), None if validation is None else data.part(validation),
        classes=data.classes, seed=seed, gpu=bool(ray.get_gpu_ids()), saved=saved,
        note=note, keep=partial(store.save.remote, name),
    )  # fmt: skip
    return weights, measured


def _read(*arguments: Any) -> Any:
    with lasting_imports():
        from hwtune.evaluation.tasks import read_one

    return read_one(*arguments, gpu=bool(ray.get_gpu_ids()))
