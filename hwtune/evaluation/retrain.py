"""Retrain configurations on several seeds and open the test set once for each."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import ray
import torch
from numpy.typing import NDArray

from hwtune.cluster import Slots
from hwtune.config import Hyperparameters, TrialConfig, trial_config
from hwtune.data.images import Dataset
from hwtune.data.sealed import open_test
from hwtune.data.splits import Part, SplitSpec, split_indices, take
from hwtune.errors import HwtuneFailure, TrainingDiverged
from hwtune.evaluation.classifier import Classifier, save_classifier
from hwtune.evaluation.statistics import class_scores, confusion, wilson_interval
from hwtune.models import build_model
from hwtune.records import StudyFolder, TrialRecord, now
from hwtune.training.device import choose_device, keep_freed_memory
from hwtune.training.state import Weights


@dataclass(frozen=True)
class Candidate:
    """A configuration to retrain: its name in the records, and how long."""

    name: str
    baseline: str
    config: TrialConfig


def candidate(trial: TrialRecord, config: TrialConfig) -> Candidate:
    """Return a trial as a candidate, its length the number of epochs at which it was best.

    A configuration that watches the validation loss keeps its full length.
    """
    if not config.needs_validation:
        config = replace(config, epochs=trial.best_epoch)
    return Candidate(trial.baseline or f"trial {trial.trial}", trial.baseline, config)


def train_one(config: Hyperparameters, data: dict[str, Any], seed: int) -> dict[str, NDArray[Any]]:
    """Train one configuration in this process and return its weights as arrays.

    Raises:
        TrainingDiverged: when a loss is not finite.
    """
    keep_freed_memory()
    from hwtune.training.loop import train_config
    from hwtune.training.state import start_training, weights_of

    gpu = bool(ray.get_gpu_ids())
    if not gpu:
        torch.set_num_threads(1)
    values = trial_config(config)
    validation = data["validation"]
    state, batches, watched = start_training(
        values,
        Part(*data["train"]),
        None if validation is None else Part(*validation),
        classes=data["classes"],
        seed=seed,
        fast=choose_device(gpu=gpu),
    )
    for _ in train_config(state, batches, watched, values):
        pass
    return {name: tensor.numpy() for name, tensor in weights_of(state.evaluated).items()}


def retrain(
    candidates: list[Candidate],
    dataset: Dataset,
    spec: SplitSpec,
    folder: StudyFolder,
    *,
    seeds: list[int],
    slots: Slots,
    command: str,
    tell: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Retrain, test, and write `retrain.json`; the first candidate's first seed becomes `model/`.

    Each opening of the test set is on disk before a test pixel is read. Must run inside a Ray
    cluster.

    Raises:
        HwtuneFailure: when a training fails.
    """
    jobs = {}
    data = _stored_data(dataset, spec, candidates)
    remote = ray.remote(num_cpus=slots.cpus, num_gpus=slots.gpus, max_retries=1)(train_one)
    for index, each in enumerate(candidates):
        for seed in seeds:
            values = each.config.to_dict()
            ref = remote.remote(values, data[each.config.needs_validation], seed)
            jobs[ref] = (index, seed)
    weights: dict[tuple[int, int], Weights] = {}
    for ref, (index, seed) in _finished(jobs, candidates):
        weights[index, seed] = ref
        tell(f"retrained {candidates[index].name}, seed {seed} ({len(weights)} of {len(jobs)})")

    entries = []
    for index, each in enumerate(candidates):
        nets = [_network(each, weights[index, seed], dataset) for seed in seeds]
        entries.append(_tested(each, nets, dataset, spec, folder, seeds, command))
    save_classifier(
        folder.model,
        weights[0, seeds[0]],
        candidates[0].config,
        dataset.classes,
        side=dataset.side,
    )
    return entries


def _stored_data(
    dataset: Dataset, spec: SplitSpec, candidates: list[Candidate]
) -> dict[bool, ray.ObjectRef]:
    """Put the training data into the object store, by whether validation is kept apart."""
    indices = split_indices(dataset, spec)
    stored = {}
    for watches in {each.config.needs_validation for each in candidates}:
        both = np.sort(np.concatenate([indices.train, indices.validation]))
        train = take(dataset, indices.train if watches else both)
        validation = take(dataset, indices.validation) if watches else None
        stored[watches] = ray.put(
            {
                "train": (train.images, train.labels),
                "validation": validation and (validation.images, validation.labels),
                "classes": len(dataset.classes),
            }
        )
    return stored


def _finished(
    jobs: dict[Any, tuple[int, int]], candidates: list[Candidate]
) -> Iterator[tuple[Weights, tuple[int, int]]]:
    """Yield the weights of each job as it ends."""
    waiting = list(jobs)
    while waiting:
        done, waiting = ray.wait(waiting)
        for ref in done:
            index, seed = jobs[ref]
            try:
                arrays = ray.get(ref)
            except ray.exceptions.RayError as error:
                cause = error.cause if isinstance(error, ray.exceptions.RayTaskError) else error
                what = str(cause) if isinstance(cause, TrainingDiverged) else repr(cause)
                raise HwtuneFailure(
                    f"Retraining {candidates[index].name} with seed {seed} failed: {what}"
                ) from None
            weights = {name: torch.from_numpy(np.array(a)) for name, a in arrays.items()}
            yield weights, (index, seed)


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
    dataset: Dataset,
    spec: SplitSpec,
    folder: StudyFolder,
    seeds: list[int],
    command: str,
) -> dict[str, Any]:
    """Open the test set once for a candidate, score all its seeds, and write that down."""
    record = folder.read_retrain()
    record["test_openings"].append({"time": now(), "command": command, "configuration": each.name})
    folder.write_retrain(record)

    part, indices = open_test(dataset, spec)
    predicted = [net.logits(part.images).argmax(1).numpy() for net in nets]
    accuracies = [float((answer == part.labels).mean()) for answer in predicted]
    mean = statistics.fmean(accuracies)
    low, high = wilson_interval(mean, len(part.labels))
    first = predicted[0]
    entry = {
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
        "per_class": class_scores(part.labels, first, dataset.classes),
        "confusion": confusion(part.labels, first, len(dataset.classes)),
        "misread": [
            {"image": int(indices[i]), "true": int(part.labels[i]), "predicted": int(first[i])}
            for i in np.flatnonzero(first != part.labels)
        ],
    }
    others = [c for c in record["configurations"] if c["name"] != each.name]
    record["configurations"] = [*others, entry]
    folder.write_retrain(record)
    return entry
