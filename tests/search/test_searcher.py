import math
import os
import signal
from dataclasses import replace

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState
from ray.tune.search import Searcher

from hwtune.errors import StudyError
from hwtune.models.layers import Cost
from hwtune.records import EpochRecord, TrialRecord, ranked, taken_over
from hwtune.results import create_study
from hwtune.search.attributes import settle
from hwtune.search.feasible import cost_of
from hwtune.search.journal import (
    enqueue_cut_off,
    enqueue_known_points,
    known_points,
    open_optuna_study,
    proposed,
)
from hwtune.search.ledger import Ledger
from hwtune.search.objectives import Objectives
from hwtune.search.restored import (
    extra_seconds,
    rebuild,
    restored,
    retained,
    seconds_here,
    trained_by,
)
from hwtune.search.samplers import SAMPLERS, make_sampler
from hwtune.search.scheduler import Endings
from hwtune.search.searcher import MAX_REPEATS_IN_A_ROW, OptunaSearcher
from hwtune.search.settings import Settings
from hwtune.search.trial import NO_MEMORY
from hwtune.signals import signals_waiting
from hwtune.space import SearchSpace, choice, integer, log_uniform, uniform
from hwtune.states import StateStore
from hwtune.study_folder import StudyFolder

SPACE = SearchSpace(
    question="?",
    data="digits",
    search={"lr": log_uniform(1e-4, 1.0), "translation": uniform(0.0, 0.5)},
    fixed={"epochs": 3},
    baselines={"old": {"lr": 0.01, "translation": 0.0}},
)


LOST = 4  # the trial of which no state was kept


class Bridge:
    """A searcher with its study and files, driven as Ray would; a second one goes on."""

    def __init__(self, path, space=SPACE, *, seed=0, limit=10**9, too_slow=lambda cost, config: "",
                 sampler="tpe", objectives=("val_accuracy",), again=False, left_out=(),
                 parallel=False):  # fmt: skip
        self.folder = StudyFolder(path / "s") if again else create_study(path, None, "s")
        self.folder.repair()
        self.objectives = Objectives(objectives)
        self.study = open_optuna_study(self.folder, self.objectives)
        settle(self.study)
        self.ledger = Ledger(self.folder, space, images=100)
        self.ledger.restore(self.study.get_trials(), self.folder.read_epochs())
        enqueue_known_points(self.study, space, left_out)
        order = [t.trial for t in ranked(self.ledger.trials.values()) if t.trial != LOST]
        enqueue_cut_off(self.study, order)
        self.ledger.continues = {
            t.number: t.user_attrs["continues"]
            for t in self.study.trials
            if "continues" in t.user_attrs
        }
        self.endings = Endings()
        self.searcher = OptunaSearcher(
            self.study, space, self.ledger, self.objectives, seed=seed,
            sampler=lambda trial, hidden: make_sampler(
                sampler, seed=seed, trial=trial, parallel=parallel, hidden=hidden
            ),
            measure=lambda values: cost_of(space, values, classes=10, side=8),
            too_slow=too_slow,
            finished=lambda: self.ledger.trained >= limit,
            endings=self.endings,
        )  # fmt: skip

    def begin(self, trial_id="t"):
        config = self.searcher.suggest(trial_id)
        self.number = config["trial"]
        self.baseline = self.ledger.trials[self.number].baseline
        return config

    def epoch(self, number, accuracy):
        self.searcher.record("t", EpochRecord(self.number, number, 0.1, 0.2, accuracy, 0.1, 1.0))

    def end(self, error=False, broke=4, **result):
        self.endings.broke[self.number] = broke * error
        self.searcher.on_trial_complete("t", result, error)
        return self.study.trials[self.number]


@pytest.fixture
def bridge(tmp_path):
    return Bridge(tmp_path)


def test_a_trial_that_begins_just_after_another_ended_is_written_with_its_epoch(bridge):
    bridge.ledger._quiet_until = 0.0
    bridge.begin()
    bridge.ledger._quiet_until = math.inf  # as after a slow writing
    bridge.begin()
    written = [each.trial for each in bridge.folder.read_trials()]
    bridge.ledger._quiet_until = 0.0
    bridge.epoch(1, 0.5)
    assert written == [0]
    assert [each.trial for each in bridge.folder.read_trials()] == [0, 1]


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
    bridge.endings.reasons[bridge.number] = "because"
    told = bridge.end(full_length=False)
    assert told.state == TrialState.PRUNED
    assert told.intermediate_values == {1: 0.5, 2: 0.6}
    record = bridge.ledger.trials[bridge.number]
    assert (record.state, record.reason) == ("stopped", "because")


def test_a_lost_process_is_a_failure(bridge):
    bridge.begin()
    bridge.epoch(1, 0.5)
    assert bridge.end(error=True).state == TrialState.FAIL
    assert bridge.ledger.trials[bridge.number].reason == "the trial's process was lost 4 times"
    bridge.begin()


def test_what_a_configuration_raises_is_told_so_that_tpe_learns_from_it(bridge):
    bridge.begin()
    bridge.endings.reasons[bridge.number] = "RuntimeError: out of memory"
    told = bridge.end(error=True)
    assert (told.state, told.constraints) == (TrialState.PRUNED, {"broke": 1.0})
    record = bridge.ledger.trials[bridge.number]
    assert record.state == "failed"
    assert record.reason == "it broke 4 times, at last with RuntimeError: out of memory"
    bridge.begin()
    bridge.endings.reasons[bridge.number] = NO_MEMORY  # which another trial may have taken
    assert bridge.end(error=True).state == TrialState.FAIL
    assert bridge.ledger.trials[bridge.number].reason.endswith("its machine short of memory")
    bridge.begin()
    told = bridge.end(failed="out of memory")
    assert (told.state, told.constraints) == (TrialState.PRUNED, {"broke": 1.0})
    assert bridge.ledger.trials[bridge.number].reason == "out of memory"


def test_a_trial_that_ray_gives_up_too_early_is_handed_out_again(bridge):
    first = bridge.begin()
    bridge.epoch(1, 0.5)
    assert bridge.end(error=True, broke=2).state == TrialState.RUNNING
    assert bridge.begin("again") == first
    bridge.searcher.on_trial_complete("again", {"full_length": True})
    assert bridge.study.trials[first["trial"]].state == TrialState.COMPLETE


def test_after_the_last_proposal_a_lost_trial_is_handed_out_again(tmp_path):
    bridge = Bridge(tmp_path, limit=1)
    number = bridge.begin()["trial"]
    assert bridge.searcher.suggest("u") is None, "Ray asks again"
    assert bridge.end(error=True, broke=1).state == TrialState.RUNNING
    assert bridge.begin()["trial"] == number
    bridge.epoch(1, 0.9)
    bridge.end(full_length=True)
    assert bridge.searcher.suggest("u") == Searcher.FINISHED


def test_a_sampler_sees_a_trial_that_another_went_on_with_once(bridge):
    def seen(number, unseen):
        hidden.append(unseen)
        return make(number, unseen)

    hidden, make, bridge.searcher.sampler = [], bridge.searcher.sampler, seen
    bridge.ledger.trials |= {5: TrialRecord(5, epochs=2), 6: TrialRecord(6)}
    bridge.ledger.continues = {8: 5, 9: 6}
    bridge.begin()
    for epochs in (1, 2):
        bridge.ledger.trials[8] = TrialRecord(8, epochs=epochs)
        bridge.begin()
    assert hidden == [set(), set(), {5}]


def test_a_divergence_violates_a_constraint_and_tells_no_nan(bridge):
    bridge.begin()
    bridge.epoch(1, math.nan)
    told = bridge.end(failed="diverged at epoch 2", diverged=True)
    assert told.state == TrialState.PRUNED
    assert told.constraints == {"diverged": 1.0}
    assert told.intermediate_values == {}
    assert bridge.ledger.trials[bridge.number].state == "failed"


def test_of_several_objectives_what_was_stopped_later_violates_less(tmp_path):
    bridge = Bridge(tmp_path, objectives=("val_accuracy", "parameters"))
    bridge.begin()
    bridge.epoch(1, 0.5)
    bridge.epoch(2, 0.6)
    bridge.endings.reasons[bridge.number] = "because"
    assert bridge.end().constraints == {"stopped": 0.5}


def test_the_best_epoch_of_a_trial_that_fails_is_no_best(bridge):
    bridge.begin()
    bridge.epoch(1, 0.9)
    assert bridge.ledger.best.val_accuracy == 0.9
    bridge.end(failed="diverged at epoch 2", diverged=True)
    assert bridge.ledger.best is None


def test_the_best_trial_of_the_study_ran_its_full_length(bridge):
    for accuracy, full in ((0.7, True), (0.99, False), (0.8, True)):
        bridge.begin()
        bridge.epoch(1, accuracy)
        bridge.end(full_length=full)
    assert bridge.study.best_trial.value == 0.8


def test_baselines_come_first_under_their_name(bridge):
    first = bridge.begin()
    assert (first["trial"], bridge.baseline, first["config"]["lr"]) == (0, "old", 0.01)
    bridge.epoch(1, 0.5)
    bridge.end(full_length=True)
    bridge.begin()
    assert bridge.baseline == ""


def test_what_is_known_to_work_is_marked_and_stays_so_after_a_resume(tmp_path):
    space = replace(SPACE, starts={"mine": {"lr": 0.02, "translation": 0.1}})
    bridge = Bridge(tmp_path, space)
    seen = []
    for _ in range(3):
        seen.append(bridge.begin()["known"])
        bridge.epoch(1, 0.5)
        bridge.end()
    assert seen == [True, True, False]  # a baseline, a start, a proposal
    assert Bridge(tmp_path, space, again=True).ledger.known == {0, 1}


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
    bridge = Bridge(tmp_path, space)
    for _ in range(15):
        assert bridge.begin()["config"]["filters"] == "4"
        bridge.epoch(1, 0.5)
        bridge.end(full_length=True)
    failed = [t for t in bridge.ledger.trials.values() if t.state == "failed"]
    assert {t.config["filters"] for t in failed} == {"4-4-4-4", "256-256"}
    assert {t.config["filters"]: t.reason.split()[-1] for t in failed} == {
        "4-4-4-4": "images.",
        "256-256": "100,000",
    }
    for record in failed:
        assert bridge.study.trials[record.trial].constraints == {"infeasible": 1.0}
    assert bridge.ledger.trained == 15


def test_trials_that_fail_before_their_first_epoch_count(tmp_path):
    bridge = Bridge(tmp_path, limit=3)
    for _ in range(3):
        bridge.begin()
        bridge.end(error=True)
    assert bridge.searcher.suggest("t") == Searcher.FINISHED


def test_a_space_with_nothing_left_ends_the_study(tmp_path, monkeypatch):
    monkeypatch.setattr("hwtune.search.searcher.MAX_REJECTED_IN_A_ROW", 100)
    space = SearchSpace(question="?", data="digits", search={"lr": log_uniform(1e-4, 1.0)})
    bridge = Bridge(tmp_path, space, too_slow=lambda cost, config: "too much")
    assert bridge.searcher.suggest("t") == Searcher.FINISHED
    assert not bridge.ledger.trained
    assert bridge.searcher.barren


def test_many_refused_points_do_not_keep_a_user_waiting(tmp_path):
    space = SearchSpace(question="?", data="digits", search={"lr": log_uniform(1e-4, 1.0)})
    asked = iter(range(4))

    def too_slow(cost, config):
        if next(asked, None) is None:
            os.kill(os.getpid(), signal.SIGTERM)
        return "too much"

    bridge = Bridge(tmp_path, space, too_slow=too_slow)
    with pytest.raises(KeyboardInterrupt), signals_waiting():
        bridge.searcher.suggest("t")
    assert len(bridge.ledger.rejected) == 5
    assert not bridge.searcher.barren


def test_a_pardoned_point_that_trains_is_no_repeat_when_its_refusal_counts_again(tmp_path):
    search = {"lr": choice(0.1), "translation": choice(0.0, 0.5)}
    space = replace(SPACE, search=search, baselines={})
    first = Bridge(tmp_path, space, too_slow=slow_above(0.1))
    run_trials(first, 1)
    assert first.searcher.suggest("t") == Searcher.FINISHED
    longer = Bridge(tmp_path, space, again=True)
    number = longer.begin()["trial"]
    longer.epoch(1, 0.5)  # and its process is killed
    again = Bridge(tmp_path, space, too_slow=slow_above(0.1), again=True)
    assert again.begin()["trial"] == number
    again.epoch(2, 0.6)
    assert again.end(full_length=True).state == TrialState.COMPLETE


def slow_above(limit):
    """Return what refuses a long translation, as if it cost time."""
    return lambda cost, config: "too slow" if config.translation > limit else ""


KNOWN = replace(
    SPACE,
    baselines={name: {"lr": lr, "translation": 0.4} for name, lr in (("old", 0.1), ("one", 0.2))},
    starts={"vgg": {"lr": 0.01, "translation": 0.45}},
)


def test_what_is_known_is_trained_however_slow_it_is(tmp_path):
    bridge = Bridge(tmp_path, KNOWN, too_slow=slow_above(0.3))
    run_trials(bridge, 12)
    known, others = [0.4, 0.4, 0.45], list(bridge.ledger.trials.values())[3:]
    assert [bridge.ledger.trials[n].config["translation"] for n in range(3)] == known
    refused = [t for t in others if t.state == "failed" and t.reason == "too slow"]
    assert refused
    assert len(others) - len(refused) == 9
    for each in others:
        assert (each in refused) == (each.config["translation"] > 0.3)


def test_what_is_refused_is_no_startup_trial(tmp_path):
    """TPE's startup trials are the random sampler's; it never counts what was not trained."""
    drawn = {
        sampler: Bridge(tmp_path / sampler, too_slow=slow_above(0.1), sampler=sampler)
        for sampler in ("tpe", "random")
    }
    tpe, random = (run_trials(each, 12) for each in drawn.values())
    assert drawn["random"].ledger.rejected
    alike = [a == b for a, b in zip(tpe, random, strict=True)]
    assert alike[:10] == [True] * 10
    assert not alike[11]


def test_a_longer_budget_pardons_what_an_older_one_refused(tmp_path):
    space = replace(SPACE, search={"lr": choice(0.1, 0.01), "translation": choice(0.0, 0.5)})
    space = replace(space, baselines={})
    first = Bridge(tmp_path, space, too_slow=slow_above(0.1))
    assert {config["translation"] for _, config in run_trials(first, 2)} == {0.0}
    assert first.searcher.suggest("t") == Searcher.FINISHED
    assert len(first.ledger.rejected) == 2
    same = Bridge(tmp_path, space, too_slow=slow_above(0.1), again=True)
    assert same.searcher.suggest("t") == Searcher.FINISHED
    longer = Bridge(tmp_path, space, again=True)
    assert {config["translation"] for _, config in run_trials(longer, 2)} == {0.5}
    assert longer.searcher.suggest("t") == Searcher.FINISHED
    assert longer.ledger.trained == 4


def test_baselines_left_out_come_with_a_longer_budget(tmp_path):
    first = Bridge(tmp_path, KNOWN, left_out=["one"])
    run_trials(first, 3)
    known = [t.user_attrs.get("baseline") or t.user_attrs.get("start") for t in first.study.trials]
    assert known == ["old", "vgg", None]
    again = Bridge(tmp_path, KNOWN, again=True)
    again.begin()
    assert again.baseline == "one"


def test_known_points_that_the_end_cut_off_are_trained_again_when_there_is_time(tmp_path):
    first = Bridge(tmp_path, KNOWN)
    for _ in range(3):
        first.begin()
        first.epoch(1, 0.5)
        first.end(full_length=first.number == 0)
    again = Bridge(tmp_path, KNOWN, again=True)
    assert known_points(proposed(again.folder)) == {"old": True, "one": False, "vgg": False}
    for trial, baseline in ((3, "one"), (4, "")):
        config = again.begin()
        assert again.study.trials[trial].user_attrs["continues"] == trial - 2
        assert (config["trial"], again.baseline, config["known"]) == (trial, baseline, True)
        again.epoch(1, 0.5)
        again.end(full_length=True)
    assert known_points(proposed(again.folder)) == {"old": True, "one": True, "vgg": True}
    last = Bridge(tmp_path, KNOWN, again=True)
    last.begin()
    assert last.baseline == ""


def test_other_trials_that_the_end_cut_off_are_gone_on_with_where_their_state_was_kept(tmp_path):
    first = Bridge(tmp_path)
    for number in range(5):
        first.begin()
        first.epoch(1, 0.5)
        if number > 1:
            first.endings.cut.add(number)  # 1 was stopped by a rule
        first.end(full_length=number == 0)
    again = Bridge(tmp_path, again=True, too_slow=lambda cost, config: "for the time of now")
    points = [trial.params for trial in again.study.trials]
    for number, before in ((5, 2), (6, 3)):
        assert again.ledger.to_come == [5, 6][number - 5 :]
        config = again.begin()
        trial = again.study.trials[number]
        assert (config["trial"], config["known"], trial.params) == (number, False, points[before])
        assert trial.user_attrs["continues"] == before
        again.epoch(1, 0.5)
        again.end(full_length=True)
    third = Bridge(tmp_path, again=True)
    assert third.begin()["trial"] == 7
    assert third.study.trials[7].params not in points


def test_a_trial_has_the_epochs_of_another_only_with_its_state(tmp_path):
    first = Bridge(tmp_path, KNOWN)
    for _ in range(3):
        first.begin()
        first.epoch(1, 0.5)
        first.end(full_length=False)  # the end cut off every known point
    first.folder.checkpoints.joinpath("1.pt").touch()
    ledger, _ = reopened(first.folder)
    assert ledger.continues == {3: 0, 4: 1, 5: 2}
    assert [ledger.first(number) for number in (2, 3, 4)] == [2, 0, 1]
    assert ledger.handed == {4}
    again = Bridge(tmp_path, KNOWN, again=True)
    again.begin()
    again.epoch(1, 0.7)  # trial 3 is trained anew, and leaves its own state
    again.folder.checkpoints.joinpath("3.pt").touch()
    ledger, _ = reopened(again.folder)
    assert ledger.handed == {4}
    assert ledger.reported(3) == 1


def test_what_was_cut_off_before_it_told_of_anothers_epochs_hands_them_on(tmp_path):
    first = Bridge(tmp_path, KNOWN)
    for _ in range(3):
        first.begin()
        first.epoch(1, 0.5)
        first.end(full_length=False)
    (first.folder.checkpoints / "1.pt").touch()
    reopened(first.folder)
    again = Bridge(tmp_path, KNOWN, again=True)
    for _ in range(3):
        again.begin()
        again.end(full_length=False)  # at once
    for _ in range(2):  # a resume may itself be killed
        ledger, _ = reopened(first.folder)
        assert ledger.continues == {3: 0, 4: 1, 5: 2, 6: 0, 7: 1, 8: 2}
        for number in (6, 7, 8):
            ledger.start(number, {}, baseline="", start=False, cost=Cost(1, 1))
        assert [ledger.reported(number) for number in (6, 7, 8)] == [0, 1, 0]


def test_where_a_trial_trains_beside_gpus_is_known_to_a_resume(tmp_path):
    first = Bridge(tmp_path)
    first.searcher.gpu_slots = 1
    assert [first.begin(name)["gpu"] for name in "abc"] == [True, False, False]
    first.searcher.record("b", EpochRecord(1, 1, 0.1, 0.2, 0.5, 0.1, 1.0))
    again = Bridge(tmp_path, again=True)
    again.searcher.gpu_slots = 2
    assert [again.begin(name)["gpu"] for name in "abc"] == [True, True, False]
    last = Bridge(tmp_path, again=True).ledger
    for ledger in (again.ledger, last):
        assert [[ledger.on_cpu(n, epoch) for epoch in (1, 2)] for n in range(3)] == [
            [False, False], [True, False], [True, True],
        ]  # fmt: skip


def test_a_start_is_recorded_as_it_will_be_read_again(tmp_path):
    """An extension that goes on with it must find the same point."""
    space = SearchSpace(
        question="?", data="digits", search={"rotation": uniform(0.0, 25.0)},
        starts={"turned": {"rotation": 12}},
    )  # fmt: skip
    first = Bridge(tmp_path, space)
    first.begin()
    first.epoch(1, 0.5)
    first.ledger.write(now=True)
    live = first.folder.read_trials()
    again = Bridge(tmp_path, space, again=True)
    assert [t.point for t in again.folder.read_trials()] == [t.point for t in live]
    assert live[0].config == {"rotation": "12.0"}


def reopened(folder):
    """Return what an earlier run recorded, as a new process finds it."""
    study = open_optuna_study(folder, Objectives(("val_accuracy",)))
    return restored(study, KNOWN, folder, (), images=100)[:2]


def test_what_another_machine_trained_counts_by_the_run_that_trained_it(tmp_path):
    def trial(number, *seconds):
        ledger.trials[number] = TrialRecord(number, "", config={"lr": 0.1})
        found = [
            EpochRecord(number, epoch, 0.1, 0.2, 0.1 * epoch, 0.1, each)
            for epoch, each in enumerate(seconds, 1)
        ]
        recorded.extend(found)

    ledger, recorded = Ledger(create_study(tmp_path, None, "s"), SPACE, images=1), []
    ledger.continues, ledger.handed = {1: 0, 2: 1}, {1, 2}
    trial(0, 20.0, 20.0)  # cut off, on slow machines
    trial(1, 20.0, 20.0, 1.0)  # went on with on these, which it reported again; cut off as well
    taken = taken_over(ledger.trials.values(), recorded)
    here = seconds_here(ledger, recorded, taken, [0.05, 0.05])
    assert here == {(0, 1): 1, (0, 2): 1, (1, 1): 1, (1, 2): 1, (1, 3): 1}
    extra = extra_seconds(ledger, recorded, here)
    assert extra == {0: -38, 1: -38, 2: -38}, "the third waits to report all three"
    as_recorded = seconds_here(ledger, recorded, taken, [])
    assert not any(extra_seconds(ledger, recorded, as_recorded).values())
    assert trained_by(ledger, recorded, taken) == [0, 0, 0, 0, 1]


def test_a_copy_whose_journal_is_older_than_a_trial_that_went_on_with_another_is_mended(tmp_path):
    first = Bridge(tmp_path, KNOWN)
    first.begin()
    first.epoch(1, 0.5)
    first.end(full_length=False)
    states = first.folder.checkpoints
    (states / "0.pt").write_text("one epoch")
    _, recorded = reopened(first.folder)
    assert [epoch.trial for epoch in recorded] == [0]
    (again,) = [t.number for t in proposed(first.folder) if "continues" in t.user_attrs]
    assert [path.name for path in states.iterdir()] == [f"{again}.pt"]
    # Now a copy has its first epochs, and a journal of before it began.
    first.folder.append_epoch(EpochRecord(again, 1, 0.1, 0.2, 0.5, 0.1, 1.0))
    (states / f"{again}.pt").write_text("two epochs")
    (states / "0.pt").write_text("one epoch")
    ledger, recorded = reopened(first.folder)
    assert [epoch.trial for epoch in recorded] == [0]
    assert list(ledger.trials) == [0]
    assert (states / f"{again}.pt").read_text() == "two epochs"


def test_a_renamed_folder_goes_on(tmp_path):
    run_trials(Bridge(tmp_path / "old"), 3)
    (tmp_path / "new").mkdir()
    (tmp_path / "old" / "s").rename(tmp_path / "new" / "renamed")
    again = open_optuna_study(
        StudyFolder(tmp_path / "new" / "renamed"), Objectives(("val_accuracy",))
    )
    assert len(again.trials) == 3


def test_a_study_without_its_journal_is_refused_and_left_as_it_is(tmp_path):
    folder = Bridge(tmp_path).folder
    folder.append_epoch(EpochRecord(0, 1, 0.1, 0.2, 0.5, 0.1, 1.0))
    folder.journal.unlink()
    with pytest.raises(StudyError, match="has lost optuna.journal"):
        open_optuna_study(folder, Objectives(("val_accuracy",)))
    assert len(folder.read_epochs()) == 1


def failing_share(path, **ending):
    """Return how often TPE proposes a rate that fails in its last 30 of 60 trials."""
    bridge = Bridge(path, seed=1)
    bridge.searcher.measure = lambda values: Cost(1, 1)
    failing = []
    for _ in range(60):
        lr = bridge.begin()["config"]["lr"]
        failing.append(lr > 0.02)
        if lr > 0.02:
            bridge.end(**ending)
        else:
            bridge.epoch(1, 0.9 - 0.1 * abs(math.log10(lr / 2e-3)))
            bridge.end(full_length=True)
    return sum(failing[30:]) / 30


def test_tpe_learns_from_what_a_configuration_does_and_not_from_lost_processes(tmp_path):
    diverged = failing_share(tmp_path / "diverged", failed="diverged", diverged=True)
    broke = failing_share(tmp_path / "broke", failed="out of memory")
    lost = failing_share(tmp_path / "lost", error=True)
    assert diverged <= 0.2
    assert broke <= 0.2
    assert lost >= 0.5


def quality(config):
    """Return a made-up accuracy that depends on every hyperparameter."""
    return 0.9 - 0.1 * abs(math.log10(config["lr"] / 3e-3)) - abs(config["translation"] - 0.2)


def rounded(accuracy):
    """Return an accuracy with the digits of epochs.csv."""
    return float(f"{accuracy:.6g}")


def run_trials(bridge, count):
    """Train `count` trials, every third stopped, every seventh lost; return the proposals."""
    seen = []
    for index in range(count):
        config = bridge.begin()
        seen.append((config["trial"], config["config"]))
        for epoch in (1, 2, 3)[: 1 if index % 3 == 1 else 3]:
            bridge.epoch(epoch, rounded(quality(config["config"]) * epoch / 3))
        bridge.end(error=index % 7 == 6, full_length=index % 3 != 1)
    return seen


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_proposes_points_and_is_told_the_truth(tmp_path, sampler):
    bridge = Bridge(tmp_path, sampler=sampler)
    for _, config in run_trials(bridge, 16):
        assert 1e-4 <= config["lr"] <= 1
        assert 0 <= config["translation"] <= 0.5
    told = bridge.study.trials
    assert [t.state for t in told].count(TrialState.FAIL) == 2
    assert [t.state for t in told].count(TrialState.PRUNED) == 4
    assert bridge.study.best_value == max(
        t.intermediate_values[3] for t in told if t.state == TrialState.COMPLETE
    )


@pytest.mark.parametrize("sampler", sorted(set(SAMPLERS) - {"random"}))
def test_every_model_proposes_after_the_startup_trials(tmp_path, monkeypatch, sampler):
    def proposed(startup):
        monkeypatch.setattr("hwtune.search.samplers.STARTUP_TRIALS", startup)
        return run_trials(Bridge(tmp_path / str(startup), sampler=sampler), 16)

    modelled, drawn = proposed(4), proposed(1000)
    assert modelled[:4] == drawn[:4]
    assert [number for number, _ in modelled] == [number for number, _ in drawn]
    assert all(modelled[index] != drawn[index] for index in range(8, 16))


def test_startup_points_do_not_depend_on_which_trial_is_faster(tmp_path):
    def proposed(path, order):
        bridge = Bridge(path, parallel=True)
        seen = [bridge.begin("a"), bridge.begin("b")]
        for trial_id in order:
            bridge.searcher.record(
                trial_id, EpochRecord(bridge.searcher.asked[trial_id].number, 1, 0, 0, 0.5, 0, 1)
            )
            bridge.searcher.on_trial_complete(trial_id, {"full_length": True})
            seen.append(bridge.begin(trial_id))
        return [each["config"] for each in seen]

    assert proposed(tmp_path / "a", "abababab") == proposed(tmp_path / "b", "bbbbaabb")


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_goes_on_after_a_resume_as_if_nothing_had_happened(
    tmp_path, monkeypatch, sampler
):
    monkeypatch.setattr("hwtune.search.samplers.STARTUP_TRIALS", 4)
    undisturbed = run_trials(Bridge(tmp_path / "a", sampler=sampler, seed=3), 16)
    first = run_trials(Bridge(tmp_path / "b", sampler=sampler, seed=3), 14)
    again = Bridge(tmp_path / "b", sampler=sampler, seed=3, again=True)
    rest = []
    for _ in range(2):  # the 15th trial is complete, the 16th complete
        config = again.begin()
        rest.append((config["trial"], config["config"]))
        for epoch in (1, 2, 3):
            again.epoch(epoch, rounded(quality(config["config"]) * epoch / 3))
        again.end(full_length=True)
    assert first + rest == undisturbed


@pytest.mark.parametrize("sampler", ["tpe", "random", "gp"])
def test_several_objectives_are_told_and_optuna_stores_no_value_on_the_way(tmp_path, sampler):
    bridge = Bridge(tmp_path, sampler=sampler, objectives=("val_accuracy", "parameters"))
    run_trials(bridge, 16)
    told = bridge.study.trials
    assert not any(t.intermediate_values for t in told)
    complete = [t for t in told if t.state == TrialState.COMPLETE]
    assert [t.values[1] for t in complete] == [
        bridge.ledger.trials[t.number].parameters for t in complete
    ]
    stopped = [t for t in told if t.state == TrialState.PRUNED]
    assert all(t.constraints == {"stopped": 1.0} for t in stopped)
    assert bridge.study.best_trials


def test_a_trial_left_running_goes_on_under_its_number(tmp_path):
    first = Bridge(tmp_path)
    run_trials(first, 3)
    cut_off = first.begin()
    first.epoch(1, 0.5)
    again = Bridge(tmp_path, again=True)
    config = again.begin()
    assert config == cut_off
    again.epoch(1, 0.5)  # reported again
    again.epoch(2, 0.6)
    again.epoch(3, 0.7)
    told = again.end(full_length=True)
    assert told.intermediate_values == {1: 0.5, 2: 0.6, 3: 0.7}
    epochs = [(e.trial, e.epoch) for e in again.folder.read_epochs()]
    assert len(epochs) == len(set(epochs))
    assert again.begin()["trial"] == 4
    assert not [t for t in again.study.trials[:4] if t.state == TrialState.RUNNING]


def test_an_epoch_that_optuna_was_not_told_is_told_when_it_comes_again(tmp_path):
    first = Bridge(tmp_path)
    first.begin()
    first.ledger.epoch(EpochRecord(0, 1, 0.1, 0.2, 0.5, 0.1, 1.0))  # killed between the two files
    again = Bridge(tmp_path, again=True)
    again.begin()
    again.epoch(1, 0.5)
    assert again.study.trials[0].intermediate_values == {1: 0.5}
    assert len(again.folder.read_epochs()) == 1


def test_an_end_that_was_decided_and_not_told_is_told(tmp_path, monkeypatch):
    first = Bridge(tmp_path)
    first.begin()
    for epoch in (1, 2, 3):
        first.epoch(epoch, 0.5 + epoch / 10)
    monkeypatch.setattr(first.study, "tell", lambda *args, **options: None)  # killed before it
    first.end(full_length=True)
    again = Bridge(tmp_path, again=True)
    assert again.study.trials[0].state == TrialState.COMPLETE
    assert again.study.best_value == 0.8
    assert again.begin()["trial"] == 1


@pytest.mark.parametrize("written", [0, 1])
def test_a_proposal_cut_off_half_way_is_completed(tmp_path, written):
    space = SearchSpace(question="?", data="digits", search=SPACE.search, fixed={"epochs": 3})
    whole = Bridge(tmp_path / "a", space, sampler="random").begin()
    cut = Bridge(tmp_path / "b", space, sampler="random")
    cut.study.sampler = cut.searcher.sampler(0, ())
    names = list(space.search)[:written]
    cut.study.ask({name: space.search[name] for name in names})
    assert Bridge(tmp_path / "b", space, sampler="random", again=True).begin() == whole


def test_an_enqueued_baseline_cut_off_half_way_keeps_its_values(tmp_path):
    first = Bridge(tmp_path)
    first.study.ask({})
    again = Bridge(tmp_path, again=True)
    assert again.begin()["config"]["lr"] == 0.01
    assert again.baseline == "old"


def test_a_configuration_is_trained_once_and_an_exhausted_space_ends_the_study(tmp_path):
    space = SearchSpace(
        question="?",
        data="digits",
        search={"filters": choice("4", "8", "16"), "lr": choice(0.1, 0.01), "side": integer(7, 8)},
        baselines={"old": {"filters": "8", "lr": 0.1, "side": 8}},
        starts={"same": {"filters": "8", "lr": 0.1, "side": 8}},
    )
    bridge = Bridge(tmp_path, space)
    tried = []
    while (config := bridge.searcher.suggest("t")) != Searcher.FINISHED:
        bridge.number = config["trial"]
        tried.append(
            (config["config"]["filters"], config["config"]["lr"], config["config"]["side"])
        )
        bridge.epoch(1, 0.5)
        bridge.end(full_length=True)
    assert bridge.searcher.exhausted
    assert len(tried) == len(set(tried)) == bridge.ledger.trained == 12
    repeats = [t for t in bridge.study.trials if "same_as" in t.user_attrs]
    assert repeats[0].user_attrs["same_as"] == 0  # the start is the baseline
    assert all(t.state == TrialState.FAIL for t in repeats)
    again = Bridge(tmp_path, space, again=True)
    assert again.searcher.suggest("t") == Searcher.FINISHED


def test_many_starts_of_one_point_draw_nothing_at_random(tmp_path):
    same = {f"start {n}": {"filters": "4", "lr": 0.1} for n in range(MAX_REPEATS_IN_A_ROW + 3)}
    space = SearchSpace(
        question="?", data="digits", search={"filters": choice("4", "8"), "lr": uniform(0.01, 1.0)},
        starts={**same, "last": {"filters": "8", "lr": 0.1}},
    )  # fmt: skip
    bridge = Bridge(tmp_path, space)
    begun = [bridge.begin(name)["config"]["filters"] for name in "ab"]
    assert begun == ["4", "8"]
    assert [t for t in bridge.study.trials if t.state == TrialState.WAITING] == []


def test_a_space_of_few_points_that_cannot_be_listed_ends_the_study_too(tmp_path):
    steps = FloatDistribution(0.0, 0.2, step=0.1)
    bridge = Bridge(
        tmp_path, SearchSpace(question="?", data="digits", search={"translation": steps})
    )
    tried = []
    while (config := bridge.searcher.suggest("t")) != Searcher.FINISHED:
        bridge.number = config["trial"]
        tried.append(config["config"]["translation"])
        bridge.epoch(1, 0.5)
        bridge.end(full_length=True)
    assert sorted(tried) == [0.0, 0.1, 0.2]


def test_a_killed_process_leaves_the_same_leaderboard(tmp_path):
    first = Bridge(tmp_path)
    run_trials(first, 9)
    again = Bridge(tmp_path, again=True)
    assert again.ledger.trials == first.ledger.trials
    assert again.ledger.best == first.ledger.best
    assert again.ledger.rejected == first.ledger.rejected


def test_torn_last_lines_are_cut_off(tmp_path):
    first = Bridge(tmp_path)
    run_trials(first, 3)
    whole = {p: p.read_bytes() for p in (first.folder.journal, first.folder.path / "epochs.csv")}
    for path, content in whole.items():
        path.write_bytes(content + content.splitlines()[-1][:7])
    (first.folder.path / "optuna.journal.lock").touch()  # of a killed process
    again = Bridge(tmp_path, again=True)
    assert again.ledger.trials == first.ledger.trials
    assert (first.folder.path / "epochs.csv").read_bytes() == whole[
        first.folder.path / "epochs.csv"
    ]
    assert again.begin()["trial"] == 3


def test_speed_is_an_objective_a_training_image():
    result = {"val_accuracy": 0.9, "val_loss": 0.3, "seconds": 6.0}
    speed = Objectives(("val_accuracy", "seconds_per_image"))
    assert speed.directions == ["maximize", "minimize"]
    assert speed.values(result, parameters=7, images=3) == [0.9, 2.0]
    assert speed.scores(result, parameters=7, images=3) == [0.9, -2.0]


def test_a_resumed_study_judges_as_if_nothing_had_happened(tmp_path):
    """Also the last epoch of a running trial, which was recorded and not judged any more."""
    judge = Settings().rule(epochs=9)
    first = Bridge(tmp_path)
    for value in (0.5, 0.6, 0.7, 0.8, 0.9):
        number = first.begin()["trial"]
        first.epoch(1, value)
        judge.judge(number, 1, [value])
        first.end(full_length=False)
    running = first.begin()["trial"]
    first.epoch(1, 0.55)
    again = Bridge(tmp_path, again=True)
    rebuilt = Settings().rule(epochs=9)
    decided = rebuild(
        rebuilt, again.ledger, again.folder.read_epochs(), lambda _, epoch: [epoch["val_accuracy"]]
    )
    assert decided == {(running, 1): judge.judge(running, 1, [0.55])}
    assert "rank 5" in decided[running, 1]
    assert rebuilt.judge(99, 1, [0.52]) == judge.judge(99, 1, [0.52])


def test_a_resumed_study_knows_the_states_of_trials_that_ended(tmp_path):
    first = Bridge(tmp_path)
    run_trials(first, 3)
    store = StateStore(str(first.folder.checkpoints))
    for number in range(3):
        store.save(number, bytes(100))
    again = Bridge(tmp_path, again=True)
    retained(again.folder, again.study, again.ledger, limit=150).trim([])
    best = max(again.ledger.trials.values(), key=lambda trial: trial.val_accuracy)
    assert [path.stem for path in again.folder.checkpoints.glob("*.pt")] == [str(best.trial)]


def test_the_same_seed_proposes_the_same(tmp_path):
    def proposals(path, seed=3):
        bridge = Bridge(path, seed=seed)
        seen = []
        for _ in range(20):
            config = bridge.begin()
            seen.append(config["config"])
            bridge.epoch(1, config["config"]["translation"])
            bridge.end(full_length=True)
        return seen

    first = proposals(tmp_path / "a")
    assert first == proposals(tmp_path / "b")
    assert first != proposals(tmp_path / "c", seed=4)


def test_what_a_journal_says_is_read_again_after_many_lines(tmp_path):
    bridge = Bridge(tmp_path)
    run_trials(bridge, 12)
    again = Bridge(tmp_path, again=True)
    assert [t.params for t in again.study.trials] == [t.params for t in bridge.study.trials]
    backend = bridge.study._storage._backend
    assert next(iter(backend._log_number_offset)) == 0
    assert len(backend._log_number_offset) < 10
    assert len(list(backend.read_logs(0))) == len(bridge.folder.journal.read_text().splitlines())
    own = [t.distributions for t in bridge.study.get_trials(deepcopy=False)]
    assert len(own) == 12
    assert all(each[name] is SPACE.search[name] for each in own for name in each)
