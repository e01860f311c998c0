"""Train on one GPU by hwtune's loop and by the usual one, and search with one and many trials.

Without a GPU it says so and ends. The usual loop is that of `engine`, its batches moved to the GPU
one by one. Each speed comes from a process of its own. A study of random points without early
stopping runs twice: one trial a GPU, and as many as hwtune plans by memory and CPU cores; the
share of the time in which the GPU computes is what NVIDIA's driver says twice a second from the
first epoch on. Writes results/bench/gpu.json and .md, after each figure, so that what ends early
loses none; with --only, which needs neither data nor Ray for the speeds, gpu-speeds or gpu-studies:

    python -m scripts.bench.gpu
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hwtune.hardware import hardware
from hwtune.study_folder import StudyFolder
from scripts.bench.engine import NETWORKS, Network, config_of, images_of, ours, usual
from scripts.bench.outcome import in_process, publish, search, table

MODULE = "scripts.bench.gpu"  # this one
WAYS = ("usual", "hwtune", "hwtune in float32", "hwtune without graphs")
BATCHES = 40  # of an epoch at least: on a GPU they are short
TRIALS, EPOCHS = 48, 6  # of each study
SHARES = {"one trial a GPU": ["--gpus-per-trial", "1"], "as hwtune plans": []}


def one(baseline: str, way: str) -> float:
    """Return images a second of a network in this process."""
    from hwtune.training.device import prepare_process

    known = next(each for each in NETWORKS if each.baseline == baseline)
    network = known._replace(batches=max(known.batches, BATCHES))
    config = config_of(network)
    part = images_of(network, config)
    if way == "usual":
        return usual(config, part, network.classes, device="cuda")
    fast = prepare_process(gpu=True)
    warnings.simplefilter("error")  # without graphs, that figure would not be what it says
    changes = {"hwtune in float32": {"bf16": False}, "hwtune without graphs": {"graphs": False}}
    return ours(config, part, network.classes, fast=replace(fast, **changes.get(way, {})))


def speeds(repetitions: int) -> Iterator[list[dict[str, Any]]]:
    """Yield what was measured so far, a row a network: medians, networks and ways taking turns.

    What could not be measured is NaN; its process has said why.
    """
    seen: dict[tuple[str, str], list[float]] = defaultdict(list)
    for _ in range(repetitions):
        for network in NETWORKS:
            for way in WAYS:
                with suppress(subprocess.CalledProcessError):
                    seen[network.title, way].append(in_process(MODULE, network.baseline, way))
                yield [row_of(each, seen) for each in NETWORKS]


def row_of(network: Network, seen: Mapping[tuple[str, str], list[float]]) -> dict[str, Any]:
    """Return the medians of a network."""
    medians = {way: statistics.median(seen.get((network.title, way)) or [math.nan]) for way in WAYS}
    return {"network": network.title, **medians, "ratio": medians["hwtune"] / medians["usual"]}


def busy() -> float:
    """Return the share of the last moments in which the GPU computed, in [0, 1]; NaN: unknown."""
    words = [
        "nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits",
        f"--id={os.environ['CUDA_VISIBLE_DEVICES']}",
    ]  # fmt: skip
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    with suppress(ValueError):  # "[N/A]", of a part of a GPU
        return float(said) / 100
    return math.nan


def study(title: str, words: list[str]) -> dict[str, Any]:
    """Search; return the trials an hour and the share of the time in which the GPU computed."""
    with TemporaryDirectory() as name:
        folder = StudyFolder(Path(name).resolve() / "study")
        source = folder.path.parent / "gpu_space.py"
        source.write_text("from scripts.bench.peers.task import SPACE as SPACE\n", encoding="utf-8")
        looks: list[tuple[float, int, float]] = []  # when, after which epochs, and how busy

        def look() -> None:
            if folder.epochs.exists() and (seen := len(folder.read_epochs())):
                looks.append((time.monotonic(), seen, busy()))

        began = time.monotonic()
        ended = search(
            [
                str(source), "--trials", str(TRIALS), "--epochs", str(EPOCHS), "--data",
                "chinese_mnist", "--sampler", "random", "--scheduler", "none", "--seeds", "1",
                "--results", name, "--name", "study", *words,
            ],
            folder.path.parent / "log", look, every=0.5,
        )  # fmt: skip
        seconds = ended - began
        trained = sum(each.epochs > 0 for each in folder.read_trials())
        since, before, _ = looks[0]
        later = len(folder.read_epochs()) - before
        at_once = folder.read_study()["hardware"]["parallel"]
    row = {
        "study": title, "at_once": at_once, "trials": trained,
        "trials_an_hour": trained / seconds * 3600,
        "trials_an_hour_training": later / EPOCHS / (ended - since) * 3600,
        "busy": statistics.fmean(share for _, _, share in looks),
    }  # fmt: skip
    print(json.dumps(row), flush=True)
    return row


def page(networks: list[dict[str, Any]], studies: list[dict[str, Any]], gpu: str) -> str:
    """Return the tables for people, of what was measured."""

    def middle(title: str, key: str) -> float:
        seen = [row[key] for row in studies if row["study"] == title]
        return statistics.median(seen) if seen else math.nan

    lines = [
        [row["network"], *(f"{row[way]:,.0f}" for way in WAYS), f"{row['ratio']:.1f}"]
        for row in networks
    ]
    speed = (
        f"{gpu}: images a second while training, batch sizes and optimisers as published. The "
        "usual loop loads images by a DataLoader of one process and trains in float32, as hwtune "
        "in float32 with convolutions in TF32, torch's default; hwtune's images lie on the GPU, "
        "and it trains in bfloat16 where the GPU has that.\n\n"
        + table(["network", *WAYS, "times as fast"], lines)
    )
    if not studies:
        return speed
    columns = ["study", "trials at once", "trials an hour", "from the first epoch on"]
    searches = [
        [
            title, f"{middle(title, 'at_once'):.0f}", f"{middle(title, 'trials_an_hour'):,.0f}",
            f"{middle(title, 'trials_an_hour_training'):,.0f}", f"{middle(title, 'busy'):.0%}",
        ]
        for title in SHARES
    ]  # fmt: skip
    study = (
        f"{gpu}: studies of {TRIALS} trials of {EPOCHS} epochs, to the end of the last trial, from "
        "the start of the command and from the first epoch on, since which the GPU is looked at. "
        f"Medians of {math.ceil(len(studies) / len(SHARES))} repetitions.\n\n"
        + table([*columns, "time in which the GPU computes"], searches)
    )
    return f"{speed}\n\n{study}" if networks else study


def main() -> None:
    """Measure and write the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--only", choices=("speeds", "studies"), help="half of it")
    parser.add_argument("--one", nargs=2, metavar=("NETWORK", "WAY"), help="as the program does")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(*options.one)))
        return
    gpus = hardware()["gpus"]
    if not gpus:
        print("No GPU was found on this machine: nothing was measured.")
        return
    os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # as nvidia-smi counts
    # The one that is looked at: the first that may be used.
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    os.environ["CUDA_VISIBLE_DEVICES"] = first
    gpu = gpus[int(first)] if first.isdigit() else gpus[0]
    name = f"gpu-{options.only}" if options.only else "gpu"
    networks: list[dict[str, Any]] = []
    studies: list[dict[str, Any]] = []
    for networks in speeds(options.repetitions) if options.only != "studies" else ():
        publish(name, page(networks, studies, gpu), networks)
    for title, words in [*SHARES.items()] * options.repetitions if options.only != "speeds" else ():
        studies.append(study(title, words))
        publish(name, page(networks, studies, gpu), [*networks, *studies])


if __name__ == "__main__":
    main()
