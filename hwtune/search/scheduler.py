"""What Ray Tune asks after each result: a stopping rule, the time, and the target."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from hwtune.search.stopping import StoppingRule
from hwtune.search.trial import NO_MEMORY, raised_last

Scores = Callable[[int, dict[str, Any]], Sequence[float]]  # of a trial's result, by its number


@dataclass
class Endings:
    """Why trials end, by number: the scheduler notes it before the searcher tells Optuna.

    Attributes:
        reasons: why each stopped trial was stopped, or what one raised that broke.
        broke: how often each trial broke.
        cut: trials that the end of the search stopped.
    """

    reasons: dict[int, str] = field(default_factory=dict)
    broke: Counter[int] = field(default_factory=Counter)
    cut: set[int] = field(default_factory=set)


class EarlyStopping(FIFOScheduler):
    """Stops what its rule rejects, and everything once the search is over.

    Baselines and starts run on: what is known to work may begin slowly, above all under OneCycle,
    and a rung that compares several of those stops the best (`results/LOG.md`).

    Args:
        rule: None stops nothing early.
        scores: what the rule judges of a result.
        over: returns why the search must end with an epoch of that accuracy, or "".
        decided: by trial and epoch, what a resumed study had decided before.
        reported: returns how many epochs of a trial are known, which it may report once more.
        first: returns under which number the rule knows a trial, which may go on with another.

    Attributes:
        endings: of the trials that it stopped, or that broke.
        controller: Ray Tune's, once it asks; None before.
    """

    def __init__(
        self,
        rule: StoppingRule | None,
        scores: Scores,
        *,
        over: Callable[[float], str],
        decided: Mapping[tuple[int, int], str] | None = None,
        reported: Callable[[int], int] = lambda trial: 0,
        first: Callable[[int], int] = lambda trial: trial,
    ) -> None:
        super().__init__()
        self.rule, self.scores, self.over = rule, scores, over
        self.reported, self.first = reported, first
        self.decided = decided or {}
        self.endings = Endings()
        self.controller: Any = None

    def __getstate__(self) -> dict[str, Any]:
        """Ray pickles its scheduler; what this one holds stays in this process."""
        return {}

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Return Ray's word for going on or stopping."""
        number = trial.config["trial"]
        reason = self._judge(number, result)
        new = result["epoch"] >= self.reported(number)  # one that goes on first tells of older ones
        trained = new or not result.get("again")  # it trains those anew whose state is lost
        if trial.config["known"] or not new:
            reason = ""
        if trained and (over := self.over(result.get("val_accuracy", math.nan))) and not reason:
            self.endings.cut.add(number)
            reason = f"epoch {result['epoch']}: {over}"
        if not reason:
            return TrialScheduler.CONTINUE
        self.endings.reasons[number] = reason
        return TrialScheduler.STOP

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Return the trial that runs next; once the search is over, those that wait are stopped.

        They wait where machines were lost, it may be for ever.
        """
        self.controller = tune_controller
        waiting = [t for t in tune_controller.get_trials() if t.status == Trial.PENDING]
        if waiting and (over := self.over(math.nan)):
            for trial in waiting:
                number = trial.config["trial"]
                self.endings.cut.add(number)
                self.endings.reasons[number] = over
                trial.init_local_path()  # which Ray reads of at the end, and makes when one begins
                tune_controller.stop_trial(trial)
            return None
        return super().choose_trial_to_run(tune_controller)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """Note what broke a trial last; nothing where its process died without a word.

        Ray asks when it tries a trial again and when it gives up.
        """
        forget_ended(tune_controller, but=trial)
        number = trial.config["trial"]
        self.endings.reasons.pop(number, None)
        if raised := raised_last(trial):
            self.endings.reasons[number] = raised
        own = raised not in ("", NO_MEMORY)
        # Of a process that was dead before the trial began in it Ray tells twice, then as pending.
        self.endings.broke[number] += trial.status != Trial.PENDING or own

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """Record the last result of a trial; of one that was stopped the rule hears it again."""
        self._judge(trial.config["trial"], result)
        if tune_controller is not None:  # None where a search is replayed
            forget_ended(tune_controller, but=trial)

    def _judge(self, number: int, result: dict[str, Any]) -> str:
        if self.rule is None or not math.isfinite(result.get("val_accuracy", math.nan)):
            return ""
        if (known := self.decided.get((number, result["epoch"]))) is not None:
            return known
        scores = self.scores(number, result)
        return self.rule.judge(self.first(number), result["epoch"], scores)


def forget_ended(tune_controller: Any, *, but: Trial) -> None:
    """Let Ray Tune go of the trials that are over.

    It keeps each until the end of a search, some 10 KB, in a list that it looks through at every
    step and in several sets, and has no word for this.

    Args:
        but: the trial that Ray is busy with, which may look as if it were over: one whose process
            was lost is about to be tried again.
    """
    trials = tune_controller.get_trials()
    over = {trial for trial in trials if trial.is_finished() and trial is not but}
    trials[:] = [trial for trial in trials if trial not in over]
    for held in vars(tune_controller).values():
        if isinstance(held, set):
            held.difference_update(over)
