"""How a study searches: what its first command asked for, kept in `study.json` for a resume."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import get_args

from hwtune.contract import About, AboutMore, AboutScheduler
from hwtune.errors import OptionError
from hwtune.search.budget import expected_epochs
from hwtune.search.objectives import ACCURACY
from hwtune.search.samplers import STARTUP_TRIALS, check_sampler
from hwtune.search.stopping import Brackets, MedianRule, Rungs, StoppingRule
from hwtune.values import DISK_LIMIT, Scheduler, bytes_of
from hwtune.words import unknown

GRACE_PERIOD, REDUCTION_FACTOR = 1, 4  # epochs; of ASHA
SCHEDULERS: tuple[Scheduler, ...] = get_args(Scheduler)
WHOLE_TRIALS = ("gp", "cmaes")  # samplers for which Optuna counts no trial that was stopped


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The choices of one study; those that do not go together raise OptionError.

    Attributes:
        sampler: a name in `SAMPLERS`.
        scheduler: one of `SCHEDULERS`.
        brackets: of ASHA, each with a longer grace period.
        grace_period: epochs before a trial can be stopped.
        reduction_factor: of ASHA.
        objectives: what is optimised, validation accuracy first.
        seed: of the sampler and of the trials.
        disk_limit: bytes that the states of trials may take, but for what is still needed; see
            `Retention`.
    """

    sampler: str = "tpe"
    scheduler: str = "asha"
    brackets: int = 1
    grace_period: int = GRACE_PERIOD
    reduction_factor: int = REDUCTION_FACTOR
    objectives: tuple[str, ...] = ACCURACY
    seed: int = 0
    disk_limit: int = bytes_of(DISK_LIMIT)

    def __post_init__(self) -> None:
        if self.scheduler not in SCHEDULERS:
            raise OptionError(f"{unknown('--scheduler', self.scheduler, SCHEDULERS)}.")
        check_sampler(self.sampler, objectives=len(self.objectives))
        if self.brackets > 1 and self.scheduler != "asha":
            raise OptionError(
                f"--brackets {self.brackets} belongs to --scheduler asha, not {self.scheduler}."
            )
        for what, value, least in (
            ("reduction factor", self.reduction_factor, 2), ("grace period", self.grace_period, 1),
        ):  # fmt: skip
            if value < least:
                raise OptionError(
                    f"The scheduler's {what} {value} is below {least}; put the study.json back as "
                    "it was."
                )
        if self.scheduler == "median" and len(self.objectives) > 1:
            raise OptionError("--scheduler 'median' takes one objective; use asha or none.")

    def describe(self) -> AboutMore:
        """Return the keys of `study.json`."""
        scheduler: AboutScheduler = {"name": self.scheduler}
        if self.scheduler != "none":
            scheduler["grace_period"] = self.grace_period
        if self.scheduler == "asha":
            scheduler |= {"reduction_factor": self.reduction_factor, "brackets": self.brackets}
        return {
            "sampler": {"name": self.sampler, "startup_trials": STARTUP_TRIALS},
            "scheduler": scheduler,
            "objectives": list(self.objectives),
            "seed": self.seed,
            "disk_limit": self.disk_limit,
        }

    @property
    def advice(self) -> str:
        """Return what the user should know of these choices together, or ""."""
        if self.sampler not in WHOLE_TRIALS or self.scheduler == "none":
            return ""
        return (
            f"{self.sampler} learns from trials of full length alone, of which {self.scheduler} "
            f"leaves few, and proposes at random before {STARTUP_TRIALS} of them: tpe learns from "
            "all, and --scheduler none stops none."
        )

    def expected_epochs(self, epochs: int) -> float:
        """Return how many epochs a trial of this length trains on average.

        The median rule is counted as if it stopped as many as ASHA.
        """
        match self.rule(epochs=epochs):
            case None:
                return float(epochs)
            case Brackets(ladders=ladders, shares=shares):
                graces = [ladder.descending[-1].epoch for ladder in ladders]
            case _:
                graces, shares = [self.grace_period], [1.0]
        each = (expected_epochs(epochs, grace=g, factor=self.reduction_factor) for g in graces)
        return float(sum(share * mean for share, mean in zip(shares, each, strict=True)))

    def most_brackets(self, *, epochs: int) -> int:
        """Return how many brackets trials of at most `epochs` can have: one for each rung."""
        longest = replace(self, brackets=1).rule(epochs=epochs)
        return len(longest.descending) if isinstance(longest, Rungs) else 1

    def check_length(self, *, epochs: int) -> None:
        """Check that trials of at most `epochs` have a rung for each bracket.

        Raises:
            OptionError: when they have not.
        """
        if self.brackets > (most := self.most_brackets(epochs=epochs)):
            raise OptionError(
                f"--brackets {self.brackets}: trials of {epochs} epochs have {most} rungs, and as "
                "many brackets at most; give fewer, or more --epochs."
            )

    def rule(self, *, epochs: int) -> StoppingRule | None:
        """Return a fresh stopping rule for trials of at most `epochs`."""
        if self.scheduler == "none":
            return None
        if self.scheduler == "median":
            return MedianRule(grace_period=self.grace_period)
        ladder = {
            "grace_period": self.grace_period, "reduction_factor": self.reduction_factor,
            "max_epochs": epochs,
        }  # fmt: skip
        return Brackets(brackets=self.brackets, **ladder) if self.brackets > 1 else Rungs(**ladder)


def settings_of(about: About) -> Settings:
    """Return the settings that `study.json` holds."""
    return Settings(
        sampler=about["sampler"]["name"],
        scheduler=about["scheduler"]["name"],
        brackets=about["scheduler"].get("brackets", 1),
        grace_period=about["scheduler"].get("grace_period", GRACE_PERIOD),
        reduction_factor=about["scheduler"].get("reduction_factor", REDUCTION_FACTOR),
        objectives=tuple(about["objectives"]),
        seed=about["seed"],
        disk_limit=about["disk_limit"],
    )
