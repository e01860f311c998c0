"""Search two spaces by hwtune and by Ray Tune as its documentation shows it: trials an hour.

Both draw points of a space whose networks cost the same, train them on the same 12,000 images of
Chinese MNIST for the same epochs, two at once, without early stopping: small networks at 32x32, and
S0's at 64x64. As documented: a function trainable that loads its data, the network of torch's own
modules, a DataLoader, a fresh actor a trial, `tune.report` an epoch, OptunaSearch, ASHA (whose
first rung is the last epoch here). Writes results/bench/throughput.json and .md, throughput-amx on
a CPU with AMX:

    python -m scripts.bench.throughput
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from hwtune.data.splits import SplitSpec, search_split
from hwtune.space import SearchSpace, choice, log_uniform
from hwtune.study_folder import StudyFolder
from scripts.bench.engine import as_written
from scripts.bench.outcome import give_ray_its_defaults, of_processor, publish, search, table

MODULE = "scripts.bench.throughput"  # this one
SLOTS = 2
DATA = "chinese_mnist"
RATES = (1e-4, 1e-2)
RATIO, OUTSIDE, START = 5.0, 0.05, 12.0  # the aims: times as many trials, share, seconds


class Load(NamedTuple):
    """What is searched: networks of one cost.

    Attributes:
        fixed: what all trials have in common.
        choices: what is searched beside the learning rate.
    """

    title: str
    trials: int
    epochs: int
    fixed: dict[str, Any]
    choices: dict[str, list[str]]

    def space(self) -> SearchSpace:
        """Return the space for hwtune."""
        return SearchSpace(
            question="How many trials an hour?",
            data=DATA,
            fixed={"epochs": self.epochs, "batch_size": 64, **self.fixed},
            search={
                "lr": log_uniform(*RATES),
                **{name: choice(*values) for name, values in self.choices.items()},
            },
            name="throughput",
        )


LOADS = {
    "small": Load(
        "small networks, 32x32", 12, 3,
        {"side": 32, "filters": "16-32-64", "convs_per_stage": 2, "norm": "before"},
        {"head": ["max", "avg"]},
    ),
    "s0": Load(
        "S0's network, 64x64", 4, 2,
        {
            "side": 64, "filters": "64-32", "norm": "after", "head": "flatten",
            "hidden": "512", "hidden_norm": True,
        },
        {"dropout": ["0.2", "0.4"]},
    ),
}  # fmt: skip


def hwtune_study(folder: Path, load: str) -> dict[str, Any]:
    """Search with hwtune; return what was seen from outside."""
    source, trials = folder / "throughput.py", LOADS[load].trials
    source.write_text(
        f"from {MODULE} import LOADS\nSPACE = LOADS[{load!r}].space()\n", encoding="utf-8"
    )
    words = [
        str(source), "--trials", str(trials), "--parallel", str(SLOTS), "--sampler", "random",
        "--scheduler", "none", "--seeds", "1", "--data", DATA, "--results", str(folder),
        "--name", "s",
    ]  # fmt: skip
    study, began = StudyFolder(folder / "s"), time.monotonic()
    firsts: list[float] = []

    def look() -> None:
        if not firsts and study.epochs.exists() and study.read_epochs():
            firsts.append(time.monotonic())

    ended = search(words, folder / "hwtune.log", look, every=0.05)
    epochs = study.read_epochs()
    return outcome(
        began=began, first=firsts[0], ended=ended, first_seconds=epochs[0].seconds,
        trained=sum(each.seconds for each in epochs), epochs=len(epochs), trials=trials,
    )  # fmt: skip


def outcome(
    *,
    began: float,
    first: float,
    ended: float,
    first_seconds: float,
    trained: float,
    epochs: int,
    trials: int,
) -> dict[str, Any]:
    """Return the figures of a study.

    Args:
        began, first, ended: when the command began, its first epoch and its last trial ended.
        first_seconds, trained: what the first epoch and all of them took.
    """
    start = first - first_seconds
    slots = SLOTS * (ended - start)
    return {
        "trials": trials,
        "epochs": epochs,
        "seconds": ended - began,
        "seconds_to_first_epoch": start - began,
        "trials_an_hour": trials / (ended - began) * 3600,
        "share_outside_training": 1 - trained / slots,
    }


def documented(folder: Path, load: str) -> dict[str, Any]:
    """Search with Ray Tune as documented, in a process of its own."""
    log = folder / "documented.json"
    words = [sys.executable, "-m", MODULE, "--load", load, "--one", str(log)]
    began = time.monotonic()
    with (folder / "documented.log").open("w") as said:
        subprocess.run(words, check=True, stdout=said, stderr=said)
    seen = json.loads(log.read_text(encoding="utf-8"))
    times = seen["epochs"]
    return outcome(
        began=began, first=min(each["at"] for each in times), ended=seen["ended"],
        first_seconds=min(times, key=lambda each: each["at"])["seconds"],
        trained=sum(each["seconds"] for each in times), epochs=len(times),
        trials=LOADS[load].trials,
    )  # fmt: skip


def as_documented(load: Load, log: Path) -> None:
    """Run Ray Tune in this process, and write when each epoch ended and how long it took."""
    give_ray_its_defaults()
    import ray
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    ray.init(address="local", num_cpus=SLOTS, include_dashboard=True, dashboard_host="127.0.0.1")
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(train_function, load=load), {"cpu": 1}),
        param_space={
            "lr": tune.loguniform(*RATES),
            **{name: tune.choice(values) for name, values in load.choices.items()},
        },
        tune_config=tune.TuneConfig(
            metric="val_accuracy", mode="max", num_samples=load.trials,
            search_alg=OptunaSearch(),
            scheduler=ASHAScheduler(max_t=load.epochs, grace_period=load.epochs),
            max_concurrent_trials=SLOTS,
        ),
        run_config=tune.RunConfig(storage_path=str(log.parent / "ray")),
    )  # fmt: skip
    results = tuner.fit()
    ended = time.monotonic()
    epochs = [
        {"at": row["at"], "seconds": row["epoch_seconds"]}
        for result in results
        for row in result.metrics_dataframe.to_dict("records")
    ]
    log.write_text(json.dumps({"epochs": epochs, "ended": ended}), encoding="utf-8")
    ray.shutdown()


def train_function(config: dict[str, Any], load: Load) -> None:
    """Train as the documentation's examples do: PyTorch's usual loop, and a report an epoch."""
    import torch
    from ray import tune
    from torch.nn import functional as F
    from torch.utils.data import DataLoader, TensorDataset

    from hwtune.data import load_data
    from hwtune.data.batches import to_pixels
    from hwtune.models import build_model

    values = load.space().config(config)
    dataset = load_data(DATA)
    split = search_split(dataset, SplitSpec())
    train, validation = (
        TensorDataset(
            to_pixels(torch.from_numpy(part.images), side=values.side).float() / 255,
            torch.from_numpy(part.labels),
        )
        for part in (split.train, split.validation)
    )
    loader = DataLoader(train, batch_size=values.batch_size, shuffle=True)
    watched = DataLoader(validation, batch_size=values.batch_size)
    model = as_written(build_model(values, classes=len(dataset.classes), side=dataset.side))
    optimizer = torch.optim.Adam(model.parameters(), lr=values.lr)
    for _ in range(values.epochs):
        began = time.monotonic()
        model.train()
        for images, labels in loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
        model.eval()
        right = 0
        with torch.no_grad():
            for images, labels in watched:
                right += int((model(images).argmax(1) == labels).sum())
        now = time.monotonic()
        tune.report({
            "val_accuracy": right / len(validation), "epoch_seconds": now - began, "at": now,
        })  # fmt: skip


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--load", choices=list(LOADS), help="that alone, without writing results")
    parser.add_argument("--one", type=Path, help="as the program does")
    options = parser.parse_args()
    if options.one:
        as_documented(LOADS[options.load], options.one)
        return
    rows = []
    for repetition in range(options.repetitions):
        for load in [options.load] if options.load else LOADS:
            for title, way in (("Ray Tune as documented", documented), ("hwtune", hwtune_study)):
                with TemporaryDirectory() as folder:
                    seen = way(Path(folder).resolve(), load)
                rows.append({"load": load, "way": title, "repetition": repetition, **seen})
                print(json.dumps(rows[-1]), flush=True)
    if not options.load:
        publish(of_processor("throughput"), page(rows), rows)


def page(rows: list[dict[str, Any]]) -> str:
    """Return the table for people; medians over the repetitions."""
    lines, ratios = [], []
    for load in dict.fromkeys(row["load"] for row in rows):
        own = [row for row in rows if row["load"] == load]
        for way in dict.fromkeys(row["way"] for row in own):
            of_way = [row for row in own if row["way"] == way]
            hourly, outside, start = (
                statistics.median(row[key] for row in of_way)
                for key in ("trials_an_hour", "share_outside_training", "seconds_to_first_epoch")
            )
            title = f"{LOADS[load].title}: {way}"
            lines.append([title, f"{hourly:.0f}", f"{outside:.1%}", f"{start:.1f}"])
        ratio = statistics.median(
            ours["trials_an_hour"] / theirs["trials_an_hour"]
            for theirs, ours in zip(own[::2], own[1::2], strict=True)
        )
        ratios.append(f"{ratio:.1f} times as many trials an hour for {LOADS[load].title}")
    columns = ["", "trials an hour", "slots' time outside training", "s to the first epoch"]
    lengths = " and ".join(
        f"{load.trials} trials of {load.epochs} epochs ({load.title})" for load in LOADS.values()
    )
    return (
        f"{lengths}, {SLOTS} at once; the time of the whole search, from the start of the command "
        f"to the end of the last trial; medians of {rows[-1]['repetition'] + 1} repetitions. "
        "Validation counts as training.\n\n"
        + table(columns, lines)
        + f"\n\nhwtune: {'; '.join(ratios)} (aim {RATIO:g}). Aims for the others: at most "
        f"{OUTSIDE:.0%}, at most {START:.0f} s."
    )


if __name__ == "__main__":
    main()
