import io
import time

import pytest
from rich.console import Console

from hwtune.errors import DataError
from hwtune.pipeline import choose_data, close_last_run, extended_budget, recorded, reported
from hwtune.records import EpochRecord, create_study
from hwtune.search.budget import Budget
from hwtune.space import load_space
from tests.data.archives import members, write_zip

CHINESE = load_space("chinese_cnn")[0]


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """Return an empty data folder on a machine whose network leads nowhere."""
    monkeypatch.setenv("HWTUNE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    return tmp_path


def console():
    return Console(file=io.StringIO(), width=100)


def test_auto_takes_the_spaces_own_data_where_they_are(offline):
    (offline / "data").mkdir()
    write_zip(offline / "data" / "chinese-mnist.zip", members())
    assert choose_data("auto", CHINESE, console()).name == "chinese_mnist"


def test_auto_without_network_draws_characters_under_a_banner(offline):
    shown = console()
    assert choose_data("auto", CHINESE, shown).name == "chinese_strokes"
    said = " ".join(shown.file.getvalue().split())
    assert "Kaggle did not send gpreda/chinese-mnist" in said
    assert "NOT REAL HANDWRITING" in said
    assert "hwtune data add chinese_mnist" in said
    assert not list((offline / "data").iterdir())


def test_a_data_set_asked_for_by_name_never_falls_back(offline):
    with pytest.raises(DataError, match="data get chinese_mnist"):
        choose_data("chinese_mnist", CHINESE, console())


@pytest.mark.parametrize(
    ("error", "status"),
    [(None, "complete"), (KeyboardInterrupt, "interrupted"), (ZeroDivisionError, "failed")],
)
def test_study_json_says_how_it_ended(tmp_path, error, status):
    folder = create_study(tmp_path, None, "s")
    earlier = {"command": "hwtune search", "started": "2026-01-01T00:00:00Z", "seconds": 5.0}
    seen = []

    def block():
        about = {"format": 1, "runs": [{**earlier, "status": "killed"}]}
        with recorded(folder, about, command="hwtune resume s", began=time.monotonic()):
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


def test_a_study_that_broke_at_once_still_has_a_report(tmp_path):
    folder = create_study(tmp_path, None, "s")
    folder.write_study(STUDY)
    with pytest.raises(ZeroDivisionError), reported(folder):
        raise ZeroDivisionError
    assert "This search is failed" in folder.report.read_text(encoding="utf-8")


OLD = Budget(trials=None, epochs=9, seconds=900.0, target=0.9)


@pytest.mark.parametrize(
    ("old", "done", "wish", "expected"),
    [
        (OLD, 7, {}, OLD),
        (OLD, 7, {"trials": 400}, Budget(trials=400, epochs=9, target=0.9)),
        (OLD, 7, {"time_budget": 60.0}, Budget(epochs=9, seconds=160.0, target=0.9)),
        (OLD, 50, {"time_budget": 60.0}, Budget(trials=100, epochs=9, seconds=160.0)),
        (Budget(trials=8), 8, {"target": 0.99}, Budget(trials=58, target=0.99)),
        (Budget(trials=8), 3, {"target": 0.99}, Budget(trials=8, target=0.99)),
    ],
)
def test_a_study_is_extended_by_what_is_wished(old, done, wish, expected):
    wishes = {"trials": None, "time_budget": None, "target": None, **wish}
    assert extended_budget(old, **wishes, done=done, spent=100.0) == expected


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
    "space": CHINESE.to_json(),
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
