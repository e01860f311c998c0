"""The configurations that are judged, retrained and tested, and on what."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import ray
from rich.console import Console

from hwtune.config import TrialConfig
from hwtune.data.images import Dataset
from hwtune.data.splits import SplitSpec
from hwtune.records import TrialRecord
from hwtune.slots import Slots
from hwtune.study_folder import StudyFolder


@dataclass(frozen=True)
class Ground:
    """Where candidates are judged, retrained and tested, all of a study on the same.

    Attributes:
        data: the `SearchSplit` of data set and split, in Ray's object store.
        slots: where trainings run, in a running Ray cluster.
    """

    folder: StudyFolder
    dataset: Dataset
    split: SplitSpec
    data: ray.ObjectRef
    slots: Slots
    console: Console


@dataclass(frozen=True)
class Candidate:
    """A configuration to retrain: its name in the records, and how long."""

    name: str
    baseline: str
    config: TrialConfig


def candidate(trial: TrialRecord, config: TrialConfig) -> Candidate:
    """Return a trial as a candidate."""
    config = replace(config, epochs=retrain_epochs(trial, config))
    return Candidate(trial.name, trial.baseline, config)


def retrain_epochs(trial: TrialRecord, config: TrialConfig) -> int:
    """Return for how many epochs a trial is retrained: as its accuracy on validation speaks for.

    A baseline that was cut off is trained in full, for that is the system to be compared with.
    """
    if trial.baseline and trial.state != "complete":
        return config.epochs
    return config.retrain_epochs(trial.best_epoch)


def is_of(entry: Mapping[str, Any], each: Candidate, candidates: Iterable[Candidate]) -> bool:
    """Return whether a record is of one of the candidates.

    A trial that an extension went on with has another name than its record.
    """
    same = entry.get("config") == each.config.to_dict()
    others = {other.name for other in candidates if other is not each}
    return same and entry["name"] not in others
