"""What hwtune notes in the trials of Optuna: with `epochs.csv` all that a study knows."""

from __future__ import annotations

from typing import TypedDict, cast

import optuna
from optuna.trial import FrozenTrial, TrialState

from hwtune import records

# The user attributes of a trial.
BASELINE, START = "baseline", "start"  # its name, of a point that has one
COST = "cost"  # parameters and multiply-accumulates, of one that was begun
SAME_AS = "same_as"  # the number of the trial that it repeats
CONTINUES = "continues"  # the number of the trial of the same point that was cut off
MOVES = "moves"  # after which epochs it went to a CPU beside GPUs, then to a GPU, and so on
ENDED = "ended"  # an `Ending`
# Why a point was never trained: the constraints that it violates.
INFEASIBLE, SLOW = "infeasible", "slow"
BROKE = "broke"  # the constraint of one whose training raised an error


class Ending(TypedDict):
    """How a trial ended.

    Attributes:
        told: the state that Optuna was told, by name.
        values: of the objectives, None of a trial that was not complete.
        over: whether the end of the search stopped it; older journals lack it.
    """

    state: records.TrialState
    reason: str
    told: str
    values: list[float] | None
    over: bool


def ending(trial: FrozenTrial) -> Ending | None:
    """Return how a trial ended, None where it has not."""
    return cast("Ending | None", trial.user_attrs.get(ENDED))


def refused(trial: FrozenTrial) -> bool:
    """Return whether a point was found unfit before it was trained."""
    return not {INFEASIBLE, SLOW}.isdisjoint(trial.constraints)


def cut_off(trial: FrozenTrial) -> bool:
    """Return whether the end of a search stopped a trial; nothing else stops a known point."""
    ended = ending(trial)
    if ended is None or ended["state"] != "stopped":
        return False
    return known(trial) or ended.get("over", False)


def known(trial: FrozenTrial) -> bool:
    """Return whether a trial is a baseline or a start."""
    return not {BASELINE, START}.isdisjoint(trial.user_attrs)


def settle(study: optuna.Study) -> None:
    """Tell Optuna the end of those trials whose end a killed process had decided, not told."""
    for frozen in unfinished(study):
        if SAME_AS in frozen.user_attrs:
            study.tell(frozen.number, state=TrialState.FAIL)
        elif ended := ending(frozen):
            study.tell(frozen.number, ended["values"], state=TrialState[ended["told"]])


def unfinished(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that an interrupted process left running, the oldest first."""
    return study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
