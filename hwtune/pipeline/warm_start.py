"""Starts of a search from earlier studies: their best trials, tried before anything is proposed."""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from hwtune.config import Hyperparameters
from hwtune.data import find_again
from hwtune.data.images import Dataset
from hwtune.data.splits import SplitSpec
from hwtune.distributions import contains, in_words, nearest
from hwtune.errors import OptionError, SpaceError
from hwtune.evaluation.leaks import known_elsewhere
from hwtune.records import ranked
from hwtune.search.feasible import cost_of, too_large
from hwtune.space import SearchSpace, found_elsewhere, space_from_json
from hwtune.study_folder import StudyFolder

BEST = 3  # trials of each study
ALL_KNOWN = "which has no trial that is new to this space"
OFF = ("max_steps", "early_stop", "clip_value", "ema")  # at 0, to which no other value is near


def with_starts_from(
    space: SearchSpace, studies: Sequence[StudyFolder], dataset: Dataset, split: SplitSpec
) -> tuple[SearchSpace, list[dict[str, Any]]]:
    """Return the space, the best of some studies before its own starts, and where they are from.

    Raises:
        OptionError: when a study has nothing to start from, or knows images that are tested here.
    """
    origins = []
    starts: dict[str, Hyperparameters] = {}
    for study in studies:
        about = study.read_study()
        searched = space_from_json(about["space"])
        origin = {
            "study": study.name,
            "data": about["data"],
            "split": {name: value for name, value in about["split"].items() if name != "counts"},
            "space": {"data": searched.data, "found_on": dict(searched.found_on)},
            "started_from": about.get("started_from", []),
        }
        unseen = refuse_leaks(study, origin, dataset, split)
        found = best_points(
            replace(space, starts={**starts, **space.starts}), study, dataset,
            searched=searched, side=about["data"]["side"],
        )  # fmt: skip
        for trial, values in found.items():
            starts[free_name(f"{study.name}-{trial}", {*space.points, *starts})] = values
        origins.append({**origin, "trials": list(found), "not_compared": unseen})
    return replace(space, starts={**starts, **space.starts}), origins


def best_points(
    space: SearchSpace,
    study: StudyFolder,
    dataset: Dataset,
    *,
    searched: SearchSpace,
    side: int,
) -> dict[int, Hyperparameters]:
    """Return the best trials of a study that are new to the space, as points of it, by number.

    What the space fixes stays as it is. A number that it does not have becomes the nearest that it
    has; a trial of which it lacks another value, or whose network it does not train, is passed
    over, and so is a baseline or start of the space.

    Args:
        searched: the space of the study.
        side: of that study's images.

    Raises:
        OptionError: when none of them is a point of the space.
    """
    trials = ranked(study.read_trials())
    if not trials:
        raise OptionError(
            f"--starts-from {study.called}: it has no trained trial; give another study."
        )
    found: dict[int, Hyperparameters] = {}
    tried, fits, why = list(space.points.values()), False, ""
    for trial in trials:
        config = searched.config(searched.parse(trial.config)).to_dict()
        try:
            values = point_of(space, config, side=side)
            shape = {"classes": len(dataset.classes), "side": dataset.side}
            misfit = too_large(space, cost_of(space, values, **shape))
        except SpaceError as error:
            misfit = str(error)
        if misfit:
            why = why or misfit
            continue
        fits = True
        if values not in tried:
            tried.append(values)
            found[trial.trial] = values
        if len(found) == BEST:
            break
    if not fits:
        raise OptionError(
            f"--starts-from {study.called}: none of its trials is a point of {space.name} that can "
            f"be trained ({why.rstrip('.')}); give another study, or leave it out."
        )
    return found


def point_of(space: SearchSpace, config: Mapping[str, Any], *, side: int) -> Hyperparameters:
    """Return the point of a space that is nearest to a configuration.

    Raises:
        SpaceError: when there is none.
    """
    if config["model"] != space.model:
        raise SpaceError(f"model={config['model']!r} is not {space.model!r}")
    values = {}
    for name, each in space.search.items():
        value = config[name]
        if name == "side" and not (value or contains(each, value)):
            value = side  # 0 kept the images as they were
        values[name] = nearest(each, value, off=name in OFF)
        if values[name] is None:
            raise SpaceError(f"{name}={value!r} is not one of {in_words(each)}")
    return values


def refuse_leaks(
    study: StudyFolder, origin: Mapping[str, Any], dataset: Dataset, split: SplitSpec
) -> list[str]:
    """Check that neither a study nor what it started from knows images that are tested here.

    Returns the names of the data sets that are no longer at hand to be compared.

    Raises:
        OptionError: when one chose by such images, or by others of their name.
    """
    missing = set()
    for each in lineage(origin):
        same = each["data"]["sha256"] == dataset.sha256
        searched = dataset if same else find_again(each["data"])
        if why := leak(each, dataset, split, searched=searched):
            raise OptionError(f"--starts-from {study.called}: study {each['study']} {why}")
        if searched is None:
            missing.add(each["data"]["name"])
    return sorted(missing)


def leak(
    origin: Mapping[str, Any], dataset: Dataset, split: SplitSpec, *, searched: Dataset | None
) -> str:
    """Return what a study knows of images that are tested now, and the remedy, or "".

    Args:
        searched: its data, `dataset` itself where they are the same; None where they are gone.
    """
    name, drawn, tried = dataset.name, origin["split"], origin["space"]
    if searched is None and origin["data"]["name"] == name:
        return (
            f"searched other images that are called {name}, too, perhaps some that are tested "
            "here; leave it out."
        )
    if searched is not None:
        known = known_elsewhere(dataset, split, searched=searched, drawn=SplitSpec(**drawn))
        if known and searched is dataset:
            return (
                f"searched another split of {name}, with images that are tested here; take its "
                f"split (--split {drawn['kind']} --split-seed {drawn['seed']}), or leave it out."
            )
        if known:
            return (
                f"searched {searched.name}, which shares {known} of the images that are tested "
                "here; leave it out."
            )
    if names := found_elsewhere(tried, dataset.describe(), vars(split)):
        return (
            f"tried {names[0]}, which was found on another split of {name}, with images that are "
            "tested here; leave it out."
        )
    return ""


def lineage(origin: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield an origin, and what that started from."""
    yield origin
    for each in origin["started_from"]:
        yield from lineage(each)


def free_name(wanted: str, taken: Container[str]) -> str:
    """Return a name that is not taken: the wanted one, or with a number behind it."""
    others = (f"{wanted}-{number}" for number in itertools.count(2))
    return next(name for name in itertools.chain([wanted], others) if name not in taken)


def told(origins: Sequence[Mapping[str, Any]]) -> str:
    """Return where a search begins, as a sentence."""
    each = (
        f"{o['study']} (trials {', '.join(map(str, o['trials']))})"
        if o["trials"]
        else f"{o['study']} ({ALL_KNOWN})"
        for o in origins
    )
    missing = sorted({name for o in origins for name in o["not_compared"]})
    beware = f" Not at hand, so that nobody looked for images tested here: {', '.join(missing)}."
    return f"Starts from {'; '.join(each)}." + beware * bool(missing)
