import pytest

from hwtune.data.splits import SplitSpec
from hwtune.errors import HwtuneFailure
from hwtune.pipeline import reporting
from hwtune.pipeline.reporting import report, reported
from hwtune.results import create_study
from hwtune.search.settings import Settings
from hwtune.space import load_space

STUDY = {
    "format": 1,
    "study": "s",
    "space": load_space("chinese_cnn").to_json(),
    "data": {"name": "d", "sha256": "", "images": 1, "side": 8, "classes": ["a"], "writers": None},
    "split": SplitSpec().describe({"train": 1, "validation": 1, "test": 1}),
    "budget": {"trials": 3, "epochs": 1, "seconds": None, "target": None},
    **Settings().describe(),
    "versions": {},
    "git_commit": None,
    "hardware": {"processor": "", "cores": 1, "memory_gib": 1.0, "gpus": [], "parallel": 1},
    "command": "",
    "started": "",
    "seconds": None,
    "status": "failed",
}


def test_a_study_that_broke_at_once_still_has_a_report(tmp_path, console):
    folder = create_study(tmp_path, None, "s")
    folder.write_study(STUDY)
    with pytest.raises(ZeroDivisionError), reported(folder, console):
        raise ZeroDivisionError
    assert "This search failed" in folder.report.read_text(encoding="utf-8")


def test_who_ends_a_study_does_not_wait_for_a_long_report(tmp_path, console, monkeypatch):
    monkeypatch.setattr(reporting, "INTERRUPTED_SECONDS", 0.1)
    folder = create_study(tmp_path, None, "s")
    folder.write_study(STUDY)
    with pytest.raises(KeyboardInterrupt), reported(folder, console):
        raise KeyboardInterrupt
    said = " ".join(console.file.getvalue().split())
    assert "The report was not written (it takes longer than 0.1 seconds)" in said
    assert not folder.report.exists()


def test_a_report_that_cannot_be_written_is_said_with_the_way_to_it(tmp_path, monkeypatch):
    folder = create_study(tmp_path, None, "s")
    (folder.path / "study.json").write_text("{", encoding="utf-8")
    # What lies where the command runs is not what its process imports.
    (tmp_path / "json.py").write_text("raise SystemExit('shadowed')", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(HwtuneFailure, match=r"not written \(.*study.json.*hwtune report"):
        report(folder)
