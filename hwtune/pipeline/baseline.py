"""Train a published system as its authors did, or under hwtune's own protocol, and test it once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import ray

from hwtune.commands import once_more
from hwtune.config import TrialConfig
from hwtune.contract import About
from hwtune.data.images import Dataset
from hwtune.data.splits import SplitSpec, split_indices, visible_split
from hwtune.distributions import is_number
from hwtune.errors import DataError, OptionError, SpaceError, StudyError
from hwtune.evaluation.candidates import Candidate
from hwtune.evaluation.retrain import retrain
from hwtune.models import measure_cost
from hwtune.pipeline.command import Command, Place
from hwtune.pipeline.reporting import page_completed
from hwtune.pipeline.retrain import say_tested
from hwtune.pipeline.session import Session, begun, new_session, session_again, working
from hwtune.pipeline.stand_in import choose_data
from hwtune.space import Published, SearchSpace
from hwtune.study_folder import StudyFolder
from hwtune.words import counted


def published_run(space: SearchSpace, baseline: str, *, honest: bool = False) -> Published:
    """Return how a named point of a space was published.

    Raises:
        SpaceError: when the space has no such point, or does not say how it was published, which
            an `honest` run need not know.
    """
    if baseline not in space.points:
        known = ", ".join(space.points) or "none"
        raise SpaceError(
            f"Space {space.name!r} has no baseline or start {baseline!r}; it has {known}."
        )
    if not honest and baseline not in space.published:
        raise SpaceError(
            f"Space {space.name!r} does not say how {baseline!r} was published; add --honest."
        )
    unknown = Published(headline=None, really="", values={}, split={})
    found = space.published.get(baseline, unknown)
    reported = found.headline
    if reported is not None and not (is_number(reported) and 0 <= reported <= 1):
        raise SpaceError(
            f"published[{baseline!r}] reports {reported!r}, which is not an accuracy in [0, 1]; "
            "give one, as 0.97, or None."
        )
    if not isinstance(found.really, str):
        raise SpaceError(
            f"published[{baseline!r}] has really={found.really!r}, which is not text; say what its "
            "headline is of."
        )
    return found


def published_split(published: Published, dataset: Dataset, *, seed: int) -> SplitSpec:
    """Return the authors' own kind of split; which images they had where is not known.

    Args:
        seed: another one to draw it with; 0 leaves it.

    Raises:
        SpaceError: when it is no split.
        OptionError: when nothing of it is drawn.
    """
    try:
        own = SplitSpec(**published.split)
    except (TypeError, DataError) as error:
        raise SpaceError(f"The published split {published.split} is none: {error}") from None
    if seed in (0, own.seed):
        return own
    drawn = replace(own, seed=seed)
    before, after = (split_indices(dataset, each).outside_test for each in (own, drawn))
    if np.array_equal(before, after):
        raise OptionError(
            f"--split-seed {seed}: the authors' own split has nothing that is drawn; leave the "
            "option out, or add --honest."
        )
    return drawn


def retrain_baseline(
    space: SearchSpace,
    baseline: str,
    *,
    source: str,
    honest: bool,
    epochs: int | None,
    data: str,
    split: SplitSpec,
    seeds: int,
    place: Place,
    name: str | None,
    results: Path,
    command: Command,
) -> StudyFolder:
    """Train one baseline on several seeds, test it, and return the folder with its records.

    Args:
        source: of the space, for people.
        honest: train on train and validation of `split` (on train alone what watches validation);
            otherwise on the train part of the authors' own kind of split, drawn with its seed.
        epochs: instead of the authors' own length.

    Raises:
        HwtuneError: when something the user gave is wrong; nothing is left behind then.
    """
    published = published_run(space, baseline, honest=honest)
    config = trained_config(space, baseline, published, epochs=epochs)
    dataset = choose_data(data, space, command.console)
    measure_cost(config, classes=len(dataset.classes), side=dataset.side)
    if not honest:
        split = published_split(published, dataset, seed=split.seed)
        parts = split_indices(dataset, split)
        if not len(parts.test):
            raise SpaceError(
                f"{baseline} of {space.name} was published with no test part; give its split one, "
                "or add --honest."
            )
        if config.needs_validation and not len(parts.validation):
            raise SpaceError(
                f"{baseline} of {space.name} watches validation images while it trains, of which "
                "its published split has none; give the split a validation part."
            )
    session = new_session(
        results, name, f"{space.name}-{baseline}{'-honest' if honest else ''}", space=space,
        source=source, dataset=dataset, split=split, place=place, command=command,
        asked={
            "baseline": {
                "name": baseline,
                "honest": honest,
                "epochs": config.epochs,
                "seeds": seeds,
                "headline": published.headline if dataset.name == space.data else None,
                "really": published.really,
            },
        },
    )  # fmt: skip
    with begun(session.folder):
        run(session)
    return session.folder


def trained_config(
    space: SearchSpace, baseline: str, published: Published, *, epochs: int | None
) -> TrialConfig:
    """Return what is trained of a baseline, for `epochs` or the authors' own length."""
    config = space.config({**space.points[baseline], **published.values})
    return config if epochs is None else replace(config, epochs=epochs)


def resume_baseline(folder: StudyFolder, *, place: Place, command: Command) -> None:
    """Go on with the training of a baseline that was interrupted or killed.

    Raises:
        HwtuneError: when there is nothing left to do, or the data is another.
    """
    with folder.locked():
        about = folder.read_study()
        if about["status"] == "complete":
            if page_completed(folder, command.console):
                return
            raise StudyError(
                f"{folder.name} is complete; to train it anew, give another name to: "
                f"{once_more(about['command'])}"
            )
        run(session_again(folder, about, place, command))


def run(session: Session) -> None:
    """Train and test what the study says, with the folder's lock held."""
    about, command, space = session.about, session.command, session.space
    wanted = about["baseline"]
    assert wanted is not None
    published = published_run(space, wanted["name"], honest=wanted["honest"])
    config = trained_config(space, wanted["name"], published, epochs=wanted["epochs"])
    each = Candidate(wanted["name"], wanted["name"], config)
    with working(session):
        slots = session.slots()
        about["hardware"]["parallel"] = slots.total
        session.say(introduction(about, each.config))
        data = ray.put(visible_split(session.dataset, session.split))
        entries = retrain(
            [each], session.ground(data, slots), seeds=range(wanted["seeds"]),
            join_validation=wanted["honest"], command=command.text,
        )  # fmt: skip
        say_tested(entries, session.split.kind, command.console, judged=entries)
    if wanted["headline"] is not None:
        session.say(f"Its authors report {wanted['headline']:.2%}: {wanted['really']}.")


def introduction(about: About, config: TrialConfig) -> str:
    """Return what begins, in words."""
    counts, data = about["split"]["counts"], about["data"]
    cost = measure_cost(config, classes=len(data["classes"]), side=data["side"])
    return (
        f"{about['study']}: {cost.parameters:,} parameters; {data['name']}, "
        f"{counts['train']:,} train, {counts['validation']:,} validation and {counts['test']:,} "
        f"test images (split {about['split']['kind']}); at most {counted(config.epochs, 'epoch')}."
    )
