"""Replay searches over the table of real learning curves, with a simulated clock.

The searcher, the samplers and the schedulers are hwtune's own; only training is looked up in
results/curves/chinese_cnn.csv. Writes results/bench/search_quality.json, .md and .png:

    python -m scripts.bench.search_quality

The plot needs matplotlib (pip install --group bench).
"""

import argparse
import csv
import heapq
import itertools
import math
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from optuna.trial import TrialState
from ray.tune.experiment import Trial as RayTrial
from ray.tune.search import Searcher

from hwtune.models.layers import Cost
from hwtune.records import EpochRecord
from hwtune.search.journal import enqueue_known_points, open_optuna_study
from hwtune.search.ledger import Ledger
from hwtune.search.objectives import Objectives
from hwtune.search.samplers import make_sampler
from hwtune.search.scheduler import EarlyStopping
from hwtune.search.searcher import OptunaSearcher
from hwtune.search.settings import REDUCTION_FACTOR, SCHEDULERS, Settings
from hwtune.search.stopping import Rungs
from hwtune.space import SearchSpace, choice, load_space, log_uniform
from hwtune.study_folder import create_study
from scripts.bench.learning_curves import EPOCHS, GRID, REST, TABLE, key
from scripts.bench.outcome import RESULTS, publish, table

SEEDS, DRAWS, SLOTS = 60, 50, 2
FLOOR = 0.05  # points of regret at which the plot ends
Curve = list[tuple[float, float]]  # of (accuracy, seconds), an epoch each

# The points of the grid nearest to what chinese_cnn knows.
BASELINES = {
    "oafarih": ("64-32", "after", "flatten", "adam", "onecycle", 6.4e-4),
    "lazhili8_cnn": ("16-32", "none", "flatten", "sgd", "constant", 1e-5),
}
STARTS = {"vgg": ("16-32-64-128", "before", "max", "adam", "onecycle", 2.5e-3)}


@dataclass(frozen=True)
class Method:
    """One way to search.

    Attributes:
        mixed: tell a stopped trial as complete with its last accuracy, as Ray's OptunaSearch does.
        baselines, starts: train the known points first.
        factor: of ASHA.
        once: let ASHA compare a trial only when it reaches a rung, as Ray's does.
    """

    sampler: str
    scheduler: str = "none"
    mixed: bool = False
    baselines: bool = False
    starts: bool = False
    brackets: int = 1
    factor: int = REDUCTION_FACTOR
    once: bool = False

    @property
    def name(self) -> str:
        """Return a name for the table."""
        stops = f"{self.scheduler}, {self.brackets} brackets" if self.brackets > 1 else ""
        if self.once:
            stops = f"{self.scheduler} as Ray's, factor {self.factor}"
        known = " + ".join(
            word for word, on in (("baselines", self.baselines), ("start", self.starts)) if on
        )
        told = " (mixed fidelities)" if self.mixed else ""
        return f"{self.sampler}{told}, {stops or self.scheduler}{f', {known}' if known else ''}"


REFERENCE = Method("random")
METHODS = [
    *(
        Method(sampler, scheduler, mixed=mixed, baselines=baselines)
        for baselines in (False, True)
        for sampler, mixed in (("random", False), ("tpe", True), ("tpe", False))
        for scheduler in SCHEDULERS[::-1]
    ),
    Method("tpe", "asha", brackets=2),
    Method("tpe", "asha", factor=3, once=True),
    Method("tpe", "asha", once=True),
    Method("tpe", "asha", baselines=True, starts=True),
    Method("random", "asha", baselines=True, starts=True),
]


def read_curves() -> dict[str, Curve]:
    """Return the learning curve of each point of the grid; a divergence is an accuracy of 0."""
    curves: dict[str, Curve] = {}
    with TABLE.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            accuracy = float(row["val_accuracy"])
            value = (accuracy if math.isfinite(accuracy) else 0.0, float(row["seconds"]))
            curves.setdefault(key(row.values()), []).append(value)
    return {name: curve for name, curve in curves.items() if len(curve) == EPOCHS}


def replay_space(method: Method) -> SearchSpace:
    """Return the grid as a space; the learning rate stays continuous, as in chinese_cnn."""

    def named(points: dict[str, Any]) -> dict[str, Any]:
        return {name: dict(zip(GRID, values, strict=True)) for name, values in points.items()}

    vgg = load_space("chinese_cnn").starts["vgg"]
    return SearchSpace(
        question="Which way to search is the fastest?",
        data="chinese_mnist",
        search={
            **{name: choice(*values) for name, values in GRID.items() if name != "lr"},
            "lr": log_uniform(min(GRID["lr"]), max(GRID["lr"])),
        },
        fixed={**{k: v for k, v in vgg.items() if k not in GRID}, **REST, "epochs": EPOCHS},
        baselines=named(BASELINES if method.baselines else {}),
        starts=named(STARTS if method.starts else {}),
    )


def look_up(curves: dict[str, Curve], config: dict[str, Any]) -> Curve | None:
    """Return the curve of the nearest learning rate, None where the table has none."""
    nearest = min(GRID["lr"], key=lambda lr: abs(math.log(lr / config["lr"])))
    return curves.get(key([config[name] for name in GRID if name != "lr"] + [nearest]))


class Once:
    """A rule that compares a trial only when it reaches one of its rungs."""

    def __init__(self, rungs: Rungs) -> None:
        self.rungs, self.epochs = rungs, {rung.epoch for rung in rungs.descending}

    def judge(self, trial: int, epoch: int, scores: Sequence[float]) -> str:
        """Record one epoch and return why the trial should stop, or ""."""
        return self.rungs.judge(trial, epoch, scores) if epoch in self.epochs else ""


class MixedFidelities(OptunaSearcher):
    """Tells Optuna what Ray's OptunaSearch tells: any trial is complete, with its last accuracy.

    Whether it ran its full length or was stopped (ray/tune/search/optuna/optuna_search.py).
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.last: dict[str, float] = {}

    def record(self, trial_id: str, epoch: EpochRecord) -> bool:
        """Remember the accuracy of a trial's last epoch."""
        self.last[trial_id] = epoch.val_accuracy
        return super().record(trial_id, epoch)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell a trial's last accuracy."""
        if error:
            return super().on_trial_complete(trial_id, result, error)
        trial = self.asked.pop(trial_id)
        return self._tell(trial, TrialState.COMPLETE, "complete", values=[self.last[trial_id]])


def replay(method: Method, seed: int, until: float) -> list[tuple[float, float]]:
    """Search once; return the (simulated seconds, accuracy) of every improvement.

    The reference ends after its draws, others at `until`.
    """
    curves, space = read_curves(), replay_space(method)
    settings = Settings(
        sampler=method.sampler, scheduler=method.scheduler, brackets=method.brackets, seed=seed,
        reduction_factor=method.factor,
    )  # fmt: skip
    rule = settings.rule(epochs=EPOCHS)
    memory = Path("/dev/shm")  # Optuna's journal waits for the disk at every line
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        study_folder = create_study(Path(folder), "s", "s")
        objectives = Objectives(("val_accuracy",), images=1)
        study = open_optuna_study(study_folder, objectives)
        enqueue_known_points(study, space)
        ledger = Ledger(study_folder, space.search)
        stopping = EarlyStopping(
            Once(rule) if method.once and isinstance(rule, Rungs) else rule,
            lambda _, result: [result["val_accuracy"]], lambda _: "",
        )  # fmt: skip
        searcher = (MixedFidelities if method.mixed else OptunaSearcher)(
            study, space, ledger, objectives,
            seed=seed,
            sampler=lambda number, hidden: make_sampler(
                method.sampler, seed=seed, trial=number, parallel=True, hidden=hidden
            ),
            measure=lambda values: Cost(1, 1),
            too_large=lambda cost: "",
            too_slow=lambda cost, config: "",
            finished=lambda: method == REFERENCE and ledger.trained >= DRAWS,
            reasons=stopping.reasons,
        )  # fmt: skip
        best, improvements = 0.0, []
        for seconds, accuracy in events(searcher, stopping, curves, until):
            if accuracy > best:
                best = accuracy
                improvements.append((seconds, best))
        return improvements


def events(
    searcher: OptunaSearcher, stopping: EarlyStopping, curves: dict[str, Curve], until: float
) -> Iterator[tuple[float, float]]:
    """Yield (time, accuracy) of every epoch, in time's order, as the slots train side by side."""
    counter = itertools.count()
    queue: list[tuple[float, int, RayTrial, Curve, int]] = []

    def begin(now: float) -> None:
        while True:
            name = f"t{next(counter)}"
            suggested = searcher.suggest(name)
            if suggested == Searcher.FINISHED or not isinstance(suggested, dict):
                return
            curve = look_up(curves, suggested["config"])
            if curve is not None:
                trial = RayTrial("replay", config=suggested, trial_id=name, stub=True)
                heapq.heappush(queue, (now + curve[0][1], next(counter), trial, curve, 1))
                return
            searcher.on_trial_complete(name, error=True)  # not trained yet: a table half-way

    for _ in range(SLOTS):
        begin(0.0)
    while queue:
        now, _, trial, curve, epoch = heapq.heappop(queue)
        if now > until:
            return
        accuracy = curve[epoch - 1][0]
        result = {"epoch": epoch, "val_accuracy": accuracy, "full_length": epoch == EPOCHS}
        stops = epoch < EPOCHS and stopping.on_trial_result(None, trial, result) == "STOP"
        number = trial.config["trial"]
        record = EpochRecord(number, epoch, 0.0, 1 - accuracy, accuracy, 0.0, curve[epoch - 1][1])
        searcher.record(trial.trial_id, record)
        yield now, accuracy
        if stops or epoch == EPOCHS:
            stopping.on_trial_complete(None, trial, result)
            searcher.on_trial_complete(trial.trial_id, result)
            begin(now)
        else:
            later = now + curve[epoch][1]
            heapq.heappush(queue, (later, next(counter), trial, curve, epoch + 1))


def run(job: tuple[Method, int, float]) -> list[tuple[float, float]]:
    """Replay in a worker process."""
    return replay(*job)


def regrets(
    improvements: list[tuple[float, float]], best: float, times: list[float]
) -> list[float]:
    """Return the regret at each time, in accuracy; before the first epoch it is `best`."""
    found = []
    for time in times:
        reached = [accuracy for seconds, accuracy in improvements if seconds <= time]
        found.append(best - (reached[-1] if reached else 0.0))
    return found


def summarise(
    name: str, regret: np.ndarray, goal: float, times: list[float], full: float
) -> dict[str, Any]:
    """Return a line of the table; `regret` is (seeds, times).

    `speedup` compares the times at which the mean regret reaches `goal`; `reached` is the share of
    the seeds that reach it within a tenth of the reference's time.
    """
    mean = regret.mean(0)
    reached = np.flatnonzero(mean <= goal)
    time = times[reached[0]] if len(reached) else None
    tenth = int(np.searchsorted(times, full / 10, side="right")) - 1
    half = int(np.searchsorted(times, full / 2, side="right")) - 1
    spread = 1.96 * regret.std(0, ddof=1) / math.sqrt(len(regret))
    return {
        "method": name,
        "speedup": None if time is None else full / time,
        "regret_tenth": float(mean[tenth]),
        "interval_tenth": float(spread[tenth]),
        "regret_half": float(mean[half]),
        "interval_half": float(spread[half]),
        "reached": float((regret[:, tenth] <= goal).mean()),
    }


def plot(curves: dict[str, np.ndarray], times: list[float], goal: float, full: float) -> None:
    """Draw mean regret against simulated time, with 95 % intervals of the mean."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 5.5))
    shown = (
        "random, none", "random, asha", "tpe (mixed fidelities), asha", "tpe, none",
        "tpe, asha as Ray's, factor 3", "tpe, asha", "tpe, asha, baselines + start",
    )  # fmt: skip
    for name in shown:
        regret = 100 * curves[name]
        mean = regret.mean(0)
        spread = 1.96 * regret.std(0, ddof=1) / math.sqrt(len(regret))
        minutes = [time / 60 for time in times]
        (line,) = axes.plot(minutes, mean, label=name)
        low = np.maximum(mean - spread, FLOOR)
        axes.fill_between(minutes, low, mean + spread, alpha=0.15, color=line.get_color())
    axes.axhline(100 * goal, color="grey", linestyle=":", linewidth=1)
    axes.axvline(full / 600, color="grey", linestyle=":", linewidth=1)
    axes.text(full / 600, FLOOR, " a tenth of the time", va="bottom", color="grey")
    axes.text(times[0] / 60, 100 * goal, " random search after 50 draws", va="bottom", color="grey")
    axes.set(
        xscale="log", yscale="log", xlim=(times[0] / 60, full / 120), ylim=(FLOOR, 100),
        xlabel="simulated minutes on two cores",
        ylabel="regret in validation accuracy, points",
        title=f"Searching {len(read_curves())} real learning curves of chinese_cnn, "
        f"mean of {len(next(iter(curves.values())))} seeds, 95 % interval",
    )  # fmt: skip
    axes.legend(fontsize=8)
    axes.grid(alpha=0.2, which="both")
    figure.tight_layout()
    figure.savefig(RESULTS / "search_quality.png", dpi=110)


def main() -> None:
    """Replay everything, print the table and write the files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    known = read_curves()
    best = max(accuracy for curve in known.values() for accuracy, _ in curve)
    mean_epoch = statistics.fmean(seconds for curve in known.values() for _, seconds in curve)
    until = DRAWS * EPOCHS * mean_epoch / SLOTS
    jobs = [(method, seed, until / 2 if method != REFERENCE else math.inf)
            for method in METHODS for seed in range(options.seeds)]  # fmt: skip
    with get_context("spawn").Pool(options.processes) as pool:
        runs = pool.map(run, jobs, chunksize=1)
    # The draws of a seed take more or less than the mean: the clock of each seed is its own.
    times = [float(time) for time in np.geomspace(mean_epoch, until, 400)]
    curves = {
        method.name: np.array(
            [
                regrets(each, best, times)
                for (m, _, _), each in zip(jobs, runs, strict=True)
                if m == method
            ]
        )
        for method in METHODS
    }
    ends = [
        best - each[-1][1] for (m, _, _), each in zip(jobs, runs, strict=True) if m == REFERENCE
    ]
    goal = statistics.fmean(ends)
    rows = [summarise(name, regret, goal, times, until) for name, regret in curves.items()]
    text = (
        f"{len(known)} configurations, best {best:.2%}; {options.seeds} seeds; two slots. Random "
        f"search without stopping has a mean regret of {100 * goal:.3f} points after {DRAWS} draws "
        f"of {EPOCHS} epochs, {until / 60:.1f} simulated minutes.\n\n"
    )
    columns = [
        "method", "times as fast to that regret", "regret after 1/10 of the time, points",
        "seeds there by then", "regret after 1/2",
    ]  # fmt: skip
    lines = [
        [
            row["method"],
            "not reached" if row["speedup"] is None else f"{row['speedup']:.1f}",
            f"{100 * row['regret_tenth']:.3f} ± {100 * row['interval_tenth']:.3f}",
            f"{row['reached']:.0%}",
            f"{100 * row['regret_half']:.3f} ± {100 * row['interval_half']:.3f}",
        ]
        for row in rows
    ]
    publish(
        "search_quality", text + table(columns, lines), rows, seeds=options.seeds,
        configurations=len(known), best=best, goal=goal, seconds=until,
    )  # fmt: skip
    plot(curves, times, goal, until)


if __name__ == "__main__":
    main()
