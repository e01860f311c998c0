"""Tell where the time of training goes on one core: convolutions, batch norm, pooling and so on.

torch's profiler watches an epoch of each published network, and of a start of the search that
distorts its images, each in a process of its own; precision as hwtune takes it here, batches and
optimisers as published. Writes results/bench/breakdown.json and .md, breakdown-amx on a CPU with
AMX:

    python -m scripts.bench.breakdown
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from hwtune.data.splits import Part
from scripts.bench.engine import NETWORKS, Network, config_of, images_of
from scripts.bench.outcome import in_process, of_processor, publish, table

MODULE = "scripts.bench.breakdown"  # this one
START = Network("start vgg_strong", "chinese_cnn", "vgg_strong", 15, 64, 40, 0.0, 0.0)
WATCHED = (*NETWORKS, START)
RESERVE = 2**31 - 2**20  # bytes; more the process would give back to the system
REPETITIONS = 5  # of an epoch, of a validation, and of the epoch watched; the quickest counts
VALIDATED = 8  # training images for each one that validates, as in a random split
KINDS = {  # by what the names of operators contain; the first that fits
    # With all that is computed on the way: a pooling, batch norms before and behind.
    "convolutions": ("convolution", "Convolving"),
    "linear layers": ("aten::mm", "aten::addmm", "linear"),
    "batch norm": ("batch_norm", "Normalizing", "Reading"),
    "pooling": ("pool", "Halving"),
    "ReLU": ("relu", "threshold", "clamp_min"),
    "optimiser": ("Optimizer", "_fused_", "_foreach_", "aten::clamp_"),
    "distortion": ("grid_sampler", "affine_grid", "aten::pow"),
    "copies, conversions": ("aten::copy_", "_to_copy", "aten::clone", "aten::index"),
}
REST, BETWEEN = "other operators", "between operators"


def kind_of(operator: str) -> str:
    """Return the kind of work that one of torch's operators does."""
    fitting = (kind for kind, parts in KINDS.items() if any(part in operator for part in parts))
    return next(fitting, REST)


def one(baseline: str) -> dict[str, Any]:
    """Return the shares of the time of training a network in this process.

    `validation` is its share of an epoch; the others are shares of training alone.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # its lines on GPUs, which it looks for in vain
    import torch
    from torch.profiler import ProfilerActivity, profile

    from hwtune.training.device import prepare_process
    from hwtune.training.loop import evaluate, train_config
    from hwtune.training.state import plain_batches, start_training

    network = next(each for each in WATCHED if each.baseline == baseline)
    config, fast = config_of(network), prepare_process(gpu=False)
    part = images_of(network, config)
    state, batches, _ = start_training(
        config, part, None, classes=network.classes, seed=0, fast=fast
    )
    results = train_config(state, batches, None, config)
    few = max(1, len(part.labels) // VALIDATED)
    watched = plain_batches(Part(part.images[:few], part.labels[:few]), config, fast=fast)
    epoch, validation = (
        min(timed(work) for _ in range(REPETITIONS))
        for work in (lambda: next(results), lambda: evaluate(state.evaluated, watched, fast=fast))
    )
    # The profiler's notes lie where the last step's activations were, so that each step needs new
    # memory; fetched from the system, it would take more time than all else.
    reserve = torch.ones(RESERVE, dtype=torch.uint8)
    del reserve
    profiled = []
    for _ in range(REPETITIONS):
        with profile(activities=[ProfilerActivity.CPU]) as seen:
            seconds = timed(lambda: next(results))
        profiled.append((seconds, seen.key_averages()))
    whole, events = min(profiled, key=lambda each: each[0])
    spent: Counter[str] = Counter()
    for event in events:
        spent[kind_of(event.key)] += event.self_cpu_time_total / 1e6
    spent[BETWEEN] = max(0.0, whole - spent.total())
    return {
        "network": network.title,
        "precision": fast.dtype,
        "images_a_second": len(part.labels) / epoch,
        "shares": {kind: spent[kind] / whole for kind in (*KINDS, REST, BETWEEN)},
        "validation": validation / (epoch + validation),
    }


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that some work takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--one", metavar="NETWORK", help="as the program does")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(options.one)))
        return
    rows = [in_process(MODULE, network.baseline) for network in WATCHED]
    publish(of_processor("breakdown"), page(rows), rows)


def page(rows: list[dict[str, Any]]) -> str:
    """Return the table for people."""
    kinds = [*rows[0]["shares"], "validation"]
    lines = [
        [
            row["network"], row["precision"], f"{row['images_a_second']:,.0f}",
            *(f"{share:.0%}" for share in row["shares"].values()), f"{row['validation']:.0%}",
        ]
        for row in rows
    ]  # fmt: skip
    return (
        "Where the time of training goes on one core, by torch's profiler, which itself takes part "
        f"of what lies between operators. Validation is a share of an epoch that reads one image "
        f"for each {VALIDATED} that it trains on; the other columns are shares of training. A "
        "batch norm beside a convolution that AMX computes, and a pooling behind that, count as "
        "parts of it.\n\n" + table(["network", "precision", "images a second", *kinds], lines)
    )


if __name__ == "__main__":
    main()
