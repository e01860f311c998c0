import math
import time
from dataclasses import replace

import pytest

from hwtune.config import TrialConfig
from hwtune.models.layers import Cost
from hwtune.records import EpochRecord, TrialRecord
from hwtune.results import create_study
from hwtune.search import pace
from hwtune.search.budget import Budget, Clock, CostModel, Retraining, drifts, expected_epochs
from hwtune.search.feasible import images_an_epoch, longest
from hwtune.search.forecast import Outlook
from hwtune.search.ledger import Ledger
from hwtune.search.pace import Pace
from hwtune.search.restored import relearn
from hwtune.space import SearchSpace, choice, integer, load_space, log_uniform


def test_without_trials_and_time_a_quarter_of_an_hour_is_spent_on_at_most_fifty():
    assert Budget(epochs=3).filled() == Budget(epochs=3, trials=50, seconds=900)
    assert Budget(trials=5).filled().seconds is None
    assert Budget(seconds=5.0).filled().trials is None


def test_the_cost_model_is_calibrated_by_the_median_of_what_it_saw():
    cost = CostModel()
    first = cost.epoch_seconds(macs=10**7, images=1000)
    for factor in (2, 2, 50):
        cost.observe(macs=10**7, images=1000, seconds=factor * first)
    assert cost.epoch_seconds(macs=10**7, images=1000) == pytest.approx(2 * first)
    assert cost.epoch_seconds(macs=10**8, images=1000) > 5 * first


def test_an_epoch_on_much_slower_machines_counts_as_if_it_had_been_trained_here():
    runs = [
        {"epochs_before": 0, "probed": 20.0},
        {"command": "hwtune retrain s"},
        {"epochs_before": 2, "probed": None},  # of which nothing is known
        {"epochs_before": 3, "probed": 0.9},
        {"epochs_before": 5, "probed": 0.1},
    ]
    assert drifts(runs, scale=1.0, epochs=6) == [0.05, 0.05, 1, 1, 1, 10]
    assert drifts([], scale=1.0, epochs=2) == [1, 1]
    moved = replace(clock(), extra={0: -0.95 * TRIALS[0].seconds})
    assert moved.reserve(TRIALS, 99.0) == pytest.approx(15 + 2 * 2 * 10 * 1.5 / 20)


def test_stopping_early_saves_epochs():
    assert expected_epochs(1, grace=1, factor=3) == 1
    assert 2 < expected_epochs(12, grace=1, factor=3) < 6
    assert expected_epochs(12, grace=12, factor=3) == 12


def trial(number, accuracies, *, baseline="", seconds=10.0, state="complete"):
    record = TrialRecord(number, baseline, state=state, config={"lr": number})
    for epoch, accuracy in enumerate(accuracies, 1):
        record.add(EpochRecord(number, epoch, 0, 0, accuracy, 0, seconds))
    return record


def clock(slots=2, retrainings=2, **changes):
    return Clock(
        parallel=slots, retrainings=retrainings, retraining=Retraining(**changes),
        retrain_growth=1.5, retrain_epochs=lambda trial: trial.best_epoch,
    )  # fmt: skip


TRIALS = [trial(0, [0.5, 0.9, 0.8, 0.8]), trial(1, [0.4, 0.5], baseline="old", seconds=20.0)]


def test_the_retraining_is_reserved_in_rounds():
    # Two rounds of two epochs of ten seconds, half as long again on train and validation.
    assert clock().reserve(TRIALS, 99.0) == pytest.approx(15 + 2 * 2 * 10 * 1.5)


def test_where_the_gpus_alone_retrain_more_rounds_are_reserved():
    mixed = clock(6, 1)
    assert mixed.reserve(TRIALS, 99.0) == pytest.approx(15 + 3 * 2 * 10 * 1.5)


def test_baselines_that_will_be_retrained_are_reserved_too():
    # Six trainings of 20 s and 40 s in three rounds.
    assert clock(baselines=True).reserve(TRIALS, 99.0) == pytest.approx(15 + 3 * 30 * 1.5)


def test_the_judging_of_finalists_is_reserved_too():
    # Beside the two rounds three folds of two finalists, two thirds of 20 s and 40 s.
    retraining = 2 * 20 * 1.5
    assert clock(finalists=1).reserve(TRIALS, 99.0) == pytest.approx(15 + retraining)
    judging = 3 * 2 / 3 * 30 * 1.5
    assert clock(finalists=5).reserve(TRIALS, 99.0) == pytest.approx(15 + retraining + judging)


def test_before_the_first_trial_a_typical_network_is_reserved():
    assert clock().reserve([], 2.0) == pytest.approx(15 + 2 * 12 * 2 * 1.5)


def test_the_retraining_leaves_the_rest_of_the_time_to_the_search(tmp_path):
    running = Running(tmp_path, Budget(seconds=900))
    running.train(0, 10.0)  # two rounds of an epoch
    assert running.pace.search_left == pytest.approx(900 - 15 - 2 * 10 * 1.5, abs=1)


def test_a_reserve_follows_the_best_trial(tmp_path, monkeypatch):
    monkeypatch.setattr(pace, "RESERVE_SECONDS", 0.0)
    monkeypatch.setattr(pace, "RESERVE_SHARE", math.inf)
    running = Running(tmp_path, Budget(seconds=900))
    running.train(0, 10.0)
    before = running.pace.search_left
    running.train(0, 20.0)
    assert running.pace.search_left == pytest.approx(before - 2 * 10 * 1.5, abs=1)


def test_what_cpus_beside_gpus_trained_is_retrained_in_the_time_of_a_gpu():
    """But has held its slot for as long as it did."""
    time_of = clock()
    slow = trial(0, [0.5] * 10, seconds=30.0)
    alone = time_of.training([slow])
    time_of.beside[0] -= 10 * 29.0
    assert time_of.training([slow]) == pytest.approx(alone / 30)
    assert time_of.seconds(slow) == 300


def test_without_a_time_budget_there_is_always_time(tmp_path):
    running = Running(tmp_path, Budget(trials=1))
    running.train(0, 1e9)
    assert running.pace.search_left == math.inf


class Running:
    """The pace of a study of two slots whose networks all cost the same."""

    def __init__(self, path, budget, points=math.inf, expected=3.0, spent=0.0, gpus=False):
        self.cost = CostModel()
        self.ledger = Ledger(create_study(path, None, "s"), load_space("digits_cnn"), images=1000)
        self.pace = Pace(
            budget, replace(clock(), started=time.monotonic() - spent), self.cost, self.ledger,
            typical=[Cost(1000, 10**7)], images=1000, an_epoch=1000, points=points,
            expected=expected, gpus=gpus,
        )  # fmt: skip

    def train(self, number, seconds):
        self.ledger.trials[number] = trial(number, [0.5] * 9, seconds=seconds)
        self.ledger.best = self.ledger.trials[number]
        self.cost.observe(macs=10**7, images=1000, seconds=seconds)


def test_a_resume_knows_what_was_trained_on_cpus_beside_the_gpus(tmp_path):
    """Thirty times as slow, and most of what is recorded."""
    recorded = [EpochRecord(0, 1, 0, 0, 0.5, 0, 1.0)]
    recorded += [EpochRecord(1, epoch, 0, 0, 0.9, 0, 30.0) for epoch in range(1, 5)]
    predicted = {}
    for gpus in (True, False):
        running = Running(tmp_path / str(gpus), Budget(seconds=900), gpus=gpus)
        running.ledger.moves = {1: [0]}
        for epoch in recorded:
            running.ledger.costs[epoch.trial] = Cost(1000, 10**7)
            known = running.ledger.trials.setdefault(epoch.trial, TrialRecord(epoch.trial))
            known.add(epoch)
        relearn(running.pace, recorded, {}, [])
        predicted[gpus] = running.pace.mean_epoch
        slow = running.ledger.trials[1]
        each = 1.0 if gpus else 30.0
        assert running.pace.clock.training([slow]) == pytest.approx(slow.best_epoch * each)
    assert predicted == {True: pytest.approx(1.0), False: pytest.approx(30.0)}


def test_networks_are_not_held_to_be_slow_on_gpus(tmp_path):
    for gpus in (True, False):
        running = Running(tmp_path / str(gpus), Budget(seconds=60), gpus=gpus)
        running.train(0, 1.0)
        refused = running.pace.too_slow(Cost(1000, 10**10), TrialConfig(epochs=3))
        assert bool(refused) == (not gpus)


def test_the_study_ends_with_its_trials(tmp_path):
    running = Running(tmp_path, Budget(trials=2))
    running.train(0, 1.0)
    assert not running.pace.finished()
    running.train(1, 1.0)
    assert running.pace.finished()


def test_the_study_ends_at_its_target(tmp_path):
    for target, reached in ((0.6, False), (0.5, True)):
        budget = Budget(trials=9, target=target)
        running = Running(tmp_path / str(target), budget)
        assert not running.pace.finished()
        running.train(0, 1.0)
        assert running.pace.finished() == reached
        assert bool(running.pace.over(math.nan)) == reached
    assert running.pace.over(0.4) == "the target of 0.5 was reached"


def test_the_epoch_that_reaches_the_target_is_the_last(tmp_path):
    pace = Running(tmp_path, Budget(trials=9, target=0.9)).pace
    assert pace.over(0.8) == pace.over(math.nan) == ""
    assert pace.over(0.9) == "the target of 0.9 was reached"


def test_the_time_left_follows_the_trials_to_come(tmp_path):
    running = Running(tmp_path, Budget(trials=11))
    for number in range(6):
        running.train(number, 2.0)  # 18 s a trial, two at once
    assert running.pace.seconds_left == pytest.approx(5 * 18 / 2)


def test_what_is_never_stopped_does_not_tell_how_long_a_trial_takes(tmp_path):
    running = Running(tmp_path, Budget(trials=20))
    for number in range(7):
        running.train(number, 20.0 if number < 2 else 2.0)
    running.ledger.known = {0, 1}
    assert running.pace.mean_trial == 18.0


def test_no_trial_starts_that_would_not_end_in_time(tmp_path):
    running = Running(tmp_path, Budget(seconds=60))
    running.train(0, 1.0)  # 15 + 2 * 1.5 s of the 60 are reserved
    assert not running.pace.finished()
    for number in range(1, 6):
        running.train(number, 6.0)  # now a trial takes 54 s
    assert running.pace.finished()
    assert not running.pace.over(math.nan)


def test_however_short_the_time_one_trial_starts_and_trains_an_epoch(tmp_path):
    running = Running(tmp_path, Budget(seconds=1), spent=0.5)
    assert not running.pace.finished()
    running.ledger.trials[0] = TrialRecord(0)
    assert not running.pace.over(math.nan)
    assert running.pace.finished()
    running.train(0, 1.0)
    assert running.pace.over(0.5) == "the time for the search was over"


def test_a_network_too_slow_for_the_time_is_refused_once_costs_are_measured(tmp_path):
    running = Running(tmp_path, Budget(seconds=900))
    slow, whole = Cost(1000, 10**10), TrialConfig(epochs=9)
    assert running.pace.too_slow(slow, whole) == ""
    running.cost.observe(macs=10**7, images=1000, seconds=1.0)
    assert running.pace.too_slow(slow, whole) == ""  # the first trial of all
    running.train(0, 1.0)
    assert "to train, over 25% of the 15 minutes" in running.pace.too_slow(slow, whole)
    assert running.pace.too_slow(Cost(1000, 10**7), whole) == ""
    long = Cost(1000, 10**9)
    assert running.pace.too_slow(long, whole)
    assert running.pace.too_slow(long, replace(whole, max_steps=1)) == ""


def test_a_training_that_ends_within_an_epoch_is_as_quick_as_it_was_measured(tmp_path):
    space = SearchSpace(
        question="?", data="digits", search={"lr": log_uniform(1e-4, 1e-1)},
        fixed={"max_steps": 20, "batch_size": 10},
    )  # fmt: skip
    assert images_an_epoch(space, images=1000) == 200
    running, config = Running(tmp_path, Budget(seconds=100)), space.config({"lr": 0.01})
    each = config.images_seen(1, images=1000)
    running.cost.observe(macs=10**7, images=each, seconds=8.0)
    running.ledger.trials[0] = trial(0, [0.5], seconds=8.0)
    cost = Cost(1000, 10**7)
    assert running.pace.too_slow(cost, config) == ""
    assert running.pace.too_slow(cost, replace(config, max_steps=0, epochs=1))  # five times as long


@pytest.mark.parametrize(
    ("budget", "spent"),
    [(Budget(seconds=4500, before=3600), 3600), (Budget(seconds=900), 700)],
    ids=["extended", "resumed"],
)
def test_what_is_too_slow_follows_the_time_that_was_given(tmp_path, budget, spent):
    running = Running(tmp_path, budget, spent=spent)
    running.train(0, 1.0)
    slow = running.pace.too_slow(Cost(1000, 10**10), TrialConfig(epochs=9))
    assert "over 25% of the 15 minutes" in slow


def test_with_time_alone_any_number_of_trials_is_trained(tmp_path):
    running = Running(tmp_path, Budget(seconds=1e6))
    for number in range(200):
        running.train(number, 1.0)
    assert not running.pace.finished()


def outlook(budget, slots=2, **changes):
    """Return an outlook on networks whose epoch takes a second on one of some slots."""
    cost = CostModel()
    cost.observe(macs=10**7, images=1000, seconds=1.0)
    quick = Cost(1000, 10**7)
    given = {
        "baselines": {}, "starts": {}, "good": [], "points": math.inf, "expected": float,
        "learns": False, **changes,
    }  # fmt: skip
    return Outlook(
        cost=cost, budget=budget, clock=clock(slots, slots), typical=[quick], images=1000,
        epochs=10, retrained=0, **given,
    )  # fmt: skip


def test_a_forecast_counts_trials_that_run_on():
    cost = Cost(1000, 10**7)
    whole = outlook(Budget(trials=3), done=0).forecast()
    running = outlook(Budget(trials=3), done=3, running=[(cost, 4, False), (cost, 9, True)])
    left = running.forecast()
    assert (whole.trials, whole.epochs) == (3, 30)
    assert (left.trials, left.epochs) == (2, 6 + 1)
    assert outlook(Budget(trials=3), done=3).forecast().epochs == 0


BASELINES = {name: Cost(1000, macs) for name, macs in (("a", 10**9), ("b", 10**7), ("c", 10**8))}


def left_out(seconds, baselines, slots=2, **changes):
    given = outlook(Budget(seconds=seconds), slots, baselines=baselines, **changes)
    return list(given.left_out())


def test_baselines_that_together_take_too_long_are_left_out():
    ten = {str(number): Cost(1000, 10**7) for number in range(10)}
    # 10 s each at full length, of two slots; 51 s are taken by retraining and start.
    assert left_out(51 + 1.5 * 101, ten) == left_out(None, ten) == []
    assert left_out(51 + 1.5 * 99, ten) == ["9"]


def test_a_baseline_that_could_not_be_retrained_is_left_out_the_cheapest_last():
    # 10, 74 and 717 s at full length; retraining takes three times that and 15 s.
    def names(seconds, **changes):
        return left_out(seconds, BASELINES, **changes)

    assert names((15 + 3 * 718) / 0.75) == names(None) == []
    assert names((15 + 3 * 716) / 0.75) == names((15 + 3 * 75) / 0.75) == ["a"]
    assert names((15 + 3 * 73) / 0.75) == names(30.0) == ["a", "c"]
    assert names(30.0, good=[Cost(1000, 10**7)]) == ["a", "b", "c"]


def test_a_baseline_that_one_slot_could_not_finish_is_left_out():
    # A third of the time of 16 slots would be enough long before, as would three quarters of the
    # time be for retraining it.
    def names(seconds):
        return left_out(seconds, BASELINES, slots=16, good=[Cost(1000, 10**9)])

    assert names(15 + 1.5 * 717 + 6 + 716) == ["a"]
    assert names(15 + 1.5 * 718 + 6 + 719) == []


def test_a_costly_leader_leaves_a_quarter_of_the_time_to_the_search(tmp_path):
    """And to an extension a quarter of what it adds."""
    running = Running(tmp_path / "a", Budget(seconds=900), spent=200)
    running.train(0, 400.0)  # to retrain it takes 15 + 2 * 400 * 1.5 s
    assert running.pace.search_left == pytest.approx(225 - 200, abs=1)
    assert not running.pace.over(0.5)
    assert running.pace.finished()
    longer = Running(tmp_path / "b", Budget(seconds=1200, before=900), spent=900)
    longer.train(0, 400.0)
    assert longer.pace.search_left == pytest.approx(75, abs=1)


def test_what_could_not_be_retrained_in_time_is_refused(tmp_path):
    running = Running(tmp_path, Budget(seconds=1000))
    running.train(0, 1.0)
    cost, whole = Cost(1000, 10**9), TrialConfig(epochs=3)
    seconds = running.cost.epoch_seconds(macs=cost.macs, images=3000)
    assert seconds < 250 < 750 < 15 + 5 * seconds * 1.5
    assert running.pace.too_slow(cost, whole) == ""
    running.pace.clock.retraining = Retraining(seeds=10)
    assert "to retrain, over 75% of the 17 minutes" in running.pace.too_slow(cost, whole)


def test_what_a_study_has_queued_is_not_left_out_and_a_resumed_one_needs_no_baseline():
    short = outlook(Budget(seconds=30.0), baselines=BASELINES)
    assert list(short.left_out(["a", "b"])) == []  # c in any case, and the others wait
    assert list(replace(short, done=1).left_out(["a", "b"])) == ["c"]


def test_trials_are_shortened_until_retraining_leaves_half_the_time():
    def epochs(seconds):
        return outlook(Budget(seconds=seconds)).affordable_epochs()

    # 15 s, and two rounds of 1.5 s for each epoch, which may take half of the rest.
    assert epochs(None) == epochs(15 + 2 * 30 + 1) == 10
    assert epochs(15 + 2 * 30 - 1) == 9
    assert epochs(15 + 2 * 12 + 1) == 4
    assert epochs(1.0) == 1


def test_the_forecast_fills_the_time_with_trials():
    expected = outlook(Budget(seconds=1052.0)).forecast()  # 1,001 s of two slots
    assert (expected.trials, expected.epochs) == (200, 2000)
    assert expected.seconds == pytest.approx(1051, abs=1)


def test_the_forecast_counts_the_known_points_at_their_own_cost():
    known = {"a": BASELINES["a"]}
    usual, with_known = (
        outlook(Budget(trials=6), baselines=each, done=2).forecast() for each in ({}, known)
    )
    assert usual.trials == with_known.trials == 4
    assert with_known.seconds - usual.seconds == pytest.approx((717 - 10) / 2, rel=0.01)


def test_the_forecast_lets_starts_run_their_full_length():
    known = {"a": BASELINES["b"]}
    usual, with_start = (
        outlook(Budget(trials=4), starts=each, expected=lambda epochs: epochs / 2).forecast()
        for each in ({}, known)
    )
    assert usual.trials == with_start.trials == 4
    assert (usual.epochs, with_start.epochs) == (20, 25)


def test_the_forecast_knows_how_many_points_a_space_has():
    expected = outlook(Budget(trials=50, seconds=900.0), points=3).forecast()
    assert (expected.trials, expected.epochs) == (3, 30)


def test_the_forecast_counts_what_was_cut_off_and_is_tried_again():
    earlier = {"points": 3, "done": 3, "cut_off": 1}
    for starts in ({}, {"a": BASELINES["b"]}):
        again = outlook(Budget(trials=50), starts=starts, **earlier).forecast()
        assert (again.trials, again.epochs) == (1, 10)


def test_the_time_left_counts_what_is_gone_on_with_in_a_space_of_few_points(tmp_path):
    running = Running(tmp_path, Budget(trials=50), points=6)
    for number in range(6):
        running.train(number, 2.0)
    assert running.pace.seconds_left == 0
    running.ledger.continues = {6: 5}
    assert running.pace.seconds_left == pytest.approx(18 / 2)


def test_the_forecast_of_a_billion_trials_is_made_at_once():
    known = outlook(Budget(trials=10**9), baselines={"b": BASELINES["b"]}).forecast()
    assert (known.trials, known.epochs) == (10**9, 10**10)
    assert known.seconds == pytest.approx(10**10 / 2, rel=0.01)


def test_no_more_is_retrained_than_was_tried():
    plan = Retraining(top=200, finalists=100)
    few = outlook(Budget(trials=3, seconds=900.0))
    many = replace(few, clock=replace(few.clock, retraining=plan))
    assert many.closing(1) < 6 * few.closing(1)


def test_the_longest_trial_is_found_wherever_the_space_says_it():
    def space(**search):
        return SearchSpace(question="?", data="digits", search={"lr": choice(0.1), **search})

    assert longest(space(), images=100) == 12
    assert longest(space(epochs=choice(3, 12, 6)), images=100) == 12
    assert longest(space(epochs=integer(2, 7)), images=100) == 7
    assert longest(space(epochs=integer(2, 7)).with_epochs(4), images=100) == 4


def test_a_limit_of_steps_bounds_the_epochs():
    space = SearchSpace(
        question="?", data="digits", search={"lr": choice(0.1)},
        fixed={"epochs": 9, "max_steps": 50, "batch_size": 10},
    )  # fmt: skip
    assert longest(space, images=209) == 3  # of 20 steps each
    assert longest(space, images=50) == 9
    assert longest(space, images=3) == 9
