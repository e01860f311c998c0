"""Train a published system as its authors did, or under hwtune's own protocol, and test it once."""

from __future__ import annotations

import shlex
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from hwtune import cluster
from hwtune.config import TrialConfig
from hwtune.data.images import Dataset
from hwtune.data.splits import SplitSpec, split_indices
from hwtune.errors import ClusterError, SpaceError, StudyError
from hwtune.evaluation.retrain import Candidate, retrain
from hwtune.hardware import git_commit, hardware, versions
from hwtune.models import measure_cost
from hwtune.pipeline import (
    Place,
    choose_data,
    close_last_run,
    recorded,
    reported,
    same_data,
    say_tested,
    split_of,
)
from hwtune.records import FORMAT, StudyFolder, create_study, now
from hwtune.signals import catch_sigterm
from hwtune.space import Published, SearchSpace, load_space, space_from_json


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
    return space.published.get(baseline, unknown)


def retrain_baseline(
    space_name: str,
    baseline: str,
    *,
    honest: bool,
    epochs: int | None,
    data: str,
    split: SplitSpec,
    seeds: int,
    place: Place,
    name: str | None,
    results: Path,
    command: Sequence[str],
    console: Console,
) -> StudyFolder:
    """Train one baseline on several seeds, test it, and return the folder with its records.

    Args:
        honest: train on train and validation of `split` (on train alone what watches validation);
            otherwise on the authors' own split, on its train part alone.
        epochs: instead of the authors' own length.

    Raises:
        HwtuneError: when something the user gave is wrong; nothing is left behind then.
    """
    began = time.monotonic()
    space, file = load_space(space_name)
    published = published_run(space, baseline, honest=honest)
    config = space.config({**space.points[baseline], **published.values})
    if epochs is not None:
        config = replace(config, epochs=epochs)
    dataset = choose_data(data, space, console)
    measure_cost(config, classes=len(dataset.classes), side=config.side or dataset.side)
    spec = split if honest else SplitSpec(**published.split)
    about: dict[str, Any] = {
        "format": FORMAT,
        "space": space.to_json(),
        "data": dataset.describe(),
        "split": {**spec.to_dict(), "counts": split_indices(dataset, spec).counts()},
        "baseline": {
            "name": baseline,
            "honest": honest,
            "epochs": config.epochs,
            "seeds": seeds,
            "headline": published.headline if dataset.name == space.data else None,
            "really": published.really,
        },
        "command": shlex.join(command),
        "started": now(),
        "seconds": None,
        "status": "running",
        "runs": [],
    }
    ending = "-honest" if honest else ""
    source = file.read_text(encoding="utf-8")
    folder = create_study(
        results, name, f"{space.name}-{baseline}{ending}", about=about, source=source
    )
    about["study"] = folder.name
    with folder.locked():
        try:
            _run(folder, about, space, dataset, place=place, command=command, began=began,
                 console=console)  # fmt: skip
        except ClusterError:
            shutil.rmtree(folder.path)
            raise
    return folder


def resume_baseline(
    folder: StudyFolder, *, place: Place, command: Sequence[str], console: Console
) -> None:
    """Go on with the training of a baseline that was interrupted or killed.

    Raises:
        HwtuneError: when there is nothing left to do, or the data is another.
    """
    began = time.monotonic()
    with folder.locked():
        about = folder.read_study()
        if about["status"] == "complete":
            raise StudyError(
                f"{folder.name} is complete; train it anew: python -m hwtune retrain "
                f"{about['space']['name']} --baseline {about['baseline']['name']}."
            )
        dataset = same_data(folder, about)
        close_last_run(folder, about)
        folder.repair()
        _run(folder, about, space_from_json(about["space"]), dataset, place=place,
             command=command, began=began, console=console)  # fmt: skip


def _run(
    folder: StudyFolder,
    about: dict[str, Any],
    space: SearchSpace,
    dataset: Dataset,
    *,
    place: Place,
    command: Sequence[str],
    began: float,
    console: Console,
) -> None:
    """Train and test what `about` says, with the folder's lock held."""
    wanted = about["baseline"]
    published = published_run(space, wanted["name"], honest=wanted["honest"])
    values = {**space.points[wanted["name"]], **published.values, "epochs": wanted["epochs"]}
    each = Candidate(wanted["name"], wanted["name"], space.config(values))
    about |= {"versions": versions(), "git_commit": git_commit()}
    about["hardware"] = {**hardware(), "parallel": place.parallel}
    catch_sigterm()
    try:
        with (
            reported(folder),
            recorded(folder, about, command=shlex.join(command), began=began),
            cluster.started(place.address),
        ):
            slots = cluster.plan_slots(place.parallel, gpu_share=place.gpu_share)
            about["hardware"]["parallel"] = slots.total
            introduce(about, each.config, console)
            entries = retrain(
                [each], dataset, split_of(about), folder, seeds=list(range(wanted["seeds"])),
                slots=slots, join_validation=wanted["honest"], command=shlex.join(command),
                tell=console.print,
            )  # fmt: skip
    except KeyboardInterrupt:
        console.print(f"Nothing was tested. Go on: python -m hwtune resume {folder.called}")
        raise
    say_tested(entries, console)
    if wanted["headline"] is not None:
        console.print(f"Its authors report {wanted['headline']:.2%}: {wanted['really']}.")


def introduce(about: dict[str, Any], config: TrialConfig, console: Console) -> None:
    """Say what begins."""
    counts, data = about["split"]["counts"], about["data"]
    cost = measure_cost(config, classes=len(data["classes"]), side=config.side or data["side"])
    console.print(
        f"{about['study']}: {cost.parameters:,} parameters; {data['name']}, "
        f"{counts['train']:,} train, {counts['validation']:,} validation and {counts['test']:,} "
        f"test images (split {about['split']['kind']}); at most "
        f"{about['baseline']['epochs']} epochs."
    )
