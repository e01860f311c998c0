"""Train a grid of chinese_cnn at half resolution and keep every learning curve.

Writes results/curves/chinese_cnn.csv, a line an epoch. Run it again after an interruption: what is
in the file is not trained twice. `search_quality` replays searches over the table.

    python -m scripts.bench.learning_curves --processes 2
"""

import argparse
import csv
import itertools
import json
import os
import time
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from hwtune.data import load_data
from hwtune.data.splits import SearchSplit, SplitSpec, search_split
from hwtune.errors import TrainingDiverged
from hwtune.hardware import git_commit, hardware, versions
from hwtune.space import load_space
from hwtune.training.device import choose_device, keep_freed_memory
from hwtune.training.loop import train_config
from hwtune.training.state import start_training

TABLE = Path(__file__).resolve().parents[2] / "results" / "curves" / "chinese_cnn.csv"
EPOCHS = 9
# 60 writers to train on, 30 others to judge by: one image in 4,500 moves the accuracy by 0.02 %.
SPLIT = SplitSpec(kind="writer", validation=0.3, test=0.1)
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
    return {**load_space("chinese_cnn").starts["vgg"], **REST, **point}


def curve(point: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Return the lines of one configuration; the time is the CPU's, on one thread."""
    keep_freed_memory()
    space, split = load_space("chinese_cnn").with_epochs(EPOCHS), data()
    config = space.config(config_of(point))
    state, train, validation = start_training(
        config, split.train, split.validation, classes=15, seed=0, fast=choose_device(gpu=False)
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


def data() -> SearchSplit:
    """Return the images, read once a process."""
    if not hasattr(data, "split"):
        data.split = search_split(load_data("chinese_mnist"), SPLIT)  # type: ignore[attr-defined]
    return data.split  # type: ignore[attr-defined,no-any-return]


def prepare() -> None:
    """Make a worker a polite process of one thread."""
    import torch

    os.nice(19)  # Ray runs its workers at 15
    torch.set_num_threads(1)


def finished() -> set[str]:
    """Cut the table to the configurations that are whole, and return them."""
    if not TABLE.exists():
        TABLE.parent.mkdir(parents=True, exist_ok=True)
        TABLE.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
    text = TABLE.read_text(encoding="utf-8")
    head, *lines = text[: text.rfind("\n") + 1].splitlines(keepends=True)
    by_point: dict[str, list[str]] = {}
    for line in lines:
        by_point.setdefault(key(next(csv.reader([line]))), []).append(line)
    whole = {k: v for k, v in by_point.items() if len(v) == EPOCHS or ",nan," in v[-1]}
    kept = head + "".join(itertools.chain.from_iterable(whole.values()))
    if kept != text:
        TABLE.write_text(kept, encoding="utf-8")
    return set(whole)


def key(values: Any) -> str:
    """Return what tells one configuration from another in the table."""
    return " ".join(str(value) for value in list(values)[: len(GRID)])


def train_missing(processes: int) -> Iterator[list[tuple[Any, ...]]]:
    """Yield the lines of each configuration that the table lacks."""
    done = finished()
    missing = [point for point in points() if key(point.values()) not in done]
    print(f"{len(done)} of {len(points())} configurations are there.", flush=True)
    with get_context("spawn").Pool(processes, prepare) as pool:
        yield from pool.imap_unordered(curve, missing)


def main() -> None:
    """Fill the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--processes", type=int, default=1)
    processes = parser.parse_args().processes
    began = time.monotonic()
    for count, lines in enumerate(train_missing(processes), 1):
        with TABLE.open("a", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(lines)
        minutes = (time.monotonic() - began) / 60
        print(f"{minutes:.1f} min, {count}: {lines[-1]}", flush=True)
    about = {"split": SPLIT.to_dict(), "epochs": EPOCHS, "hardware": hardware(),
             "versions": versions(), "git_commit": git_commit()}  # fmt: skip
    TABLE.with_suffix(".json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
