import numpy as np
import pytest
from ray.tune.experiment import Trial
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler

from hwtune.search.scheduler import EarlyStopping
from hwtune.search.stopping import Rungs
from scripts.bench.replay import Once


def ray_trial(number, *, known=False):
    return Trial("hwtune", config={"trial": number, "known": known}, stub=True)


def accuracy(trial, result):
    return [result["val_accuracy"]]


def asha():
    rungs = Rungs(grace_period=1, reduction_factor=3, max_epochs=9)
    return EarlyStopping(rungs, accuracy, over=lambda _: "")


def curves(seed, *, trials, epochs):
    """Return noisy rising curves, some equal, as real ones at few validation images are."""
    rng = np.random.default_rng(seed)
    top, speed = rng.uniform(0.3, 1, (trials, 1)), rng.uniform(0.2, 2, (trials, 1))
    rising = top * (1 - np.exp(-speed * np.arange(1, epochs + 1)))
    return np.round(rising + rng.normal(0, 0.02, rising.shape), 2)


def play(scheduler, trials, table, epochs, seed):
    """Report epochs of trials in a random interleaving; return every decision."""
    rng = np.random.default_rng(seed)
    alive = dict.fromkeys(range(len(table)), 0)
    decisions = []
    while alive:
        number = int(rng.choice(list(alive)))
        epoch = alive[number] = alive[number] + 1
        result = {"epoch": epoch, "val_accuracy": float(table[number, epoch - 1])}
        if epoch == epochs:
            scheduler.on_trial_complete(None, trials[number], result)
            decisions.append((number, epoch, "complete"))
            del alive[number]
            continue
        decision = scheduler.on_trial_result(None, trials[number], result)
        decisions.append((number, epoch, decision))
        if decision == TrialScheduler.STOP:
            scheduler.on_trial_complete(None, trials[number], result)
            del alive[number]
    return decisions


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(
    ("grace", "factor", "epochs"), [(1, 3, 12), (1, 3, 9), (2, 2, 20), (1, 4, 5)]
)
def test_who_reaches_a_rung_is_judged_as_by_rays_own_scheduler(seed, grace, factor, epochs):
    table = curves(seed, trials=40, epochs=epochs)
    trials = [ray_trial(number) for number in range(40)]
    theirs = AsyncHyperBandScheduler(
        time_attr="epoch", metric="val_accuracy", mode="max",
        grace_period=grace, reduction_factor=factor, max_t=epochs,
    )  # fmt: skip
    for trial in trials:
        theirs.on_trial_add(None, trial)
    rungs = Rungs(grace_period=grace, reduction_factor=factor, max_epochs=epochs)
    ours = EarlyStopping(Once(rungs), accuracy, over=lambda _: "")
    decided = play(ours, trials, table, epochs, seed)
    assert decided == play(theirs, trials, table, epochs, seed)
    stopped = {number for number, _, decision in decided if decision == TrialScheduler.STOP}
    assert 5 < len(stopped) < 40
    assert stopped == ours.endings.reasons.keys()


def test_a_baseline_is_never_stopped_but_counts():
    scheduler = asha()
    good, baseline, bad = ray_trial(0), ray_trial(1, known=True), ray_trial(2)
    assert scheduler.on_trial_result(None, good, {"epoch": 1, "val_accuracy": 0.9}) == "CONTINUE"
    known = {"epoch": 1, "val_accuracy": 0.1}
    assert scheduler.on_trial_result(None, baseline, known) == "CONTINUE"
    assert scheduler.on_trial_result(None, bad, {"epoch": 1, "val_accuracy": 0.2}) == "STOP"
    assert "rank 2" in scheduler.endings.reasons[2]
    assert "of 3)" in scheduler.endings.reasons[2]


def test_the_search_may_be_over_with_the_epoch_that_is_judged():
    scheduler = EarlyStopping(None, accuracy, over=lambda latest: "enough" if latest >= 0.9 else "")
    heard = [
        scheduler.on_trial_result(None, ray_trial(0), {"epoch": epoch, "val_accuracy": value})
        for epoch, value in enumerate((0.8, 0.9), 1)
    ]
    assert heard == ["CONTINUE", "STOP"]
    assert scheduler.endings.reasons[0] == "epoch 2: enough"


def test_everything_stops_when_the_search_is_over():
    scheduler = EarlyStopping(None, accuracy, over=lambda _: "the time for the search was over")
    trial = ray_trial(0, known=True)
    assert scheduler.on_trial_result(None, trial, {"epoch": 4, "val_accuracy": 0.9}) == "STOP"
    assert scheduler.endings.reasons[0] == "epoch 4: the time for the search was over"


def test_the_end_of_a_search_lets_a_trial_report_again_what_it_has():
    scheduler = EarlyStopping(None, accuracy, over=lambda _: "enough", reported={0: 5}.__getitem__)
    results = [{"epoch": epoch, "val_accuracy": 0.5, "again": True} for epoch in range(1, 6)]
    heard = [scheduler.on_trial_result(None, ray_trial(0), result) for result in results]
    assert heard == ["CONTINUE"] * 4 + ["STOP"]
    assert scheduler.endings.reasons[0] == "epoch 5: enough"


def test_the_end_of_a_search_stops_a_trial_that_trains_anew_what_it_has_reported():
    """As where its state is lost; a rung, which knows of the epoch, does not."""
    over = iter(["", "enough"])
    scheduler = EarlyStopping(
        None, accuracy, over=lambda _: next(over), reported={0: 5}.__getitem__,
        decided={(0, 1): "it was the worst"},
    )  # fmt: skip
    results = [{"epoch": epoch, "val_accuracy": 0.5} for epoch in (1, 2)]
    heard = [scheduler.on_trial_result(None, ray_trial(0), result) for result in results]
    assert heard == ["CONTINUE", "STOP"]
    assert scheduler.endings.reasons[0] == "epoch 2: enough"


def test_a_trial_that_goes_on_with_another_does_not_compete_with_it():
    def last_word(first):
        rungs = Rungs(grace_period=1, reduction_factor=4, max_epochs=4)
        scores = {0: 0.95, 1: 0.90, 2: 0.80, 5: 0.93}  # of which three quarters lie below 0.925
        for number, score in scores.items():
            rungs.judge(number, 4, (score,))
        again = EarlyStopping(rungs, accuracy, over=lambda _: "", reported=lambda _: 4, first=first)
        return [
            again.on_trial_result(None, ray_trial(6), {"epoch": epoch, "val_accuracy": 0.93})
            for epoch in range(1, 6)
        ][-1]

    assert last_word({6: 5}.__getitem__) == "CONTINUE"
    assert last_word(lambda number: number) == "STOP"


def test_the_end_of_a_search_cuts_off_what_no_rule_has_stopped():
    rungs = Rungs(grace_period=1, reduction_factor=3, max_epochs=9)
    scheduler = EarlyStopping(rungs, accuracy, over=lambda _: "the time for the search was over")
    for number, value in enumerate((0.9, 0.1, 0.95)):
        scheduler.on_trial_result(None, ray_trial(number), {"epoch": 1, "val_accuracy": value})
    assert scheduler.endings.cut == {0, 2}
    assert scheduler.endings.reasons[0] == "epoch 1: the time for the search was over"
    assert "0.1000, needed 0.9000" in scheduler.endings.reasons[1], "whatever the time"


def test_what_was_decided_before_a_resume_stands():
    rungs = Rungs(grace_period=1, reduction_factor=3, max_epochs=9)
    again = EarlyStopping(rungs, accuracy, over=lambda _: "", decided={(0, 1): "it was the worst"})
    first = {"epoch": 1, "val_accuracy": 0.5}
    assert again.on_trial_result(None, ray_trial(0), first) == "STOP"
    assert again.endings.reasons == {0: "it was the worst"}


def test_without_a_rule_nothing_stops():
    scheduler = EarlyStopping(None, accuracy, over=lambda _: "")
    for number in range(20):
        result = {"epoch": 1, "val_accuracy": 1 - number / 20}
        assert scheduler.on_trial_result(None, ray_trial(number), result) == "CONTINUE"
