"""What each choice of a search was worth, all else equal, with an interval."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution

from hwtune.config import Hyperparameters
from hwtune.records import TrialRecord
from hwtune.space import SearchSpace

FEWEST = 3  # trials that a value needs to be compared
RESAMPLES = 100
TREES = 10
MAX_ASKED = 200  # trials for which the forest is asked

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What a value of a hyperparameter is worth against the one that was tried most.

    Attributes:
        trials: in which the value was tried.
        gain: by how much the expected validation accuracy in [0, 1], if every trial had had the
            value, is above that with `against`.
        low, high: the 95 % interval of the gain; 0 for `against` itself.
    """

    name: str
    value: bool | int | float | str
    against: bool | int | float | str
    trials: int
    gain: float
    low: float
    high: float


def effects(space: SearchSpace, trials: Iterable[TrialRecord]) -> list[Effect]:
    """Return the effects of all choices of which at least two values were tried often enough.

    A search does not draw its trials at random: good values meet each other more often. So a random
    forest learns the accuracy from all hyperparameters, and is asked for every trial with only this
    one changed (partial dependence: Friedman, Greedy function approximation, 2001). The interval is
    the bootstrap's, over trials. A trial counts with the best accuracy that it had, stopped or not.
    """
    tried = [t for t in trials if t.best_epoch and math.isfinite(t.val_accuracy)]
    points = [space.parse(t.config) for t in tried]
    accuracies = np.array([t.val_accuracy for t in tried])
    values = {name: common(name, points) for name, d in space.search.items() if is_choice(d)}
    values = {name: counts for name, counts in values.items() if len(counts) > 1}
    if not values:
        return []
    asked = [(name, value) for name, counts in values.items() for value in counts]
    expected = resampled(space.search, points, accuracies, asked)  # (RESAMPLES, len(asked))
    found = []
    for column, (name, value) in enumerate(asked):
        against = next(iter(values[name]))
        gains = expected[:, column] - expected[:, asked.index((name, against))]
        low, high = np.quantile(gains, (0.025, 0.975))
        found.append(
            Effect(
                name=name,
                value=value,
                against=against,
                trials=values[name][value],
                gain=float(gains.mean()),
                low=float(low),
                high=float(high),
            )
        )
    return found


def is_choice(distribution: BaseDistribution) -> bool:
    """Return whether a hyperparameter is chosen from a list."""
    return isinstance(distribution, CategoricalDistribution)


def common(name: str, points: Sequence[Hyperparameters]) -> Counter[bool | int | float | str]:
    """Return the values that were tried often enough, the most tried first."""
    counts = Counter(point[name] for point in points)
    return Counter({value: n for value, n in counts.most_common() if n >= FEWEST})


def resampled(
    search: Mapping[str, BaseDistribution],
    points: Sequence[Hyperparameters],
    accuracies: Floats,
    asked: Sequence[tuple[str, bool | int | float | str]],
) -> Floats:
    """Return the expected accuracy of each changed hyperparameter, a row a bootstrap sample."""
    from sklearn.ensemble import RandomForestRegressor  # two seconds

    rng = np.random.default_rng(0)
    some = [points[i] for i in rng.permutation(len(points))[:MAX_ASKED]]
    changed = [as_numbers(search, [{**p, name: v} for p in some]) for name, v in asked]
    known, questions = as_numbers(search, points), np.concatenate(changed)
    rows = []
    for sample in range(RESAMPLES):
        chosen = rng.integers(len(points), size=len(points))
        forest = RandomForestRegressor(TREES, random_state=sample)
        forest.fit(known[chosen], accuracies[chosen])
        rows.append(forest.predict(questions).reshape(len(asked), len(some)).mean(1))
    return np.array(rows)


def as_numbers(search: Mapping[str, BaseDistribution], points: Sequence[Hyperparameters]) -> Floats:
    """Return points as rows (N, columns): a choice as one column a value, a range as one."""
    columns = []
    for name, distribution in search.items():
        each = [point[name] for point in points]
        if isinstance(distribution, CategoricalDistribution):
            columns += [[float(v == choice) for v in each] for choice in distribution.choices]
        elif getattr(distribution, "log", False):
            columns.append([math.log(v) for v in each])
        else:
            columns.append([float(v) for v in each])
    return np.array(columns).T
