"""Optuna's samplers by name, each a function of (seed, trial number) and of the trials so far."""

from __future__ import annotations

import warnings
from collections.abc import Container
from importlib.util import find_spec
from typing import get_args

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler

from hwtune.commands import installing
from hwtune.errors import OptionError
from hwtune.search.history import Bounded
from hwtune.values import Sampler
from hwtune.words import unknown

STARTUP_TRIALS = 10  # random ones before a model is fitted


SAMPLERS: tuple[Sampler, ...] = get_args(Sampler)

# Trials that a sampler learns from. Random needs none, CMA-ES keeps its own state.
SEEN = {"tpe": 500, "gp": 200}


def check_sampler(name: str, *, objectives: int) -> None:
    """Check that a sampler can be used.

    Raises:
        OptionError: when it is unknown, its package is missing, or it takes one objective only.
    """
    if name not in SAMPLERS:
        raise OptionError(f"{unknown('--sampler', name, SAMPLERS)}.")
    if name == "cmaes" and objectives > 1:
        raise OptionError("--sampler 'cmaes' takes one objective; use tpe, gp or random.")
    if name == "cmaes" and find_spec("cmaes") is None:
        raise OptionError(f"The sampler cmaes needs its package: {installing('cmaes')}")


def make_sampler(
    name: str, *, seed: int, trial: int, parallel: bool, hidden: Container[int] = ()
) -> BaseSampler:
    """Return the sampler that proposes trial number `trial` of a study.

    A fresh one each time: what it proposes follows from the seed, the number and the recorded
    trials alone, so that a resumed study goes on as an undisturbed one.

    Args:
        parallel: whether other trials run, which TPE then counts as poor (its constant liar).
        hidden: numbers of trials that it shall not see.
    """
    own_seed = (seed * 100_003 + trial) % 2**32

    def make(refused: int) -> BaseSampler:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            match name:
                case "tpe":
                    # It counts what was refused, though nothing was trained.
                    return optuna.samplers.TPESampler(
                        seed=own_seed,
                        n_startup_trials=STARTUP_TRIALS + refused,
                        multivariate=True,
                        constant_liar=parallel,
                    )
                case "gp":
                    return optuna.samplers.GPSampler(seed=own_seed, n_startup_trials=STARTUP_TRIALS)
                case "cmaes":
                    return optuna.samplers.CmaEsSampler(
                        seed=own_seed,
                        n_startup_trials=STARTUP_TRIALS,
                        warn_independent_sampling=False,
                    )
            return optuna.samplers.RandomSampler(seed=own_seed)

    return Bounded(make, SEEN[name], hidden) if name in SEEN else make(0)
