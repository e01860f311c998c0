"""The sealed test part; only `hwtune.evaluation` may import this module (a test holds it)."""

from hwtune.data.images import Dataset, Integers
from hwtune.data.splits import Part, SplitSpec, split_indices, take


def open_test(dataset: Dataset, spec: SplitSpec) -> tuple[Part, Integers]:
    """Return the test images and labels, and their indices in the data set."""
    indices = tested_images(dataset, spec)
    return take(dataset, indices), indices


def tested_images(dataset: Dataset, spec: SplitSpec) -> Integers:
    """Return the indices of the test images, sealed themselves."""
    return split_indices(dataset, spec).test
