import math

import optuna
import pytest
from optuna.trial import TrialState
from ray.tune.search import Searcher

from hwtune.models import Cost
from hwtune.records import EpochRecord, create_study
from hwtune.search.feasible import cost_of, too_large
from hwtune.search.ledger import Ledger
from hwtune.search.searcher import OptunaSearcher
from hwtune.search.study import open_optuna_study
from hwtune.space import SearchSpace, choice, log_uniform, uniform

SPACE = SearchSpace(
    question="?",
    data="digits",
    search={"lr": log_uniform(1e-4, 1.0), "translation": uniform(0.0, 0.5)},
    fixed={"epochs": 3},
    baselines={"old": {"lr": 0.01, "translation": 0.0}},
)


class Bridge:
    """A searcher with its study and files, driven as Ray would."""

    def __init__(self, path, space=SPACE, *, seed=0, limit=10**9, accept=lambda cost, config: ""):
        self.folder = create_study(path, None, "s")
        self.study = open_optuna_study(self.folder, seed=seed, parallel=1)
        for name, values in space.baselines.items():
            self.study.enqueue_trial(values, user_attrs={"baseline": name})
        self.ledger = Ledger(self.folder, space.search)
        self.reasons = {}
        self.searcher = OptunaSearcher(
            self.study, space, self.ledger, seed=seed,
            measure=lambda values: cost_of(space, values, classes=10, side=8),
            accept=accept,
            finished=lambda: len(self.ledger.trained) >= limit,
            reasons=self.reasons,
        )  # fmt: skip

    def begin(self):
        config = self.searcher.suggest("t")
        self.number = config["trial"]
        return config

    def epoch(self, number, accuracy):
        self.searcher.record("t", EpochRecord(self.number, number, 0.1, 0.2, accuracy, 0.1, 1.0))

    def end(self, error=False, **result):
        self.searcher.on_trial_complete("t", result, error)
        return self.study.trials[self.number]


@pytest.fixture
def bridge(tmp_path):
    return Bridge(tmp_path)


def test_a_full_length_trial_is_complete_with_its_best_accuracy(bridge):
    bridge.begin()
    for number, accuracy in enumerate([0.5, 0.9, 0.8], 1):
        bridge.epoch(number, accuracy)
    told = bridge.end(full_length=True)
    assert (told.state, told.value) == (TrialState.COMPLETE, 0.9)
    assert told.intermediate_values == {1: 0.5, 2: 0.9, 3: 0.8}


def test_a_stopped_trial_is_pruned_with_every_intermediate_value(bridge):
    bridge.begin()
    bridge.epoch(1, 0.5)
    bridge.epoch(2, 0.6)
    bridge.reasons[bridge.number] = "because"
    told = bridge.end(full_length=False)
    assert told.state == TrialState.PRUNED
    assert told.intermediate_values == {1: 0.5, 2: 0.6}
    record = bridge.ledger.trials[bridge.number]
    assert (record.state, record.reason) == ("stopped", "because")


def test_a_lost_process_is_a_failure(bridge):
    bridge.begin()
    bridge.epoch(1, 0.5)
    assert bridge.end(error=True).state == TrialState.FAIL
    assert "process was lost" in bridge.ledger.trials[bridge.number].reason


def test_a_divergence_violates_a_constraint_and_tells_no_nan(bridge):
    bridge.begin()
    bridge.epoch(1, math.nan)
    told = bridge.end(failed="diverged at epoch 2", diverged=True)
    assert told.state == TrialState.PRUNED
    assert told.constraints == {"diverged": 1.0}
    assert told.intermediate_values == {}
    assert bridge.ledger.trials[bridge.number].state == "failed"


def test_the_best_trial_of_the_study_ran_its_full_length(bridge):
    for accuracy, full in ((0.7, True), (0.99, False), (0.8, True)):
        bridge.begin()
        bridge.epoch(1, accuracy)
        bridge.end(full_length=full)
    assert bridge.study.best_trial.value == 0.8


def test_baselines_come_first_under_their_name(bridge):
    first = bridge.begin()
    assert (first["trial"], first["baseline"], first["config"]["lr"]) == (0, "old", 0.01)
    bridge.epoch(1, 0.5)
    bridge.end(full_length=True)
    assert bridge.begin()["baseline"] == ""


def test_nothing_is_left_running_in_the_journal(bridge):
    for index in range(6):
        bridge.begin()
        bridge.epoch(1, 0.5)
        bridge.end(error=index == 3, full_length=index % 2 == 0)
    again = optuna.load_study(study_name="s", storage=bridge.study._storage)
    assert not [t for t in again.trials if t.state == TrialState.RUNNING]


def test_the_budget_ends_the_suggestions(tmp_path):
    bridge = Bridge(tmp_path, limit=2)
    for _ in range(2):
        bridge.begin()
        bridge.epoch(1, 0.5)
        bridge.end(full_length=True)
    assert bridge.searcher.suggest("t") == Searcher.FINISHED


def test_what_cannot_be_built_or_is_too_large_is_told_and_not_trained(tmp_path):
    space = SearchSpace(
        question="?",
        data="digits",
        search={"filters": choice("4", "4-4-4-4", "256-256"), "lr": log_uniform(1e-4, 1.0)},
        max_parameters=100_000,
    )
    bridge = Bridge(tmp_path, space, accept=lambda cost, config: too_large(space, cost))
    for _ in range(15):
        assert bridge.begin()["config"]["filters"] == "4"
        bridge.epoch(1, 0.5)
        bridge.end(full_length=True)
    failed = [t for t in bridge.ledger.trials.values() if t.state == "failed"]
    assert {t.config["filters"] for t in failed} == {"4-4-4-4", "256-256"}
    assert {t.config["filters"]: t.reason.split()[-1] for t in failed} == {
        "4-4-4-4": "poolings.",
        "256-256": "100,000",
    }
    for record in failed:
        assert bridge.study.trials[record.trial].constraints == {"infeasible": 1.0}
    assert len(bridge.ledger.trained) == 15


def test_trials_that_fail_before_their_first_epoch_count(tmp_path):
    bridge = Bridge(tmp_path, limit=3)
    for _ in range(3):
        bridge.begin()
        bridge.end(error=True)
    assert bridge.searcher.suggest("t") == Searcher.FINISHED


def test_a_space_with_nothing_left_ends_the_study(tmp_path):
    space = SearchSpace(question="?", data="digits", search={"lr": log_uniform(1e-4, 1.0)})
    bridge = Bridge(tmp_path, space, accept=lambda cost, config: "too much")
    assert bridge.searcher.suggest("t") == Searcher.FINISHED
    assert not bridge.ledger.trained


def divergent_share(path, *, learn):
    """Return how often TPE proposes a divergent rate in its last 30 of 60 trials."""
    bridge = Bridge(path, seed=1)
    bridge.searcher.measure = lambda values: Cost(1, 1)
    divergent = []
    for _ in range(60):
        lr = bridge.begin()["config"]["lr"]
        divergent.append(lr > 0.02)
        if lr > 0.02:
            bridge.end(failed="diverged", diverged=learn)
        else:
            bridge.epoch(1, 0.9 - 0.1 * abs(math.log10(lr / 2e-3)))
            bridge.end(full_length=True)
    return sum(divergent[30:]) / 30


def test_tpe_learns_from_divergence_and_not_from_failure(tmp_path):
    learned = divergent_share(tmp_path / "learned", learn=True)
    ignored = divergent_share(tmp_path / "ignored", learn=False)
    assert learned <= 0.2
    assert ignored >= 0.5


def test_the_same_seed_proposes_the_same(tmp_path):
    def proposals(path):
        bridge = Bridge(path, seed=3)
        seen = []
        for _ in range(20):
            config = bridge.begin()
            seen.append(config["config"])
            bridge.epoch(1, config["config"]["translation"])
            bridge.end(full_length=True)
        return seen

    assert proposals(tmp_path / "a") == proposals(tmp_path / "b")
