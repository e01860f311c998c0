"""How far a network's probabilities can be trusted."""

import numpy as np
import pytest

from hwtune.evaluation.answers import CHECKED, coverage_of, rounded_up
from hwtune.statistics import wilson_interval

SURE = np.linspace(0.0, 0.99, 100, dtype=np.float32)  # 1 image in 100 each


def test_the_least_sure_are_left_out_and_the_others_counted():
    right = np.ones(100, bool)
    right[[0, 3, 50]] = False
    found = coverage_of(right, SURE, None)
    for each, share in zip(found, CHECKED, strict=True):
        assert 0 <= 100 - each["images"] - round(100 * share) < 2  # as many, and what rounding adds
        kept = SURE.astype(float) >= each["threshold"]
        assert kept.sum() == each["images"]
        assert each["accuracy"] == right[kept].mean()
        bounds = wilson_interval(each["accuracy"], each["images"])
        assert (each["low"], each["high"]) == bounds


def test_a_weak_network_of_many_classes_has_limits_too():
    found = coverage_of(np.ones(100, bool), SURE / 100, None)
    assert [100 - each["images"] for each in found] == pytest.approx([1, 2, 5, 10, 20], abs=1)


def test_strangers_widen_the_interval_of_what_is_kept():
    right = np.arange(100) % 4 > 0  # of four writers one is never read rightly
    alone = coverage_of(right, SURE, None)
    few = coverage_of(right, SURE, np.arange(100) % 4)
    for one, other in zip(alone, few, strict=True):
        assert one["accuracy"] == other["accuracy"]
        assert other["low"] < one["low"] < one["high"] < other["high"]


def test_a_network_that_is_equally_sure_of_all_leaves_nothing_to_choose():
    for sure in (1.0, 0.3, np.nan):
        assert coverage_of(np.ones(9, bool), np.full(9, sure, np.float32), None) == []
    some = np.array([0.2] + 8 * [1.0], np.float32)  # saturated, as float32 is
    (one,) = {each["images"] for each in coverage_of(np.ones(9, bool), some, None)}
    assert one == 8


@pytest.mark.parametrize(
    ("probability", "rounded"),
    [
        (0.832, 0.84),
        (0.84, 0.84),
        (0.99912, 0.99912),
        (0.9991234, 0.99913),
        (0.0, 0.0),
        (1, 1),
        (0.00213, 0.0022),
        (0.31, 0.31),
    ],
)
def test_a_threshold_has_two_digits_short_of_one(probability, rounded):
    assert rounded_up(probability) == pytest.approx(rounded, abs=1e-9)
    assert rounded_up(probability) >= probability - 1e-9
