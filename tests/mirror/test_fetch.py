import os
from pathlib import PurePosixPath
from types import SimpleNamespace

import pytest

import hwtune.mirror.fetch
from hwtune.errors import StudyError
from hwtune.mirror.copy import Copy
from hwtune.mirror.fetch import fetch
from hwtune.mirror.places import files_in, open_uri


def test_a_fetched_study_is_mirrored_to_where_it_was_found_and_nowhere_else(
    place, folder, tmp_path
):
    uri, query = place
    folder.write_study({**folder.read_study(), "mirror": "file:///somewhere/else"})
    Copy(folder, uri + query).upload()
    again = fetch(f"{uri}/s/{query}", tmp_path / "there")
    assert again.read_study()["mirror"] == uri + query


def test_a_study_comes_back_into_a_folder_that_is_named_from_another(folder, tmp_path):
    again = fetch(folder.path.as_uri(), folder.path / ".." / ".." / "there")
    assert (tmp_path / "there" / folder.name / "study.json").is_file()
    assert again.read_study() == folder.read_study()


def test_a_copy_is_fetched_in_the_order_that_keeps_it_true(folder, tmp_path, monkeypatch):
    """Its driver may live: what is read later may be newer, as it is where it was sent."""
    Copy(folder, (tmp_path / "shared").as_uri()).upload()
    fetched = []
    own = hwtune.mirror.fetch._fetch_file
    monkeypatch.setattr(
        hwtune.mirror.fetch, "_fetch_file",
        lambda system, entry, copy, inside, noted: (fetched.append(str(inside)),
                                                    own(system, entry, copy, inside, noted)),
    )  # fmt: skip
    fetch((tmp_path / "shared" / "s").as_uri(), tmp_path / "there")
    assert fetched == ["study.json", "space.py", "optuna.journal", "epochs.csv", "checkpoints/0.pt"]


def test_a_copy_keeps_the_times_by_which_a_resume_knows_how_long_a_run_was(folder, tmp_path):
    os.utime(folder.epochs, (1e9, 1e9))
    Copy(folder, (tmp_path / "shared").as_uri()).upload()
    copy = fetch((tmp_path / "shared" / "s").as_uri(), tmp_path / "there")
    assert copy.epochs.stat().st_mtime == 1e9
    os.utime(tmp_path / "shared" / "s" / "epochs.csv", (2e9, 2e9))
    (tmp_path / "shared" / "s" / "mirror.json").unlink()  # which older copies lack
    older = fetch((tmp_path / "shared" / "s").as_uri(), tmp_path / "elsewhere")
    assert older.epochs.stat().st_mtime == 2e9


@pytest.mark.parametrize("name", ["checkpoints/0.pt", "retraining/began.json"])
def test_what_a_living_driver_deletes_meanwhile_is_not_missed(folder, tmp_path, monkeypatch, name):
    (folder.path / name).parent.mkdir(exist_ok=True)
    (folder.path / name).write_text("{}")
    Copy(folder, (tmp_path / "shared").as_uri()).upload()
    found = files_in(*open_uri((tmp_path / "shared" / "s").as_uri()))
    (tmp_path / "shared" / "s" / name).unlink()
    monkeypatch.setattr(
        hwtune.mirror.fetch, "files_in", lambda *_: found
    )  # listed before it was deleted
    again = fetch((tmp_path / "shared" / "s").as_uri(), tmp_path / "there")
    assert again.read_epochs() == folder.read_epochs()
    assert not (again.path / name).exists()


def test_nothing_is_fetched_to_outside_of_the_study(tmp_path):
    entry = SimpleNamespace(path="bucket/s/../x")
    with pytest.raises(StudyError, match="outside of the study"):
        hwtune.mirror.fetch._fetch_file(None, entry, tmp_path / "s", PurePosixPath("../x"), None)
    assert list(tmp_path.iterdir()) == []


def test_fetching_refuses_what_is_there_and_what_is_no_study(folder, tmp_path):
    with pytest.raises(StudyError, match="exists already"):
        fetch(folder.path.as_uri(), tmp_path / "here")
    (tmp_path / "empty").mkdir()
    with pytest.raises(StudyError, match="no study.json"):
        fetch((tmp_path / "empty").as_uri(), tmp_path / "there")
    assert not (tmp_path / "there").exists()
    (tmp_path / "there").write_text("a file")
    with pytest.raises(StudyError, match="there cannot be written .*give another --results"):
        fetch(folder.path.as_uri(), tmp_path / "there")
