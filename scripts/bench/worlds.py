"""The two worlds that searches are replayed in: a table of curves, and a model of another.

Such a model is a surrogate benchmark: Eggensperger et al., Efficient Benchmarking of Hyperparameter
Optimizers via Surrogates, AAAI 2015.
"""

from __future__ import annotations

import csv
import functools
import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.distributions import CategoricalDistribution, FloatDistribution

from hwtune.config import Hyperparameters
from hwtune.pipeline.warm_start import BEST
from hwtune.space import SearchSpace, choice, load_space, log_uniform
from scripts.bench.learning_curves import EPOCHS, GRID, REST, TABLES, key
from scripts.bench.peers.task import SPACE as WIDE
from scripts.bench.replay import DRAWS, Curve, Method, World
from scripts.bench.wide_curves import ACCURACIES, NAMES, RANDOM, random_point, read

Row = dict[str, Any]

FRESH = 300  # points that tell what a random one costs in the model
GOOD = 0.95  # an accuracy that few random points reach

# The points of the grid nearest to what chinese_cnn knows.
BASELINES = {
    "oafarih": ("64-32", "after", "flatten", "adam", "onecycle", 6.4e-4),
    "lazhili8_cnn": ("16-32", "none", "flatten", "sgd", "constant", 1e-5),
}
STARTS = {"vgg": ("16-32-64-128", "before", "max", "adam", "onecycle", 2.5e-3)}


@functools.cache
def grid() -> World:
    """Return the world of the grid, whose points were all trained."""
    curves = read_curves("chinese_mnist")
    every = [point for curve in curves.values() for point in curve]
    return World(
        space=grid_space,
        curve=functools.partial(look_up, curves),
        epochs=EPOCHS,
        best=max(accuracy for accuracy, _ in every),
        epoch_seconds=statistics.fmean(seconds for _, seconds in every),
        curves=len(curves),
        title="real learning curves of chinese_cnn",
    )


def read_curves(data: str) -> dict[str, Curve]:
    """Return the learning curves of the points of the grid, none of which diverged."""
    curves: dict[str, Curve] = {}
    with TABLES[data].open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            value = (float(row["val_accuracy"]), float(row["seconds"]))
            curves.setdefault(key(row.values()), []).append(value)
    return curves


def grid_space(method: Method, seed: int) -> SearchSpace:
    """Return the grid as a space; the learning rate stays continuous, as in chinese_cnn."""

    def named(points: dict[str, Any]) -> dict[str, Any]:
        return {name: dict(zip(GRID, values, strict=True)) for name, values in points.items()}

    starts = {
        **(STARTS if method.starts else {}),
        **(found_on_mnist(seed) if method.earlier else {}),
    }
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
        starts=named(starts),
    )


def found_on_mnist(seed: int) -> dict[str, tuple[Any, ...]]:
    """Return the best points of a search of the same grid on MNIST: as many random draws as here.

    Each seed has an earlier search of its own.
    """
    curves = read_curves("mnist")
    drawn = np.random.default_rng((4, seed)).permutation(sorted(curves))[:DRAWS]
    best = sorted(drawn, key=lambda point: -max(accuracy for accuracy, _ in curves[point]))[:BEST]
    typed = {str(value): value for values in GRID.values() for value in values}
    return {
        f"mnist-{place}": tuple(typed[word] for word in point.split())
        for place, point in enumerate(best)
    }


def look_up(curves: Mapping[str, Curve], point: Hyperparameters) -> Curve:
    """Return the curve of the nearest learning rate."""
    nearest = min(GRID["lr"], key=lambda lr: abs(math.log(lr / point["lr"])))
    return curves[key([point[name] for name in GRID if name != "lr"] + [nearest])]


@functools.cache
def whole_model() -> Model:
    """Return the model that has learned from every point."""
    return Model(read())


@functools.cache
def fresh_curves() -> list[Curve]:
    """Return what the model foretells of `FRESH` random points that were never trained."""
    return [whole_model().curve(random_point((3, draw))) for draw in range(FRESH)]


@functools.cache
def wide() -> World:
    """Return the world of the space of 22 hyperparameters, whose curves a model foretells."""
    rows = read()
    return World(
        space=lambda method, seed: WIDE,
        curve=whole_model().curve,
        epochs=len(ACCURACIES),
        best=max(row[name] for row in rows for name in ACCURACIES),
        epoch_seconds=statistics.fmean(curve[0][1] for curve in fresh_curves()),
        curves=len(rows),
        title=f"real learning curves over {len(NAMES)} hyperparameters, which a model extends",
    )


class Model:
    """Foretells the learning curve of a point: extremely randomised trees (Geurts et al., 2006).

    A point that it has learned from gets its own curve.
    """

    FLOOR = 0.003  # of the error whose logarithm is learned

    def __init__(self, rows: list[Row]) -> None:
        from sklearn.ensemble import ExtraTreesRegressor

        points = np.array([encoded(row) for row in rows])
        errors = np.array([[1 - row[name] for name in ACCURACIES] for row in rows])
        seconds = np.array([row["seconds"] for row in rows])
        trees = functools.partial(ExtraTreesRegressor, random_state=0)
        self.errors = trees(150, max_features=0.5).fit(points, np.log(errors + self.FLOOR))
        self.seconds = trees(50).fit(points, np.log(seconds))

    def curve(self, point: Hyperparameters) -> Curve:
        """Return the curve of a point."""
        at = np.array([encoded(point)])
        accuracies = np.clip(1 + self.FLOOR - np.exp(self.errors.predict(at)[0]), 0, 1)
        seconds = float(np.exp(self.seconds.predict(at)[0]))
        return [(round(float(accuracy), 4), seconds) for accuracy in accuracies]


def encoded(point: Mapping[str, Any]) -> list[float]:
    """Return a point as numbers: a choice as one of several, a rate by its logarithm."""
    numbers: list[float] = []
    for name, each in WIDE.search.items():
        if isinstance(each, CategoricalDistribution):
            numbers += [float(point[name] == value) for value in each.choices]
        else:
            assert isinstance(each, FloatDistribution)
            numbers.append(math.log(point[name]) if each.log else point[name])
    return numbers


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How well the model foretells the last accuracy of points that it has not learned from.

    Attributes:
        rank: Spearman's correlation, of the random points; near: of the neighbours of good ones.
        error: the mean distance, of the random points, in accuracy.
        good, foretold_good: the share of random points that reach `GOOD`, really and foretold, the
            latter of `FRESH` points that were never trained.
    """

    rank: float
    near: float
    error: float
    good: float
    foretold_good: float


def agreement(folds: int = 10) -> Agreement:
    """Return how well the model foretells, by cross-validation."""
    from scipy.stats import spearmanr

    rows, foretold = read(), dict[int, float]()
    for fold in range(folds):
        model = Model([row for i, row in enumerate(rows) if i % folds != fold])
        foretold |= {i: model.curve(rows[i])[-1][0] for i in range(fold, len(rows), folds)}

    found = np.array([[foretold[i], row[ACCURACIES[-1]]] for i, row in enumerate(rows)])
    near = np.array([row["number"] >= RANDOM for row in rows])
    foretold_random, real_random = found[~near].T
    fresh = np.array([curve[-1][0] for curve in fresh_curves()])
    return Agreement(
        rank=float(spearmanr(*found[~near].T).statistic),
        near=float(spearmanr(*found[near].T).statistic),
        error=float(np.abs(foretold_random - real_random).mean()),
        good=float((real_random >= GOOD).mean()),
        foretold_good=float((fresh >= GOOD).mean()),
    )
