"""ASHA: asynchronous successive halving, able to say why it stopped a trial.

Li et al., A System for Massively Parallel Hyperparameter Tuning, arXiv 1810.05934. It decides as
Ray's AsyncHyperBandScheduler (a test holds that), whose rungs are private and give no reasons.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler


@dataclass
class Rung:
    """The accuracies of the trials that reached `epoch`, by trial."""

    epoch: int
    values: dict[int, float] = field(default_factory=dict)


@dataclass
class Rungs:
    """The ladder of one study; knows nothing of Ray.

    Args:
        grace_period: epochs before a trial can be stopped.
        reduction_factor: of the trials at a rung about one in this many goes on.
        max_epochs: the longest trial.
    """

    grace_period: int
    reduction_factor: int
    max_epochs: int

    def __post_init__(self) -> None:
        count = int(math.log(self.max_epochs / self.grace_period) / math.log(self.reduction_factor))
        epochs = [self.grace_period * self.reduction_factor**k for k in range(count + 1)]
        self.descending = [Rung(epoch) for epoch in reversed(epochs)]

    def judge(self, trial: int, epoch: int, accuracy: float) -> str:
        """Record one result and return why the trial should stop, or "" when it may go on."""
        for rung in self.descending:
            if epoch < rung.epoch or trial in rung.values:
                continue
            others = list(rung.values.values())
            rung.values[trial] = accuracy
            if not others:
                return ""
            needed = float(np.nanpercentile(others, (1 - 1 / self.reduction_factor) * 100))
            if not accuracy < needed:
                return ""
            rank = 1 + sum(other > accuracy for other in others)
            return (
                f"epoch {epoch}: {accuracy:.4f}, needed {needed:.4f} "
                f"(top 1/{self.reduction_factor} of {len(rung.values)}), rank {rank}"
            )
        return ""


class Asha(FIFOScheduler):
    """Stops what `Rungs` rejects, and everything once the time is up; baselines run on.

    Attributes:
        reasons: why each stopped trial was stopped, by trial.
        out_of_time: returns whether the search must end now.
    """

    def __init__(self, rungs: Rungs | None, out_of_time: Callable[[], bool]) -> None:
        super().__init__()
        self.rungs = rungs
        self.out_of_time = out_of_time
        self.reasons: dict[int, str] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Ray pickles its scheduler; what this one holds stays in this process."""
        return {}

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Return Ray's word for going on or stopping."""
        number = trial.config["trial"]
        reason = self._judge(number, result)
        if trial.config["baseline"]:
            reason = ""
        if self.out_of_time():
            reason = f"epoch {result['epoch']}: the time for the search was over"
        if not reason:
            return TrialScheduler.CONTINUE
        self.reasons[number] = reason
        return TrialScheduler.STOP

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """Record the last result of a trial that ran its full length."""
        self._judge(trial.config["trial"], result)

    def _judge(self, number: int, result: dict[str, Any]) -> str:
        if self.rungs is None or not math.isfinite(result.get("val_accuracy", math.nan)):
            return ""
        return self.rungs.judge(number, result["epoch"], result["val_accuracy"])
