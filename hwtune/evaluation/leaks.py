"""Whether the test part holds what was trained on."""

from __future__ import annotations

import numpy as np

from hwtune.data.images import Dataset, Integers, image_digests


def leaks(dataset: Dataset, test: Integers) -> dict[str, int | None]:
    """Return how many test images have a twin elsewhere, and how many writers wrote on both sides.

    Twins are equal pixel by pixel. The number of writers is None where they are unknown.
    """
    others = np.setdiff1d(np.arange(len(dataset.labels)), test)
    seen = set(image_digests(dataset.images, others))
    twins = sum(each in seen for each in image_digests(dataset.images, test))
    writers = dataset.writers
    shared = None if writers is None else len(np.intersect1d(writers[others], writers[test]))
    return {"images": twins, "writers": shared}
