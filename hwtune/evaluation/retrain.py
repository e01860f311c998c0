"""Retrain configurations on several seeds and open the test set once for each."""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import ray
import torch
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from hwtune.cluster import Slots
from hwtune.config import TrialConfig
from hwtune.data.images import Dataset, Integers
from hwtune.data.sealed import open_test
from hwtune.data.splits import Part, SplitSpec, split_indices, take
from hwtune.errors import HwtuneFailure
from hwtune.evaluation.classifier import Classifier, save_classifier
from hwtune.evaluation.statistics import class_scores, confusion, wilson_interval
from hwtune.evaluation.training import Watch, train_one
from hwtune.models import build_model
from hwtune.records import StudyFolder, TrialRecord, now
from hwtune.states import start_store
from hwtune.training.state import Weights

SILENCE = 30.0  # seconds after which a line says how far the trainings are


@dataclass(frozen=True)
class Candidate:
    """A configuration to retrain: its name in the records, and how long."""

    name: str
    baseline: str
    config: TrialConfig


def candidate(trial: TrialRecord, config: TrialConfig) -> Candidate:
    """Return a trial as a candidate, with the length that its epochs on validation speak for."""
    config = replace(config, epochs=config.retrain_epochs(trial.best_epoch))
    return Candidate(trial.baseline or f"trial {trial.trial}", trial.baseline, config)


def retrain(
    candidates: list[Candidate],
    dataset: Dataset,
    spec: SplitSpec,
    folder: StudyFolder,
    *,
    seeds: list[int],
    slots: Slots,
    join_validation: bool = True,
    command: str,
    tell: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Retrain, test, and write `retrain.json`; the first candidate's first seed becomes `model/`.

    Each opening of the test set is on disk before a test pixel is read. What a killed process had
    trained is taken up again. Must run inside a Ray cluster.

    Args:
        join_validation: whether configurations that do not watch the validation images train on
            them, too.

    Raises:
        HwtuneFailure: when no training of the first candidate ends well; nothing is tested then.
    """
    weights: dict[tuple[int, int], Weights] = {}
    data = _stored_data(dataset, spec, candidates, join_validation=join_validation)
    folder.retraining.mkdir(exist_ok=True)
    store = start_store(folder.retraining)
    for job, outcome in _train_all(candidates, data, store, seeds=seeds, slots=slots, tell=tell):
        title = title_of(candidates[job[0]], job[1])
        if isinstance(outcome, str):
            tell(f"Retraining {title} failed: {outcome}")
            continue
        weights[job] = outcome
        tell(f"retrained {title} ({len(weights)} of {len(candidates) * len(seeds)})")
    if not any(index == 0 for index, _ in weights):
        raise HwtuneFailure(f"No training of {candidates[0].name} ended well; nothing was tested.")

    entries: list[dict[str, Any]] = []
    for index, each in enumerate(candidates):
        done = [seed for seed in seeds if (index, seed) in weights]
        if not done:
            continue
        nets = [_network(each, weights[index, seed], dataset) for seed in done]
        record = folder.read_retrain()
        opening = {"time": now(), "command": command, "configuration": each.name}
        record["test_openings"].append(opening)
        folder.write_retrain(record)  # before a test pixel is read
        entries.append(_tested(each, nets, done, *open_test(dataset, spec), dataset.classes))
        names = {entry["name"] for entry in entries}
        others = [c for c in record["configurations"] if c["name"] not in names]
        record["configurations"] = [*entries, *others]  # the winner stands first
        folder.write_retrain(record)
    first = min(seed for index, seed in weights if index == 0)
    save_classifier(
        folder.model, weights[0, first], candidates[0].config, dataset.classes, side=dataset.side
    )
    shutil.rmtree(folder.retraining)
    return entries


def title_of(each: Candidate, seed: int) -> str:
    """Return the name of one training."""
    return f"{each.name}, seed {seed}"


def _train_all(
    candidates: list[Candidate],
    data: dict[bool, ray.ObjectRef],
    store: Any,
    *,
    seeds: list[int],
    slots: Slots,
    tell: Callable[[str], None],
) -> Iterator[tuple[tuple[int, int], Weights | str]]:
    """Yield (candidate, seed) with the weights, or why there are none, as each training ends."""
    remote = ray.remote(num_cpus=slots.cpus, num_gpus=slots.gpus, max_retries=1)(train_one)
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor: Any = ray.remote(num_cpus=0, max_restarts=-1, scheduling_strategy=here)(Watch)
    watch = actor.remote()
    jobs = {
        remote.remote(
            each.config.to_dict(), data[each.config.needs_validation], seed, store, watch,
            title_of(each, seed),
        ): (i, seed)
        for i, each in enumerate(candidates)
        for seed in seeds
    }  # fmt: skip
    waiting = list(jobs)
    while waiting:
        done, waiting = ray.wait(waiting, timeout=SILENCE)
        if not done:
            with suppress(ray.exceptions.RayError):  # it only speaks; the trainings go on
                tell(f"retraining: {ray.get(watch.words.remote())}")
        for reference in done:
            index, seed = jobs[reference]
            watch.over.remote(title_of(candidates[index], seed))
            try:
                arrays = ray.get(reference)
            except ray.exceptions.RayError as error:
                cause = error.cause if isinstance(error, ray.exceptions.RayTaskError) else error
                yield jobs[reference], (str(cause) or repr(cause)).splitlines()[-1]
            else:
                yield jobs[reference], {k: torch.from_numpy(np.array(a)) for k, a in arrays.items()}


def _stored_data(
    dataset: Dataset, spec: SplitSpec, candidates: list[Candidate], *, join_validation: bool
) -> dict[bool, ray.ObjectRef]:
    """Put the training data into the object store, by whether validation is kept apart."""
    indices = split_indices(dataset, spec)
    stored = {}
    for watches in {each.config.needs_validation for each in candidates}:
        apart = watches or not join_validation
        both = np.sort(np.concatenate([indices.train, indices.validation]))
        train = take(dataset, indices.train if apart else both)
        validation = take(dataset, indices.validation) if watches else None
        stored[watches] = ray.put(
            {
                "train": (train.images, train.labels),
                "validation": validation and (validation.images, validation.labels),
                "classes": len(dataset.classes),
            }
        )
    return stored


def _network(each: Candidate, weights: Weights, dataset: Dataset) -> Classifier:
    model = build_model(
        each.config, classes=len(dataset.classes), side=each.config.side or dataset.side
    )
    model.load_state_dict(weights)
    model = model.to(memory_format=torch.channels_last)
    return Classifier(model, each.config, dataset.classes, side=dataset.side)


def _tested(
    each: Candidate,
    nets: list[Classifier],
    seeds: list[int],
    part: Part,
    indices: Integers,
    classes: tuple[str, ...],
) -> dict[str, Any]:
    """Return what `retrain.json` says of a candidate: its seeds scored on the test images."""
    predicted = [net.logits(part.images).argmax(1).numpy() for net in nets]
    right = [int((answer == part.labels).sum()) for answer in predicted]
    accuracies = [count / len(part.labels) for count in right]
    mean = sum(right) / (len(right) * len(part.labels))
    low, high = wilson_interval(mean, len(part.labels))
    first = predicted[0]
    return {
        "name": each.name,
        "baseline": each.baseline,
        "config": each.config.to_dict(),
        "parameters": sum(p.numel() for p in nets[0].model.parameters()),
        "seeds": seeds,
        "test_images": len(part.labels),
        "test_accuracy": {
            "mean": mean,
            "low": low,
            "high": high,
            "spread": statistics.stdev(accuracies) if len(seeds) > 1 else None,
            "per_seed": accuracies,
        },
        "per_class": class_scores(part.labels, first, classes),
        "confusion": confusion(part.labels, first, len(classes)),
        "misread": [
            {"image": int(indices[i]), "true": int(part.labels[i]), "predicted": int(first[i])}
            for i in np.flatnonzero(first != part.labels)
        ],
    }
