"""Syne Tune's ASHA with its local backend: each trial is a process."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from scripts.bench.peers.task import EPOCHS, WORKERS, in_words_of, trained


def train(folder: Path, point: dict[str, object], trial: str) -> None:
    """Train one point in a process of its own."""
    from syne_tune import Reporter

    report = Reporter()
    epochs = trained(point, events=folder / "events.jsonl", trial=trial)
    for epoch, accuracy in enumerate(epochs, 1):
        report(epoch=epoch, val_accuracy=accuracy)


def search(folder: Path, seed: int) -> None:
    """Search until killed."""
    os.environ["SYNETUNE_FOLDER"] = str(folder / "syne")  # else in the home of whoever runs this
    from syne_tune import StoppingCriterion, Tuner
    from syne_tune.backend import LocalBackend
    from syne_tune.config_space import choice, loguniform, uniform
    from syne_tune.optimizer.baselines import ASHA

    space = in_words_of(
        lambda _, values: choice(values),
        lambda _, low, high: uniform(low, high),
        lambda _, low, high: loguniform(low, high),
    )
    scheduler = ASHA(
        {**space, "folder": str(folder)}, metric="val_accuracy", time_attr="epoch", max_t=EPOCHS,
        do_minimize=False, random_seed=seed, grace_period=1, reduction_factor=3,
    )  # fmt: skip
    tuner = Tuner(
        trial_backend=LocalBackend(entry_point=__file__, pass_args_as_json=True),
        scheduler=scheduler, stop_criterion=StoppingCriterion(max_wallclock_time=10**6),
        n_workers=WORKERS, save_tuner=False, max_failures=10**6,
        sleep_time=0.2,  # its 5 seconds between two looks are as long as an epoch here
    )  # fmt: skip
    tuner.run()


def main() -> None:
    """Be the tuner, or one of its trials."""
    if len(sys.argv) == 3:
        search(Path(sys.argv[1]), int(sys.argv[2]))
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("--st_config_json_filename", type=Path)  # as Syne Tune calls it
    file = parser.parse_known_args()[0].st_config_json_filename
    config = json.loads(file.read_text(encoding="utf-8"))
    train(Path(config.pop("folder")), config, file.parent.name)


if __name__ == "__main__":
    main()
