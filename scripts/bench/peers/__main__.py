"""Give hwtune and four other tuners the same minutes, space and train function, and compare.

Each works for the same wall-clock time, from the start of its command to its end by signal, with
two workers, in a virtual environment of its own that shares the packages of this one. The best
point of each run is retrained identically and tested. What was finished is not done again: the
folder .peers holds it. Run it alone on the machine; it takes a little over 90 minutes. Writes
results/bench/peers.json, .md and .png:

    python -m scripts.bench.peers
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil

from hwtune.hardware import git_commit
from scripts.bench.outcome import RESULTS, in_process, publish
from scripts.bench.peers.environments import REQUIREMENTS, make_environment
from scripts.bench.peers.page import page, plot
from scripts.bench.peers.task import SPACE, WORKERS, Event, images, read
from scripts.bench.speedrun import train_and_test

MODULE = "scripts.bench.peers"  # this one
ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / ".peers"  # environments, and what each run wrote
PEERS = {
    "hwtune_search": "hwtune",
    "ray_tune": "Ray Tune as documented",
    "optuna_hyperband": "Optuna, Hyperband, journal",
    "syne_tune_asha": "Syne Tune, ASHA, local",
    "keras_tuner_hyperband": "KerasTuner, Hyperband",
}
RETRAININGS = 2  # of each run's best point
GRACE = 15.0  # seconds that a tuner has to end by itself


def work(peer: str, folder: Path, *, seed: int, seconds: float) -> None:
    """Let a tuner work for so long, and write into its folder when it began."""
    if (folder / "about.json").exists():
        return
    python = make_environment(peer, FOLDER / f"venv-{peer}")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    began = time.time()
    with (folder / "log").open("w", encoding="utf-8") as log:
        tuner = psutil.Popen(
            [python, "-m", f"scripts.bench.peers.{peer}", str(folder), str(seed)],
            stdout=log, stderr=log, cwd=folder,  # where some leave files
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        try:
            tuner.wait(seconds)
        except psutil.TimeoutExpired:
            pass
        else:
            raise SystemExit(f"{peer} ended before its time; see {folder / 'log'}.")
        finally:
            end(tuner)
    about = {"began": began, "git_commit": git_commit()}
    (folder / "about.json").write_text(json.dumps(about), encoding="utf-8")


def end(tuner: psutil.Process) -> None:
    """End a tuner and all that it started: asked first, the rest of them killed."""
    family = [*tuner.children(recursive=True), tuner] if tuner.is_running() else []
    for ask in (psutil.Process.terminate, psutil.Process.kill):
        for each in family:
            try:
                ask(each)
            except psutil.NoSuchProcess:
                continue
        _, family = psutil.wait_procs(family, timeout=GRACE)


def outcome(peer: str, folder: Path, *, seed: int, seconds: float) -> dict[str, Any]:
    """Return a run's figures, without its test accuracy."""
    about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    began = about["began"]
    events = [e for e in read(folder / "events.jsonl") if e.at <= began + seconds]
    best = max(events, key=lambda each: each.val_accuracy)
    return {
        "peer": PEERS[peer],
        "seed": seed,
        "git_commit": about["git_commit"],
        "trials": len({json.dumps(each.point, sort_keys=True) for each in events}),
        "epochs": len(events),
        "first_epoch_seconds": min(each.at - each.seconds for each in events) - began,
        "idle_share": 1 - sum(each.seconds for each in events) / (WORKERS * seconds),
        "val_accuracy": best.val_accuracy,
        "point": best.point,
        "curve": list(rises(events, began)),
    }


def rises(events: list[Event], began: float) -> list[tuple[float, float]]:
    """Return the seconds at which the best validation accuracy so far rose, and to what."""
    curve: list[tuple[float, float]] = []
    for each in events:
        if not curve or each.val_accuracy > curve[-1][1]:
            curve.append((each.at - began, each.val_accuracy))
    return curve


def tested(folder: Path, point: dict[str, Any]) -> list[float]:
    """Return the test accuracies of a run's best point."""
    known = folder / "tested.json"
    if not known.exists():
        jobs = [json.dumps([point, seed]) for seed in range(RETRAININGS)]
        with ThreadPoolExecutor(WORKERS) as pool:
            accuracies = list(pool.map(functools.partial(in_process, MODULE), jobs))
        known.write_text(json.dumps(accuracies), encoding="utf-8")
    return [float(each) for each in json.loads(known.read_text(encoding="utf-8"))]


def main() -> None:
    """Let them work in turns, retrain, and write table and plot."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=6.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--one", metavar="JSON", help="as the program does")
    options = parser.parse_args()
    if options.one:
        point, seed = json.loads(options.one)
        print(json.dumps(train_and_test(SPACE.config(point), SPACE.data, seed=seed)[1]))
        return
    import matplotlib  # noqa: F401  # what is missing is said before the minutes run

    images()
    seconds, rows = 60 * options.minutes, []
    for seed in range(options.seeds):
        for peer in PEERS:
            folder = FOLDER / f"{peer}-{options.minutes:g}-{seed}"
            work(peer, folder, seed=seed, seconds=seconds)
            row = outcome(peer, folder, seed=seed, seconds=seconds)
            rows.append({**row, "test_accuracy": tested(folder, row["point"])})
            shown = {key: value for key, value in rows[-1].items() if key != "curve"}
            print(json.dumps(shown), flush=True)
    publish("peers", page(rows, seconds), rows, seconds=seconds, tuners=REQUIREMENTS)
    plot(rows, seconds, RESULTS / "peers.png")


if __name__ == "__main__":
    main()
