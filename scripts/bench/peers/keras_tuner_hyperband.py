"""KerasTuner's Hyperband on the torch backend: a chief and two workers, by its own protocol.

`run_trial` is overridden, as its documentation shows for training loops of one's own; a promoted
trial goes on from the state of the trial that it was promoted from.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from optuna.distributions import CategoricalDistribution

from scripts.bench.peers.task import EPOCHS, SPACE, WORKERS, in_words_of, trained

FOLDER = Path(sys.argv[1])


def as_chosen(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values as the space writes them: a choice of booleans comes as 0 and 1."""
    return {
        key: each.choices[each.choices.index(values[key])]
        if isinstance(each, CategoricalDistribution)
        else values[key]
        for key, each in SPACE.search.items()
    }


def take_part(seed: int) -> None:
    """Be the chief or a worker, as the environment says, until killed."""
    import keras_tuner

    class Tuner(keras_tuner.Hyperband):  # type: ignore[misc]
        """Hyperband over hwtune's own training loop."""

        def run_trial(self, trial: Any, *_: Any, **__: Any) -> dict[str, float]:
            """Train one trial for as long as its round says."""
            values = dict(trial.hyperparameters.values)
            rounds = {key: values.pop(key) for key in list(values) if key.startswith("tuner/")}
            earlier = rounds.get("tuner/trial_id")
            accuracies = list(trained(
                as_chosen(values), events=FOLDER / "events.jsonl", trial=trial.trial_id,
                epochs=rounds["tuner/epochs"], keep=FOLDER / f"{trial.trial_id}.pt",
                saved=FOLDER / f"{earlier}.pt" if earlier else None,
            ))  # fmt: skip
            return {"val_accuracy": accuracies[-1]}

    space = keras_tuner.HyperParameters()
    in_words_of(
        lambda name, values: space.Choice(name, values),
        lambda name, low, high: space.Float(name, low, high),
        lambda name, low, high: space.Float(name, low, high, sampling="log"),
    )
    tuner = Tuner(
        objective=keras_tuner.Objective("val_accuracy", "max"), max_epochs=EPOCHS, factor=3,
        hyperband_iterations=10**6, seed=seed, hyperparameters=space,
        directory=str(FOLDER / "keras"), project_name="peers",
    )  # fmt: skip
    tuner.search()


def main() -> None:
    """Start the chief and the workers, or be one of them."""
    if "KERASTUNER_TUNER_ID" in os.environ:
        take_part(int(sys.argv[2]))
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        "KERAS_BACKEND": "torch", "KERASTUNER_ORACLE_IP": "127.0.0.1",
        "KERASTUNER_ORACLE_PORT": str(port),
    }  # fmt: skip
    words = [sys.executable, "-m", "scripts.bench.peers.keras_tuner_hyperband", *sys.argv[1:]]
    parts = [
        subprocess.Popen(words, env={**os.environ, **shared, "KERASTUNER_TUNER_ID": name})
        for name in ("chief", *(f"worker{index}" for index in range(WORKERS)))
    ]
    for each in parts:
        each.wait()


if __name__ == "__main__":
    main()
