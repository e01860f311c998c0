import numpy as np
import pytest
from ray.tune.experiment import Trial
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler

from hwtune.search.scheduler import Asha, Rungs


def ray_trial(number, baseline=""):
    return Trial("hwtune", config={"trial": number, "baseline": baseline}, stub=True)


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
def test_it_decides_as_rays_own_scheduler_on_the_same_curves(seed, grace, factor, epochs):
    table = curves(seed, trials=40, epochs=epochs)
    trials = [ray_trial(number) for number in range(40)]
    theirs = AsyncHyperBandScheduler(
        time_attr="epoch", metric="val_accuracy", mode="max",
        grace_period=grace, reduction_factor=factor, max_t=epochs,
    )  # fmt: skip
    for trial in trials:
        theirs.on_trial_add(None, trial)
    ours = Asha(Rungs(grace, factor, epochs), lambda: False)
    decided = play(ours, trials, table, epochs, seed)
    assert decided == play(theirs, trials, table, epochs, seed)
    stopped = {number for number, _, decision in decided if decision == TrialScheduler.STOP}
    assert 5 < len(stopped) < 40
    assert stopped == ours.reasons.keys()


def test_the_reason_names_epoch_accuracy_cut_off_and_rank():
    rungs = Rungs(1, 3, 9)
    for number, accuracy in enumerate([0.5, 0.8, 0.9]):
        rungs.judge(number, 1, accuracy)
    # The cut-off is the upper third of 0.5, 0.8 and 0.9, interpolated: 0.8333.
    expected = "epoch 1: 0.6000, needed 0.8333 (top 1/3 of 4), rank 3"
    assert rungs.judge(3, 1, 0.6) == expected


def test_a_baseline_is_never_stopped_but_counts():
    asha = Asha(Rungs(1, 3, 9), lambda: False)
    good, baseline, bad = ray_trial(0), ray_trial(1, "oafarih"), ray_trial(2)
    assert asha.on_trial_result(None, good, {"epoch": 1, "val_accuracy": 0.9}) == "CONTINUE"
    assert asha.on_trial_result(None, baseline, {"epoch": 1, "val_accuracy": 0.1}) == "CONTINUE"
    assert asha.on_trial_result(None, bad, {"epoch": 1, "val_accuracy": 0.2}) == "STOP"
    assert "rank 2" in asha.reasons[2]
    assert "of 3)" in asha.reasons[2]


def test_everything_stops_when_the_time_is_over():
    asha = Asha(None, lambda: True)
    trial = ray_trial(0, "oafarih")
    assert asha.on_trial_result(None, trial, {"epoch": 4, "val_accuracy": 0.9}) == "STOP"
    assert asha.reasons[0] == "epoch 4: the time for the search was over"


def test_without_rungs_nothing_stops():
    asha = Asha(None, lambda: False)
    for number in range(20):
        result = {"epoch": 1, "val_accuracy": 1 - number / 20}
        assert asha.on_trial_result(None, ray_trial(number), result) == "CONTINUE"
