"""The bridge from Optuna to Ray Tune that keeps fidelities apart.

Optuna learns each epoch as an intermediate value; a trial becomes COMPLETE only at its full
length, PRUNED when it was stopped, FAIL when it broke. What diverged or cannot be built violates a
constraint, which TPE learns from (it ignores FAIL).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import optuna
from optuna.trial import TrialState
from ray.tune.search import Searcher

from hwtune.config import TrialConfig
from hwtune.errors import SpaceError
from hwtune.models import Cost
from hwtune.records import EpochRecord
from hwtune.search.ledger import Ledger
from hwtune.space import SearchSpace

MAX_REJECTED_IN_A_ROW = 200


class OptunaSearcher(Searcher):
    """Proposes configurations and tells Optuna, truthfully, what became of them.

    Args:
        study: with the baselines enqueued, their names under the user attribute "baseline".
        measure: returns the cost of a point of the space; raises SpaceError.
        accept: returns why a configuration costs this study too much, or "".
        finished: returns whether no further trial should start.
        reasons: why each stopped trial was stopped, filled by the scheduler.
    """

    def __init__(
        self,
        study: optuna.Study,
        space: SearchSpace,
        ledger: Ledger,
        *,
        seed: int,
        measure: Callable[[dict[str, Any]], Cost],
        accept: Callable[[Cost, TrialConfig], str],
        finished: Callable[[], bool],
        reasons: dict[int, str],
    ) -> None:
        super().__init__(metric="val_accuracy", mode="max")
        self.study, self.space, self.ledger = study, space, ledger
        self.seed = seed
        self.measure, self.accept, self.finished = measure, accept, finished
        self.reasons = reasons
        self.asked: dict[str, optuna.Trial] = {}  # by Ray's trial id
        self.costs: dict[int, Cost] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Ray pickles its searcher; the study and the callables stay in this process."""
        return {}

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any
    ) -> bool:
        """Take note that Ray knows metric and mode."""
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return what the next trial should train, or FINISHED."""
        for _ in range(MAX_REJECTED_IN_A_ROW):
            if self.finished():
                return Searcher.FINISHED
            trial = self.study.ask(dict(self.space.search))
            baseline = trial.user_attrs.get("baseline", "")
            config = self.space.config(trial.params)
            try:
                cost = self.measure(trial.params)
                rejected = "" if baseline else self.accept(cost, config)
            except SpaceError as error:
                cost, rejected = Cost(0, 0), str(error)
            self.ledger.start(
                trial.number, trial.params, baseline=baseline, parameters=cost.parameters
            )
            if rejected:
                self.ledger.rejected.add(trial.number)
                self._tell_infeasible(trial, "infeasible", rejected)
                continue
            self.asked[trial_id] = trial
            self.costs[trial.number] = cost
            return {
                "trial": trial.number,
                "baseline": baseline,
                "seed": self.seed * 100_003 + trial.number,
                "config": config.to_dict(),
            }
        return Searcher.FINISHED

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Do nothing: Ray leaves out the last result here, so the callback calls `record`."""

    def record(self, trial_id: str, epoch: EpochRecord) -> None:
        """Write an epoch down, here and in Optuna's study."""
        self.ledger.epoch(epoch)
        if math.isfinite(epoch.val_accuracy):
            self.asked[trial_id].report(epoch.val_accuracy, epoch.epoch)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell Optuna how the trial ended."""
        trial = self.asked.pop(trial_id, None)
        if trial is None:
            return
        result = result or {}
        if error or result.get("failed"):
            reason = result.get("failed") or "the trial's process was lost"
            if result.get("diverged"):
                self._tell_infeasible(trial, "diverged", reason)
                return
            self.study.tell(trial, state=TrialState.FAIL)
            self.ledger.finish(trial.number, "failed", reason)
        elif result.get("full_length"):
            self.study.tell(trial, self.ledger.trials[trial.number].val_accuracy)
            self.ledger.finish(trial.number, "complete")
        else:
            reason = self.reasons.get(trial.number, "interrupted")
            if self.ledger.trials[trial.number].epochs:
                self.study.tell(trial, state=TrialState.PRUNED)
            else:
                self.study.tell(trial, state=TrialState.FAIL)
            self.ledger.finish(trial.number, "stopped", reason)

    def _tell_infeasible(self, trial: optuna.Trial, constraint: str, reason: str) -> None:
        trial.set_constraint(constraint, 1.0)
        self.study.tell(trial, state=TrialState.PRUNED)
        self.ledger.finish(trial.number, "failed", reason)
