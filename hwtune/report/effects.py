"""What each choice of a search was worth, all else equal, with an interval."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution

from hwtune.config import Hyperparameters
from hwtune.records import TrialRecord
from hwtune.space import SearchSpace
from hwtune.statistics import CONFIDENCE, QUANTILE

FEWEST, MOST = 3, 2000  # trials: that a value needs to be compared; that are looked at
MOST_TOLD = 3  # choices in a sentence
TREES, LEAF = 100, 3  # of a forest
LEAST_FREE = 0.5  # of a value: the sum of squares that no other hyperparameter foretells

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What a value of a hyperparameter is worth against the one that was tried most.

    Attributes:
        trials: in which the value was tried.
        gain: by how much the expected validation accuracy in [0, 1] is above that with `against`,
            all other hyperparameters alike.
        low, high: the 95 % interval of the gain; 0 for `against` itself.
        chance: how likely so large a gain is where there is none (a two-sided test's p).
    """

    name: str
    value: bool | int | float | str
    against: bool | int | float | str
    trials: int
    gain: float
    low: float
    high: float
    chance: float = 1.0


def effects(space: SearchSpace, trials: Iterable[TrialRecord]) -> list[Effect]:
    """Return the effects of all choices of which at least two values were tried often enough.

    A search does not draw its trials at random: good values meet each other more often. So what
    the other hyperparameters explain is taken away from both sides first, by random forests
    (Robinson, Root-N-consistent semiparametric regression, 1988; Chernozhukov and others,
    Double/debiased machine learning, arXiv 1608.00060; by the trees that have not seen a trial:
    Athey and others, Generalized random forests, arXiv 1610.01271). Trials count most where others
    like them tried another value. One that diverged before counts with 0.

    Args:
        trials: with accuracies that compare: after as many epochs, or in full.
    """
    tried = [t for t in trials if math.isfinite(outcome(t))]
    tried = random.Random(0).sample(tried, min(len(tried), MOST))
    points = [space.parse(t.config) for t in tried]
    accuracies = np.array([outcome(t) for t in tried])
    values = {name: common(name, points) for name, d in space.search.items() if is_choice(d)}
    return [
        effect
        for name, counts in values.items()
        if len(counts) > 1
        for effect in gains_of(name, counts, space.search, points, accuracies)
    ]


def outcome(trial: TrialRecord) -> float:
    """Return the accuracy that a trial stands for, NaN where that is unknown."""
    if trial.diverged:
        return 0.0
    return trial.val_accuracy if trial.best_epoch else math.nan


def is_choice(distribution: BaseDistribution) -> bool:
    """Return whether a hyperparameter is chosen from a list."""
    return isinstance(distribution, CategoricalDistribution)


def common(name: str, points: Sequence[Hyperparameters]) -> Counter[bool | int | float | str]:
    """Return the values that were tried often enough, the most tried first."""
    counts = Counter(point[name] for point in points)
    return Counter({value: n for value, n in counts.most_common() if n >= FEWEST})


def gains_of(
    name: str,
    counts: Counter[bool | int | float | str],
    search: Mapping[str, BaseDistribution],
    points: Sequence[Hyperparameters],
    accuracies: Floats,
) -> list[Effect]:
    """Return the effects of the values of one hyperparameter, but of those that others foretell.

    Accuracy and value are each foretold from all other hyperparameters. What is left of the one is
    regressed on what is left of the other.
    """
    from scipy.special import stdtr, stdtrit  # of the page alone; a search does without

    against, *values = counts
    among = [i for i, point in enumerate(points) if point[name] in counts]
    others = {other: distribution for other, distribution in search.items() if other != name}
    known = as_numbers(others, [points[i] for i in among])
    if np.ptp(accuracies[among]) == 0:  # nothing did anything, and nothing scatters
        return []
    chosen = [[float(points[i][name] == value) for value in values] for i in among]
    both = np.column_stack([accuracies[among], chosen])
    accuracy, free = np.split(both - foretold(known, both), [1], axis=1)
    if np.square(free.sum(1)).sum() < LEAST_FREE:  # others foretell it: nothing compares with it
        rest = Counter({value: counts[value] for value in values})
        return gains_of(name, rest, search, points, accuracies) if len(values) > 1 else []
    told = np.square(free).sum(0) >= LEAST_FREE
    values, free = list(itertools.compress(values, told)), free[:, told]
    if not values:
        return []
    gains, errors = regression(free, accuracy[:, 0])
    degrees = len(among) - free.shape[1] - 1
    margins = stdtrit(degrees, QUANTILE) * errors
    chances = 2 * stdtr(degrees, -np.abs(gains) / errors)
    nothing = [(against, 0.0, 0.0, 1.0)]
    return [
        Effect(
            name=name, value=value, against=against, trials=counts[value], gain=float(gain),
            # No accuracy can gain more than all: a wider interval tells no more.
            low=max(-1.0, float(gain - margin)), high=min(1.0, float(gain + margin)),
            chance=float(chance),
        )
        for value, gain, margin, chance in [
            *nothing, *zip(values, gains, margins, chances, strict=True),
        ]
    ]  # fmt: skip


def worth_in_words(found: Sequence[Effect], at_length: str) -> str:
    """Return which choices were worth something at 95 %, the largest gains first, or "".

    Args:
        at_length: after how long they were compared.
    """
    rows = [each for each in found if each.value != each.against]
    told = [each for each, is_told in zip(rows, told_from_chance(rows), strict=True) if is_told]
    if not told:
        return f"No single choice can be told from chance {at_length}." if rows else ""
    told.sort(key=lambda each: -abs(each.gain))
    each_in_words = "; ".join(
        f"{e.name}: {e.value} instead of {e.against} is worth {100 * e.gain:+.2f} points "
        f"({100 * e.low:+.2f} to {100 * e.high:+.2f})"
        for e in told[:MOST_TOLD]
    )
    more = f"; and {len(told) - MOST_TOLD} more" if len(told) > MOST_TOLD else ""
    return f"On validation {at_length}, all else equal, with 95 % intervals: {each_in_words}{more}."


def told_from_chance(found: Sequence[Effect]) -> list[bool]:
    """Return which effects are there at 95 %, all of them considered together.

    Holm, A simple sequentially rejective multiple test procedure, 1979.
    """
    order = sorted(range(len(found)), key=lambda i: found[i].chance)
    told = [False] * len(found)
    for place, index in enumerate(order):
        if not found[index].chance * (len(found) - place) <= 1 - CONFIDENCE:
            break
        told[index] = True
    return told


def foretold(known: Floats, wanted: Floats) -> Floats:
    """Return what is expected of each trial (N, K) by the trees of a forest that have not seen it.

    Args:
        known: (N, columns).
        wanted: what one forest learns together, (N, K).
    """
    from sklearn.ensemble import RandomForestRegressor  # two seconds

    scale = wanted.std(0) + 1e-9
    forest = RandomForestRegressor(TREES, min_samples_leaf=LEAF, oob_score=True, random_state=0)
    return forest.fit(known, wanted / scale).oob_prediction_ * scale


def regression(given: Floats, wanted: Floats) -> tuple[Floats, Floats]:
    """Return the coefficients (K,) of least squares without a constant, and their errors.

    The errors hold where trials scatter unevenly (HC3: MacKinnon and White, 1985).

    Args:
        given: (N, K).
        wanted: (N,).
    """
    inverse = np.linalg.pinv(given.T @ given)
    coefficients = inverse @ given.T @ wanted
    leverage = np.einsum("ni,ij,nj->n", given, inverse, given)
    left = (wanted - given @ coefficients) / (1 - leverage).clip(0.01)
    covariance = inverse @ (given.T * left**2) @ given @ inverse
    return coefficients, np.sqrt(np.diag(covariance))


def as_numbers(search: Mapping[str, BaseDistribution], points: Sequence[Hyperparameters]) -> Floats:
    """Return points as rows (N, columns): a choice as one column a value, a range as one."""
    columns = [[0.0] * len(points)]  # a space may have nothing else
    for name, distribution in search.items():
        each = [point[name] for point in points]
        if isinstance(distribution, CategoricalDistribution):
            columns += [[float(v == choice) for v in each] for choice in distribution.choices]
        elif getattr(distribution, "log", False):
            columns.append([math.log(v) for v in each])
        else:
            columns.append([float(v) for v in each])
    return np.array(columns).T
