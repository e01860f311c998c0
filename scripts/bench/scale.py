"""Run a thousand trials that sleep on three Ray nodes, and see what each costs the driver.

Everything but training is hwtune's own. Writes results/bench/scale.json and .md:

    python -m scripts.bench.scale --samplers random tpe cmaes gp

The table shows a study in quarters, from proposal to proposal: figures that do not grow from line
to line do not grow with the number of trials. What the end of a study costs is no trial's share,
and has a line of its own. Each study runs in a process of its own, on one thread.
"""

import argparse
import contextlib
import itertools
import json
import os
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import optuna
import ray
from ray import tune
from ray.cluster_utils import Cluster

from hwtune import cluster
from hwtune.data import load_data
from hwtune.search.samplers import SAMPLERS
from hwtune.search.searcher import OptunaSearcher
from hwtune.slots import plan_slots
from hwtune.space import SearchSpace, choice, log_uniform, uniform
from scripts.bench.bare_search import bare_search
from scripts.bench.outcome import in_process, publish, table

MODULE = "scripts.bench.scale"  # this one
NODES, SLOTS, SECONDS, EPOCHS = 3, 32, 1.0, 3
SPACE = SearchSpace(
    question="What does a trial cost the driver?",
    data="digits",
    search={
        "lr": log_uniform(1e-5, 1e-2),
        "translation": uniform(0.0, 0.2),
        "rotation": uniform(0.0, 20.0),
        "filters": choice("4", "8", "16"),
        "hidden": choice("none", "16", "64"),
        "optimizer": choice("adam", "adamw", "sgd"),
    },
    fixed={"epochs": EPOCHS},
)


class Sleeper(tune.Trainable):
    """Sleeps instead of training, and reports as a trial does."""

    def setup(self, config: dict[str, Any], data: Any, store: Any) -> None:
        """Take the first configuration."""
        self.store = store
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next configuration."""
        self.number, self.rate = new_config["trial"], new_config["config"]["lr"]
        self.epoch = 0
        return True

    def step(self) -> dict[str, Any]:
        """Sleep for an epoch."""
        time.sleep(SECONDS / EPOCHS)
        self.epoch += 1
        ray.get(self.store.save.remote(self.number, bytes(1000)))
        accuracy = round(self.epoch / EPOCHS * (1 - abs(self.rate - 1e-3) * 50), 6)
        done = self.epoch == EPOCHS
        return {
            "epoch": self.epoch, "train_loss": 0.1, "val_loss": 0.1, "val_accuracy": accuracy,
            "lr": self.rate, "seconds": SECONDS / EPOCHS, "full_length": done, "failed": "",
            "halt": "", "done": done,
        }  # fmt: skip


class Meter:
    """Notes time, memory and the sampler's share at every proposal, until none is left."""

    def __init__(self) -> None:
        self.over = False
        self.rows: list[tuple[float, float, float, float]] = []
        self.sampling = 0.0

    def note(self) -> None:
        """Add a row: wall clock, the driver's CPU, the sampler's part of it, and memory in MB."""
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        memory = pages * os.sysconf("SC_PAGE_SIZE") / 1e6
        self.rows.append((time.monotonic(), time.process_time(), self.sampling, memory))


def run(trials: int, sampler: str) -> Meter:
    """Run one study on a simulated cluster and return what was measured."""
    meter = Meter()
    ask, suggest = optuna.Study.ask, OptunaSearcher.suggest

    def timed_ask(self: Any, *args: Any, **options: Any) -> Any:
        began = time.process_time()
        try:
            return ask(self, *args, **options)
        finally:
            meter.sampling += time.process_time() - began

    def noted(self: OptunaSearcher, trial_id: str) -> Any:
        if not meter.over:
            meter.note()
        wanted = suggest(self, trial_id)
        meter.over = not isinstance(wanted, dict)
        return wanted

    optuna.Study.ask, OptunaSearcher.suggest = timed_ask, noted  # type: ignore[method-assign]
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": SLOTS // NODES})
    try:
        for _ in range(NODES - 1):
            nodes.add_node(num_cpus=SLOTS // NODES + 1)
        with TemporaryDirectory() as folder, cluster.started(nodes.address):
            bare_search(
                Path(folder), load_data("digits"), runner=Sleeper, trials=trials, space=SPACE,
                slots=plan_slots(cluster.machines_alive(), SLOTS), sampler=sampler,
            )  # fmt: skip
            meter.note()
    finally:
        nodes.shutdown()
        optuna.Study.ask, OptunaSearcher.suggest = ask, suggest  # type: ignore[method-assign]
    return meter


def quarters(meter: Meter, sampler: str) -> list[dict[str, Any]]:
    """Return a line for each quarter of the proposals, and one for the end of the study."""
    last_proposal = len(meter.rows) - 2  # the last row is the end
    edges = [*(round(i * last_proposal / 4) for i in range(5)), last_proposal + 1]
    lines = []
    for first, last in itertools.pairwise(edges):
        (wall, cpu, sampling, _), (wall2, cpu2, sampling2, memory) = (
            meter.rows[first],
            meter.rows[last],
        )
        ends, trials = last > last_proposal, last - first
        lines.append(
            {
                "sampler": sampler,
                "trials": "the end" if ends else f"{first} to {last}",
                "overhead_ms": 1000 * (cpu2 - cpu - (sampling2 - sampling)) / trials,
                "sampler_ms": 1000 * (sampling2 - sampling) / trials,
                "driver_mb": memory,
                "trials_per_second": None if ends else trials / (wall2 - wall),
            }
        )
    return lines


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--samplers", nargs="+", default=["random", "tpe"], choices=SAMPLERS)
    parser.add_argument("--one", metavar="SAMPLER", help="as the program does")
    options = parser.parse_args()
    if options.one:
        with contextlib.redirect_stdout(sys.stderr):
            lines = quarters(run(options.trials, options.one), options.one)
        print(json.dumps(lines))
        return
    rows = []
    for sampler in options.samplers:
        rows += in_process(MODULE, sampler, "--trials", str(options.trials))
    text = (
        f"{options.trials} trials of up to {EPOCHS} epochs of {SECONDS / EPOCHS:.2f} s, {SLOTS} "
        f"slots on {NODES} nodes of one machine with {os.cpu_count()} cores. Overhead is the "
        "driver's CPU time a trial outside the sampler; at the end, of all that comes after the "
        "last proposal. Trials/s is what the cores do with the processes of all slots and nodes on "
        "them: slots wait for the driver, and it for them.\n\n"
    )
    columns = [
        "sampler", "trials", "overhead, ms a trial", "sampler, ms a trial", "driver, MB",
        "trials/s",
    ]  # fmt: skip
    lines = [
        [
            r["sampler"], r["trials"], f"{r['overhead_ms']:.1f}", f"{r['sampler_ms']:.1f}",
            f"{r['driver_mb']:.0f}",
            "" if r["trials_per_second"] is None else f"{r['trials_per_second']:.1f}",
        ]
        for r in rows
    ]  # fmt: skip
    publish("scale", text + table(columns, lines), rows)


if __name__ == "__main__":
    main()
