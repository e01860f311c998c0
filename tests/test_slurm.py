"""`scripts/slurm` on a real Slurm of two hosts."""

import time

import pytest

from hwtune.study_folder import StudyFolder
from tests.slurm import PATIENCE, lacking, slurm

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(bool(lacking()), reason=lacking()),
]


def test_a_search_on_slurm_that_is_cancelled_goes_on_and_loses_nothing(tmp_path):
    study = StudyFolder(tmp_path / "results" / "s")
    where = ("--results", study.path.parent)
    with slurm(tmp_path) as cluster:
        first = cluster.submit(
            "digits_cnn", "--data", "digits", "--trials", 30, "--epochs", 10, "--scheduler", "none",
            "--seeds", 1, "--name", "s", *where,
        )  # fmt: skip
        until = time.monotonic() + PATIENCE
        while not (study.path / "epochs.csv").exists() or len(study.read_epochs()) < 10:
            assert time.monotonic() < until, (tmp_path / f"job-{first}.log").read_text()
            time.sleep(1)
        cluster.ask("scancel", first)
        cluster.wait()
        known = study.read_epochs()
        begun = len(study.read_trials())
        second = cluster.submit("--resume", "s", "--trials", begun, *where)
        cluster.wait()
        log = (tmp_path / f"job-{second}.log").read_text()
        assert cluster.state(second) == "COMPLETED 0:0", log
    assert "trials at once" in log
    assert study.read_study()["status"] == "complete"
    first_run, second_run = (run["status"] for run in study.read_study()["runs"])
    assert first_run in ("killed", "interrupted"), "whether Ray or the driver ended first"
    assert second_run == "complete"
    epochs = study.read_epochs()
    assert set(known) <= set(epochs)
    trials = study.read_trials()
    assert len({(each.trial, each.epoch) for each in epochs}) == len(epochs) == 10 * len(trials)
    assert {trial.state for trial in trials} == {"complete"}
