"""Retrain configurations on several seeds and open the test set once for each."""

from __future__ import annotations

import json
import shutil
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from rich.console import Console

from hwtune.board import add_distorted, add_picture, examples
from hwtune.cluster import Slots
from hwtune.config import TrialConfig
from hwtune.data.images import Dataset, Integers
from hwtune.data.sealed import open_test
from hwtune.data.splits import Part, SearchSplit, SplitSpec
from hwtune.errors import HwtuneFailure
from hwtune.evaluation.leaks import leaks
from hwtune.evaluation.parallel import Job, Trained, read_all, score, train_all
from hwtune.evaluation.saved import save_model, saved_config
from hwtune.files import beside, counted, now, write_atomic
from hwtune.hardware import made_by
from hwtune.models import measure_cost
from hwtune.pictures import confusion_picture
from hwtune.records import TrialRecord
from hwtune.statistics import independent_images, is_matrix, wilson_interval
from hwtune.study_folder import StudyFolder

BEGAN = "began.json"  # beside the states of a retraining: its command, and the openings before it


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


def retrain(
    candidates: list[Candidate],
    dataset: Dataset,
    spec: SplitSpec,
    data: ray.ObjectRef,
    folder: StudyFolder,
    *,
    seeds: list[int],
    slots: Slots,
    join_validation: bool = True,
    again: bool = False,
    opened: Callable[[], None] = lambda: None,
    command: str,
    console: Console,
) -> list[dict[str, Any]]:
    """Retrain, test, and write `retrain.json`; the first candidate's first seed becomes `model/`.

    Each opening of the test set is on disk before a test pixel is read. What a killed process had
    trained is taken up again. Must run inside a Ray cluster.

    Args:
        data: the `SearchSplit` of data set and spec, in Ray's object store.
        join_validation: whether configurations that do not watch the validation images train on
            them, too.
        again: whether what is recorded with the same configuration and these seeds, or more, is
            trained and tested once more; otherwise its record stands, and its test images stay
            closed. What the same command had tested before it was cut off stays so, too.
        opened: called when an opening of the test set is on disk.

    Raises:
        HwtuneFailure: when no training of the first candidate ends well; nothing is tested then.
    """
    split: SearchSplit = ray.get(data)

    def job(each: Candidate, seed: int) -> Job:
        title, watches = f"{each.name}, seed {seed}", each.config.needs_validation
        if join_validation and not watches:
            return Job(title, each.config, seed, data, slice(None))
        count = split.train_images
        validation = slice(count, None) if watches else None
        return Job(title, each.config, seed, data, slice(count), validation)

    kept = tested_already(candidates, folder, seeds)
    if again:
        began = began_at(command, folder)
        kept = {i: entry for i, entry in kept.items() if entry.get("opening", -1) >= began}
    for entry in kept.values():
        console.print(f"{entry['name']} is retrained and tested already; its record stands.")
    jobs = {
        job(each, seed): (index, seed)
        for index, each in enumerate(candidates)
        if index not in kept
        for seed in seeds
    }
    if not jobs:
        if folder.retraining.is_dir():
            discard(folder.retraining)
        return list(kept.values())
    console.print(f"Retraining with {counted(len(seeds), 'seed')}, then testing once.")
    nets: dict[tuple[int, int], Trained] = {}
    failed: dict[int, dict[int, str]] = {}  # by candidate, then seed
    for done, outcome in train_all(list(jobs), folder.retraining, slots=slots, console=console):
        index, seed = jobs[done]
        if isinstance(outcome, str):
            console.print(f"Retraining {done.title} failed: {outcome}")
            failed.setdefault(index, {})[seed] = outcome
            continue
        nets[index, seed] = outcome
        console.print(f"retrained {done.title} ({len(nets)} of {len(jobs)})")
    if 0 not in kept and not any(index == 0 for index, _ in nets):
        raise HwtuneFailure(f"No training of {candidates[0].name} ended well; nothing was tested.")

    entries: list[dict[str, Any]] = []
    for index, each in enumerate(candidates):
        if index in kept:
            entries.append(kept[index])
            continue
        own = {seed: nets[index, seed] for seed in seeds if (index, seed) in nets}
        if not own:
            continue
        record = folder.read_retrain()
        opening = {
            "time": now(), "command": command, "configuration": each.name, "made_by": made_by(),
        }  # fmt: skip
        record["test_openings"].append(opening)
        folder.write_retrain(record)  # before a test pixel is read
        opened()
        part, images = open_test(dataset, spec)
        weights = [net.weights for net in own.values()]
        read = read_all(each.config, weights, part.images, len(dataset.classes), slots=slots)
        scored = score(labels=part.labels, predicted=read[0], classes=dataset.classes, slots=slots)
        strangers = dataset.writers if spec.kind == "writer" else None
        entry = _tested(
            each, own, dataset, predicted=read, labels=part.labels, images=images,
            writers=None if strangers is None else strangers[images], scored=scored,
        )  # fmt: skip
        which = len(record["test_openings"]) - 1
        entries.append({**entry, "failed": failed.get(index, {}), "opening": which})
        names = {entry["name"] for entry in entries}
        if index == 0:  # before the records name it the winner
            first = next(iter(own.values()))
            save_model(folder.model, first.held, each.config, dataset.classes, side=dataset.side)
        others = [c for c in record["configurations"] if c["name"] not in names]
        record["configurations"] = [*entries, *others]  # the winner stands first
        if "leaks" not in record:
            record["leaks"] = leaks(dataset, images)
        folder.write_retrain(record)
    with suppress(OSError):  # pictures are only to look at
        show(entries, candidates[0], split.train, folder)
    discard(folder.retraining)
    return entries


def tested_already(
    candidates: Sequence[Candidate], folder: StudyFolder, seeds: list[int]
) -> dict[int, dict[str, Any]]:
    """Return the records, by place, of those candidates that were tested as they would be now.

    More seeds are as good. The first one's is left out where `model/` is another's.
    """
    before, model = folder.read_retrain()["configurations"], saved_config(folder.model)
    return {
        index: entry
        for index, each in enumerate(candidates)
        for place, entry in enumerate(before)
        if is_of(entry, each, candidates)
        and set(seeds) <= set(entry["seeds"])
        and (index > 0 or (place == 0 and entry["config"] == model))
    }


def is_of(entry: Mapping[str, Any], each: Candidate, candidates: Iterable[Candidate]) -> bool:
    """Return whether a record is of one of the candidates.

    A trial that an extension went on with has another name than its record.
    """
    same = entry.get("config") == each.config.to_dict()
    others = {other.name for other in candidates if other is not each}
    return same and entry["name"] not in others


def began_at(command: str, folder: StudyFolder) -> int:
    """Return how many openings there were when a retraining began, and note it beside its states.

    One that was cut off and left its states began where the same command noted it first.
    """
    noted = folder.retraining / BEGAN
    with suppress(FileNotFoundError):
        before = json.loads(noted.read_text(encoding="utf-8"))
        if before["command"] == command:
            return int(before["openings"])
    folder.retraining.mkdir(exist_ok=True)
    openings = len(folder.read_retrain()["test_openings"])
    write_atomic(noted, json.dumps({"command": command, "openings": openings}))
    return openings


def show(
    entries: list[dict[str, Any]],
    first: Candidate,
    train: Part,
    folder: StudyFolder,
) -> None:
    """Show in TensorBoard what was confused, and how the first candidate distorts its images."""
    titles = examples(train.images, train.labels)
    for entry in entries:
        if is_matrix(entry["confusion"]):
            picture = confusion_picture(entry["confusion"], titles)
            add_picture(folder.tensorboard, f"confusion/{entry['name']}", picture)
    add_distorted(folder.tensorboard, f"distorted/{first.name}", first.config, titles)


def discard(states: Path) -> None:
    """Remove the states of trainings, of which a last one may still be on its way to the disk."""
    gone = beside(states)
    states.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def _tested(
    each: Candidate,
    nets: dict[int, Trained],
    dataset: Dataset,
    *,
    predicted: list[Integers],
    labels: Integers,
    images: Integers,
    writers: Integers | None,
    scored: dict[str, Any],
) -> dict[str, Any]:
    """Return what `retrain.json` says of a candidate: what its seeds read in the test images.

    Args:
        nets: what was trained, by its seed.
        predicted: the classes that each seed's network read.
        labels: the true ones.
        images: which images of the data set these are.
        writers: who wrote them, where nothing by them was trained on; else None.
        scored: the scores by class and the confusion of the first seed's network.
    """
    right = np.array([answer == labels for answer in predicted])  # (seeds, images)
    accuracies = right.mean(1).tolist()
    mean = float(right.mean())
    alike = None if writers is None else independent_images(right.mean(0), writers)
    low, high = wilson_interval(mean, len(labels) if alike is None else alike)
    first = predicted[0]
    return {
        "name": each.name,
        "baseline": each.baseline,
        "config": each.config.to_dict(),
        "parameters": measure_cost(
            each.config, classes=len(dataset.classes), side=dataset.side
        ).parameters,
        "seeds": list(nets),
        "epochs": [net.epochs for net in nets.values()],
        "dtypes": [net.dtype for net in nets.values()],
        "test_images": len(labels),
        "test_accuracy": {
            "mean": mean,
            "low": low,
            "high": high,
            **({} if alike is None else {"independent_images": round(alike)}),
            "spread": statistics.stdev(accuracies) if len(nets) > 1 else None,
            "per_seed": accuracies,
        },
        **scored,
        "misread": [
            {"image": int(images[i]), "true": int(labels[i]), "predicted": int(first[i])}
            for i in np.flatnonzero(first != labels)
        ],
        **_misread(~right, images, writers),
    }


def _misread(
    wrong: NDArray[np.bool_], images: Integers, writers: Integers | None
) -> dict[str, Any]:
    """Return what tells two records apart beyond their means: what each seed misread (seeds, N).

    By image, or where nothing by the writers was trained on, by writer.
    """
    if writers is None:
        return {"misread_by_seed": [images[each].tolist() for each in wrong]}
    return {
        "writers": {
            str(writer): {
                "images": int((writers == writer).sum()),
                "misread": wrong[:, writers == writer].sum(1).tolist(),
            }
            for writer in np.unique(writers)
        }
    }
