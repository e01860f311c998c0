"""Rules that stop trials early and say why; they know nothing of Ray and can be rebuilt.

A rule hears `judge(trial, epoch, scores)` for every epoch of every trial, in the order in which
they were recorded. Scores are what the study optimises, larger is better, one an objective.
"""

from __future__ import annotations

import math
import statistics
from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from hwtune.records import rung_epochs

SHARES = {2: "half", 3: "third", 4: "quarter"}
MEDIAN_AFTER = 3  # other trials, as in Ray's MedianStoppingRule


class StoppingRule(Protocol):
    """What the scheduler and a resumed study need of a rule."""

    def judge(self, trial: int, epoch: int, scores: Sequence[float]) -> str:
        """Record one epoch and return why the trial should stop, or "" when it may go on.

        An epoch that it has heard changes nothing.
        """


@dataclass
class Rung:
    """The scores of the trials that reached `epoch`, by trial.

    Attributes:
        ordered: the scores of a single objective, ascending: a verdict shall cost the same however
            many trials there are.
        dominators: for several objectives, by trial, how many others are better in one of them
            and no worse in any.
    """

    epoch: int
    scores: dict[int, tuple[float, ...]] = field(default_factory=dict)
    ordered: list[float] = field(default_factory=list)
    dominators: dict[int, int] = field(default_factory=dict)

    def add(self, trial: int, scores: tuple[float, ...]) -> None:
        """Take in the scores of a trial, the first that it has here."""
        if trial in self.scores:
            return
        if len(scores) > 1:
            others = np.array([*self.scores.values()]).reshape(-1, len(scores))
            no_worse, no_better = (np.all(o, axis=1) for o in (others >= scores, others <= scores))
            for other, dominated in zip(self.scores, (no_better & ~no_worse).tolist(), strict=True):
                self.dominators[other] += dominated
            self.dominators[trial] = int((no_worse & ~no_better).sum())
        else:
            insort(self.ordered, scores[0])
        self.scores[trial] = scores

    def verdict(self, trial: int, now: int, *, factor: int) -> str:
        """Return why a trial that is at epoch `now` should stop, or ""."""
        mine = self.scores[trial]
        if len(self.scores) < 2:
            return ""
        where = "" if now == self.epoch else f" at epoch {self.epoch}"
        share = f"top {SHARES.get(factor, f'1/{factor}')} of {len(self.scores)}"
        if len(mine) > 1:
            dominating = self.dominators[trial]
            rest = [count for other, count in self.dominators.items() if other != trial]
            allowed = int(np.percentile(rest, 100 / factor))
            if dominating <= allowed:
                return ""
            return (
                f"epoch {now}: {dominating} trials dominate it{where}, at most {allowed} may "
                f"({share})"
            )
        needed = quantile_of_others(self.ordered, mine[0], 1 - 1 / factor)
        if not mine[0] < needed:
            return ""
        rank = 1 + len(self.ordered) - bisect_right(self.ordered, mine[0])
        return f"epoch {now}: {mine[0]:.4f}{where}, needed {needed:.4f} ({share}), rank {rank}"


def quantile_of_others(ordered: Sequence[float], mine: float, share: float) -> float:
    """Return a quantile, by linear interpolation, of ascending values without one of them."""
    left_out = bisect_left(ordered, mine)
    place = share * (len(ordered) - 2)
    low, high = (ordered[at + (at >= left_out)] for at in (int(place), math.ceil(place)))
    return low + (place - int(place)) * (high - low)


class Rungs:
    """ASHA: one in `reduction_factor` of the trials that reach a rung goes on.

    Li et al., A System for Massively Parallel Hyperparameter Tuning, arXiv 1810.05934. A trial is
    compared when it reaches a rung, as by Ray's AsyncHyperBandScheduler, and again after each
    epoch until the next one, with all that reached the rung since: the first ones pass with hardly
    anybody to be compared with, and would run on. Several objectives are judged by how many trials
    dominate a trial.

    Args:
        grace_period: epochs before a trial can be stopped.
        reduction_factor: between rungs, and of the trials at a rung.
        max_epochs: the longest trial.
    """

    def __init__(self, *, grace_period: int, reduction_factor: int, max_epochs: int) -> None:
        self.factor = reduction_factor
        epochs = rung_epochs(
            grace_period=grace_period, reduction_factor=reduction_factor, longest=max_epochs
        )
        self.descending = [Rung(epoch) for epoch in reversed(epochs)]
        self.heard: dict[int, int] = {}  # the last epoch of each trial

    def judge(self, trial: int, epoch: int, scores: Sequence[float]) -> str:
        """Record one epoch and return why the trial should stop, or "" when it may go on.

        What a trial reports again, from another process, is judged already.
        """
        if epoch <= self.heard.get(trial, 0):
            return ""
        self.heard[trial] = epoch
        for rung in self.descending:
            if epoch >= rung.epoch:
                rung.add(trial, tuple(scores))
                return rung.verdict(trial, epoch, factor=self.factor)
        return ""


class Brackets:
    """ASHA with several grace periods: each bracket has a ladder of its own.

    A trial's bracket follows from its number, in the proportions of Ray's scheduler: a ladder of
    n rungs is taken with a probability proportional to e^n. There are no more than there are rungs.
    """

    def __init__(
        self, *, grace_period: int, reduction_factor: int, max_epochs: int, brackets: int
    ) -> None:
        whole = Rungs(
            grace_period=grace_period, reduction_factor=reduction_factor, max_epochs=max_epochs
        )
        graces = [rung.epoch for rung in reversed(whole.descending)][:brackets]
        self.ladders = [
            Rungs(grace_period=grace, reduction_factor=reduction_factor, max_epochs=max_epochs)
            for grace in graces
        ]
        sizes = np.exp([len(ladder.descending) for ladder in self.ladders])
        self.shares = sizes / sizes.sum()

    def bracket_of(self, trial: int) -> int:
        """Return which ladder a trial climbs."""
        return int(np.random.default_rng(trial).choice(len(self.ladders), p=self.shares))

    def judge(self, trial: int, epoch: int, scores: Sequence[float]) -> str:
        """Record one epoch and return why the trial should stop, or "" when it may go on."""
        return self.ladders[self.bracket_of(trial)].judge(trial, epoch, scores)


class MedianRule:
    """Stops a trial whose best is below the median of the others' running means.

    Golovin et al., Google Vizier, KDD 2017, section 3.2.2. One objective only.
    """

    def __init__(self, *, grace_period: int) -> None:
        self.grace_period = grace_period
        self.heard: dict[int, list[float]] = defaultdict(list)  # by trial
        self.means: dict[int, list[float]] = defaultdict(list)  # by epoch, ascending

    def judge(self, trial: int, epoch: int, scores: Sequence[float]) -> str:
        """Record one epoch and return why the trial should stop, or "" when it may go on."""
        mine = self.heard[trial]
        if epoch <= len(mine):
            return ""
        mine.append(scores[0])
        means, mean = self.means[epoch], statistics.fmean(mine)
        others = len(means)
        insort(means, mean)
        if epoch < self.grace_period or others < MEDIAN_AFTER:
            return ""
        needed, best = quantile_of_others(means, mean, 0.5), max(mine)
        if not best < needed:
            return ""
        return (
            f"epoch {epoch}: best {best:.4f}, needed {needed:.4f} (median of the mean accuracies "
            f"of {others} others)"
        )
