"""Studies that are broken while they run, by the functions of scripts/bench/faults.py."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import psutil
import pytest
from optuna.trial import TrialState

from hwtune.search.journal import open_optuna_study
from hwtune.search.objectives import Objectives
from hwtune.study_folder import StudyFolder
from scripts.bench import faults
from tests.conftest import assert_refused, whole


@pytest.mark.alone
def test_a_study_that_is_asked_to_end_does_soon_and_goes_on(tmp_path):
    """By SIGTERM; Ctrl-C ends a larger one below."""
    outcome, seconds = faults.interrupted(tmp_path / "results", signal.SIGTERM)
    interrupted_once(tmp_path / "results", outcome, seconds)


@pytest.mark.slow
@pytest.mark.alone
def test_a_study_whose_ray_is_ended_with_it_ends_in_order(tmp_path):
    """As where a terminal closes, or Slurm and systemd end all processes, with SIGKILL soon after.

    Ray would wait for itself for a minute; Slurm's KillWait is half of one.
    """
    outcome, seconds = faults.interrupted(tmp_path / "results", signal.SIGHUP)
    interrupted_once(tmp_path / "results", outcome, seconds, within=30)


@pytest.mark.slow
def test_ray_ends_after_the_records_and_the_words(tmp_path):
    """Where it was ended with the command it takes long for that, or ends the command."""
    study = faults.Study(tmp_path / "results", "--epochs", 20, "--scheduler", "none", trials=2)
    process = study.start()
    study.wait(process, 2)
    (raylet,) = (each for each in faults.family(process.pid) if each.name() == "raylet")
    process.send_signal(signal.SIGTERM)
    until = time.monotonic() + faults.PATIENCE
    while "Nothing was tested. To continue: " not in study.said.read_text():
        assert time.monotonic() < until
        time.sleep(0.01)
    assert raylet.is_running()
    assert raylet.status() != psutil.STATUS_ZOMBIE
    assert StudyFolder(tmp_path / "results" / "s").read_study()["status"] == "interrupted"
    study.ended(process)
    assert process.returncode == 130


def interrupted_once(results, outcome, seconds, *, within=10):
    """Check that a study ended soon, lost nothing and went on."""
    assert whole(outcome), outcome
    assert seconds < within
    about = json.loads((results / "s" / "study.json").read_text())
    assert [run["status"] for run in about["runs"]] == ["interrupted", "complete"]
    assert about["status"] == "complete"


@pytest.mark.slow
def test_who_ends_a_study_before_its_first_epoch_is_told_how_to_go_on(tmp_path):
    """While Ray starts, and, from when the dashboard is there, while the machine is measured."""
    study = faults.Study(tmp_path / "results", "--epochs", 2, trials=2)
    folder = StudyFolder(tmp_path / "results" / "s")

    def runs():
        return folder.read_study()["runs"] if (folder.path / "study.json").exists() else []

    for there, number in (
        ("command", signal.SIGINT), ("command", signal.SIGTERM), ("dashboard", signal.SIGINT),
    ):  # fmt: skip
        before, until = len(runs()), time.monotonic() + faults.PATIENCE
        process = study.start()
        while not any(there in run for run in runs()[before:]):
            assert time.monotonic() < until
            time.sleep(0.02)
        output = study.kill(process, number)
        assert process.returncode == 130, output
        assert re.search("Ending. .*Nothing was tested. To continue: ", output, re.DOTALL)
        assert folder.read_study()["status"] == "interrupted"
    study.finish()
    assert whole(study.outcome("", ""))


def test_a_living_process_keeps_its_study_and_an_ended_one_can_be_extended(tmp_path):
    study = faults.Study(tmp_path, "--epochs", 20, "--scheduler", "none", trials=2)
    process = study.start()
    study.wait(process, 3)
    environment = {**os.environ, "HWTUNE_RESULTS": str(tmp_path)}

    def hwtune(*words):
        command = [sys.executable, "-m", "hwtune", *words]
        return subprocess.run(command, capture_output=True, text=True, env=environment)

    assert_refused(hwtune("resume", "s"), "being written by another process")
    study.ended(process)
    assert process.returncode == 0
    study.look()
    assert_refused(hwtune("resume", "s"), "is complete", "--trials 4")
    study.trials = 4
    study.finish("--trials", 4)
    assert whole(study.outcome("", ""))
    openings = json.loads((tmp_path / "s" / "retrain.json").read_text())["test_openings"]
    assert len(openings) == 2


@pytest.mark.cluster
@pytest.mark.timeout(2000)  # twenty starts, and on a slow machine each takes half a minute
def test_a_driver_killed_at_twenty_random_moments_leaves_an_undisturbed_study(tmp_path):
    outcome = faults.driver_killed(tmp_path / "killed")
    assert whole(outcome), outcome
    calm, killed = faults.Study(tmp_path / "calm"), faults.Study(tmp_path / "killed")
    assert killed.epochs() == calm.epochs()
    kept = [{k: v for k, v in row.items() if k != "seconds"} for row in killed.rows("trials.csv")]
    assert kept == [
        {k: v for k, v in row.items() if k != "seconds"} for row in calm.rows("trials.csv")
    ]
    told = open_optuna_study(StudyFolder(tmp_path / "killed" / "s"), Objectives(("val_accuracy",)))
    assert not [t for t in told.trials if t.state == TrialState.RUNNING]
    assert told.best_value == pytest.approx(
        max(float(r["val_accuracy"]) for r in kept if r["state"] == "complete")
    )


@pytest.mark.cluster
@pytest.mark.alone
def test_a_large_mirrored_study_is_interrupted_and_goes_on(tmp_path):
    outcome, seconds = faults.large_interrupted(tmp_path / "results", trials=150)
    interrupted_once(tmp_path / "results", outcome, seconds)


@pytest.mark.cluster
def test_a_driver_killed_while_it_retrains_goes_on_and_tests_once(tmp_path):
    outcome = faults.retraining_killed(tmp_path / "results")
    assert whole(outcome), outcome
    assert outcome.recorded == 120  # no epoch was searched again
    runs = StudyFolder(tmp_path / "results" / "s").read_study()["runs"]
    assert ["forecast" in run for run in runs] == [True] + [False] * (len(runs) - 1)
    study = StudyFolder(tmp_path / "results" / "s")
    assert [run["status"] for run in study.read_study()["runs"]] == ["killed", "complete"]
    assert len(study.read_retrain()["test_openings"]) == 1


@pytest.mark.cluster
def test_a_study_goes_on_after_everything_was_killed_at_once(tmp_path):
    outcome = faults.all_killed(tmp_path / "results")
    assert whole(outcome), outcome


@pytest.mark.cluster
def test_a_trials_process_is_killed_and_the_study_runs_on(tmp_path):
    outcome = faults.trial_killed(tmp_path / "results")
    assert whole(outcome), outcome


@pytest.mark.cluster
@pytest.mark.alone
def test_ray_ends_a_trials_process_for_want_of_memory_and_the_study_runs_on(tmp_path):
    assert whole(faults.memory_short(tmp_path / "results"))
    said = (tmp_path / "results.said").read_text()
    assert " lost its process (its machine short of memory) and goes on in another after " in said
    assert "Traceback" not in said


@pytest.mark.cluster
def test_a_node_of_three_is_lost_and_the_study_runs_on(tmp_path):
    outcome = faults.node_lost(tmp_path / "results")
    assert whole(outcome), outcome


@pytest.mark.cluster
@pytest.mark.skipif(os.getuid() != 0 or sys.platform != "linux", reason="mounts a file system")
def test_a_full_disk_loses_nothing(tmp_path):
    outcome = faults.disk_full(tmp_path / "results")
    assert whole(outcome), outcome


def test_no_cluster_at_an_address_is_a_users_mistake(tmp_path):
    environment = {**os.environ, "HWTUNE_RESULTS": str(tmp_path)}
    command = [sys.executable, "-m", "hwtune", "search", "digits_cnn", "--address", "127.0.0.1:9"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=200)
    assert_refused(done, "127.0.0.1:9", "ray start --head")
