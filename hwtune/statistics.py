"""Scores of predictions, with intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95  # of all intervals
QUANTILE = (1 + CONFIDENCE) / 2
MAX_MATRIX_CLASSES = 100


def wilson_interval(accuracy: float, images: float) -> tuple[float, float]:
    """Return Wilson's interval of a fraction seen on `images` images.

    Wilson, Probable inference, the law of succession, and statistical inference, 1927.
    """
    z = NormalDist().inv_cdf(QUANTILE)
    centre = accuracy + z * z / (2 * images)
    spread = z * math.sqrt(accuracy * (1 - accuracy) / images + z * z / (4 * images * images))
    scale = 1 + z * z / images
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def independent_images(right: NDArray[np.float64], writers: NDArray[np.int64]) -> float:
    """Return how many images of as many writers would tell as much of strangers as these do.

    Images of one writer are read alike, so that they tell less than as many of other writers: their
    number is divided by how much more the mean varies, seen between the writers, and by what
    Student's t adds for so few of them (Korn and Graubard, Confidence intervals for proportions
    with small expected number of positive counts estimated from survey data, 1998). Where the
    writers do not differ only the second counts. All images of a single writer tell as much as one.

    Args:
        right: the share of networks that read an image (N,), in [0, 1].
        writers: who wrote it (N,).
    """
    from scipy.special import stdtrit  # a part of a second, in each process

    images, mean = len(right), float(right.mean())
    _, writer = np.unique(writers, return_inverse=True)
    off = np.bincount(writer, weights=right - mean)  # of a writer's images, summed
    if (many := len(off)) < 2:
        return 1.0
    variance = mean_variance(off, images)
    alone = min(images, mean * (1 - mean) / variance) if variance else images
    fewer = (NormalDist().inv_cdf(QUANTILE) / float(stdtrit(many - 1, QUANTILE))) ** 2
    return max(1.0, fewer * alone)


def mean_variance(off: NDArray[Any], images: int) -> float:
    """Return the variance of a mean over images, by how far its parts, two or more, are from it.

    Args:
        off: by part (K,), a single image or all of a writer: the sum of what its images differ from
            the mean.
    """
    return len(off) / (len(off) - 1) * float(off @ off) / images**2


def welch_interval(
    values: Sequence[float],
    *,
    over: Sequence[float],
    chosen_of: int = 2,
    variance: float = 0.0,
    parts: int = 2,
) -> tuple[float, float, float]:
    """Return by how much the mean of `values` is above that of `over`, and Welch's interval of it.

    Welch, The generalization of Student's problem, 1947. Each needs two values or more.

    Args:
        chosen_of: among how many means these two were picked; the interval is widened until those
            of all pairs hold together (Bonferroni).
        variance: of the difference by another source of chance: of what images were drawn, beside
            that of the trainings. It is added, the degrees of freedom by Satterthwaite's rule. As
            seen, it holds some of the trainings' chance, too, so that the interval is rather wide.
        parts: from how many images, or writers, that variance was estimated.
    """
    from scipy.special import stdtrit  # a part of a second, in each process

    sources = [(float(np.var(v, ddof=1)) / len(v), len(v) - 1) for v in (values, over)]
    sources.append((variance, parts - 1))
    total = sum(each for each, _ in sources)
    middle = sum(values) / len(values) - sum(over) / len(over)
    if not total:
        return middle, middle, middle
    degrees = total**2 / sum(each**2 / free for each, free in sources)
    quantile = 1 - (1 - CONFIDENCE) / math.comb(chosen_of, 2) / 2
    margin = float(stdtrit(degrees, quantile)) * math.sqrt(total)
    return middle, middle - margin, middle + margin


def student_interval(values: Sequence[float], *, share: float) -> tuple[float, float]:
    """Return Student's interval of the mean of accuracies on random splits, within [0, 1].

    Splits share much of what they train on, and some of what they test, so that they vary less than
    such means do; the variance is corrected for it (Nadeau and Bengio, Inference for the
    generalization error, Machine Learning 52, 2003).

    Args:
        values: an accuracy a split, two or more.
        share: images tested over images trained on, of a split.
    """
    from scipy.special import stdtrit  # a part of a second, in each process

    many, mean = len(values), sum(values) / len(values)
    error = np.std(values, ddof=1) * (1 / many + share) ** 0.5
    margin = float(stdtrit(many - 1, QUANTILE)) * error
    return max(0.0, float(mean - margin)), min(1.0, float(mean + margin))


def scores(
    *, labels: NDArray[np.int64], predicted: NDArray[np.int64], classes: tuple[str, ...]
) -> dict[str, Any]:
    """Return what records say of predictions beside their accuracy."""
    return {
        "per_class": class_scores(labels=labels, predicted=predicted, classes=classes),
        "confusion": confusion(labels=labels, predicted=predicted, classes=len(classes)),
    }


def class_scores(
    *, labels: NDArray[np.int64], predicted: NDArray[np.int64], classes: tuple[str, ...]
) -> dict[str, dict[str, float | None]]:
    """Return precision, recall and F1 of each class, by name, each in [0, 1].

    None where there is none: of a class that no image is of, or that none was taken for.
    """
    from sklearn.metrics import precision_recall_fscore_support  # a second, in each process

    found = precision_recall_fscore_support(
        labels, predicted, labels=range(len(classes)), zero_division=np.nan
    )
    names = ("precision", "recall", "f1")
    return {
        cls: {
            name: None if np.isnan(found[i][index]) else float(found[i][index])
            for i, name in enumerate(names)
        }
        for index, cls in enumerate(classes)
    }


def confusion(
    *, labels: NDArray[np.int64], predicted: NDArray[np.int64], classes: int
) -> list[list[int]] | list[dict[str, Any]]:
    """Return the counts by true (row) and predicted class (column).

    Beyond 100 classes only the counts that are not zero, as (true, predicted, count).
    """
    if classes <= MAX_MATRIX_CLASSES:
        from sklearn.metrics import confusion_matrix

        matrix = confusion_matrix(labels, predicted, labels=range(classes))
        counts: list[list[int]] = matrix.tolist()
        return counts
    found, times = np.unique(labels * classes + predicted, return_counts=True)
    return [
        {"true": int(pair // classes), "predicted": int(pair % classes), "count": int(count)}
        for pair, count in zip(found, times, strict=True)
    ]


def is_matrix(confusion: Sequence[Any]) -> bool:
    """Return whether a confusion is a matrix, not the list of its counts."""
    return bool(confusion) and isinstance(confusion[0], list)
