"""What all tuners share: the space, the function that trains a point of it, and its record.

The space is that of chinese_cnn for small networks on small images, whose epochs take seconds.
It has no baselines or starts, so that no tuner is told more than another, and no bound on the size
of a network, so that none is refused.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from optuna.distributions import CategoricalDistribution, FloatDistribution

from hwtune.config import Hyperparameters
from hwtune.space import SearchSpace, load_space

EPOCHS = 9
WORKERS = 2
SMALL = {"side": 32, "stem_stride": 2, "convs_per_stage": 1, "kernel": "3"}


def _space() -> SearchSpace:
    space = load_space("chinese_cnn")
    return replace(
        space, name="peers", question="Which tuner is the quickest?",
        fixed={**space.fixed, **SMALL, "epochs": EPOCHS},
        search={key: each for key, each in space.search.items() if key not in SMALL},
        baselines={}, published={}, starts={}, found_on={}, max_parameters=10**9,
        max_macs=10**12,
    )  # fmt: skip


SPACE = _space()


def in_words_of(
    choice: Callable[[str, list[Any]], Any],
    uniform: Callable[[str, float, float], Any],
    log_uniform: Callable[[str, float, float], Any],
) -> dict[str, Any]:
    """Return the space as another tuner writes it; each function is given a name first."""
    written = {}
    for key, each in SPACE.search.items():
        if isinstance(each, CategoricalDistribution):
            written[key] = choice(key, list(each.choices))
        else:
            assert isinstance(each, FloatDistribution)
            written[key] = (log_uniform if each.log else uniform)(key, each.low, each.high)
    return written


@dataclass(frozen=True)
class Event:
    """A trained epoch: when it ended (seconds since 1970), and how long it took."""

    at: float
    trial: str
    epoch: int
    val_accuracy: float
    seconds: float
    point: Hyperparameters


def write(events: Path, event: Event) -> None:
    """Append a line; several processes write one file."""
    with events.open("a", encoding="utf-8") as file:
        file.write(json.dumps(event.__dict__) + "\n")


def read(events: Path) -> list[Event]:
    """Return what was written, in the order of time; a torn last line is left out."""
    if not events.exists():
        return []
    lines = [line for line in events.read_text(encoding="utf-8").splitlines(keepends=True)
             if line.endswith("\n")]  # fmt: skip
    return sorted((Event(**json.loads(line)) for line in lines), key=lambda each: each.at)


def trained(
    point: Hyperparameters,
    *,
    events: Path,
    trial: str,
    epochs: int = EPOCHS,
    saved: Path | None = None,
    keep: Path | None = None,
) -> Iterator[float]:
    """Yield the validation accuracy after each epoch of hwtune's own training loop.

    A training that diverges ends with an accuracy of 0.

    Args:
        saved: the state that another trial left, to go on from.
        keep: where to leave the state at the end.
    """
    import torch

    from hwtune.errors import TrainingDiverged
    from hwtune.training.device import prepare_process
    from hwtune.training.loop import train_config
    from hwtune.training.state import start_training

    fast, config = prepare_process(gpu=False), SPACE.config(point)
    (train, validation), classes = images()
    state, batches, watched = start_training(
        config, train, validation, classes=classes, seed=0, fast=fast
    )
    if saved:
        state.take(torch.load(saved, weights_only=True))
    results = train_config(state, batches, watched, config)
    while state.epoch < epochs:
        began = time.perf_counter()
        try:
            accuracy = next(results).val_accuracy
        except TrainingDiverged:
            accuracy = 0.0
        seconds = time.perf_counter() - began
        write(events, Event(time.time(), trial, state.epoch, accuracy, seconds, point))
        if keep and (state.epoch == epochs or not accuracy):
            torch.save(state.to_dict(), keep)
        yield accuracy
        if not accuracy:
            return


@functools.cache
def images() -> tuple[tuple[Any, Any], int]:
    """Return the images to train on and to judge by, and the number of classes."""
    from hwtune.data import load_data
    from hwtune.data.splits import SplitSpec, search_split

    dataset = load_data(SPACE.data)
    split = search_split(dataset, SplitSpec())
    return (split.train, split.validation), len(dataset.classes)
