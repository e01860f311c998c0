import shutil

import pytest
from pyarrow.fs import FileType

from hwtune.errors import MirrorError
from hwtune.mirror.copy import Copy
from hwtune.mirror.fetch import fetch
from hwtune.mirror.places import open_uri
from hwtune.records import EpochRecord
from hwtune.results import create_study
from hwtune.study_folder import StudyFolder


def test_a_damaged_copy_is_named(folder, tmp_path):
    copy = Copy(folder, (tmp_path / "shared").as_uri())
    copy.upload()
    for damaged in ("", "[]"):
        (tmp_path / "shared" / "s" / "study.json").write_text(damaged)
        with pytest.raises(MirrorError, match="s/study.json cannot be read"):
            copy.adopt()


def test_only_what_changed_is_sent_and_what_is_gone_is_deleted(place, folder):
    uri, query = place
    copy = Copy(folder, uri + query)
    copy.upload()
    sent = dict(copy.sent)
    (folder.checkpoints / "0.pt").unlink()
    copy.sent["gone.txt"] = (1, 1)  # whom somebody else deleted there
    folder.append_epoch(EpochRecord(0, 2, 0.1, 0.2, 0.95, 0.1, 1.0))
    for passing in (folder.checkpoints / ".77-1", folder.path / "optuna.journal.lock"):
        passing.touch()
    copy.upload()
    assert sent.keys() - copy.sent.keys() == {"checkpoints/0.pt"}
    assert "gone.txt" not in copy.sent
    assert [n for n in copy.sent if copy.sent[n] != sent.get(n)] == ["epochs.csv"]


def test_another_study_of_the_name_is_not_written_over(place, folder, tmp_path):
    uri, query = place
    folder.write_study({**folder.read_study(), "started": "2026-01-01T00:00:00Z"})
    Copy(folder, uri + query).upload()
    other = create_study(
        tmp_path / "other", "s", "s", about={"format": 1, "started": "2026-01-02T00:00:00Z"}
    )
    with pytest.raises(MirrorError, match="holds another study 's'; give another --mirror"):
        Copy(other, uri + query).adopt()
    again = fetch(f"{uri}/s{query}", tmp_path / "there")
    assert again.read_study()["started"] == "2026-01-01T00:00:00Z"


@pytest.mark.parametrize("what", ["runs", "test_openings"])
def test_a_copy_that_went_on_elsewhere_is_not_written_over(place, folder, tmp_path, what):
    """By what it was made from: neither its runs nor its openings of the test set are lost."""
    uri, query = place
    about = {**folder.read_study(), "started": "2026-01-01T00:00:00Z"}
    folder.write_study({**about, "runs": [{"started": "2026-01-01T00:00:00Z"}]})
    Copy(folder, uri + query).upload()
    elsewhere = fetch(f"{uri}/s{query}", tmp_path / "there")
    later = Copy(elsewhere, uri + query)
    later.adopt()  # which is as new as the copy
    if what == "runs":
        runs = [*elsewhere.read_study()["runs"], {"started": "2026-01-01T02:00:00Z"}]
        elsewhere.write_study({**elsewhere.read_study(), "runs": runs})
    else:
        opening = {"time": "2026-01-01T01:00:00Z", "configuration": "a"}
        elsewhere.write_retrain({"configurations": [], "test_openings": [opening]})
    later.upload()
    for refused in ("adopt", "upload"):
        with pytest.raises(MirrorError, match="holds a later state .* resume the copy by its URI"):
            getattr(Copy(folder, uri + query), refused)()


def test_of_two_new_studies_of_a_name_one_gets_the_place(place, folder, tmp_path):
    uri, query = place
    folder.write_study({**folder.read_study(), "started": "2026-01-01T00:00:00Z"})
    other = create_study(
        tmp_path / "other", "s", "s", about={"format": 1, "started": "2026-01-02T00:00:00Z"}
    )
    copies = [Copy(each, uri + query) for each in (folder, other)]
    for copy in copies:
        copy.adopt()  # nothing lies there yet
    copies[0].upload()
    with pytest.raises(MirrorError, match="holds another study"):
        copies[1].upload()
    copies[0].upload()


def test_files_of_somebody_else_are_left_alone(place, folder):
    uri, query = place
    system, path = open_uri(uri + query)
    system.create_dir(f"{path}/s/letters", recursive=True)
    with system.open_output_stream(f"{path}/s/letters/a.png") as file:
        file.write(b"mine")
    copy = Copy(folder, uri + query)
    with pytest.raises(
        MirrorError, match="of no study .letters/a.png, for one.; give another --mirror"
    ):
        copy.adopt()
    with pytest.raises(MirrorError):
        copy.upload()
    assert system.get_file_info(f"{path}/s/letters/a.png").size == 4


def test_a_link_in_a_copy_is_not_followed(folder, tmp_path):
    copy = Copy(folder, (tmp_path / "shared").as_uri())
    copy.upload()
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("mine", encoding="utf-8")
    (tmp_path / "shared" / "s" / "more").symlink_to(mine)
    with pytest.raises(MirrorError, match="more is a link"):
        copy.upload()
    with pytest.raises(MirrorError, match="more is a link"):
        Copy(folder, copy.uri).adopt()
    with pytest.raises(MirrorError, match="more is a link"):
        fetch(f"{copy.uri}/s", tmp_path / "elsewhere")
    assert [each.name for each in mine.iterdir()] == ["thesis.txt"]


def test_a_study_is_not_mirrored_into_itself(folder):
    for inside in (folder.path.parent, folder.path, folder.path / "logs"):
        with pytest.raises(MirrorError, match="mirror elsewhere"):
            Copy(folder, inside.as_uri()).adopt()


def test_what_was_sent_is_not_sent_again_by_the_next_command(place, folder):
    uri, query = place
    Copy(folder, uri + query).upload()
    folder.append_epoch(EpochRecord(0, 2, 0.1, 0.2, 0.95, 0.1, 1.0))
    system, path = open_uri(uri + query)
    with system.open_output_stream(f"{path}/s/space.py") as stream:
        stream.write(b"of somebody else")
    copy, sent = Copy(folder, uri + query), []
    send = copy._send
    copy._send = lambda name, content: (sent.append(name), send(name, content))
    copy.upload()
    assert sent == ["study.json", "epochs.csv", "space.py", "study.json", "mirror.json"]
    with system.open_input_stream(f"{path}/s/space.py") as stream:
        assert stream.read() == (folder.path / "space.py").read_bytes()


def test_what_was_fetched_is_not_sent_back(place, folder, tmp_path):
    uri, query = place
    Copy(folder, uri + query).upload()
    again = fetch(f"{uri}/s{query}", tmp_path / "there")
    assert not (again.path / "mirror.json").exists()
    copy, sent = Copy(again, uri + query), []
    send = copy._send
    copy._send = lambda name, content: (sent.append(name), send(name, content))
    copy.upload()
    assert {*sent} <= {"study.json", "mirror.json"}


def test_a_note_of_what_was_sent_that_does_not_read_costs_no_more_than_an_upload(folder, tmp_path):
    uri = (tmp_path / "shared").as_uri()
    Copy(folder, uri).upload()
    for damaged in ("", "[]", '{"epochs.csv": 3}'):
        (tmp_path / "shared" / "s" / "mirror.json").write_text(damaged)
        copy = Copy(folder, uri)
        copy.adopt()
        assert {*copy.sent.values()} == {(-1, -1)}


def test_what_a_lost_driver_left_in_a_mirror_is_deleted_when_it_is_gone_on_with(place, folder):
    uri, query = place
    Copy(folder, uri + query).upload()
    (folder.checkpoints / "0.pt").unlink()
    copy = Copy(folder, uri + query)
    copy.upload()
    system, path = open_uri(uri + query)
    assert "checkpoints/0.pt" not in copy.sent
    assert system.get_file_info(f"{path}/s/checkpoints/0.pt").type == FileType.NotFound
    assert system.get_file_info(f"{path}/s/epochs.csv").type == FileType.File


def test_a_file_on_a_shared_disk_is_never_seen_half_written(folder, tmp_path):
    copy = Copy(folder, (tmp_path / "shared").as_uri())
    copy.upload()
    there = tmp_path / "shared" / "s"
    before = (there / "epochs.csv").stat().st_ino
    folder.append_epoch(EpochRecord(0, 2, 0.1, 0.2, 0.95, 0.1, 1.0))
    copy.upload()
    assert (there / "epochs.csv").stat().st_ino != before  # replaced, not written over
    assert not list(there.rglob("*.part"))


def test_the_states_are_sent_first_then_epochs_and_journal_and_what_a_study_says_last(folder):
    """But what begins or goes on says at once whose it is, of which run, and that it runs."""
    about = {**folder.read_study(), "status": "complete", "search_seconds": 9.0}
    folder.write_study(about)
    copy = Copy(folder, folder.path.as_uri() + "-copy")
    there = StudyFolder(folder.path.with_name("s-copy") / "s")
    (there.path / "space.py" / "in the way").mkdir(parents=True)
    with pytest.raises(OSError, match="space.py"):
        copy.upload()
    assert there.read_study() == {"format": 1, "status": "running", "study": "s"}
    shutil.rmtree(there.path / "space.py")
    copy.upload()
    first, last = ["checkpoints/0.pt", "epochs.csv", "optuna.journal"], ["space.py", "study.json"]
    assert list(copy.sent) == first + last
    assert there.read_study() == about


def test_a_copys_journal_is_never_newer_than_its_epochs(folder, tmp_path):
    """Also where it breaks between the two: a trial would be over that lacks its epochs."""
    copy = Copy(folder, (tmp_path / "shared").as_uri())
    copy.upload()
    there = tmp_path / "shared" / "s"
    folder.append_epoch(EpochRecord(0, 2, 0.1, 0.2, 0.95, 0.1, 1.0))
    folder.journal.write_text("{}\n{}\n")
    (there / "epochs.csv").unlink()
    (there / "epochs.csv" / "in the way").mkdir(parents=True)
    with pytest.raises(OSError, match="epochs.csv"):
        copy.upload()
    assert (there / "optuna.journal").read_text() == "{}\n"


class Training(StudyFolder):
    """A study whose trial 1 ends an epoch whenever its files are listed."""

    epoch = 0

    def lasting_files(self):
        yield from list(super().lasting_files())
        self.epoch += 1
        (self.checkpoints / "1.pt").write_text(str(self.epoch))
        self.append_epoch(EpochRecord(1, self.epoch, 0.1, 0.2, 0.9, 0.1, 1.0))


def test_a_copys_epochs_are_never_newer_than_its_states(folder, tmp_path):
    """Also of a trial that started while the files were listed: a resume trains none anew."""
    copy = Copy(Training(folder.path), (tmp_path / "shared").as_uri())
    there = StudyFolder(tmp_path / "shared" / "s")
    for _ in range(2):
        copy.upload()
        recorded = max(e.epoch for e in there.read_epochs() if e.trial == 1)
        assert recorded <= int((there.checkpoints / "1.pt").read_text())
