"""What a study that goes on may spend: what is left, or more."""

from __future__ import annotations

from hwtune.errors import OptionError
from hwtune.search.budget import DEFAULT_TRIALS, Budget


def check_extension(more: Budget, *, done: int, best: float) -> None:
    """Check that a study that ended has something left to search; see `extended_budget`.

    Raises:
        OptionError: when it has not.
    """
    if more.trials is not None and more.trials <= done:
        raise OptionError(
            f"--trials {more.trials} leaves nothing to search: {done} were begun; give more than "
            "that."
        )
    if more.target is not None and more.target <= best:
        raise OptionError(
            f"--target {more.target} leaves nothing to search: {best:.4f} is reached; give a "
            "higher one."
        )


def extended_budget(
    old: Budget, more: Budget, *, ended: bool, done: int, spent: float, best: float
) -> Budget:
    """Return what the whole study may spend; without a wish the old budget.

    A time alone lifts the old number of trials, and a number of trials alone the old time. A target
    alone lifts the number where it is reached, and the time of a search that ended, of which the
    retraining leaves nothing. An old target that is reached is lifted, too.

    Args:
        more: what is wished: trials of the whole study, seconds from now on, a target.
        ended: whether the search did.
        done: trials that were begun.
        spent: seconds until now.
        best: the highest validation accuracy until now.
    """
    if more == Budget():
        return old
    trials, target = more.trials, more.target
    seconds = None if more.seconds is None else spent + more.seconds
    if more.trials is more.seconds is None:
        if old.seconds and spent < old.seconds and not ended:
            seconds = old.seconds
        if old.trials and done < old.trials:
            trials = old.trials
        if trials is seconds is None:
            trials = done + DEFAULT_TRIALS
    if target is None and old.target is not None and best < old.target:
        target = old.target
    return Budget(
        trials=trials,
        epochs=old.epochs,
        seconds=seconds,
        target=target,
        before=old.before if more.seconds is None else spent,
    )
