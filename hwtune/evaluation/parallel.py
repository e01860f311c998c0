"""Trainings and readings side by side, as Ray tasks; torch stays in their processes."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import ray
from numpy.typing import NDArray
from rich.console import Console

from hwtune.cluster import Slots, on_driver_node
from hwtune.config import Hyperparameters, TrialConfig
from hwtune.data.images import Bytes, Dataset, Integers
from hwtune.data.splits import take
from hwtune.evaluation.view import shown
from hwtune.states import start_store, state_file

Weights = dict[str, NDArray[Any]]

LOST = (
    ray.exceptions.WorkerCrashedError,
    ray.exceptions.NodeDiedError,
    ray.exceptions.OutOfMemoryError,
)
MAX_LOST = 2  # processes of one training
LOOK = 1.0  # seconds between two looks at how far the trainings are


class Watch:
    """Knows how far each training is; runs as an actor."""

    def __init__(self) -> None:
        self.epochs: dict[str, int] = {}

    def note(self, title: str, epoch: int) -> None:
        """Take down the last epoch of a training."""
        self.epochs[title] = epoch

    def look(self) -> dict[str, int]:
        """Return the last epoch of every training that has begun, by its title."""
        return self.epochs


@dataclass(frozen=True)
class Job:
    """A training: its name for people, what to train on, and the reference of the data.

    The data is a dict with "train" and "validation", each images and labels or None, and "classes".
    """

    title: str
    config: TrialConfig
    seed: int
    data: ray.ObjectRef


def stored(dataset: Dataset, train: Integers, validation: Integers | None) -> ray.ObjectRef:
    """Put the images of a `Job` into the object store, and return their reference."""

    def arrays(indices: Integers) -> tuple[Any, Any]:
        part = take(dataset, indices)
        return part.images, part.labels

    return ray.put({
        "train": arrays(train),
        "validation": None if validation is None else arrays(validation),
        "classes": len(dataset.classes),
    })  # fmt: skip


@dataclass(frozen=True)
class Trained:
    """What a training came to: its weights, and its accuracy on the validation images or NaN."""

    weights: Weights
    val_accuracy: float


def train_all(
    jobs: Sequence[Job], states: Path, *, slots: Slots, console: Console
) -> Iterator[tuple[Job, Trained | str]]:
    """Yield each job with what it came to, or why it failed, as the trainings end.

    States of trainings that were cut off lie in `states`, and new ones are put there: one whose
    process is lost goes on from its last. How far they are is shown on the console.
    """
    states.mkdir(exist_ok=True)
    store = start_store(states)
    actor: Any = ray.remote(Watch)
    watch = actor.options(
        num_cpus=0, max_restarts=-1, scheduling_strategy=on_driver_node()
    ).remote()
    task = placed(_train, slots, retries=0)  # from its last state, which Ray does not know

    def start(job: Job) -> ray.ObjectRef:
        name = state_name(job)
        saved = state_file(states, name)
        before = saved.read_bytes() if saved.is_file() else None
        return task.remote(
            job.config.to_dict(), job.data, job.seed, before, store, name, watch, job.title
        )

    running = {start(job): job for job in jobs}
    lost: Counter[Job] = Counter()
    lengths, over = {job.title: job.config.epochs for job in jobs}, dict[str, int]()
    with shown(lengths, console) as look:
        while running:
            done, _ = ray.wait(list(running), timeout=LOOK)
            with suppress(ray.exceptions.RayError):  # it only looks; the trainings go on
                look({**ray.get(watch.look.remote()), **over})
            for reference in done:
                job = running.pop(reference)
                outcome = _outcome(reference)
                if isinstance(outcome, LOST):
                    lost[job] += 1
                    if lost[job] <= MAX_LOST:
                        running[start(job)] = job
                        continue
                    words = f"its process was lost {lost[job]} times ({outcome})"
                    outcome = words.splitlines()[0]
                over[job.title] = lengths[job.title]  # also where it stopped early
                yield job, outcome


def _outcome(reference: ray.ObjectRef) -> Any:
    """Return what a training came to, why it failed, or the error with which it was lost."""
    try:
        return Trained(*ray.get(reference))
    except LOST as error:
        return error
    except ray.exceptions.RayError as error:
        cause = error.cause if isinstance(error, ray.exceptions.RayTaskError) else error
        return (str(cause) or repr(cause)).splitlines()[-1]


def read_all(
    config: TrialConfig, nets: Sequence[Weights], images: Bytes, classes: int, *, slots: Slots
) -> list[Integers]:
    """Return, for each network of a configuration, the classes (N,) it reads in the images."""
    task, stored = placed(_read, slots, retries=1), ray.put(images)
    waiting = [task.remote(config.to_dict(), each, stored, classes) for each in nets]
    return ray.get(waiting)


def placed(function: Callable[..., Any], slots: Slots, *, retries: int) -> Any:
    """Return a function as a Ray task that takes the place of one trial."""
    return ray.remote(num_cpus=slots.cpus, num_gpus=slots.gpus, max_retries=retries)(function)


def state_name(job: Job) -> str:
    """Return the name of a training's state, its own for each title, configuration and seed."""
    content = json.dumps([job.title, job.config.to_dict(), job.seed], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _train(
    config: Hyperparameters, data: Any, seed: int, saved: bytes | None,
    store: Any, name: str, watch: Any, title: str,
) -> Any:  # fmt: skip
    """Train in a task. It waits for no answer: Ray gives the core of a task that waits away."""
    from hwtune.evaluation.tasks import train_one  # torch, which the driver can do without

    return train_one(
        config, data, seed=seed, gpu=bool(ray.get_gpu_ids()), saved=saved,
        note=partial(watch.note.remote, title), keep=partial(store.save.remote, name),
    )  # fmt: skip


def _read(*arguments: Any) -> Any:
    from hwtune.evaluation.tasks import read_one

    return read_one(*arguments, gpu=bool(ray.get_gpu_ids()))
