"""Train points of a space of 22 hyperparameters, the peers', and keep every learning curve.

Writes results/curves/wide.csv, a line a point: first random points, then neighbours of the best,
so that a model of the table knows the region that a search ends in. Half of the training images.
Run it again after an interruption: what is in the file is not trained twice.

    python -m scripts.bench.wide_curves --processes 2
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import suppress
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from hwtune.config import Hyperparameters
from hwtune.data.splits import Part
from hwtune.errors import TrainingDiverged
from hwtune.files import csv_line, cut_to_last_newline
from hwtune.hardware import git_commit, hardware, versions
from scripts.bench.learning_curves import prepare
from scripts.bench.peers.task import EPOCHS, SPACE, images

TABLE = Path(__file__).resolve().parents[2] / "results" / "curves" / "wide.csv"
RANDOM, NEIGHBOURS = 250, 200
BEST, CHANGED = 0.1, 0.2  # share of the points that have neighbours; of values that differ there
NAMES = tuple(SPACE.search)
ACCURACIES = tuple(f"accuracy_{epoch}" for epoch in range(1, EPOCHS + 1))
COLUMNS = ("number", *NAMES, *ACCURACIES, "seconds")  # of an epoch, on one thread


def random_point(seed: tuple[int, ...]) -> Hyperparameters:
    """Return a random point of the space."""
    number = int(np.random.default_rng(seed).integers(2**31))
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=number))
    return dict(study.ask(dict(SPACE.search)).params)


def neighbour(number: int, known: list[dict[str, Any]]) -> Hyperparameters:
    """Return one of the best points that are known, some of its values drawn anew."""
    rng = np.random.default_rng((1, number))
    ordered = sorted(known, key=lambda row: -max(row[each] for each in ACCURACIES))
    there = [{name: row[name] for name in NAMES} for row in ordered]
    best = there[: max(1, round(BEST * len(there)))]
    while True:
        parent, fresh = best[int(rng.integers(len(best)))], random_point((2, number))
        child = {name: fresh[name] if rng.random() < CHANGED else parent[name] for name in NAMES}
        if child not in there:
            return child


def curve(job: tuple[int, Hyperparameters]) -> dict[str, Any]:
    """Return the line of one point; after a divergence its accuracy is 0."""
    from hwtune.training.device import prepare_process
    from hwtune.training.loop import train_config
    from hwtune.training.state import start_training

    number, point = job
    (train, validation), classes = images()
    half = np.random.default_rng(0).permutation(len(train.labels))[::2]
    config = SPACE.config(point)
    part = Part(train.images[half], train.labels[half])
    state, batches, watched = start_training(
        config, part, validation, classes=classes, seed=0, fast=prepare_process(gpu=False)
    )
    began, accuracies = time.process_time(), []
    with suppress(TrainingDiverged):
        for result in train_config(state, batches, watched, config):
            accuracies.append(result.val_accuracy)
    seconds = (time.process_time() - began) / max(1, state.epoch)
    accuracies += [0.0] * (EPOCHS - len(accuracies))
    return {
        "number": number, **point,
        **{name: f"{value:.6g}" for name, value in zip(ACCURACIES, accuracies, strict=True)},
        "seconds": f"{seconds:.4g}",
    }  # fmt: skip


def read() -> list[dict[str, Any]]:
    """Return the lines of the table: points as the space has them, figures as floats."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        return [
            {
                "number": int(row["number"]),
                **SPACE.parse(row),
                **{name: float(row[name]) for name in (*ACCURACIES, "seconds")},
            }
            for row in csv.DictReader(file)
        ]


def missing() -> Iterator[tuple[int, Hyperparameters]]:
    """Yield what the table lacks; neighbours are those of the points that it has by then."""
    done = {row["number"] for row in read()}
    for number in range(RANDOM + NEIGHBOURS):
        if number not in done:
            point = random_point((0, number)) if number < RANDOM else neighbour(number, read())
            yield number, point


def mend() -> None:
    """Begin the table, or cut off its last line where that is torn."""
    cut_to_last_newline(TABLE)
    if not TABLE.exists():
        TABLE.write_text(csv_line(COLUMNS), encoding="utf-8")


def main() -> None:
    """Fill the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    mend()
    jobs = missing()
    with ProcessPoolExecutor(options.processes, get_context("spawn"), prepare) as pool:
        running = {pool.submit(curve, job) for job in islice(jobs, options.processes)}
        if running:
            about = {"epochs": EPOCHS, "hardware": hardware(), "versions": versions(),
                     "git_commit": git_commit()}  # fmt: skip
            origin = json.dumps(about, indent=1) + "\n"
            TABLE.with_suffix(".json").write_text(origin, encoding="utf-8")
        while running:
            ended, running = wait(running, return_when=FIRST_COMPLETED)
            for each in ended:
                line = each.result()
                with TABLE.open("a", encoding="utf-8", newline="") as file:
                    csv.DictWriter(file, COLUMNS, lineterminator="\n").writerow(line)
                print(line, flush=True)
                running |= {pool.submit(curve, job) for job in islice(jobs, 1)}


if __name__ == "__main__":
    main()
