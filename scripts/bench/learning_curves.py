"""Train a grid of chinese_cnn at half resolution and keep every learning curve.

Writes results/curves/chinese_cnn.csv, a line an epoch, or with `--data mnist` a part of the same
grid on as many images of MNIST: results/curves/mnist.csv. Run it again after an interruption: what
is in the file is not trained twice. `search_quality` replays searches over the tables.

    python -m scripts.bench.learning_curves --processes 2
    python -m scripts.bench.learning_curves --processes 2 --data mnist --points 216
"""

import argparse
import csv
import functools
import itertools
import json
import os
import time
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from hwtune.data import load_data
from hwtune.data.images import Integers
from hwtune.data.splits import SearchSplit, SplitSpec, search_split
from hwtune.errors import TrainingDiverged
from hwtune.hardware import git_commit, hardware, versions
from hwtune.space import load_space
from hwtune.training.device import choose_device, keep_freed_memory
from hwtune.training.loop import train_config
from hwtune.training.state import start_training

CURVES = Path(__file__).resolve().parents[2] / "results" / "curves"
TABLES = {"chinese_mnist": CURVES / "chinese_cnn.csv", "mnist": CURVES / "mnist.csv"}
EPOCHS = 9
# 60 writers to train on, 30 others to judge by: one image in 4,500 moves the accuracy by 0.02 %.
# Of MNIST's 60,000, whose writers are unknown, as many validate, and as many are trained on.
SPLITS = {
    "chinese_mnist": SplitSpec(kind="writer", validation=0.3, test=0.1),
    "mnist": SplitSpec(validation=0.075),
}
TRAIN_IMAGES = 9_000
GRID: dict[str, tuple[Any, ...]] = {
    "filters": ("16-32", "64-32", "16-32-64-128"),
    "norm": ("none", "before", "after"),
    "head": ("max", "flatten"),
    "optimizer": ("adam", "sgd"),
    "lr_schedule": ("constant", "onecycle"),
    "lr": (1e-5, 4e-5, 1.6e-4, 6.4e-4, 2.5e-3, 1e-2),
}
REST = {"side": 32, "convs_per_stage": 1}  # what else differs from the space's start "vgg"
COLUMNS = (*GRID, "epoch", "train_loss", "val_loss", "val_accuracy", "seconds")


def points() -> list[dict[str, Any]]:
    """Return every point of the grid, in a mixed order, so that a part of it is a fair sample."""
    every = [dict(zip(GRID, values, strict=True)) for values in itertools.product(*GRID.values())]
    return [every[i * 211 % len(every)] for i in range(len(every))]  # 211 is prime to 432


def config_of(point: dict[str, Any]) -> dict[str, Any]:
    """Return the full point of chinese_cnn."""
    return {**known_point(), **REST, **point}


@functools.cache
def known_point() -> dict[str, Any]:
    """Return the point that the grid varies."""
    return dict(load_space("chinese_cnn").starts["vgg"])


def curve(name: str, point: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Return the lines of one configuration; the time is the CPU's, on one thread."""
    keep_freed_memory()
    space, split = load_space("chinese_cnn").with_epochs(EPOCHS), data(name)
    config = space.config(config_of(point))
    state, train, validation = start_training(
        config,
        split.part(some(split.train_images)),
        split.validation,
        classes=split.classes,
        seed=0,
        fast=choose_device(gpu=False),
    )
    lines = []
    results = train_config(state, train, validation, config)
    for epoch in range(1, EPOCHS + 1):
        began = time.process_time()
        try:
            result = next(results)
        except TrainingDiverged:
            lines.append((*point.values(), epoch, "nan", "nan", "nan", "0"))
            break
        seconds = time.process_time() - began
        numbers = (result.train_loss, result.val_loss, result.val_accuracy, seconds)
        lines.append((*point.values(), epoch, *(f"{number:.6g}" for number in numbers)))
    return lines


@functools.cache
def data(name: str) -> SearchSplit:
    """Return the images, read once a process."""
    return search_split(load_data(name), SPLITS[name])


def some(images: int) -> Integers:
    """Return which of the images to train on are used: all of Chinese MNIST's."""
    return np.sort(np.random.default_rng(0).permutation(images)[:TRAIN_IMAGES])


def prepare() -> None:
    """Make a worker a polite process of one thread."""
    import torch

    os.nice(19)  # Ray runs its workers at 15
    torch.set_num_threads(1)


def finished(table: Path) -> set[str]:
    """Cut a table to the configurations that are whole, and return them."""
    if not table.exists():
        table.parent.mkdir(parents=True, exist_ok=True)
        table.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
    text = table.read_text(encoding="utf-8")
    head, *lines = text[: text.rfind("\n") + 1].splitlines(keepends=True)
    by_point: dict[str, list[str]] = {}
    for line in lines:
        by_point.setdefault(key(next(csv.reader([line]))), []).append(line)
    whole = {k: v for k, v in by_point.items() if len(v) == EPOCHS or ",nan," in v[-1]}
    kept = head + "".join(itertools.chain.from_iterable(whole.values()))
    if kept != text:
        table.write_text(kept, encoding="utf-8")
    return set(whole)


def key(values: Any) -> str:
    """Return what tells one configuration from another in the table."""
    return " ".join(str(value) for value in list(values)[: len(GRID)])


def train_missing(name: str, processes: int, count: int) -> Iterator[list[tuple[Any, ...]]]:
    """Yield the lines of each of so many configurations that the table of a data set lacks."""
    done = finished(TABLES[name])
    wanted = points()[:count]
    missing = [point for point in wanted if key(point.values()) not in done]
    print(f"{len(wanted) - len(missing)} of {len(wanted)} configurations are there.", flush=True)
    with get_context("spawn").Pool(processes, prepare) as pool:
        yield from pool.imap_unordered(functools.partial(curve, name), missing)


def main() -> None:
    """Fill the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--data", choices=TABLES, default="chinese_mnist")
    parser.add_argument("--points", type=int, default=len(points()), help="of the mixed order")
    options = parser.parse_args()
    name, began = options.data, time.monotonic()
    table = TABLES[name]
    for count, lines in enumerate(train_missing(name, options.processes, options.points), 1):
        with table.open("a", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(lines)
        minutes = (time.monotonic() - began) / 60
        print(f"{minutes:.1f} min, {count}: {lines[-1]}", flush=True)
    about = {"split": vars(SPLITS[name]), "epochs": EPOCHS, "hardware": hardware(),
             "versions": versions(), "git_commit": git_commit()}  # fmt: skip
    table.with_suffix(".json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
