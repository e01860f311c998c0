"""Search one space by hwtune and by Ray Tune as its documentation shows it: trials an hour.

Both draw points of one space whose networks cost the same, train them on the same 12,000 images of
Chinese MNIST at 32x32 for the same epochs, two at once, without early stopping.
As documented: a function trainable that loads its data, a DataLoader, a fresh actor a trial,
`tune.report` an epoch, OptunaSearch, ASHA (whose first rung is the last epoch here). Writes
results/bench/throughput.json and .md:

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
from typing import Any

from hwtune.data.splits import SplitSpec, search_split
from hwtune.space import SearchSpace, choice, log_uniform
from hwtune.study_folder import StudyFolder
from scripts.bench.outcome import give_ray_its_defaults, publish, search, table

SLOTS = 2
EPOCHS = 3
RATIO, OUTSIDE, START = 5.0, 0.05, 12.0  # the aims: times as many trials, share, seconds
SPACE = SearchSpace(
    question="How many trials an hour?",
    data="chinese_mnist",
    fixed={
        "epochs": EPOCHS,
        "side": 32,
        "filters": "16-32-64",
        "convs_per_stage": 2,
        "norm": "before",
        "batch_size": 64,
    },
    search={"lr": log_uniform(1e-4, 1e-2), "head": choice("max", "avg")},
    name="throughput",
)


def hwtune_study(folder: Path, trials: int) -> dict[str, Any]:
    """Search with hwtune; return what was seen from outside."""
    source = folder / "throughput.py"
    source.write_text("from scripts.bench.throughput import SPACE as SPACE\n", encoding="utf-8")
    words = [
        str(source), "--trials", str(trials), "--parallel", str(SLOTS), "--sampler", "random",
        "--scheduler", "none", "--seeds", "1", "--data", SPACE.data, "--results", str(folder),
        "--name", "s",
    ]  # fmt: skip
    study, began = StudyFolder(folder / "s"), time.monotonic()
    firsts: list[float] = []

    def look() -> None:
        if not firsts and (study.path / "epochs.csv").exists() and study.read_epochs():
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


def documented(folder: Path, trials: int) -> dict[str, Any]:
    """Search with Ray Tune as documented, in a process of its own."""
    log = folder / "documented.json"
    words = [sys.executable, "-m", "scripts.bench.throughput", "--trials", str(trials),
             "--one", str(log)]  # fmt: skip
    began = time.monotonic()
    with (folder / "documented.log").open("w") as said:
        subprocess.run(words, check=True, stdout=said, stderr=said)
    seen = json.loads(log.read_text(encoding="utf-8"))
    times = seen["epochs"]
    return outcome(
        began=began, first=min(each["at"] for each in times), ended=seen["ended"],
        first_seconds=min(times, key=lambda each: each["at"])["seconds"],
        trained=sum(each["seconds"] for each in times), epochs=len(times), trials=trials,
    )  # fmt: skip


def as_documented(trials: int, log: Path) -> None:
    """Run Ray Tune in this process, and write when each epoch ended and how long it took."""
    give_ray_its_defaults()
    import ray
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    ray.init(address="local", num_cpus=SLOTS, include_dashboard=True, dashboard_host="127.0.0.1")
    space = {
        "lr": tune.loguniform(1e-4, 1e-2),
        "head": tune.choice(["max", "avg"]),
    }
    tuner = tune.Tuner(
        tune.with_resources(train_function, {"cpu": 1}),
        param_space=space,
        tune_config=tune.TuneConfig(
            metric="val_accuracy", mode="max", num_samples=trials, search_alg=OptunaSearch(),
            scheduler=ASHAScheduler(max_t=EPOCHS, grace_period=EPOCHS),
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


def train_function(config: dict[str, Any]) -> None:
    """Train as the documentation's examples do: PyTorch's usual loop, and a report an epoch."""
    import torch
    from ray import tune
    from torch.nn import functional as F
    from torch.utils.data import DataLoader, TensorDataset

    from hwtune.data import load_data
    from hwtune.data.batches import to_pixels
    from hwtune.models import build_model

    values = SPACE.config(config)
    dataset = load_data("chinese_mnist")
    split = search_split(dataset, SplitSpec())
    train, validation = (
        TensorDataset(
            to_pixels(torch.from_numpy(part.images), side=32).float() / 255,
            torch.from_numpy(part.labels),
        )
        for part in (split.train, split.validation)
    )
    loader = DataLoader(train, batch_size=values.batch_size, shuffle=True)
    watched = DataLoader(validation, batch_size=values.batch_size)
    model = build_model(values, classes=len(dataset.classes), side=dataset.side)
    optimizer = torch.optim.Adam(model.parameters(), lr=values.lr)
    for _ in range(EPOCHS):
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
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--one", type=Path, help="as the program does")
    options = parser.parse_args()
    if options.one:
        as_documented(options.trials, options.one)
        return
    rows = []
    for repetition in range(options.repetitions):
        for title, way in (("Ray Tune as documented", documented), ("hwtune", hwtune_study)):
            with TemporaryDirectory() as folder:
                seen = way(Path(folder).resolve(), options.trials)
            rows.append({"way": title, "repetition": repetition, **seen})
            print(json.dumps(rows[-1]), flush=True)
    publish("throughput", page(rows), rows)


def page(rows: list[dict[str, Any]]) -> str:
    """Return the table for people; medians over the repetitions."""

    def median(way: str, key: str) -> float:
        return statistics.median(row[key] for row in rows if row["way"] == way)

    ways = list(dict.fromkeys(row["way"] for row in rows))
    lines = [
        [
            way, f"{median(way, 'trials_an_hour'):.0f}",
            f"{median(way, 'share_outside_training'):.1%}",
            f"{median(way, 'seconds_to_first_epoch'):.1f}",
        ]
        for way in ways
    ]  # fmt: skip
    ratio = statistics.median(
        ours["trials_an_hour"] / theirs["trials_an_hour"]
        for theirs, ours in zip(rows[::2], rows[1::2], strict=True)
    )
    columns = ["", "trials an hour", "slots' time outside training", "s to the first epoch"]
    return (
        f"{rows[0]['trials']} trials of {EPOCHS} epochs, {SLOTS} at once; the time of the whole "
        "search, from the start of the command to the end of the last trial; medians of "
        f"{len(rows) // 2} repetitions. Validation counts as training.\n\n"
        + table(columns, lines)
        + f"\n\nhwtune: {ratio:.1f} times as many trials an hour (aim {RATIO:g}); aims for the "
        f"others: at most {OUTSIDE:.0%}, at most {START:.0f} s."
    )


if __name__ == "__main__":
    main()
