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

from hwtune.cluster import Slots, on_driver_node
from hwtune.config import Hyperparameters, TrialConfig
from hwtune.data.images import Bytes, Integers
from hwtune.states import start_store, state_file

Weights = dict[str, NDArray[Any]]

LOST = (
    ray.exceptions.WorkerCrashedError,
    ray.exceptions.NodeDiedError,
    ray.exceptions.OutOfMemoryError,
)
MAX_LOST = 2  # processes of one training
SILENCE = 30.0  # seconds after which a line says how far the trainings are


class Watch:
    """Knows how far each training is; runs as an actor."""

    def __init__(self) -> None:
        self.epochs: dict[str, int] = {}
        self.ended: set[str] = set()

    def note(self, title: str, epoch: int) -> None:
        """Take down the last epoch of a training."""
        if title not in self.ended:
            self.epochs[title] = epoch

    def words(self) -> str:
        """Return what runs, for people."""
        words = (f"{title} at epoch {epoch}" for title, epoch in self.epochs.items())
        return "; ".join(words) or "the first epochs"

    def over(self, title: str) -> None:
        """Forget a training, and what it may still say."""
        self.ended.add(title)
        self.epochs.pop(title, None)


@dataclass(frozen=True)
class Job:
    """A training: its name for people, what to train on, and the reference of the data.

    The data is a dict with "train" and "validation", each images and labels or None, and "classes".
    """

    title: str
    config: TrialConfig
    seed: int
    data: ray.ObjectRef


@dataclass(frozen=True)
class Trained:
    """What a training came to: its weights, and its accuracy on the validation images or NaN."""

    weights: Weights
    val_accuracy: float


def train_all(
    jobs: Sequence[Job], states: Path, *, slots: Slots, tell: Callable[[str], None]
) -> Iterator[tuple[Job, Trained | str]]:
    """Yield each job with what it came to, or why it failed, as the trainings end.

    States of trainings that were cut off lie in `states`, and new ones are put there: one whose
    process is lost goes on from its last.
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
    waiting = list(running)
    while waiting:
        done, waiting = ray.wait(waiting, timeout=SILENCE)
        if not done:
            with suppress(ray.exceptions.RayError):  # it only speaks; the trainings go on
                tell(f"training: {ray.get(watch.words.remote())}")
        for reference in done:
            job = running[reference]
            try:
                outcome = Trained(*ray.get(reference))
            except LOST as error:
                lost[job] += 1
                if lost[job] > MAX_LOST:
                    yield job, f"its process was lost {lost[job]} times ({error})".splitlines()[0]
                    continue
                again = start(job)
                running[again] = job
                waiting.append(again)
            except ray.exceptions.RayError as error:
                cause = error.cause if isinstance(error, ray.exceptions.RayTaskError) else error
                yield job, (str(cause) or repr(cause)).splitlines()[-1]
            else:
                watch.over.remote(job.title)
                yield job, outcome


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
