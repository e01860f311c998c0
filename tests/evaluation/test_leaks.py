import numpy as np

from hwtune.data.images import Dataset
from hwtune.evaluation.leaks import leaks


def test_twins_and_writers_on_both_sides_are_counted():
    images = np.arange(6, dtype=np.uint8).repeat(4).reshape(6, 2, 2)
    images[5] = images[0]
    dataset = Dataset("d", images, np.zeros(6, np.int64), ("a",), np.array([1, 1, 2, 2, 3, 3]))
    assert leaks(dataset, np.array([5])) == {"images": 1, "writers": 1}
    assert leaks(dataset, np.array([2, 3])) == {"images": 0, "writers": 0}
    unknown = Dataset("d", images, np.zeros(6, np.int64), ("a",))
    assert leaks(unknown, np.array([0]))["writers"] is None
