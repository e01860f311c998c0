import math

import pytest

from hwtune.records import EpochRecord, TrialRecord
from hwtune.search.budget import Budget, Clock, CostModel, expected_epochs


def test_without_trials_and_time_a_quarter_of_an_hour_is_spent():
    assert Budget().filled().seconds == 900
    assert Budget(epochs=3).filled() == Budget(epochs=3, seconds=900)
    assert Budget(trials=5).filled().seconds is None


def test_the_cost_model_is_calibrated_by_the_median_of_what_it_saw():
    cost = CostModel()
    first = cost.epoch_seconds(macs=10**7, images=1000)
    for factor in (2, 2, 50):
        cost.observe(macs=10**7, images=1000, seconds=factor * first)
    assert cost.epoch_seconds(macs=10**7, images=1000) == pytest.approx(2 * first)
    assert cost.epoch_seconds(macs=10**8, images=1000) > 5 * first


def test_stopping_early_saves_epochs():
    assert expected_epochs(1, grace=1, factor=3) == 1
    assert 2 < expected_epochs(12, grace=1, factor=3) < 6
    assert expected_epochs(12, grace=12, factor=3) == 12


def test_the_retraining_is_reserved_in_rounds():
    clock = Clock(900, parallel=2, retrain_jobs=3, retrain_growth=1.5)
    best = TrialRecord(0)
    for number, accuracy in enumerate([0.5, 0.9, 0.8, 0.8], 1):
        best.add(EpochRecord(0, number, 0, 0, accuracy, 0, 10.0))
    # Two rounds of two epochs of ten seconds, half as long again on train and validation.
    assert clock.reserve(best, 99.0) == pytest.approx(15 + 2 * 2 * 10 * 1.5)
    assert clock.search_left(best, 99.0) == pytest.approx(900 - 75, abs=1)


def test_without_a_time_budget_there_is_always_time():
    assert Clock(None, 2, 3, 1.1).search_left(None, 1e9) == math.inf
