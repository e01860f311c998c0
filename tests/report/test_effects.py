"""Effects over a search: found where they are, though the search chose what to try."""

import math
from dataclasses import replace

import numpy as np
import pytest

from hwtune.records import EpochRecord, TrialRecord
from hwtune.report.effects import Effect, effects, told_from_chance, worth_in_words
from hwtune.space import SearchSpace, choice, log_uniform

SPACE = SearchSpace(
    question="?",
    data="digits",
    search={
        "pool": choice("max", "none"),
        "hidden": choice("none", "64"),
        "lr": log_uniform(1e-4, 1e-1),
    },
)


def record(number, values, accuracy):
    trial = TrialRecord(number, "", state="complete")
    trial.config = {name: str(value) for name, value in values.items()}
    trial.add(EpochRecord(number, 1, 0.0, 0.0, accuracy, 0.0, 1.0))
    return trial


def searched(count, *, pool_gain, liking=0.8, seed=0):
    """A search that liked "none" more the better the rate is, which is what really counts."""
    rng = np.random.default_rng(seed)
    trials = []
    for number in range(count):
        lr = 10 ** rng.uniform(-4, -1)
        good = lr > 10**-2.5
        pool = "none" if rng.random() < (liking if good else 1 - liking) else "max"
        values = {"pool": pool, "hidden": rng.choice(["none", "64"]), "lr": lr}
        accuracy = 0.7 + 0.2 * good + pool_gain * (pool == "none") + rng.normal(0, 0.01)
        trials.append(record(number, values, accuracy))
    return trials


def of(found, name):
    return next(each for each in found if each.name == name and each.value != each.against)


@pytest.mark.parametrize("gain", [0.0, 0.05])
def test_an_effect_is_found_though_the_search_mixed_it_with_another(gain):
    trials = searched(120, pool_gain=gain)
    pool = of(effects(SPACE, trials), "pool")
    sign = 1 if pool.value == "none" else -1
    accuracy = {
        value: np.mean([t.val_accuracy for t in trials if t.config["pool"] == value])
        for value in ("none", "max")
    }
    assert accuracy["none"] - accuracy["max"] > gain + 0.08  # what a comparison of means says
    assert sign * pool.gain == pytest.approx(gain, abs=0.015)
    assert pool.low - 0.01 < sign * gain < pool.high + 0.01
    hidden = of(effects(SPACE, trials), "hidden")
    assert hidden.low < 0 < hidden.high


@pytest.mark.parametrize("liking", [0.5, 0.8])
def test_intervals_hold_the_truth_about_as_often_as_they_say(liking):
    """Also where values meet by chance alone, and there is nothing to take away."""
    held, gains = 0, []
    for seed in range(12):
        pool = of(effects(SPACE, searched(60, pool_gain=0.05, liking=liking, seed=seed)), "pool")
        sign = 1 if pool.value == "none" else -1
        held += (
            min(sign * pool.low, sign * pool.high) < 0.05 < max(sign * pool.low, sign * pool.high)
        )
        gains.append(sign * pool.gain)
    assert held >= 10
    assert np.mean(gains) == pytest.approx(0.05, abs=0.01)


def test_a_choice_that_others_foretell_is_left_out():
    trials = searched(40, pool_gain=0.05)
    for trial in trials:
        trial.config["hidden"] = "64" if trial.config["pool"] == "none" else "none"
    assert effects(SPACE, trials) == []


def test_nothing_is_compared_with_a_value_that_others_foretell():
    """Here no trial tells what "max" is worth; what the others differ by is known."""
    pools = {"pool": choice("max", "avg", "none"), "hidden": choice("none", "64")}
    space = replace(SPACE, search={**SPACE.search, **pools})
    rng, trials = np.random.default_rng(0), []
    for number in range(60):
        pool = ("max", "max", "avg", "none")[number % 4]
        values = {"pool": pool, "hidden": "none" if pool == "max" else "64", "lr": 0.01}
        values["lr"] = 10 ** rng.uniform(-4, -1)
        accuracy = 0.8 + 0.04 * (pool == "avg") + rng.normal(0, 0.003)
        trials.append(record(number, values, accuracy))
    (pool,) = (e for e in effects(space, trials) if e.name == "pool" and e.value != e.against)
    assert {pool.value, pool.against} == {"avg", "none"}
    assert abs(pool.gain) == pytest.approx(0.04, abs=0.005)


def test_what_diverges_counts_against_its_choice():
    trials = searched(40, pool_gain=0.0, liking=0.5)
    for trial in [t for t in trials if t.config["hidden"] == "64"][::2]:
        trial.state, trial.reason, trial.best_epoch = "failed", "diverged at epoch 1: inf", 0
    hidden = of(effects(SPACE, trials), "hidden")
    assert (hidden.gain < -0.2) == (hidden.value == "64")
    assert abs(hidden.gain) > 0.2


def test_few_trials_say_little():
    narrow, wide = (of(effects(SPACE, searched(n, pool_gain=0.05)), "pool") for n in (120, 15))
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


def test_what_was_hardly_tried_is_not_compared():
    trials = searched(40, pool_gain=0.0)
    for trial in trials:
        trial.config["hidden"] = "none"
    trials[0].config["hidden"] = "64"
    assert {each.name for each in effects(SPACE, trials)} == {"pool"}
    assert effects(SPACE, []) == []


def test_where_nothing_scatters_nothing_is_told():
    trials = [replace(t, val_accuracy=0.1) for t in searched(20, pool_gain=0.0)]
    assert effects(SPACE, trials) == []
    nothing = Effect(name="a", value=1, against=0, trials=3, gain=0, low=0, high=0, chance=math.nan)
    assert told_from_chance([nothing]) == [False]


def test_what_is_certain_is_said_in_a_sentence():
    found = effects(SPACE, searched(200, pool_gain=0.05))
    words = worth_in_words(found, "after 1 epoch")
    assert words.startswith(
        "On validation after 1 epoch, all else equal, with 95 % intervals: pool: "
    )
    assert "hidden" not in words
    nothing = effects(SPACE, searched(60, pool_gain=0.0))
    assert worth_in_words(nothing, "in full") == "No single choice can be told from chance in full."
    assert worth_in_words([], "in full") == ""


def test_the_largest_of_many_certain_gains_are_named():
    gains = (0.1, -0.4, 0.2, 0.3, 0.5)
    found = [
        Effect(name=f"n{i}", value="b", against="a", trials=9, gain=gain, low=gain - 0.01,
               high=gain + 0.01, chance=1e-6)
        for i, gain in enumerate(gains)
    ]  # fmt: skip
    words = worth_in_words(found, "in full")
    assert "n4: b instead of a is worth +50.00 points (+49.00 to +51.00); n1: b" in words
    assert words.endswith(
        "n3: b instead of a is worth +30.00 points (+29.00 to +31.00); and 2 more."
    )


def test_no_interval_reaches_beyond_what_an_accuracy_can_gain():
    rng = np.random.default_rng(0)
    trials = [
        record(n, {"pool": ("max", "none")[n % 2], "hidden": "none", "lr": 0.01}, rng.integers(2))
        for n in range(7)
    ]
    (pool,) = (e for e in effects(SPACE, trials) if e.value != e.against)
    assert pool.high - pool.low > 1
    assert -1 <= pool.low <= pool.high <= 1


def test_of_many_effects_by_chance_few_are_coloured():
    def effect(chance):
        return Effect(
            name="a", value=1, against=0, trials=3, gain=0.1, low=0, high=1, chance=chance
        )

    # Holm: the least by 0.05 / 4, the next by 0.05 / 3, then none more.
    assert told_from_chance(list(map(effect, (0.04, 0.001, 0.016, 0.03)))) == [
        False, True, True, False,
    ]  # fmt: skip
    together = alone = 0  # of searches in which nothing but the rate did anything
    for seed in range(10):
        rng, trials = np.random.default_rng(seed), searched(60, pool_gain=0.0, seed=seed)
        values = {
            "conv_bias": choice(True, False), "hidden_norm": choice(True, False),
            "padding": choice("same", "none"), "init": choice("torch", "glorot"),
            "optimizer": choice("adamw", "sgd"), "convs_per_stage": choice(1, 2),
        }  # fmt: skip
        space = replace(SPACE, search={**values, "lr": SPACE.search["lr"]})
        for trial in trials:
            drawn = {name: str(rng.choice(d.choices)) for name, d in values.items()}
            trial.config = {"lr": trial.config["lr"], **drawn}
        rows = [each for each in effects(space, trials) if each.value != each.against]
        assert len(rows) == 6
        together += any(told_from_chance(rows))
        alone += any(each.chance < 0.05 for each in rows)
    assert together < alone


def test_the_same_trials_give_the_same_effects():
    trials = searched(20, pool_gain=0.05)
    assert effects(SPACE, trials) == effects(SPACE, trials)
