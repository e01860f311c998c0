import numpy as np
import pytest
from scipy.stats import t

from hwtune.statistics import (
    class_scores,
    confusion,
    independent_images,
    mean_variance,
    student_interval,
    welch_interval,
    wilson_interval,
)


@pytest.mark.parametrize(
    ("accuracy", "images", "low", "high"),
    [
        (0.5, 10, 0.2366, 0.7634),  # textbook values of Wilson's interval
        (0.0, 10, 0.0, 0.2775),
        (1.0, 10, 0.7225, 1.0),
        (0.9, 100, 0.8256, 0.9448),
    ],
)
def test_wilsons_interval(accuracy, images, low, high):
    assert wilson_interval(accuracy, images) == pytest.approx((low, high), abs=1e-4)


def test_images_of_few_writers_tell_as_much_as_fewer_of_strangers():
    writers = np.repeat(np.arange(10), 100)
    alike = (writers > 0).astype(float)  # one writer is not read at all
    # The mean of ten writers, each all or nothing, is that of ten images, of whose variance nine
    # are known; t takes a quarter off.
    assert independent_images(alike, writers) == pytest.approx(9 * (1.96 / 2.262) ** 2, abs=0.01)
    rng = np.random.default_rng(0)
    many = np.repeat(np.arange(500), 20)
    chance = (rng.random(10_000) < 0.9).astype(float)
    assert independent_images(chance, many) == pytest.approx(10_000, rel=0.1)
    assert independent_images(np.ones(50), writers[:50]) == 1, "one writer tells nothing of others"
    whole = independent_images(np.ones(1000), writers)
    assert whole == pytest.approx(1000 * (1.96 / 2.262) ** 2, rel=1e-3)


def test_an_image_more_that_is_misread_does_not_make_writers_tell_more():
    writers, right = np.repeat([0, 1], 150), np.ones(300)
    one, both = right.copy(), right.copy()
    one[0] = both[0] = both[-1] = 0
    none, single, double = (independent_images(each, writers) for each in (right, one, both))
    assert none == pytest.approx(300 * (1.96 / 12.706) ** 2, rel=1e-3)
    assert single == pytest.approx(none, rel=0.01)
    assert double == pytest.approx(none, rel=0.01), "although both were read alike"


def test_welchs_interval_of_a_difference():
    # Variances 1 and 4 over three values each: an error of sqrt(5 / 3), 2.94 degrees of freedom.
    middle, low, high = welch_interval([3, 5, 7], over=[1, 2, 3])
    assert middle == pytest.approx(3)
    half = t.ppf(0.975, (5 / 3) ** 2 / (1 / 18 + 16 / 18)) * (5 / 3) ** 0.5
    assert (low, high) == pytest.approx((3 - half, 3 + half))
    _, low, high = welch_interval([3, 5, 7], over=[1, 2, 3], chosen_of=3)  # three pairs
    wider = half * t.ppf(1 - 0.025 / 3, 2.941176) / t.ppf(0.975, 2.941176)
    assert (low, high) == pytest.approx((3 - wider, 3 + wider), rel=1e-4)


def test_the_best_of_equal_studies_is_called_better_as_seldom_as_promised():
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(400):
        order = sorted(rng.normal(0, 1, (5, 5)), key=lambda values: -values.mean())
        found += any(welch_interval(order[0], over=each, chosen_of=5)[1] > 0 for each in order[1:])
    assert found / 400 < 0.05 + 0.03


def test_a_difference_that_images_and_trainings_scatter_is_covered_as_promised():
    rng = np.random.default_rng(0)
    held, tries = 0, 400
    for _ in range(tries):
        hard = rng.beta(0.2, 4.0, 500)  # how likely a training misreads each of the images drawn
        # Each training of the one has a skill of its own; the other misreads a fixed share more.
        ours, theirs = (
            np.array([rng.random(500) < np.clip(hard * rng.normal(k, 0.1), 0, 1) for _ in range(3)])
            for k in (1.0, 1.5)
        )
        gap = theirs.mean(0) - ours.mean(0)
        variance = mean_variance(gap - gap.mean(), 500)
        ours, theirs = (1 - each.mean(1) for each in (ours, theirs))
        _, low, high = welch_interval(ours, over=theirs, variance=variance, parts=500)
        held += low <= 0.5 * 0.2 / 4.2 <= high
    assert 0.93 < held / tries < 0.995


def test_splits_that_share_images_tell_less_than_as_many_that_do_not():
    values = [0.9, 0.92, 0.94]
    plain, shared = (student_interval(values, share=share) for share in (0.0, 1 / 9))
    half = t.ppf(0.975, 2) * 0.02 * (1 / 3) ** 0.5
    assert plain == pytest.approx((0.92 - half, 0.92 + half))
    wider = half * (1 + 3 / 9) ** 0.5
    assert shared == pytest.approx((0.92 - wider, 0.92 + wider))


LABELS, PREDICTED = np.array([0, 0, 1, 2]), np.array([0, 1, 1, 1])


def test_scores_by_class():
    scores = class_scores(labels=LABELS, predicted=PREDICTED, classes=("a", "b", "c"))
    assert scores["a"] == pytest.approx({"precision": 1, "recall": 0.5, "f1": 2 / 3})
    assert scores["b"] == pytest.approx({"precision": 1 / 3, "recall": 1, "f1": 0.5})
    assert scores["c"] == {"precision": None, "recall": 0, "f1": 0}
    absent = class_scores(labels=LABELS, predicted=PREDICTED, classes=tuple("abcd"))["d"]
    assert set(absent.values()) == {None}


def test_the_confusion_is_a_matrix_of_true_by_predicted():
    assert confusion(labels=LABELS, predicted=PREDICTED, classes=3) == [
        [1, 1, 0],
        [0, 1, 0],
        [0, 1, 0],
    ]


def test_beyond_a_hundred_classes_the_confusion_is_a_list():
    assert confusion(labels=LABELS, predicted=PREDICTED, classes=101) == [
        {"true": 0, "predicted": 0, "count": 1},
        {"true": 0, "predicted": 1, "count": 1},
        {"true": 1, "predicted": 1, "count": 1},
        {"true": 2, "predicted": 1, "count": 1},
    ]
