"""Optuna with HyperbandPruner, in two processes that share a study in a journal file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from scripts.bench.peers.task import EPOCHS, WORKERS, in_words_of, trained

FOLDER = Path(sys.argv[1])


def objective(trial: optuna.Trial) -> float:
    """Train one point until it is pruned."""
    point = in_words_of(
        trial.suggest_categorical,
        trial.suggest_float,
        lambda name, low, high: trial.suggest_float(name, low, high, log=True),
    )
    accuracy = 0.0
    epochs = trained(point, events=FOLDER / "events.jsonl", trial=str(trial.number))
    for epoch, accuracy in enumerate(epochs, 1):
        trial.report(accuracy, epoch)
        if trial.should_prune():
            raise optuna.TrialPruned
    return accuracy


def work(seed: int) -> None:
    """Take part in the study until killed."""
    study = optuna.create_study(
        study_name="peers", direction="maximize", load_if_exists=True,
        storage=JournalStorage(JournalFileBackend(str(FOLDER / "optuna.journal"))),
        sampler=optuna.samplers.TPESampler(seed=seed),
        pruner=optuna.pruners.HyperbandPruner(min_resource=1, max_resource=EPOCHS),
    )  # fmt: skip
    study.optimize(objective)


def main() -> None:
    """Start the other worker, and be one."""
    _, _, seed, *worker = sys.argv
    if worker:
        work(WORKERS * int(seed) + int(worker[0]))
        return
    words = [sys.executable, "-m", "scripts.bench.peers.optuna_hyperband", str(FOLDER), seed]
    workers = [subprocess.Popen([*words, str(index)]) for index in range(WORKERS)]
    for each in workers:
        each.wait()


if __name__ == "__main__":
    main()
