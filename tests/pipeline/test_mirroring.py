import shutil

import pytest

from hwtune.errors import HwtuneFailure, MirrorError, OptionError
from hwtune.mirror.fetch import fetch
from hwtune.pipeline.command import Command
from hwtune.pipeline.mirroring import complete_mirror, remirror
from tests.mirror.conftest import small_study


@pytest.fixture
def folder(tmp_path):
    return small_study(tmp_path / "here")


def test_what_a_copy_lacks_is_sent_when_its_study_is_resumed(folder, tmp_path, console):
    uri, command = (tmp_path / "shared").as_uri(), Command(text="", began=0, console=console)
    about = {**folder.read_study(), "status": "complete", "mirror": uri}
    folder.write_study(about)
    taken = tmp_path / "shared"
    taken.write_text("a file where a folder should be")
    with pytest.raises(HwtuneFailure, match="Once it can be reached: .* resume"):
        complete_mirror(folder, about, command)
    taken.unlink()
    assert complete_mirror(folder, about, command)
    assert fetch(f"{uri}/s", tmp_path / "there").read_study()["status"] == "complete"
    assert not complete_mirror(folder, about, command), "it is whole"
    opening = {"time": "2026-01-01T01:00:00Z", "configuration": "a"}
    folder.write_retrain({"configurations": [], "test_openings": [opening]})
    (folder.model / "model.json").parent.mkdir(exist_ok=True)
    (folder.model / "model.json").write_text("{}")
    assert complete_mirror(folder, about, command), "a retrain does not change study.json"
    assert not complete_mirror(folder, about, command)


def test_a_study_that_ended_is_copied_to_another_place_or_to_none(folder, tmp_path, console):
    command = Command(text="", began=0, console=console)
    first, second = ((tmp_path / name).as_uri() for name in ("first", "second"))
    folder.write_study({**folder.read_study(), "status": "complete"})

    def copied(mirror):
        """Return whether there was anything to do."""
        about = folder.read_study()
        remirror(about, mirror)
        return complete_mirror(folder, about, command)

    assert copied(first)
    assert not copied(None), "it is whole"
    left = (tmp_path / "first" / "s" / "study.json").read_bytes()
    (tmp_path / "second" / "s").mkdir(parents=True)
    (tmp_path / "second" / "s" / "mine.txt").touch()
    with pytest.raises(MirrorError, match="of no study"):
        copied(second)
    assert folder.read_study()["mirror"] == first
    with pytest.raises(OptionError, match="not a place to mirror to"):
        copied("nowhere")
    shutil.rmtree(tmp_path / "second")
    assert copied(second)
    assert (tmp_path / "first" / "s" / "study.json").read_bytes() == left
    assert fetch(f"{second}/s", tmp_path / "there").read_study()["mirror"] == second
    assert copied("none")
    assert folder.read_study()["mirror"] is None
    assert not copied("none")
