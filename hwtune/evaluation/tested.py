"""What `retrain.json` says of a candidate that was tested."""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwtune.data.images import Dataset, Integers
from hwtune.evaluation.candidates import Candidate
from hwtune.evaluation.parallel import Trained
from hwtune.models import measure_cost
from hwtune.statistics import independent_images, wilson_interval


def record_of_test(
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
    """Return the record of a candidate: what its seeds read in the test images.

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
