import time

import pytest

from hwtune.errors import HwtuneFailure
from hwtune.pipeline import session
from hwtune.pipeline.session import Command, close_last_run, recorded, report, reported
from hwtune.records import EpochRecord
from hwtune.space import load_space
from hwtune.study_folder import create_study


@pytest.mark.parametrize(
    ("error", "status"),
    [(None, "complete"), (KeyboardInterrupt, "interrupted"), (ZeroDivisionError, "failed")],
)
def test_study_json_says_how_it_ended(tmp_path, console, error, status):
    folder = create_study(tmp_path, None, "s")
    earlier = {"command": "hwtune search", "started": "2026-01-01T00:00:00Z", "seconds": 5.0}
    seen = []

    def block():
        about = {"format": 1, "runs": [{**earlier, "status": "killed"}]}
        command = Command(text="hwtune resume s", began=time.monotonic(), console=console)
        with recorded(folder, about, command=command):
            seen.append(folder.read_study()["status"])
            if error:
                raise error

    if error:
        with pytest.raises(error):
            block()
    else:
        block()
    assert seen == ["running"]
    assert folder.read_study()["status"] == status
    assert 5 <= folder.read_study()["seconds"] < 6
    assert [run["status"] for run in folder.read_study()["runs"]] == ["killed", status]


def test_a_study_that_broke_at_once_still_has_a_report(tmp_path, console):
    folder = create_study(tmp_path, None, "s")
    folder.write_study(STUDY)
    with pytest.raises(ZeroDivisionError), reported(folder, console):
        raise ZeroDivisionError
    assert "This search is failed" in folder.report.read_text(encoding="utf-8")


def test_who_ends_a_study_does_not_wait_for_a_long_report(tmp_path, console, monkeypatch):
    monkeypatch.setattr(session, "INTERRUPTED_SECONDS", 0.1)
    folder = create_study(tmp_path, None, "s")
    folder.write_study(STUDY)
    with pytest.raises(KeyboardInterrupt), reported(folder, console):
        raise KeyboardInterrupt
    said = " ".join(console.file.getvalue().split())
    assert "The report was not written (it takes longer than 0.1 seconds)" in said
    assert not folder.report.exists()


def test_a_killed_run_lasted_until_its_last_epoch(tmp_path):
    folder = create_study(tmp_path, None, "s")
    folder.append_epoch(EpochRecord(0, 1, 0.1, 0.2, 0.9, 0.1, 1.0))
    started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 100))
    run = {"command": "hwtune search", "started": started, "seconds": None, "status": "running"}
    about = {"runs": [run]}
    close_last_run(folder, about)
    assert about["runs"][0]["seconds"] == pytest.approx(100, abs=3)
    assert about["runs"][0]["status"] == "killed"


STUDY = {
    "format": 1,
    "study": "s",
    "space": load_space("chinese_cnn").to_json(),
    "data": {"name": "d", "sha256": "", "images": 1, "side": 8, "classes": ["a"], "writers": None},
    "split": {"kind": "random", "seed": 0, "counts": {"train": 1, "validation": 1, "test": 1}},
    "versions": {},
    "git_commit": None,
    "hardware": {"processor": "", "cores": 1, "memory_gib": 1.0, "gpus": [], "parallel": 1},
    "command": "",
    "started": "",
    "seconds": None,
    "status": "failed",
}


def test_a_report_that_cannot_be_written_is_said_with_the_way_to_it(tmp_path, monkeypatch):
    folder = create_study(tmp_path, None, "s")
    (folder.path / "study.json").write_text("{", encoding="utf-8")
    # What lies where the command runs is not what its process imports.
    (tmp_path / "json.py").write_text("raise SystemExit('shadowed')", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(HwtuneFailure, match=r"not written \(.*study.json.*hwtune report"):
        report(folder)
