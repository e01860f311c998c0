"""Splits of a data set into train, validation and a sealed test part.

A search gets a `SearchSplit`, which has no test part; `hwtune.data.sealed`, which only
`hwtune.evaluation` may import, opens the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import numpy as np

from hwtune.contract import AboutSplit, Counts, Kind
from hwtune.data.images import Bytes, Dataset, Integers
from hwtune.errors import DataError


@dataclass(frozen=True, kw_only=True)
class SplitSpec:
    """How a data set is divided.

    Attributes:
        kind: "random" within each class, or "writer": no writer on two sides; two that published
            systems use on a data set with a test part of its own: "ordered": the last of the other
            images validate; "halved": half of the test part validates, drawn at random.
        seed: of the shuffle; "ordered" has none.
        validation, test: fractions of the images of each class, or of the writers. A data set
            with a test part of its own keeps it under "random"; `test` is not used then.
    """

    kind: Kind = "random"
    seed: int = 0
    validation: float = 0.1
    test: float = 0.1

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise DataError(f"Split {self.kind!r} is not one of {', '.join(get_args(Kind))}.")
        for name in ("validation", "test"):
            if not 0 <= getattr(self, name) < 1:
                raise DataError(f"{name}={getattr(self, name)!r} must be at least 0 and below 1.")

    def describe(self, counts: Counts) -> AboutSplit:
        """Return it for `study.json`, with the number of images of each part."""
        return {
            "kind": self.kind, "seed": self.seed, "validation": self.validation, "test": self.test,
            "counts": counts,
        }  # fmt: skip


@dataclass(frozen=True)
class Part:
    """Images (N, S, S) uint8 and labels (N,) int64, or those of them at `positions`."""

    images: Bytes
    labels: Integers
    positions: Integers | None = None


@dataclass(frozen=True)
class SearchSplit:
    """What may be seen outside of a test: the images to train on, then those that validate.

    One array holds both, so that every process of a machine can read the one copy in shared memory,
    whether it trains on a part or on all of it.

    Attributes:
        images: (N, S, S) uint8.
        labels: (N,) int64.
        train_images: how many of them are to train on.
        classes: how many there are.
    """

    images: Bytes
    labels: Integers
    train_images: int
    classes: int

    @property
    def side(self) -> int:
        """Return the images' side in pixels."""
        return int(self.images.shape[1])

    @property
    def train(self) -> Part:
        """Return the images to train on, not copied."""
        return self.part(slice(self.train_images))

    @property
    def validation(self) -> Part:
        """Return the images that validate, not copied."""
        return self.part(slice(self.train_images, None))

    def part(self, which: slice | Integers) -> Part:
        """Return some of the images, not copied: a slice of them, or those at some positions."""
        if isinstance(which, slice):
            return Part(self.images[which], self.labels[which])
        return Part(self.images, self.labels, which)


@dataclass(frozen=True, kw_only=True)
class SplitIndices:
    """Indices into the data set, sorted, disjoint, all of it together."""

    train: Integers
    validation: Integers
    test: Integers

    @property
    def outside_test(self) -> Integers:
        """Return what is in train, then what is in validation."""
        return np.concatenate([self.train, self.validation])

    def counts(self) -> Counts:
        """Return the number of images of each part."""
        return {
            "train": len(self.train), "validation": len(self.validation), "test": len(self.test)
        }  # fmt: skip


def split_of(about: AboutSplit) -> SplitSpec:
    """Return the split that `study.json` describes."""
    return SplitSpec(
        kind=about["kind"], seed=about["seed"], validation=about["validation"], test=about["test"]
    )


def split_indices(dataset: Dataset, spec: SplitSpec) -> SplitIndices:
    """Return which image belongs where; the same for the same data and spec.

    Raises:
        DataError: when the writers are unknown but asked for, or a part stays empty.
    """
    if spec.kind in ("ordered", "halved"):
        return _by_test_part(dataset, spec)
    rng = np.random.default_rng(spec.seed)
    if spec.kind == "writer":
        if dataset.writers is None:
            raise DataError(
                f"{dataset.name} does not know its writers; use --split random, or a data set that "
                "names them: chinese_mnist from Kaggle's zip, or pictures in CLASS/WRITER/PICTURE."
            )
        groups, pool = [np.unique(dataset.writers)], dataset.writers
    else:
        pool = np.arange(len(dataset.labels))
        own_test = len(pool) if dataset.test_from is None else dataset.test_from
        labels = dataset.labels[:own_test]
        counts = np.bincount(labels, minlength=len(dataset.classes))
        groups = np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])
    parts: dict[str, list[Integers]] = {"train": [], "validation": [], "test": []}
    for group in groups:
        shuffled = rng.permutation(group)
        keeps_own = spec.kind == "random" and dataset.test_from is not None
        test = 0 if keeps_own else round(len(group) * spec.test)
        validation = round(len(group) * spec.validation)
        parts["test"].append(shuffled[:test])
        parts["validation"].append(shuffled[test : test + validation])
        parts["train"].append(shuffled[test + validation :])
    chosen = {name: np.concatenate(pieces) for name, pieces in parts.items()}
    if spec.kind == "random" and dataset.test_from is not None:
        chosen["test"] = pool[dataset.test_from :]
    indices = SplitIndices(
        **{name: np.flatnonzero(np.isin(pool, values)) for name, values in chosen.items()}
    )
    check_parts(dataset, spec, indices, groups)
    return indices


def check_parts(
    dataset: Dataset, spec: SplitSpec, indices: SplitIndices, groups: list[Integers]
) -> None:
    """Check that no part is empty, and every class is in train.

    Args:
        groups: what was divided: the images of each class, or the writers.

    Raises:
        DataError: when it is not so.
    """
    by_writer = spec.kind == "writer"
    what = "writers" if by_writer else "images of a class"
    otherwise = ", or --split random" if by_writer else ""
    for part, share in (("train", 1.0), ("validation", spec.validation), ("test", spec.test)):
        if share and not len(getattr(indices, part)):
            raise DataError(
                f"{dataset.name} has too few {what} ({min(map(len, groups))}): a share of "
                f"{share:.0%} for {part} needs {int(0.5 / share) + 1}{otherwise}."
            )
    absent = np.setdiff1d(range(len(dataset.classes)), dataset.labels[indices.train])
    if len(absent):
        raise DataError(
            f"{dataset.name}: no image of class {dataset.classes[absent[0]]!r} is left for train; "
            f"add some by other {'writers' if by_writer else 'hands'}, or try another --split-seed."
        )


def _by_test_part(dataset: Dataset, spec: SplitSpec) -> SplitIndices:
    """Return the parts of an ordered or halved split, which keep the data set's own test part.

    Raises:
        DataError: when the data set has no test part of its own.
    """
    if dataset.test_from is None:
        raise DataError(
            f"{dataset.name} has no test part of its own, which the split {spec.kind!r} of a "
            "published system needs; add --honest, or give the --data that was published."
        )
    every, own_test = np.arange(len(dataset.labels)), dataset.test_from
    if spec.kind == "halved":
        # Not in order: the first half of MNIST's test images is much harder than the second.
        shuffled = np.random.default_rng(spec.seed).permutation(every[own_test:])
        middle = len(shuffled) // 2
        halves = np.sort(shuffled[:middle]), np.sort(shuffled[middle:])
        return SplitIndices(train=every[:own_test], validation=halves[0], test=halves[1])
    begin = own_test - round(own_test * spec.validation)
    return SplitIndices(
        train=every[:begin], validation=every[begin:own_test], test=every[own_test:]
    )


def take(dataset: Dataset, indices: Integers) -> Part:
    """Return a copy of the images and labels at `indices`."""
    return Part(dataset.images[indices], dataset.labels[indices])


def visible_split(dataset: Dataset, spec: SplitSpec) -> SearchSplit:
    """Return the train and validation parts, of which the second may be empty.

    Raises:
        DataError: when the data set cannot be split so.
    """
    indices = split_indices(dataset, spec)
    part = take(dataset, indices.outside_test)
    return SearchSplit(part.images, part.labels, len(indices.train), len(dataset.classes))


def search_split(dataset: Dataset, spec: SplitSpec) -> SearchSplit:
    """Return the train and validation parts.

    Raises:
        DataError: when the data set cannot be split so, or no image validates.
    """
    split = visible_split(dataset, spec)
    if split.train_images == len(split.labels):
        raise DataError(f"{dataset.name} leaves no validation image to search with.")
    return split
