"""Replay searches over real learning curves, with a simulated clock.

The searcher, the samplers and the schedulers are hwtune's own; only training is looked up: in
results/curves/chinese_cnn.csv, a grid of 6 hyperparameters, and in a model of
results/curves/wide.csv, points of 22. What an earlier search of the grid found on MNIST is taken
from results/curves/mnist.csv; its own time does not count. Writes
results/bench/search_quality.json, .md and .png, and search_quality_wide.*:

    python -m scripts.bench.search_quality

The plots need matplotlib (pip install --group bench).
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing import get_context
from typing import Any

import numpy as np

from hwtune.search.settings import SCHEDULERS
from scripts.bench.outcome import RESULTS, publish, ratio_in_words, table
from scripts.bench.replay import DRAWS, REFERENCE, Method, World, replay
from scripts.bench.worlds import GOOD, agreement, grid, wide

RESAMPLES = 1000
TERMS = (
    "Mixed fidelities: every trial is told as complete with its last accuracy, as Ray's "
    "OptunaSearch does. ASHA as Ray's compares a trial at its rungs alone; factor 4 is Ray's "
    "default and hwtune's, factor 3 was hwtune's before."
)
FLOOR = 0.05  # points of regret below which the plot does not go
PLAIN = [
    Method(sampler, scheduler, mixed=mixed)
    for sampler, mixed in (("random", False), ("tpe", True), ("tpe", False))
    for scheduler in SCHEDULERS[::-1]
]
LADDERS = [
    Method("tpe", "asha", brackets=2),
    Method("tpe", "asha", factor=3, once=True),
    Method("tpe", "asha", once=True),
]
KNOWN = [
    Method("tpe", "asha", baselines=True, starts=True),
    Method("random", "asha", baselines=True, starts=True),
    Method("tpe", "asha", earlier=True),
    Method("random", "asha", earlier=True),
]


@dataclass(frozen=True)
class Comparison:
    """What is compared in a world.

    Attributes:
        seeds: of each method.
        remark: returns what must be known of the world.
    """

    world: Callable[[], World]
    methods: list[Method]
    seeds: int
    remark: Callable[[], str]


def how_good_the_model_is() -> str:
    """Return it in words."""
    found = agreement()
    return (
        "Of random points that it has not learned from the model foretells an accuracy that is "
        f"{100 * found.error:.0f} points off on average; {GOOD:.0%} is reached by {found.good:.1%} "
        f"of real random points and by {found.foretold_good:.1%} of those that it foretells. "
        f"Spearman's correlation is {found.rank:.2f}, and {found.near:.2f} among the neighbours of "
        "good ones. No interval here holds the model's own error."
    )


def what_is_known() -> str:
    """Return what the known points of the grid are, in words."""
    return (
        "The start is the best point of the table: how soon it is reached only says how many "
        "trainings come before it. The best of an MNIST search are the best three of 50 random "
        "draws, others for each seed; the time of that search is not counted."
    )


COMPARISONS = {  # by the name of what is written
    "search_quality": Comparison(
        grid,
        [*PLAIN, *(replace(each, baselines=True) for each in PLAIN), *LADDERS, *KNOWN],
        240,
        what_is_known,
    ),
    "search_quality_wide": Comparison(wide, [*PLAIN, *LADDERS], 60, how_good_the_model_is),
}
SHOWN = (
    "random, none", "random, asha", "tpe (mixed fidelities), asha", "tpe, none",
    "tpe, asha as Ray's, factor 4", "tpe, asha", "tpe, asha, best of an MNIST search",
    "tpe, asha, baselines + start",
)  # fmt: skip


def run(job: tuple[str, Method, int, float]) -> list[tuple[float, float]]:
    """Replay in a worker process."""
    name, method, seed, until = job
    return replay(method, COMPARISONS[name].world(), seed, until)


def regrets(
    improvements: list[tuple[float, float]], best: float, times: list[float]
) -> list[float]:
    """Return the regret at each time, in accuracy; before the first epoch it is `best`."""
    found = []
    for time in times:
        reached = [accuracy for seconds, accuracy in improvements if seconds <= time]
        found.append(best - (reached[-1] if reached else 0.0))
    return found


def speedup(mean: np.ndarray, goal: float, times: list[float], full: float) -> float:
    """Return how many times as soon as at `full` a mean regret reaches the goal; 0 for never."""
    reached = np.flatnonzero(mean <= goal)
    return full / times[reached[0]] if len(reached) else 0.0


def summarise(
    name: str, regret: np.ndarray, ends: np.ndarray, times: list[float], full: float
) -> dict[str, Any]:
    """Return a line of the table.

    `speedup` compares the times at which the mean regret is what the reference's is in the end; 0
    stands for never. Its 95 % interval is the bootstrap's over the seeds of both. `reached` is the
    share of the seeds that are there within a tenth of the reference's time.

    Args:
        regret: (seeds, times).
        ends: the reference's regret in the end, (seeds,).
    """
    mean, goal = regret.mean(0), ends.mean()
    rng = np.random.default_rng(0)
    ratios = [
        speedup(rng.choice(regret, len(regret)).mean(0), rng.choice(ends, len(ends)).mean(), times,
                full)
        for _ in range(RESAMPLES)
    ]  # fmt: skip
    low, high = np.quantile(ratios, (0.025, 0.975))
    tenth = int(np.searchsorted(times, full / 10, side="right")) - 1
    half = int(np.searchsorted(times, full / 2, side="right")) - 1
    spread = 1.96 * regret.std(0, ddof=1) / math.sqrt(len(regret))
    return {
        "method": name,
        "speedup": 1.0 if name == REFERENCE.name else speedup(mean, goal, times, full),
        "speedup_interval": [float(low), float(high)],
        "regret_tenth": float(mean[tenth]),
        "interval_tenth": float(spread[tenth]),
        "regret_half": float(mean[half]),
        "interval_half": float(spread[half]),
        "reached": float((regret[:, tenth] <= goal).mean()),
    }


def plot(
    name: str, world: World, curves: dict[str, np.ndarray], times: list[float], goal: float
) -> None:
    """Draw mean regret against simulated time, with 95 % intervals of the mean."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 5.5))
    minutes, tenth = [time / 60 for time in times], world.seconds / 600
    floor = 100.0
    for method in (method for method in SHOWN if method in curves):
        regret = 100 * curves[method]
        mean = regret.mean(0)
        spread = 1.96 * regret.std(0, ddof=1) / math.sqrt(len(regret))
        (line,) = axes.plot(minutes, mean, label=method)
        low = np.maximum(mean - spread, FLOOR)
        floor = min(floor, low[: np.searchsorted(minutes, 5 * tenth)].min())
        axes.fill_between(minutes, low, mean + spread, alpha=0.15, color=line.get_color())
    axes.axhline(100 * goal, color="grey", linestyle=":", linewidth=1)
    axes.axvline(tenth, color="grey", linestyle=":", linewidth=1)
    axes.text(tenth, floor, " a tenth of the time", va="bottom", color="grey")
    axes.text(
        minutes[0], 100 * goal, f" random search after {DRAWS} draws", va="bottom", color="grey"
    )
    seeds = len(next(iter(curves.values())))
    axes.set(
        xscale="log", yscale="log", xlim=(minutes[0], 5 * tenth), ylim=(floor, 100),
        xlabel="simulated minutes on two cores",
        ylabel="regret in validation accuracy, points",
        title=f"Searching {world.curves} {world.title}\nmean of {seeds} seeds, 95 % interval",
    )  # fmt: skip
    axes.legend(fontsize=8)
    axes.grid(alpha=0.2, which="both")
    figure.tight_layout()
    figure.savefig(RESULTS / f"{name}.png", dpi=110)


def measure(name: str, *, seeds: int | None, processes: int) -> None:
    """Replay everything in one world, print the table and write its files."""
    compared = COMPARISONS[name]
    world, seeds = compared.world(), seeds or compared.seeds
    until = world.seconds
    jobs = [(name, method, seed, until / 2 if method != REFERENCE else math.inf)
            for method in compared.methods for seed in range(seeds)]  # fmt: skip
    with get_context("spawn").Pool(processes) as pool:
        runs = pool.map(run, jobs, chunksize=1)
    by_method: dict[Method, list[list[tuple[float, float]]]] = {}
    for (_, method, _, _), each in zip(jobs, runs, strict=True):
        by_method.setdefault(method, []).append(each)
    # The draws of a seed take more or less than the mean: the clock of each seed is its own.
    times = [float(time) for time in np.geomspace(world.epoch_seconds, until, 400)]
    curves = {
        method.name: np.array([regrets(each, world.best, times) for each in found])
        for method, found in by_method.items()
    }
    ends = np.array([world.best - each[-1][1] for each in by_method[REFERENCE]])
    goal = float(ends.mean())
    rows = [summarise(method, regret, ends, times, until) for method, regret in curves.items()]
    text = (
        f"{world.curves} {world.title}, the best {world.best:.2%}; {seeds} seeds; two slots. "
        f"Random search without stopping has a mean regret of {100 * goal:.3f} points after "
        f"{DRAWS} draws of {world.epochs} epochs, {until / 60:.1f} simulated minutes. Others run "
        "for half of them: what is less than twice as fast is not told how fast. In brackets the "
        f"95 % interval, by the bootstrap over seeds. {compared.remark()} {TERMS}\n\n"
    )
    publish(
        name, text + page(rows), rows, seeds=seeds, configurations=world.curves, best=world.best,
        goal=goal, seconds=until,
    )  # fmt: skip
    plot(name, world, curves, times, goal)


def page(rows: Sequence[dict[str, Any]]) -> str:
    """Return the table for people."""
    columns = [
        "method", "times as fast to that regret", "regret after 1/10 of the time, points",
        "seeds there by then", "regret after 1/2",
    ]  # fmt: skip
    lines = [
        [
            row["method"],
            times_as_fast(row),
            f"{100 * row['regret_tenth']:.3f} ± {100 * row['interval_tenth']:.3f}",
            f"{row['reached']:.0%}",
            f"{100 * row['regret_half']:.3f} ± {100 * row['interval_half']:.3f}",
        ]
        for row in rows
    ]
    return table(columns, lines)


def times_as_fast(row: dict[str, Any]) -> str:
    """Return a speedup with its interval, for people; the reference's is 1 by definition."""
    if row["method"] == REFERENCE.name:
        return "1"
    return ratio_in_words(row["speedup"], *row["speedup_interval"])


def main() -> None:
    """Replay in both worlds, or in one."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, help="of each method; default: each world's")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--worlds", nargs="+", choices=COMPARISONS, default=list(COMPARISONS))
    options = parser.parse_args()
    import matplotlib  # noqa: F401  # what is missing is said before the minutes run

    for name in options.worlds:
        measure(name, seeds=options.seeds, processes=options.processes)


if __name__ == "__main__":
    main()
