"""Which trials a sampler learns from: the best and the latest, so that its cost is bounded.

TPE's and GP's time for a proposal grows with the trials they see. TPE models at most the 25 best
as good ones; of the others a part tells as much.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.study._multi_objective import _get_pareto_front_trials_by_trials
from optuna.trial import FrozenTrial, TrialState

from hwtune.search.attributes import refused

BEST = 100  # of the trials shown, chosen by value; the others are the latest


def few(
    trials: list[FrozenTrial], limit: int, directions: Sequence[StudyDirection]
) -> list[FrozenTrial]:
    """Return at most `limit` trials that are over, and those that run, in their order.

    With several objectives the best are those of the Pareto front, then the latest complete ones.
    """
    over = [t for t in trials if t.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    if len(over) <= limit:
        return trials
    complete = [t for t in reversed(over) if t.state == TrialState.COMPLETE]
    if len(directions) == 1:
        complete.sort(key=lambda t: (-t.values[0], t.number))
    else:
        front = {t.number for t in _get_pareto_front_trials_by_trials(complete, directions)}
        complete.sort(key=lambda t: t.number not in front)
    kept = {t.number for t in complete[:BEST]}
    latest = [t.number for t in over if t.number not in kept][len(kept) - limit :]
    kept.update(latest)
    return [t for t in trials if t.number in kept or t.state == TrialState.RUNNING]


class Shown:
    """A study whose trials are those that a sampler shall see."""

    def __init__(self, study: optuna.Study, trials: list[FrozenTrial]) -> None:
        self._real, self._shown = study, trials

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def _get_trials(
        self,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
        use_cache: bool = False,
    ) -> list[FrozenTrial]:
        """Return what Optuna's samplers ask their study for."""
        return [t for t in self._shown if states is None or t.state in states]


class Bounded(BaseSampler):
    """A sampler that sees at most `limit` ended trials; for one proposal.

    Args:
        make: returns the sampler, given how many of the trials that it sees were refused.
        hidden: numbers of trials that it does not see.
    """

    def __init__(
        self, make: Callable[[int], BaseSampler], limit: int, hidden: Container[int] = ()
    ) -> None:
        self.make, self.limit, self.hidden = make, limit, hidden
        self.sampler: Any = None
        self.view: Any = None

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return what the sampler proposes together."""
        told = [t for t in study.get_trials(deepcopy=False) if t.number not in self.hidden]
        shown = few(told, self.limit, study.directions)
        self.view = Shown(study, shown)
        self.sampler = self.make(sum(map(refused, shown)))
        return self.sampler.infer_relative_search_space(self.view, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return a proposal."""
        return self.sampler.sample_relative(self.view, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: Any
    ) -> Any:
        """Return a proposal for one hyperparameter."""
        return self.sampler.sample_independent(self.view, trial, param_name, param_distribution)
