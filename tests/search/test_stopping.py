import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwtune.errors import OptionError
from hwtune.search.objectives import check_objectives
from hwtune.search.settings import Settings, settings_of
from hwtune.search.stopping import (
    MEDIAN_AFTER,
    Brackets,
    MedianRule,
    Rung,
    Rungs,
    quantile_of_others,
)

EPOCHS = 9


def settings(scheduler="asha", *, objectives=(), **changes):
    return Settings(scheduler=scheduler, objectives=check_objectives(objectives), **changes)


RULES = {
    "asha": settings(),
    "asha, two brackets": settings(brackets=2),
    "median": settings("median"),
    "asha, two objectives": settings(objectives=["val_accuracy", "parameters"]),
    "asha, one objective, by its name": settings(objectives="val_accuracy"),
}


def heard(seed=0, *, trials=40, objectives=1):
    """Return (trial, epoch, scores) of rising curves in the order in which they come in."""
    rng = np.random.default_rng(seed)
    tops = rng.uniform(0.2, 1.0, trials)
    extra = rng.uniform(-1, 0, (trials, objectives - 1))
    events = []
    for start in range(0, trials, 4):  # four at once
        for epoch in range(1, EPOCHS + 1):
            for trial in range(start, min(start + 4, trials)):
                value = float(tops[trial] * (1 - 0.7**epoch))
                events.append((trial, epoch, (value, *map(float, extra[trial]))))
    return events


def play(rule, events):
    """Return why each trial was stopped; a stopped one is heard no more."""
    reasons = {}
    for trial, epoch, scores in events:
        if trial not in reasons and (reason := rule.judge(trial, epoch, scores)):
            reasons[trial] = reason
    return reasons


def test_the_median_rule_takes_a_trial_by_its_best_epoch():
    rule = settings("median").rule(epochs=EPOCHS)
    for trial in range(5):
        for epoch in (1, 2):
            assert rule.judge(trial, epoch, (0.5,)) == ""
    assert rule.judge(5, 1, (0.6,)) == ""
    assert rule.judge(5, 2, (0.1,)) == ""
    assert "needed 0.5000" in rule.judge(6, 1, (0.4,))


def test_the_median_of_a_few_stops_nothing():
    rule = settings("median").rule(epochs=EPOCHS)
    for trial in range(MEDIAN_AFTER - 1):
        rule.judge(trial, 1, (0.5,))
    assert rule.judge(8, 1, (0.1,)) == ""
    assert rule.judge(9, 1, (0.1,)) != ""


@pytest.mark.parametrize("name", RULES)
def test_every_rule_stops_the_poor_and_says_why(name):
    chosen = RULES[name]
    events = heard(objectives=len(chosen.objectives))
    reasons = play(chosen.rule(epochs=EPOCHS), events)
    assert 10 < len(reasons) < 40
    if len(chosen.objectives) == 1:
        final = {trial: scores[0] for trial, epoch, scores in events if epoch == EPOCHS}
        assert max(final, key=final.get) not in reasons
        stopped = [final[trial] for trial in reasons]
        kept = [final[trial] for trial in final if trial not in reasons]
        assert np.mean(stopped) < np.mean(kept)
    assert all(reason.startswith("epoch ") for reason in reasons.values())


@pytest.mark.parametrize("name", RULES)
def test_every_rule_can_be_rebuilt_from_what_it_heard(name):
    chosen = RULES[name]
    events = heard(objectives=len(chosen.objectives))
    undisturbed = play(chosen.rule(epochs=EPOCHS), events)
    for cut in (1, 57, 200):
        before, told = {}, []
        first = chosen.rule(epochs=EPOCHS)
        for event in events[:cut]:
            if event[0] not in before:
                told.append(event)
                before |= play(first, [event])
        again = chosen.rule(epochs=EPOCHS)
        assert play(again, told) == before
        later = [event for event in events[cut:] if event[0] not in before]
        assert {**before, **play(again, later)} == undisturbed


@pytest.mark.parametrize("name", RULES)
def test_an_epoch_heard_twice_counts_once(name):
    chosen = RULES[name]
    events = heard(objectives=len(chosen.objectives))
    twice = [event for event in events for _ in range(2)]
    assert play(chosen.rule(epochs=EPOCHS), twice) == play(chosen.rule(epochs=EPOCHS), events)


@pytest.mark.parametrize("name", RULES)
def test_a_trial_that_lost_its_process_is_not_stopped_for_what_it_reports_again(name):
    chosen = RULES[name]
    events = heard(objectives=len(chosen.objectives))
    rule, alive = chosen.rule(epochs=EPOCHS), {}
    for trial, epoch, scores in events:
        if trial in alive and not alive[trial]:
            continue
        alive.setdefault(trial, []).append((trial, epoch, scores))
        if rule.judge(trial, epoch, scores):
            alive[trial].clear()
    survivors = [each for each in alive.values() if each]
    assert len(survivors) > 1
    assert not any(rule.judge(*event) for each in survivors for event in each)


def test_no_scheduler_is_no_rule():
    assert settings("none").rule(epochs=EPOCHS) is None
    assert settings("none").expected_epochs(EPOCHS) == EPOCHS


def test_brackets_with_longer_grace_periods_train_more_epochs():
    one, three = (settings(brackets=each).expected_epochs(16) for each in (1, 3))
    assert (one, three) == pytest.approx((5.5, 7.5), abs=0.05)


def test_a_study_that_was_begun_keeps_its_rungs():
    about = settings().describe()
    assert settings_of(about) == settings()
    about["scheduler"]["reduction_factor"] = 3
    rungs = settings_of(about).rule(epochs=EPOCHS)
    assert [rung.epoch for rung in rungs.descending] == [9, 3, 1]
    for scheduler in ("asha", "median"):
        about = settings(scheduler).describe()
        about["scheduler"]["grace_period"] = 2
        rule = settings_of(about).rule(epochs=EPOCHS)
        stopped = [
            [epoch for epoch in (1, 2) if rule.judge(trial, epoch, [1 - trial / 9])]
            for trial in range(9)
        ]
        assert stopped[-1] == [2], "not after its first epoch"


def test_the_reason_names_epoch_accuracy_cut_off_and_rank():
    rungs = Rungs(grace_period=1, reduction_factor=3, max_epochs=9)
    for number, accuracy in enumerate([0.5, 0.8, 0.9]):
        rungs.judge(number, 1, [accuracy])
    # The cut-off is the upper third of 0.5, 0.8 and 0.9, interpolated: 0.8333.
    expected = "epoch 1: 0.6000, needed 0.8333 (top third of 4), rank 3"
    assert rungs.judge(3, 1, [0.6]) == expected


@given(
    st.lists(st.floats(0, 1), min_size=2, max_size=30),
    st.integers(0, 29),
    st.sampled_from([2, 3, 4]),
)
def test_the_cut_off_is_the_percentile_of_the_others(values, place, factor):
    mine = values.pop(place % len(values))
    expected = np.percentile(values, 100 * (1 - 1 / factor))
    found = quantile_of_others(sorted([*values, mine]), mine, 1 - 1 / factor)
    assert found == pytest.approx(expected, abs=1e-12)


def test_who_passed_with_few_is_compared_again_with_those_who_came_since():
    rungs = Rungs(grace_period=1, reduction_factor=4, max_epochs=9)
    assert rungs.judge(0, 1, [0.5]) == ""  # the first of all
    for number, accuracy in enumerate([0.6, 0.7, 0.8], 1):
        rungs.judge(number, 1, [accuracy])
    expected = "epoch 2: 0.5000 at epoch 1, needed 0.7500 (top quarter of 4), rank 4"
    assert rungs.judge(0, 2, [0.9]) == expected
    assert rungs.judge(3, 4, [0.81]) == ""  # the first at the next rung
    rungs.judge(4, 1, [0.99])
    assert rungs.judge(3, 5, [0.82]) == ""  # which counts from now on, and not the one before


def test_several_objectives_stop_what_many_trials_dominate():
    rungs = Rungs(grace_period=1, reduction_factor=3, max_epochs=9)
    for number, scores in enumerate([(0.9, -100), (0.8, -50), (0.7, -10)]):
        assert rungs.judge(number, 1, scores) == ""  # none dominates another
    assert rungs.judge(3, 1, (0.75, -200)) == (
        "epoch 1: 2 trials dominate it, at most 0 may (top third of 4)"
    )
    assert rungs.judge(4, 1, (0.6, -5)) == ""


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3)), max_size=30))
def test_a_rung_knows_by_how_many_trials_each_is_dominated(every):
    rung = Rung(1)
    for trial, scores in enumerate(every):
        rung.add(trial, scores)
        rung.add(trial, (9, 9, 9))  # what is reported again
    for trial, mine in enumerate(every):
        better = [
            other for other in every
            if other != mine and all(a >= b for a, b in zip(other, mine, strict=True))
        ]  # fmt: skip
        assert rung.dominators[trial] == len(better)


def test_the_median_rule_compares_a_best_with_running_means():
    rule = MedianRule(grace_period=2)
    for trial, values in enumerate([(0.2, 0.4), (0.4, 0.6), (0.6, 0.8)]):
        for epoch, value in enumerate(values, 1):
            assert rule.judge(trial, epoch, [value]) == ""
    assert rule.judge(3, 1, [0.1]) == ""  # within the grace period
    expected = "epoch 2: best 0.4000, needed 0.5000 (median of the mean accuracies of 3 others)"
    assert rule.judge(3, 2, [0.4]) == expected


def test_there_are_no_more_brackets_than_rungs():
    brackets = Brackets(grace_period=1, reduction_factor=4, max_epochs=12, brackets=10**9)
    assert [ladder.descending[-1].epoch for ladder in brackets.ladders] == [1, 4]
    settings(brackets=2).check_length(epochs=12)
    settings(scheduler="none", brackets=1).check_length(epochs=1)
    with pytest.raises(OptionError, match=r"--brackets 3: trials of 12 epochs have 2 rungs"):
        settings(brackets=3).check_length(epochs=12)


def test_brackets_divide_the_trials_by_their_number_as_rays_scheduler_does_by_chance():
    brackets = Brackets(grace_period=1, reduction_factor=3, max_epochs=9, brackets=3)
    assert [ladder.descending[-1].epoch for ladder in brackets.ladders] == [1, 3, 9]
    taken = np.bincount([brackets.bracket_of(trial) for trial in range(2000)]) / 2000
    assert taken == pytest.approx(np.exp([3, 2, 1]) / np.exp([3, 2, 1]).sum(), abs=0.03)


def test_a_search_does_what_its_study_json_says():
    asked = Settings(
        sampler="gp", scheduler="asha", brackets=2, reduction_factor=3, seed=7, disk_limit=10**6,
        objectives=("val_accuracy", "parameters"),
    )  # fmt: skip
    assert settings_of(json.loads(json.dumps(asked.describe()))) == asked
    assert settings_of(Settings(scheduler="median").describe()).scheduler == "median"
