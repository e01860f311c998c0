import numpy as np
import pytest

from hwtune.data.images import Dataset
from hwtune.data.sealed import open_test
from hwtune.data.splits import SplitSpec, search_split, split_indices
from hwtune.errors import DataError


def dataset(writers=True, test_from=None):
    """Return 20 writers times 10 samples times 15 classes; each image holds its own number."""
    count = 20 * 150
    images = np.zeros((count, 2, 2), np.uint8)
    images[:, 0, 0], images[:, 0, 1] = np.arange(count) % 256, np.arange(count) // 256
    return Dataset(
        "d",
        images,
        np.tile(np.arange(15), 200),
        tuple("abcdefghijklmno"),
        writers=np.repeat(np.arange(1, 21), 150) if writers else None,
        test_from=test_from,
    )


def numbers(images):
    return set((images[:, 0, 0].astype(int) + 256 * images[:, 0, 1].astype(int)).tolist())


@pytest.mark.parametrize("kind", ["random", "writer"])
@pytest.mark.parametrize("test_from", [None, 2700])
def test_the_parts_are_disjoint_and_whole(kind, test_from):
    data = dataset(test_from=test_from)
    parts = split_indices(data, SplitSpec(kind=kind))
    together = np.concatenate([parts.train, parts.validation, parts.test])
    assert sorted(together) == list(range(len(data.images)))


def test_random_splits_each_class_80_10_10():
    data = dataset()
    parts = split_indices(data, SplitSpec())
    for indices, share in ((parts.train, 160), (parts.validation, 20), (parts.test, 20)):
        assert np.bincount(data.labels[indices]).tolist() == [share] * 15


def test_by_writer_no_writer_is_on_two_sides():
    data = dataset()
    parts = split_indices(data, SplitSpec(kind="writer"))
    writers = [set(data.writers[i]) for i in (parts.train, parts.validation, parts.test)]
    assert [len(w) for w in writers] == [16, 2, 2]
    assert set.union(*writers) == set(range(1, 21))


def test_the_seed_decides():
    first, again, other = (split_indices(dataset(), SplitSpec(seed=s)) for s in (1, 1, 2))
    assert np.array_equal(first.train, again.train)
    assert not np.array_equal(first.train, other.train)


def test_a_test_part_of_its_own_is_kept():
    parts = split_indices(dataset(test_from=2700), SplitSpec(validation=0.1))
    assert parts.test.tolist() == list(range(2700, 3000))
    assert len(parts.validation) == 270


def test_search_sees_no_test_image():
    data, spec = dataset(), SplitSpec(kind="writer")
    seen = search_split(data, spec)
    sealed, indices = open_test(data, spec)
    assert set(vars(seen)) == {"images", "labels", "train_images", "classes"}
    assert not numbers(sealed.images) & numbers(seen.images)
    parts = split_indices(data, spec)
    assert numbers(seen.train.images) == set(parts.train.tolist())
    assert numbers(seen.validation.images) == set(parts.validation.tolist())
    assert np.shares_memory(seen.train.images, seen.images)
    assert numbers(sealed.images) == set(indices.tolist())


def test_a_split_by_unknown_writers_is_refused():
    with pytest.raises(DataError, match="does not know its writers"):
        split_indices(dataset(writers=False), SplitSpec(kind="writer"))


def test_a_split_that_leaves_a_part_empty_is_refused():
    data = dataset()
    three = Dataset("three", data.images, data.labels, data.classes, data.writers % 3)
    with pytest.raises(DataError, match=r"too few writers \(3\).* needs 6, or --split"):
        split_indices(three, SplitSpec(kind="writer"))
    few = Dataset("few", data.images[:8], data.labels[:8], data.classes)
    with pytest.raises(DataError, match="too few images of a class"):
        split_indices(few, SplitSpec())


def test_a_split_that_keeps_a_class_from_training_is_refused():
    data = dataset()
    alone = np.where(data.writers == 7, 14, data.labels % 14)
    for seed in range(20):
        one = Dataset("one", data.images, alone, data.classes, data.writers)
        outside = 7 not in np.unique(data.writers[sides(data, seed).train])
        if outside:
            with pytest.raises(DataError, match="no image of class 'o' is left for train"):
                split_indices(one, SplitSpec(kind="writer", seed=seed))
            return
    pytest.fail("no seed put writer 7 outside of train")


def sides(data, seed):
    return split_indices(data, SplitSpec(kind="writer", seed=seed))


def test_a_split_without_validation_is_refused_for_a_search():
    with pytest.raises(DataError, match="no validation image"):
        search_split(dataset(), SplitSpec(validation=0.0))


def test_the_last_images_can_validate():
    parts = split_indices(dataset(test_from=2700), SplitSpec(kind="ordered", validation=0.1))
    assert parts.train.tolist() == list(range(2430))
    assert parts.validation.tolist() == list(range(2430, 2700))
    assert parts.test.tolist() == list(range(2700, 3000))


def test_a_random_half_of_the_test_part_can_validate():
    halves = []
    for seed in (0, 0, 1):
        parts = split_indices(dataset(test_from=2700), SplitSpec(kind="halved", seed=seed))
        assert parts.train.tolist() == list(range(2700))
        assert sorted([*parts.validation, *parts.test]) == list(range(2700, 3000))
        assert len(parts.test) == 150
        assert 40 < (parts.test < 2850).sum() < 110  # from both ends of it
        halves.append(parts.test.tolist())
    assert halves[0] == halves[1] != halves[2]


@pytest.mark.parametrize("kind", ["ordered", "halved"])
def test_a_split_of_the_test_part_needs_one(kind):
    with pytest.raises(DataError, match="no test part of its own"):
        split_indices(dataset(), SplitSpec(kind=kind))


def test_a_split_that_is_none_is_refused():
    with pytest.raises(DataError, match="'thirds' is not one of random, writer, ordered, halved"):
        SplitSpec(kind="thirds")
    with pytest.raises(DataError, match="validation=1.0 must be at least 0 and below 1"):
        SplitSpec(validation=1.0)
