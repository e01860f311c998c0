"""Whether the test part holds what was trained on, here or elsewhere."""

from __future__ import annotations

import numpy as np

from hwtune.contract import Leaks
from hwtune.data.images import Dataset, Integers, image_digests
from hwtune.data.sealed import tested_images
from hwtune.data.splits import SplitSpec, split_indices


def leaks(dataset: Dataset, test: Integers) -> Leaks:
    """Return how many test images have a twin elsewhere, and how many writers wrote on both sides.

    Twins are equal pixel by pixel. The number of writers is None where they are unknown.
    """
    others = np.setdiff1d(np.arange(len(dataset.labels)), test)
    seen = set(image_digests(dataset.images, others))
    twins = sum(each in seen for each in image_digests(dataset.images, test))
    writers = dataset.writers
    shared = None if writers is None else len(np.intersect1d(writers[others], writers[test]))
    return {"images": twins, "writers": shared}


def known_elsewhere(
    dataset: Dataset, split: SplitSpec, *, searched: Dataset, drawn: SplitSpec
) -> int:
    """Return how many images of a test part lie outside of that of another search, pixel by pixel.

    Args:
        searched, drawn: the data and the split of that search; `dataset` itself is known by place.
    """
    tested = tested_images(dataset, split)
    seen = split_indices(searched, drawn).outside_test
    if searched is dataset:
        return len(np.intersect1d(tested, seen))
    own = {*image_digests(dataset.images, tested)}
    return len(own & {*image_digests(searched.images, seen)})
