import errno
import math
import os
import time
from pathlib import Path

import pytest

from hwtune.errors import HwtuneFailure, StudyError
from hwtune.files import ABANDONED, dump, staging, unwritable, write_atomic
from hwtune.records import EpochRecord
from hwtune.results import create_study


def test_json_holds_null_where_a_number_is_not_finite():
    assert dump({"a": [math.nan, 1.0]}) == '{\n "a": [\n  null,\n  1.0\n ]\n}\n'


def test_a_power_cut_leaves_the_old_or_the_new_content(tmp_path, monkeypatch):
    """The content is on the disk before it has its name, and its name before the next thing."""
    done, path = [], tmp_path / "a.json"
    fsync, replace = os.fsync, Path.replace

    def noted(descriptor):
        done.append("folder" if Path(f"/proc/self/fd/{descriptor}").resolve().is_dir() else "file")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(
        Path, "replace", lambda here, there: (done.append("name"), replace(here, there))
    )
    write_atomic(path, "new")
    assert done == ["file", "name", "folder"]
    assert path.read_text() == "new"


def test_an_epoch_is_on_the_disk_when_it_is_recorded(tmp_path, monkeypatch):
    folder, lengths = create_study(tmp_path, None, "s"), []
    fsync = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda file: (lengths.append(os.fstat(file).st_size), fsync(file))
    )
    folder.append_epoch(EpochRecord(0, 1, 0.1, 0.2, 0.9, 0.1, 1.0))
    assert lengths == [folder.epochs.stat().st_size]


def test_what_a_killed_process_had_staged_goes_a_day_later(tmp_path):
    with staging(tmp_path / "new") as own:
        (own / "a").write_text("whole")
        (own / "a").rename(tmp_path / "new" / "a")
        (own / "b").write_text("left")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a"]
    for name in ("old", "young"):  # as a process that is killed leaves them
        with staging(tmp_path) as left:
            (left / name).mkdir()
            left.rename(tmp_path / name)
        (tmp_path / name).rename(left)
        if name == "old":
            long_ago = time.time() - ABANDONED - 1
            os.utime(left, (long_ago, long_ago))
    with staging(tmp_path):
        pass
    assert {path.name for path in tmp_path.rglob("*")} >= {"young"}
    assert "old" not in {path.name for path in tmp_path.rglob("*")}


@pytest.mark.parametrize(
    ("number", "kind", "remedy"),
    [(errno.ENOSPC, HwtuneFailure, "free space"), (errno.EACCES, StudyError, "ask its owner")],
)
def test_a_full_disk_is_nobodys_mistake(number, kind, remedy):
    found = unwritable("here", OSError(number, "it cannot"), StudyError, "ask its owner")
    assert (type(found), str(found)) == (kind, f"here cannot be written (it cannot); {remedy}.")
