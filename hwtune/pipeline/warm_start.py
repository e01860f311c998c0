"""Starts of a search from earlier studies: their best trials, tried before anything is proposed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from hwtune.config import Hyperparameters
from hwtune.data.images import Dataset
from hwtune.data.splits import SplitSpec
from hwtune.errors import OptionError
from hwtune.records import ranked
from hwtune.space import SearchSpace, contains, space_from_json
from hwtune.study_folder import StudyFolder

BEST = 3  # trials of each study


def with_starts_from(
    space: SearchSpace, studies: Sequence[StudyFolder], dataset: Dataset, split: SplitSpec
) -> tuple[SearchSpace, list[dict[str, Any]]]:
    """Return the space with the best trials of some studies among its starts, and their origins.

    A number that the space does not have becomes the nearest that it has; a trial that differs
    otherwise is passed over.

    Raises:
        OptionError: when a study has nothing to start from, or knows images that are tested here.
    """
    origins = []
    starts = dict(space.starts)
    for study in studies:
        about = study.read_study()
        found = best_points(space, study, about)
        starts |= {f"{study.name}-{trial}": values for trial, values in found.items()}
        origin = {
            "study": study.name,
            "trials": list(found),
            "data": about["data"],
            "split": {name: value for name, value in about["split"].items() if name != "counts"},
            "started_from": about.get("started_from", []),
        }
        refuse_leaks(study, origin, dataset, split)
        origins.append(origin)
    return replace(space, starts=starts), origins


def best_points(
    space: SearchSpace, study: StudyFolder, about: Mapping[str, Any]
) -> dict[int, Hyperparameters]:
    """Return the best trials of a study as points of the space, by number.

    Raises:
        OptionError: when there is none.
    """
    searched = space_from_json(about["space"])
    trials = ranked(study.read_trials())
    found: dict[int, Hyperparameters] = {}
    misfits = []
    for trial in trials:
        config = searched.config(searched.parse(trial.config)).to_dict()
        config["side"] = config["side"] or about["data"]["side"]
        values = {name: nearest(each, config[name]) for name, each in space.search.items()}
        odd = [name for name, value in values.items() if value is None]
        if space.model != config["model"]:
            odd = ["model"]
        if odd:
            misfits.append(f"{odd[0]}={config[odd[0]]!r}")
        elif values not in found.values():
            found[trial.trial] = values
        if len(found) == BEST:
            break
    if not found:
        why = f"such as its best, with {misfits[0]}, are no points" if misfits else "are none"
        raise OptionError(
            f"--starts-from {study.called}: its trained trials {why} of {space.name}; give another "
            "study, or leave it out."
        )
    return found


def nearest(distribution: BaseDistribution, value: Any) -> Any:
    """Return a value if a distribution has it, of numbers the nearest it has, else None."""
    if contains(distribution, value):
        return value
    if not is_number(value):
        return None
    if isinstance(distribution, CategoricalDistribution):
        numbers = [each for each in distribution.choices if is_number(each)]
        return min(numbers, key=lambda each: abs(each - value), default=None)
    low, high, step = distribution.low, distribution.high, distribution.step  # type: ignore[attr-defined]
    within = min(max(value, low), high)
    if step:
        within = low + round((within - low) / step) * step
    return int(within) if isinstance(distribution, IntDistribution) else float(within)


def is_number(value: Any) -> bool:
    """Return whether a value has others near to it."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def refuse_leaks(
    study: StudyFolder, origin: Mapping[str, Any], dataset: Dataset, split: SplitSpec
) -> None:
    """Check that neither a study nor what it started from saw images that are tested here.

    Raises:
        OptionError: when one searched another split of these images, or others of their name.
    """
    for each in lineage(origin):
        known, drawn = each["data"], each["split"]
        same = known["sha256"] == dataset.sha256
        if same and drawn != split.to_dict():
            raise OptionError(
                f"--starts-from {study.called}: study {each['study']} searched another split of "
                f"{dataset.name}, with images that are tested here; take its split (--split "
                f"{drawn['kind']} --split-seed {drawn['seed']}), or leave it out."
            )
        if not same and known["name"] == dataset.name:
            raise OptionError(
                f"--starts-from {study.called}: study {each['study']} searched other images that "
                f"are called {dataset.name}, too, perhaps some that are tested here; leave it out."
            )


def lineage(origin: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield an origin, and what that started from."""
    yield origin
    for each in origin["started_from"]:
        yield from lineage(each)


def in_words(origins: Sequence[Mapping[str, Any]]) -> str:
    """Return where a search begins, as a sentence."""
    each = (f"{o['study']} (trials {', '.join(map(str, o['trials']))})" for o in origins)
    return f"Starts from {'; '.join(each)}."
