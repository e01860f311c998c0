"""The bridge from Ray Tune to Optuna: asks for configurations and tells how they did.

Ray's own OptunaSearch tells a trial that was stopped early as complete, with its last value; here
Optuna learns every epoch, stopped trials are PRUNED, full-length ones COMPLETE with their best
accuracy, lost ones FAIL; what diverged or raised an error violates a constraint, from which TPE
learns, as it does not from FAIL.

With several objectives Optuna takes no intermediate values: a stopped trial then violates a
constraint, the less the longer it ran.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Container, Iterator
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState
from ray.tune.search import Searcher

from hwtune import records
from hwtune.config import Hyperparameters, TrialConfig
from hwtune.distributions import every_value
from hwtune.errors import SpaceError
from hwtune.models.layers import Cost
from hwtune.records import DIVERGED, EpochRecord
from hwtune.search.attributes import (
    BASELINE,
    BROKE,
    COST,
    ENDED,
    INFEASIBLE,
    MOVES,
    SAME_AS,
    SLOW,
    START,
    Ending,
    cut_off,
    unfinished,
)
from hwtune.search.feasible import too_large
from hwtune.search.halt import halting
from hwtune.search.journal import share_distributions, together
from hwtune.search.ledger import Ledger
from hwtune.search.objectives import Objectives
from hwtune.search.scheduler import Endings
from hwtune.search.trial import NO_MEMORY
from hwtune.signals import check_signals
from hwtune.space import SearchSpace, size_of
from hwtune.words import counted

MAX_REJECTED_IN_A_ROW = 1000
SEEDS_APART = 100_003  # trials of study seed 0 train with seeds from here; 0, 1, ... retrain
MAX_LOST = 3  # times that a trial goes on in another process after its own was lost
MAX_REPEATS_IN_A_ROW = 10  # before a point that was not tried yet is drawn at random
ENUMERABLE = 100_000  # points of a space that are listed to find one that was not tried


class OptunaSearcher(Searcher):
    """Proposes trials until the study is over, and keeps Optuna's study true.

    Args:
        study: with the baselines enqueued, their names under the user attribute "baseline". Its
            unfinished trials are handed out first, under their old numbers.
        sampler: returns the sampler that proposes the trial of a number, blind to the trials of
            a set of numbers.
        measure: returns the cost of a point of the space; raises SpaceError.
        too_slow: returns why a network takes too long to be trained, or "". What is known to work
            is trained however slow it is, and a baseline however large.
        finished: returns whether no further trial should start.
        endings: what the scheduler notes of trials that end.
        gpu_slots: how many trials may ask for a GPU at once.

    Attributes:
        barren, exhausted: whether it proposes nothing new any more because too many points in a
            row cannot be trained, or because there is none that was not proposed.
    """

    def __init__(
        self,
        study: optuna.Study,
        space: SearchSpace,
        ledger: Ledger,
        objectives: Objectives,
        *,
        seed: int,
        sampler: Callable[[int, Container[int]], BaseSampler],
        measure: Callable[[Hyperparameters], Cost],
        too_slow: Callable[[Cost, TrialConfig], str],
        finished: Callable[[], bool],
        endings: Endings,
        gpu_slots: int = 0,
    ) -> None:
        super().__init__(metric="val_accuracy", mode="max")
        self.study, self.space, self.ledger, self.objectives = study, space, ledger, objectives
        self.seed, self.sampler = seed, sampler
        self.measure, self.finished, self.too_slow = measure, finished, too_slow
        self.endings, self.gpu_slots = endings, gpu_slots
        self.barren = self.exhausted = False
        self.on_gpu: set[str] = set()  # Ray's trial ids
        self.asked: dict[str, optuna.Trial] = {}  # by Ray's trial id
        self.left_running = unfinished(study)
        told = [t for t in study.get_trials(deepcopy=False) if t.state.is_finished()]
        # Refused under an older budget, under which time was shorter than it is now.
        self.pardoned = {t.number for t in told if self._in_time_now(t)}
        self.seen = {
            point(t.params): t.number
            for t in told
            if not (SAME_AS in t.user_attrs or t.number in self.pardoned or cut_off(t))
        }

    def __getstate__(self) -> dict[str, Any]:
        """Ray pickles its searcher; the study and the callables stay in this process."""
        return {}

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any
    ) -> bool:
        """Take note that Ray knows metric and mode."""
        return True

    @halting
    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return what the next trial should train, FINISHED, or None while others may change that.

        A trial may lose its process and be handed out again, or one whose retraining is costly no
        longer be the best, which leaves more time. Ray asks again, and after FINISHED never.
        """
        rejected = repeats = 0
        while rejected < MAX_REJECTED_IN_A_ROW:
            check_signals()
            trial = self._next(repeats)
            if trial is None:
                break
            first = self.seen.setdefault(point(trial.params), trial.number)
            if first != trial.number and COST not in trial.user_attrs:  # one that had begun goes on
                repeats += 1
                with together(self.study):
                    trial.set_user_attr(SAME_AS, first)
                    self.study.tell(trial, state=TrialState.FAIL)
                continue
            config = self._begin(trial)
            if config is None:
                rejected += 1
                continue
            self.asked[trial_id] = trial
            return {**config, "gpu": self._takes_gpu(trial_id, trial)}
        self.barren |= rejected == MAX_REJECTED_IN_A_ROW
        return None if self.asked else Searcher.FINISHED

    def _next(self, repeats: int) -> optuna.Trial | None:
        """Return a trial that was left running, else a new one, None where there is none now.

        Args:
            repeats: how many new ones in a row had been proposed before.
        """
        if self.left_running:
            return self._taken_up(self.left_running.pop(0))
        if self.exhausted or self.barren or self.finished():
            return None
        stuck = repeats >= MAX_REPEATS_IN_A_ROW and not self._waiting()
        unseen = self._unseen() if stuck else None
        if len(self.seen) >= size_of(self.space) or (stuck and unseen is None):
            self.exhausted = True
            return None
        if unseen is not None:
            self.study.enqueue_trial(unseen)
        self.study.sampler = self.sampler(self._next_number(), self.hidden)
        with together(self.study):
            return self.study.ask(dict(self.space.search))

    def _takes_gpu(self, trial_id: str, trial: optuna.Trial) -> bool:
        """Return whether a trial asks for a GPU; note where it goes from one to a CPU, or back."""
        gpu = len(self.on_gpu) < self.gpu_slots
        if gpu:
            self.on_gpu.add(trial_id)
        recorded = self.ledger.reported(trial.number)
        if self.gpu_slots and self.ledger.on_cpu(trial.number, recorded + 1) == gpu:
            moves = self.ledger.moves.setdefault(trial.number, [])
            moves.append(recorded)
            trial.set_user_attr(MOVES, moves)
        return gpu

    def _begin(self, trial: optuna.Trial) -> dict[str, Any] | None:
        """Start a trial and return its configuration; None and told so when it is refused."""
        baseline, start = trial.user_attrs.get(BASELINE, ""), START in trial.user_attrs
        config = self.space.config(trial.params)
        recorded = self.ledger.trials.get(trial.number)
        reason, why = "", INFEASIBLE
        try:
            cost = self.measure(trial.params)
            begun = trial.number in self.ledger.continues or (recorded and recorded.epochs)
            if not (baseline or begun):
                reason = too_large(self.space, cost)
                if not reason and not start:
                    reason, why = self.too_slow(cost, config), SLOW
        except SpaceError as error:
            cost, reason = Cost(0, 0), str(error)
        trial.set_user_attr(COST, [cost.parameters, cost.macs])
        self.ledger.start(trial.number, trial.params, baseline=baseline, start=start, cost=cost)
        if reason:
            self.ledger.rejected.add(trial.number)
            self._tell(trial, TrialState.PRUNED, "failed", reason, violates=(why, 1.0))
            return None
        return {
            "trial": trial.number,
            "known": trial.number in self.ledger.known,
            "seed": (self.seed + 1) * SEEDS_APART + trial.number,
            "config": config.to_dict(),
        }

    def _in_time_now(self, refused: FrozenTrial) -> bool:
        """Return whether a point that was too slow for an older budget is not for this one."""
        if SLOW not in refused.constraints:
            return False
        cost = Cost(*refused.user_attrs[COST])
        return not self.too_slow(cost, self.space.config(refused.params))

    @property
    def hidden(self) -> set[int]:
        """Return the trials that a sampler must not see, or it would count their points twice."""
        trials = self.ledger.trials
        gone_on = {
            before
            for now, before in self.ledger.continues.items()
            if now in trials and trials[now].epochs >= trials[before].epochs
        }
        return self.pardoned | gone_on

    def _next_number(self) -> int:
        """Return the number of the trial that will be asked for next."""
        waiting = self._waiting()
        return waiting[0].number if waiting else len(self.study.get_trials(deepcopy=False))

    def _waiting(self) -> list[FrozenTrial]:
        """Return the trials that were queued and not asked for yet."""
        return self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))

    def _taken_up(self, frozen: FrozenTrial) -> optuna.Trial:
        """Return a trial that an interrupted process left running, its point complete.

        A proposal has a line a value, of which a writing that was cut short leaves some. The
        missing ones are drawn as the sampler would draw them without a history.
        """
        known = dict(frozen.params)
        if len(known) < len(self.space.search):
            alone = optuna.create_study(sampler=self.sampler(frozen.number, ()))
            fixed = frozen.system_attrs.get("fixed_params", {})
            values = {**alone.ask(dict(self.space.search)).params, **fixed, **known}
            self.study._storage.set_trial_system_attr(frozen._trial_id, "fixed_params", values)
        trial = optuna.Trial(self.study, frozen._trial_id)
        for name, distribution in self.space.search.items():
            trial._suggest(name, distribution)
        return trial

    def _unseen(self) -> Hyperparameters | None:
        """Return a random point of the space that was not proposed yet, None if none is found."""
        rng = np.random.default_rng((self.seed, self._next_number()))
        if size_of(self.space) <= ENUMERABLE:
            left = [each for each in points(self.space) if point(each) not in self.seen]
            return left[int(rng.integers(len(left)))] if left else None
        sampler = optuna.samplers.RandomSampler(seed=int(rng.integers(2**31)))
        drawn = optuna.create_study(sampler=sampler)
        for _ in range(MAX_REJECTED_IN_A_ROW):
            values = drawn.ask(dict(self.space.search)).params
            if point(values) not in self.seen:
                return dict(values)
        return None

    def record(self, trial_id: str, epoch: EpochRecord) -> bool:
        """Write an epoch down, here and in Optuna's study; return whether it was new.

        The callback calls it: Ray's `on_trial_result` leaves out the last one. A trial that was
        taken up again reports its epochs once more.
        """
        if new := epoch.epoch > self.ledger.trials[epoch.trial].epochs:
            self.ledger.epoch(epoch)
        trial = self.asked[trial_id]
        if not self.objectives.several and math.isfinite(epoch.val_accuracy):
            known = trial._cached_frozen_trial.intermediate_values
            if epoch.epoch not in known:
                trial.report(epoch.val_accuracy, epoch.epoch)
        return new

    @halting
    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell Optuna how the trial ended; one that Ray gives up too early is handed out again.

        Ray tries a broken trial again, but not one whose process, that of an earlier trial, was
        dead before the trial began in it.
        """
        trial = self.asked.pop(trial_id, None)
        self.on_gpu.discard(trial_id)
        if trial is None:
            return
        if error and self.endings.broke[trial.number] <= MAX_LOST:
            self.left_running.append(self.study._storage.get_trial(trial._trial_id))
            return
        result, record = result or {}, self.ledger.trials[trial.number]
        if error:
            self._tell_broken(trial)
        elif failed := result.get("failed"):
            fault = (DIVERGED if result.get("diverged") else BROKE, 1.0)
            self._tell(trial, TrialState.PRUNED, "failed", failed, violates=fault)
        elif result.get("full_length"):
            values = self.objectives.values(
                vars(record),
                parameters=record.parameters,
                images=self.ledger.images_seen(record.trial, record.epochs),
            )
            self._tell(trial, TrialState.COMPLETE, "complete", values=values)
        else:
            reason = self.endings.reasons.get(trial.number, "interrupted")
            told = TrialState.PRUNED if record.epochs else TrialState.FAIL
            early = self.objectives.several and record.epochs
            violates = ("stopped", 1 / record.epochs) if early else None
            self._tell(trial, told, "stopped", reason, violates=violates)

    def _tell_broken(self, trial: optuna.Trial) -> None:
        """Tell that a trial is not tried again: its own fault, where it raised an error."""
        times = counted(self.endings.broke[trial.number], "time")
        raised = self.endings.reasons.get(trial.number)
        lost = f"the trial's process was lost {times}"
        reason = f"it broke {times}, at last with {raised}" if raised else lost
        if raised in (None, NO_MEMORY):  # others of its machine may have taken it
            self._tell(trial, TrialState.FAIL, "failed", reason)
        else:
            self._tell(trial, TrialState.PRUNED, "failed", reason, violates=(BROKE, 1.0))

    def _tell(
        self,
        trial: optuna.Trial,
        told: TrialState,
        state: records.TrialState,
        reason: str = "",
        *,
        values: list[float] | None = None,
        violates: tuple[str, float] | None = None,
    ) -> None:
        """End a trial: first in its attributes, so that a killed process's trial ends the same."""
        ended: Ending = {
            "state": state, "reason": reason, "told": told.name, "values": values,
            "over": trial.number in self.endings.cut,
        }  # fmt: skip
        with together(self.study):
            if violates:
                trial.set_constraint(*violates)
            trial.set_user_attr(ENDED, ended)
            self.study.tell(trial, values, state=told)
        share_distributions(self.study._storage.get_trial(trial._trial_id), self.space)
        self.ledger.finish(trial.number, state, reason)


def point(values: Hyperparameters) -> bytes:
    """Return what is equal for equal points only: 16 bytes, however many values they have."""
    return hashlib.blake2b(repr(sorted(values.items())).encode(), digest_size=16).digest()


def points(space: SearchSpace) -> Iterator[Hyperparameters]:
    """Yield every point of a space; of one with a range of floats there is none."""
    values = (every_value(each) or () for each in space.search.values())
    for each in itertools.product(*values):
        yield dict(zip(space.search, each, strict=True))
