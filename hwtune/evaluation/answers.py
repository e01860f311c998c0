"""What a network answers, and how far that can be trusted."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hwtune.contract import Coverage
from hwtune.data.images import Integers
from hwtune.statistics import independent_images, wilson_interval

CHECKED = (0.01, 0.02, 0.05, 0.1, 0.2)  # shares of the images that a person might read instead


class Answers(NamedTuple):
    """What a network reads in images: their classes (N,), and its probabilities (N,) of these."""

    classes: Integers
    probabilities: NDArray[np.float32]


def how_many(right: NDArray[np.float64], writers: Integers | None) -> float:
    """Return for how many images those count; of as many writers, where `writers` says whose."""
    return len(right) if writers is None else independent_images(right, writers)


def coverage_of(
    right: NDArray[np.bool_], probabilities: NDArray[np.float32], writers: Integers | None
) -> list[Coverage]:
    """Return how the images are read of which a network is surest, the most of them first.

    That is for whoever reads the others by hand: "selective classification", by the softmax's
    greatest probability (Geifman and El-Yaniv, Selective classification for deep neural networks,
    NeurIPS 2017). The shares were chosen beforehand, so that nothing is fitted to these images.

    Args:
        right: which images it reads rightly (N,).
        probabilities: of its answers (N,), in [0, 1]; one that is no number counts as 0.
        writers: who wrote them (N,), where nothing by them was trained on; else None.
    """
    sure = np.nan_to_num(probabilities.astype(np.float64))
    ordered, found = np.sort(sure), dict[int, Coverage]()
    for share in CHECKED:
        threshold = rounded_up(ordered[int(share * len(sure))])
        kept = sure >= threshold
        images = int(kept.sum())
        if 0 < images < len(sure):
            those = right[kept].astype(np.float64)
            accuracy = float(those.mean())
            alike = how_many(those, None if writers is None else writers[kept])
            low, high = wilson_interval(accuracy, alike)
            found[images] = {
                "threshold": threshold, "images": images, "accuracy": accuracy,
                "low": low, "high": high,
            }  # fmt: skip
    return list(found.values())


def rounded_up(probability: float) -> float:
    """Return the next number with two digits from 0 or 1: 0.832 becomes 0.84, 0.99912 stays."""
    nearest = min(probability, 1 - probability)
    if nearest <= 0:
        return float(probability > 0)
    digits = 1 - math.floor(math.log10(nearest))
    return round(math.ceil(probability * 10**digits - 1e-6) / 10**digits, digits)
