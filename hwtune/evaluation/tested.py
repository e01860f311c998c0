"""What `retrain.json` says of a candidate that was tested."""

from __future__ import annotations

import statistics

import numpy as np

from hwtune.contract import Scored, TestAccuracy, TestRecord
from hwtune.data.images import Dataset, Integers
from hwtune.evaluation.answers import Answers, coverage_of, how_many
from hwtune.evaluation.candidates import Candidate
from hwtune.evaluation.parallel import Trained
from hwtune.models import measure_cost
from hwtune.statistics import wilson_interval


def record_of_test(
    each: Candidate,
    nets: dict[int, Trained],
    dataset: Dataset,
    *,
    read: list[Answers],
    labels: Integers,
    images: Integers,
    writers: Integers | None,
    scored: Scored,
) -> TestRecord:
    """Return the record of a candidate: what its seeds read in the test images.

    Args:
        nets: what was trained, by its seed.
        read: what each seed's network read.
        labels: the true ones.
        images: which images of the data set these are.
        writers: who wrote them, where nothing by them was trained on; else None.
        scored: the scores by class and the confusion of the first seed's network.
    """
    right = np.array([each.classes == labels for each in read])  # (seeds, images)
    accuracies = right.mean(1).tolist()
    mean = float(right.mean())
    alike = how_many(right.mean(0), writers)
    low, high = wilson_interval(mean, alike)
    accuracy: TestAccuracy = {
        "mean": mean,
        "low": low,
        "high": high,
        "spread": statistics.stdev(accuracies) if len(nets) > 1 else None,
        "per_seed": accuracies,
    }
    if writers is not None:
        accuracy["independent_images"] = round(alike)
    cost = measure_cost(each.config, classes=len(dataset.classes), side=dataset.side)
    record: TestRecord = {
        "name": each.name,
        "baseline": each.baseline,
        "config": each.config.to_dict(),
        "parameters": cost.parameters,
        "seeds": list(nets),
        "epochs": [net.epochs for net in nets.values()],
        "dtypes": [net.dtype for net in nets.values()],
        "test_images": len(labels),
        "test_accuracy": accuracy,
        "per_class": scored["per_class"],
        "confusion": scored["confusion"],
        "misread": [
            {"image": int(images[i]), "true": int(labels[i]), "predicted": int(read[0].classes[i])}
            for i in np.flatnonzero(~right[0])
        ],
        "coverage": coverage_of(right[0], read[0].probabilities, writers),
    }
    # What tells two records apart beyond their means: what each seed misread
    if writers is None:
        record["misread_by_seed"] = [images[wrong].tolist() for wrong in ~right]
    else:
        record["writers"] = {
            str(writer): {
                "images": int((writers == writer).sum()),
                "misread": (~right[:, writers == writer]).sum(1).tolist(),
            }
            for writer in np.unique(writers)
        }
    return record
