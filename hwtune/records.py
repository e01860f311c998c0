"""What is known of epochs and trials, and which trials are the best."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from hwtune.config import Hyperparameters
from hwtune.values import scored

CLOSE = 5  # images, by which two trials are too close to tell apart
DIVERGED = "diverged"  # begins the reason of a trial whose losses are no numbers any more
TrialState = Literal["running", "complete", "stopped", "failed"]


@dataclass(frozen=True)
class EpochRecord:
    """A line of `epochs.csv`; accuracy in [0, 1], losses a mean over images."""

    trial: int
    epoch: int
    train_loss: float
    val_loss: float
    val_accuracy: float
    lr: float
    seconds: float


@dataclass
class TrialRecord:
    """A line of `trials.csv`: a trial and its best epoch.

    Attributes:
        baseline: the published system's name, or "".
        epochs: how many were trained.
        val_accuracy, val_loss: of the epoch with the highest accuracy (ties: the lowest loss).
        best_epoch: that epoch, 0 before the first; not in the file, which `epochs.csv` tells.
        reason: why it was stopped or failed, in words.
        config: the searched hyperparameters.
    """

    trial: int
    baseline: str = ""
    state: TrialState = "running"
    epochs: int = 0
    val_accuracy: float = math.nan
    val_loss: float = math.nan
    parameters: int = 0
    seconds: float = 0.0
    reason: str = ""
    config: Hyperparameters = field(default_factory=dict)
    best_epoch: int = 0

    @property
    def name(self) -> str:
        """Return what the records of a test and the plots call the trial."""
        return self.baseline or f"trial {self.trial}"

    @property
    def outcome(self) -> str:
        """Return the state, and why it came to that, in words."""
        return f"{self.state}: {self.reason}" if self.reason else self.state

    @property
    def diverged(self) -> bool:
        """Return whether the trial ended because its losses were no numbers any more."""
        return self.state == "failed" and self.reason.startswith(DIVERGED)

    @property
    def point(self) -> frozenset[tuple[str, Any]]:
        """Return what is equal for trials of one configuration."""
        return frozenset(self.config.items())

    def add(self, epoch: EpochRecord) -> None:
        """Take one more epoch into account."""
        self.epochs = epoch.epoch
        self.seconds += epoch.seconds
        rank, best = (epoch.val_accuracy, -epoch.val_loss), (self.val_accuracy, -self.val_loss)
        if not self.best_epoch or rank > best:
            self.best_epoch = epoch.epoch
            self.val_accuracy, self.val_loss = epoch.val_accuracy, epoch.val_loss


def ranked(trials: Iterable[TrialRecord]) -> list[TrialRecord]:
    """Return the trials that have an accuracy and did not fail, the best first.

    Validation accuracy decides, then validation loss, then the number of parameters; a trial that
    was cut off when the time was over may well win.
    """
    seen = [t for t in trials if t.best_epoch and math.isfinite(t.val_accuracy)]
    seen = [t for t in seen if t.state != "failed"]
    return sorted(
        seen,
        key=lambda t: (-t.val_accuracy, t.val_loss, t.parameters, t.trial),
    )


def too_close(chosen: TrialRecord, tried: Iterable[TrialRecord], images: int) -> int:
    """Return how many of the others that were tried validation cannot tell from the chosen one.

    Even if two read all other images alike, a difference of five has p = 0.06 (McNemar, Note on the
    sampling error of the difference between correlated proportions or percentages, 1947; exact).
    """
    gaps = (images * (each.val_accuracy - chosen.val_accuracy) for each in tried)
    return sum(abs(round(gap)) <= CLOSE for gap in gaps) - 1  # itself


def more_trials(trials: Collection[TrialRecord]) -> list[str]:
    """Return the option by which `resume` tries others where every trial failed, else none.

    Without it such a search would only fail once more.
    """
    failed = trials and all(trial.state == "failed" for trial in trials)
    return [f"--trials {2 * len(trials)}"] if failed else []


def once_each(order: Iterable[TrialRecord]) -> list[TrialRecord]:
    """Return ranked trials, of each configuration the longest.

    The end of a search may have cut one off, with which a longer budget has gone on.
    """
    trials = list(order)
    longest: dict[frozenset[tuple[str, Any]], TrialRecord] = {}
    for trial in trials:
        longest[trial.point] = max(
            longest.get(trial.point, trial), trial, key=lambda each: each.epochs
        )
    return [t for t in trials if longest[t.point] is t]


def rung_epochs(*, grace_period: int, reduction_factor: int, longest: int) -> list[int]:
    """Return the epochs after which ASHA compares trials of `longest` epochs at most.

    Args:
        grace_period: before a trial can be stopped: the first of them.
        reduction_factor: between two of them, above 1.
    """
    epochs = [grace_period]
    while epochs[-1] * reduction_factor <= longest:
        epochs.append(epochs[-1] * reduction_factor)
    return epochs


def taken_over(trials: Iterable[TrialRecord], epochs: Iterable[EpochRecord]) -> dict[int, int]:
    """Return, by trial, how many of its first epochs another had trained, with which it went on."""
    curves: dict[int, list[EpochRecord]] = {}
    for epoch in epochs:
        curves.setdefault(epoch.trial, []).append(epoch)
    before: dict[frozenset[tuple[str, Any]], int] = {}
    taken = {}
    for trial in sorted(trials, key=lambda each: each.trial):
        own, others = curves.get(trial.trial, []), curves.get(before.get(trial.point, -1), [])
        pairs = zip(own, others, strict=False)
        same = itertools.takewhile(lambda two: replace(two[0], trial=two[1].trial) == two[1], pairs)
        if count := len(list(same)):
            taken[trial.trial] = count
        if own:  # else it told nothing of what it had taken over
            before[trial.point] = trial.trial
    return taken


def pareto_front(
    trials: Iterable[TrialRecord],
    objectives: Sequence[str],
    trained: Callable[[TrialRecord], float] = lambda trial: trial.epochs,
) -> list[int]:
    """Return the numbers of the trials that no other beats in every objective, by accuracy.

    Args:
        objectives: names in `DIRECTIONS`.
        trained: returns how many epochs a trial has trained, where some end within one.
    """

    def scores(trial: TrialRecord) -> tuple[float, ...]:
        values = {
            "val_accuracy": trial.val_accuracy,
            "val_loss": trial.val_loss,
            "parameters": trial.parameters,
            "seconds_per_image": trial.seconds / trained(trial),
        }
        return tuple(scored(name, values[name]) for name in objectives)

    def beats(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
        return one != other and all(a >= b for a, b in zip(one, other, strict=True))

    front: list[tuple[int, tuple[float, ...]]] = []  # of those so far, which are few
    for trial in once_each(ranked(trials)):
        mine = scores(trial)
        if not any(beats(other, mine) for _, other in front):
            front = [each for each in front if not beats(mine, each[1])]
            front.append((trial.trial, mine))
    return [number for number, _ in front]


def front_in_words(front: Sequence[int], objectives: Sequence[str]) -> str:
    """Return which trials are the Pareto front of a search for several objectives."""
    trials = ", ".join(map(str, sorted(front)))
    return f"Pareto front of {' and '.join(objectives)}: trial{'s'[: len(front) > 1]} {trials}."
