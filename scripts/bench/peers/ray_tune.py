"""Ray Tune as its documentation shows it: function trainable, OptunaSearch, ASHA, new actors."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

from scripts.bench.outcome import give_ray_its_defaults
from scripts.bench.peers.task import EPOCHS, WORKERS, in_words_of, trained

FOLDER = Path(sys.argv[1])


def objective(config: dict[str, Any]) -> None:
    """Train one point."""
    trial = tune.get_context().get_trial_id()
    folder = Path(config.pop("folder"))
    for accuracy in trained(config, events=folder / "events.jsonl", trial=trial):
        tune.report({"val_accuracy": accuracy})


def main() -> None:
    """Search until killed."""
    give_ray_its_defaults()
    ray.init(address="local", num_cpus=WORKERS)
    space = in_words_of(
        lambda _, values: tune.choice(values),
        lambda _, low, high: tune.uniform(low, high),
        lambda _, low, high: tune.loguniform(low, high),
    )
    tuner = tune.Tuner(
        tune.with_resources(objective, {"cpu": 1}),
        param_space={**space, "folder": str(FOLDER)},
        tune_config=tune.TuneConfig(
            metric="val_accuracy", mode="max", num_samples=-1,
            search_alg=OptunaSearch(seed=int(sys.argv[2])),
            scheduler=ASHAScheduler(max_t=EPOCHS),
            max_concurrent_trials=WORKERS,
        ),
        run_config=tune.RunConfig(storage_path=str(FOLDER / "ray")),
    )  # fmt: skip
    tuner.fit()


if __name__ == "__main__":
    main()
