import logging
import os
import re
import shutil
import signal
import time
from pathlib import PurePosixPath
from types import SimpleNamespace
from urllib.request import urlopen

import pytest
from moto.server import ThreadedMotoServer
from pyarrow.fs import FileSystem, FileType

import hwtune.mirror
from hwtune.addresses import without_secrets
from hwtune.cli.studies import command_line
from hwtune.errors import HwtuneFailure, MirrorError, OptionError, StudyError
from hwtune.mirror import Mirror, fetch, files_in, open_uri
from hwtune.pipeline.command import Command
from hwtune.pipeline.mirroring import complete_mirror, remirror
from hwtune.records import EpochRecord
from hwtune.results import create_study
from hwtune.search.attributes import COST
from hwtune.search.journal import proposed
from hwtune.study_folder import StudyFolder
from scripts.bench.faults import PATIENCE, Study
from tests.conftest import assert_refused


@pytest.fixture(params=["file", "s3"])
def place(request, tmp_path, monkeypatch):
    """Return the URI of a folder on a disk, or in an object store here, with its query."""
    if request.param == "file":
        yield (tmp_path / "shared").as_uri(), ""
        return
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # not a line for each request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    query = f"?scheme=http&endpoint_override=127.0.0.1:{port}&allow_bucket_creation=true"
    system, _ = FileSystem.from_uri(f"s3://bucket/studies{query}")
    system.create_dir("bucket")
    yield "s3://bucket/studies", query
    urlopen(f"http://127.0.0.1:{port}/moto-api/reset", data=b"").close()  # it outlives its server
    server.stop()


@pytest.fixture
def soon(monkeypatch):
    """Let a mirror try again at once."""
    monkeypatch.setattr("hwtune.mirror.RETRY_SECONDS", 0.01)


@pytest.fixture
def folder(tmp_path):
    made = create_study(tmp_path / "here", "s", "s", about={"format": 1}, source="SPACE = 1\n")
    made.append_epoch(EpochRecord(0, 1, 0.1, 0.2, 0.9, 0.1, 1.0))
    (made.checkpoints / "0.pt").write_bytes(b"state")
    made.journal.write_text("{}\n")
    return made


def test_a_study_comes_back_from_its_mirror(place, folder, tmp_path):
    uri, query = place
    said = []
    mirror = Mirror(folder, uri + query, tell=said.append)
    with mirror.running():
        mirror.request()
        folder.append_epoch(EpochRecord(0, 2, 0.1, 0.2, 0.95, 0.1, 1.0))
    again = fetch(f"{uri}/s{query}", tmp_path / "there")
    assert again.read_epochs() == folder.read_epochs()
    assert again.read_study() == folder.read_study()
    assert (again.checkpoints / "0.pt").read_bytes() == b"state"
    assert not said


def test_a_fetched_study_is_mirrored_to_where_it_was_found_and_nowhere_else(
    place, folder, tmp_path
):
    uri, query = place
    folder.write_study({**folder.read_study(), "mirror": "file:///somewhere/else"})
    Mirror(folder, uri + query, tell=print).upload()
    again = fetch(f"{uri}/s/{query}", tmp_path / "there")
    assert again.read_study()["mirror"] == uri + query


def test_keys_in_a_uri_are_told_to_nobody(monkeypatch):
    for given, told in (
        ("s3://key:secret@bucket/a?b=c", "s3://bucket/a?b=c"),
        ("--mirror=s3://key:se/cret@bucket/x", "--mirror=s3://bucket/x"),
        ("s3://bucket/a@b", "s3://bucket/a@b"),
        ("s3://key:it's@bucket/x", "s3://bucket/x"),
        ("abfs://c@host/x?sv=2&sig=a%2Fb&se=3", "abfs://c@host/x?sv=2&sig=&se=3"),
        ("s3://b/x?session_token=abc", "s3://b/x?session_token="),
    ):
        assert without_secrets(given) == told
    monkeypatch.setattr("sys.argv", ["hwtune", "search", "--mirror=s3://key:secret@bucket/x"])
    assert command_line() == "hwtune search --mirror=s3://bucket/x"
    for uri in ("s3x://key:secret@bucket/x", "s3://key:secret@bucket/x"):
        with pytest.raises(OptionError, match="has a key in it; .* in the environment") as refused:
            open_uri(uri)
        assert "secret" not in str(refused.value)
    with pytest.raises(OptionError, match="not a place to mirror to"):
        open_uri("s3://[x")


def test_a_damaged_copy_is_named(folder, tmp_path):
    mirror = Mirror(folder, (tmp_path / "shared").as_uri(), tell=print)
    mirror.upload()
    for damaged in ("", "[]"):
        (tmp_path / "shared" / "s" / "study.json").write_text(damaged)
        with pytest.raises(MirrorError, match="s/study.json cannot be read"):
            mirror.adopt()


def test_a_study_comes_back_into_a_folder_that_is_named_from_another(folder, tmp_path):
    again = fetch(folder.path.as_uri(), folder.path / ".." / ".." / "there")
    assert (tmp_path / "there" / folder.name / "study.json").is_file()
    assert again.read_study() == folder.read_study()


def test_only_what_changed_is_sent_and_what_is_gone_is_deleted(place, folder):
    uri, query = place
    mirror = Mirror(folder, uri + query, tell=print)
    mirror.upload()
    sent = dict(mirror.sent)
    (folder.checkpoints / "0.pt").unlink()
    mirror.sent["gone.txt"] = (1, 1)  # whom somebody else deleted there
    folder.append_epoch(EpochRecord(0, 2, 0.1, 0.2, 0.95, 0.1, 1.0))
    for passing in (folder.checkpoints / ".77-1", folder.path / "optuna.journal.lock"):
        passing.touch()
    mirror.upload()
    assert sent.keys() - mirror.sent.keys() == {"checkpoints/0.pt"}
    assert "gone.txt" not in mirror.sent
    assert [n for n in mirror.sent if mirror.sent[n] != sent.get(n)] == ["epochs.csv"]


def test_another_study_of_the_name_is_not_written_over(place, folder, tmp_path):
    uri, query = place
    folder.write_study({**folder.read_study(), "started": "2026-01-01T00:00:00Z"})
    Mirror(folder, uri + query, tell=print).upload()
    other = create_study(
        tmp_path / "other", "s", "s", about={"format": 1, "started": "2026-01-02T00:00:00Z"}
    )
    with pytest.raises(MirrorError, match="holds another study 's'; give --name"):
        Mirror(other, uri + query, tell=print).adopt()
    again = fetch(f"{uri}/s{query}", tmp_path / "there")
    assert again.read_study()["started"] == "2026-01-01T00:00:00Z"


@pytest.mark.parametrize("what", ["runs", "test_openings"])
def test_a_copy_that_went_on_elsewhere_is_not_written_over(place, folder, tmp_path, what):
    """By what it was made from: neither its runs nor its openings of the test set are lost."""
    uri, query = place
    about = {**folder.read_study(), "started": "2026-01-01T00:00:00Z"}
    folder.write_study({**about, "runs": [{"started": "2026-01-01T00:00:00Z"}]})
    Mirror(folder, uri + query, tell=print).upload()
    elsewhere = fetch(f"{uri}/s{query}", tmp_path / "there")
    later = Mirror(elsewhere, uri + query, tell=print)
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
            getattr(Mirror(folder, uri + query, tell=print), refused)()


def test_a_driver_lets_go_of_a_copy_that_goes_on_elsewhere(place, folder, tmp_path):
    """As when it was cut off from the world for a while, and its study taken for lost."""
    uri, query = place
    begun = {"started": "2026-01-01T00:00:00Z", "id": "0000aaaa"}
    about = {**folder.read_study(), "started": begun["started"], "runs": [begun]}
    folder.write_study(about)
    said = []
    here = Mirror(folder, uri + query, tell=said.append)
    taken = {**about, "runs": [begun, {**begun, "id": "0000bbbb"}]}  # within the same second

    def go_on_elsewhere():
        with here.running():
            here.request()
            while not here.sent.get("study.json"):
                time.sleep(0.01)
            elsewhere = fetch(f"{uri}/s{query}", tmp_path / "there")
            elsewhere.write_study(taken)
            elsewhere.append_epoch(EpochRecord(0, 2, 0.1, 0.2, 0.95, 0.1, 1.0))
            Mirror(elsewhere, uri + query, tell=print).upload()
            folder.append_epoch(EpochRecord(0, 2, 0.1, 0.2, 0.55, 0.1, 1.0))

    with pytest.raises(HwtuneFailure, match="given up"):
        go_on_elsewhere()
    assert said == [each for each in said if "given up" in each and "a later state" in each] != []
    copy = fetch(f"{uri}/s{query}", tmp_path / "again")
    assert copy.read_study()["runs"] == taken["runs"]
    assert [epoch.val_accuracy for epoch in copy.read_epochs()] == [0.9, 0.95]


def test_of_two_new_studies_of_a_name_one_gets_the_place(place, folder, tmp_path):
    uri, query = place
    folder.write_study({**folder.read_study(), "started": "2026-01-01T00:00:00Z"})
    other = create_study(
        tmp_path / "other", "s", "s", about={"format": 1, "started": "2026-01-02T00:00:00Z"}
    )
    mirrors = [Mirror(each, uri + query, tell=print) for each in (folder, other)]
    for mirror in mirrors:
        mirror.adopt()  # nothing lies there yet
    mirrors[0].upload()
    with pytest.raises(MirrorError, match="holds another study"):
        mirrors[1].upload()
    mirrors[0].upload()


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


def test_a_copy_is_fetched_in_the_order_that_keeps_it_true(folder, tmp_path, monkeypatch):
    """Its driver may live: what is read later may be newer, as it is where it was sent."""
    Mirror(folder, (tmp_path / "shared").as_uri(), tell=print).upload()
    fetched = []
    own = hwtune.mirror._fetch_file
    monkeypatch.setattr(
        hwtune.mirror, "_fetch_file",
        lambda system, entry, copy, inside, noted: (fetched.append(str(inside)),
                                                    own(system, entry, copy, inside, noted)),
    )  # fmt: skip
    fetch((tmp_path / "shared" / "s").as_uri(), tmp_path / "there")
    assert fetched == ["study.json", "space.py", "optuna.journal", "epochs.csv", "checkpoints/0.pt"]


def test_a_copy_keeps_the_times_by_which_a_resume_knows_how_long_a_run_was(folder, tmp_path):
    os.utime(folder.epochs, (1e9, 1e9))
    Mirror(folder, (tmp_path / "shared").as_uri(), tell=print).upload()
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
    Mirror(folder, (tmp_path / "shared").as_uri(), tell=print).upload()
    found = files_in(*open_uri((tmp_path / "shared" / "s").as_uri()))
    (tmp_path / "shared" / "s" / name).unlink()
    monkeypatch.setattr(hwtune.mirror, "files_in", lambda *_: found)  # listed before it was deleted
    again = fetch((tmp_path / "shared" / "s").as_uri(), tmp_path / "there")
    assert again.read_epochs() == folder.read_epochs()
    assert not (again.path / name).exists()


def test_nothing_is_fetched_to_outside_of_the_study(tmp_path):
    entry = SimpleNamespace(path="bucket/s/../x")
    with pytest.raises(StudyError, match="outside of the study"):
        hwtune.mirror._fetch_file(None, entry, tmp_path / "s", PurePosixPath("../x"), None)
    assert list(tmp_path.iterdir()) == []


def test_files_of_somebody_else_are_left_alone(place, folder):
    uri, query = place
    system, path = open_uri(uri + query)
    system.create_dir(f"{path}/s/letters", recursive=True)
    with system.open_output_stream(f"{path}/s/letters/a.png") as file:
        file.write(b"mine")
    mirror = Mirror(folder, uri + query, tell=print)
    with pytest.raises(MirrorError, match="of no study .letters/a.png, for one.; give --name"):
        mirror.adopt()
    with pytest.raises(MirrorError):
        mirror.upload()
    assert system.get_file_info(f"{path}/s/letters/a.png").size == 4


def test_a_link_in_a_copy_is_not_followed(folder, tmp_path):
    mirror = Mirror(folder, (tmp_path / "shared").as_uri(), tell=print)
    mirror.upload()
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("mine", encoding="utf-8")
    (tmp_path / "shared" / "s" / "more").symlink_to(mine)
    with pytest.raises(MirrorError, match="more is a link"):
        mirror.upload()
    with pytest.raises(MirrorError, match="more is a link"):
        Mirror(folder, mirror.uri, tell=print).adopt()
    with pytest.raises(MirrorError, match="more is a link"):
        fetch(f"{mirror.uri}/s", tmp_path / "elsewhere")
    assert [each.name for each in mine.iterdir()] == ["thesis.txt"]


def test_a_study_is_not_mirrored_into_itself(folder):
    for inside in (folder.path.parent, folder.path, folder.path / "logs"):
        with pytest.raises(MirrorError, match="mirror elsewhere"):
            Mirror(folder, inside.as_uri(), tell=print).adopt()


def test_what_was_sent_is_not_sent_again_by_the_next_command(place, folder):
    uri, query = place
    Mirror(folder, uri + query, tell=print).upload()
    folder.append_epoch(EpochRecord(0, 2, 0.1, 0.2, 0.95, 0.1, 1.0))
    system, path = open_uri(uri + query)
    with system.open_output_stream(f"{path}/s/space.py") as stream:
        stream.write(b"of somebody else")
    mirror, sent = Mirror(folder, uri + query, tell=print), []
    send = mirror._send
    mirror._send = lambda name, content: (sent.append(name), send(name, content))
    mirror.upload()
    assert sent == ["study.json", "epochs.csv", "space.py", "study.json", "mirror.json"]
    with system.open_input_stream(f"{path}/s/space.py") as stream:
        assert stream.read() == (folder.path / "space.py").read_bytes()


def test_what_was_fetched_is_not_sent_back(place, folder, tmp_path):
    uri, query = place
    Mirror(folder, uri + query, tell=print).upload()
    again = fetch(f"{uri}/s{query}", tmp_path / "there")
    assert not (again.path / "mirror.json").exists()
    mirror, sent = Mirror(again, uri + query, tell=print), []
    send = mirror._send
    mirror._send = lambda name, content: (sent.append(name), send(name, content))
    mirror.upload()
    assert {*sent} <= {"study.json", "mirror.json"}


def test_a_note_of_what_was_sent_that_does_not_read_costs_no_more_than_an_upload(folder, tmp_path):
    uri = (tmp_path / "shared").as_uri()
    Mirror(folder, uri, tell=print).upload()
    for damaged in ("", "[]", '{"epochs.csv": 3}'):
        (tmp_path / "shared" / "s" / "mirror.json").write_text(damaged)
        mirror = Mirror(folder, uri, tell=print)
        mirror.adopt()
        assert {*mirror.sent.values()} == {(-1, -1)}


def test_a_last_upload_is_waited_for_while_files_arrive(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("hwtune.mirror.SILENT_SECONDS", 3.0)
    mirror = Mirror(folder, (tmp_path / "shared").as_uri(), tell=print)
    send = mirror._send

    def slow(name, content):
        time.sleep(0.6)
        send(name, content)

    mirror._send = slow
    began = time.monotonic()
    with mirror.running():
        mirror.request()
    assert time.monotonic() - began > 3
    assert mirror.is_whole()


def test_a_store_that_cannot_be_asked_stops_no_study_that_goes_on(folder, monkeypatch, soon):
    class Unreachable:
        @staticmethod
        def from_uri(uri):
            raise OSError("When resolving region for bucket 'b': no connection")

    monkeypatch.setattr("hwtune.mirror.FileSystem", Unreachable)
    with pytest.raises(OptionError, match="resolving region"):
        open_uri("s3://b/studies")  # as a user gave it
    said = []
    mirror = Mirror(folder, "s3://b/studies", tell=said.append)
    with pytest.raises(OSError, match="resolving region"):
        mirror.adopt()
    with pytest.raises(HwtuneFailure, match="Once it can be reached"), mirror.running():
        mirror.request()
    assert "cannot be written (When resolving region" in said[0]


def test_what_a_lost_driver_left_in_a_mirror_is_deleted_when_it_is_gone_on_with(place, folder):
    uri, query = place
    Mirror(folder, uri + query, tell=print).upload()
    (folder.checkpoints / "0.pt").unlink()
    mirror = Mirror(folder, uri + query, tell=print)
    mirror.upload()
    system, path = open_uri(uri + query)
    assert "checkpoints/0.pt" not in mirror.sent
    assert system.get_file_info(f"{path}/s/checkpoints/0.pt").type == FileType.NotFound
    assert system.get_file_info(f"{path}/s/epochs.csv").type == FileType.File


def test_a_file_on_a_shared_disk_is_never_seen_half_written(folder, tmp_path):
    mirror = Mirror(folder, (tmp_path / "shared").as_uri(), tell=print)
    mirror.upload()
    copy = tmp_path / "shared" / "s"
    before = (copy / "epochs.csv").stat().st_ino
    folder.append_epoch(EpochRecord(0, 2, 0.1, 0.2, 0.95, 0.1, 1.0))
    mirror.upload()
    assert (copy / "epochs.csv").stat().st_ino != before  # replaced, not written over
    assert not list(copy.rglob("*.part"))


def test_the_states_are_sent_first_then_epochs_and_journal_and_what_a_study_says_last(folder):
    """But what begins or goes on says at once whose it is, of which run, and that it runs."""
    about = {**folder.read_study(), "status": "complete", "search_seconds": 9.0}
    folder.write_study(about)
    mirror = Mirror(folder, folder.path.as_uri() + "-copy", tell=print)
    copy = StudyFolder(folder.path.with_name("s-copy") / "s")
    (copy.path / "space.py" / "in the way").mkdir(parents=True)
    with pytest.raises(OSError, match="space.py"):
        mirror.upload()
    assert copy.read_study() == {"format": 1, "status": "running", "study": "s"}
    shutil.rmtree(copy.path / "space.py")
    mirror.upload()
    first, last = ["checkpoints/0.pt", "epochs.csv", "optuna.journal"], ["space.py", "study.json"]
    assert list(mirror.sent) == first + last
    assert copy.read_study() == about


def test_a_copys_journal_is_never_newer_than_its_epochs(folder, tmp_path):
    """Also where it breaks between the two: a trial would be over that lacks its epochs."""
    mirror = Mirror(folder, (tmp_path / "shared").as_uri(), tell=print)
    mirror.upload()
    copy = tmp_path / "shared" / "s"
    folder.append_epoch(EpochRecord(0, 2, 0.1, 0.2, 0.95, 0.1, 1.0))
    folder.journal.write_text("{}\n{}\n")
    (copy / "epochs.csv").unlink()
    (copy / "epochs.csv" / "in the way").mkdir(parents=True)
    with pytest.raises(OSError, match="epochs.csv"):
        mirror.upload()
    assert (copy / "optuna.journal").read_text() == "{}\n"


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
    mirror = Mirror(Training(folder.path), (tmp_path / "shared").as_uri(), tell=print)
    copy = StudyFolder(tmp_path / "shared" / "s")
    for _ in range(2):
        mirror.upload()
        recorded = max(e.epoch for e in copy.read_epochs() if e.trial == 1)
        assert recorded <= int((copy.checkpoints / "1.pt").read_text())


def test_a_mirror_is_left_alone_until_something_is_asked(folder, tmp_path):
    with Mirror(folder, (tmp_path / "shared").as_uri(), tell=print).running():
        pass
    assert not (tmp_path / "shared").exists()


def test_what_fails_at_the_end_is_tried_again(folder, tmp_path, soon):
    said = []
    mirror = Mirror(folder, (tmp_path / "shared").as_uri(), tell=said.append)
    upload, failures = mirror.upload, [OSError("no connection")] * (hwtune.mirror.LAST_TRIES - 1)

    def fails_at_first():
        if failures:
            raise failures.pop()
        upload()

    mirror.upload = fails_at_first
    with mirror.running():
        mirror.request()
        while not mirror.failing:
            time.sleep(0.01)
    assert said[0] == "The mirror cannot be written (no connection); trying again."
    assert said[1:] == ["Its last upload is tried for 0 seconds more."]
    assert Mirror(folder, mirror.uri, tell=print).is_whole()


def test_a_mirror_that_fails_says_so_and_the_study_goes_on(folder, tmp_path, soon):
    (tmp_path / "taken").write_text("a file where a folder should be")
    said = []
    mirror = Mirror(folder, (tmp_path / "taken").as_uri(), tell=said.append)
    with pytest.raises(HwtuneFailure, match="not complete"), mirror.running():
        mirror.request()
    assert "cannot be written" in said[0]
    interrupted = Mirror(folder, (tmp_path / "taken").as_uri(), tell=said.append)

    def interrupt():
        with interrupted.running():
            interrupted.request()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert "not complete" in said[-1]


@pytest.mark.parametrize("uri", ["nowhere://x/y", "relative", "hf://datasets/x", "fsspec+no://x"])
def test_no_place_to_mirror_to_is_a_users_mistake(uri):
    with pytest.raises(OptionError, match=re.escape(uri)):
        open_uri(uri)


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


def over(system, trials):
    """Return whether a mirrored table of trials has one that is over."""
    if system.get_file_info(trials).type == FileType.NotFound:
        return False
    with system.open_input_stream(trials) as file:
        return b",complete," in file.read()


@pytest.mark.cluster
@pytest.mark.parametrize(
    "place", ["s3"], indirect=True
)  # a disk's copy: a large study, interrupted
def test_a_killed_study_goes_on_from_its_mirror_on_another_machine(place, tmp_path, hwtune):
    uri, query = place
    first = Study(
        tmp_path / "a", "--mirror", uri + query, "--epochs", 20, "--scheduler", "none", trials=4
    )
    process = first.start()
    first.wait(process, 20)
    system, path = open_uri(uri + query)
    until = time.monotonic() + PATIENCE
    while not over(system, f"{path}/s/trials.csv"):
        time.sleep(0.05)
        assert process.poll() is None
        assert time.monotonic() < until
    process.kill()
    process.wait()
    there = fetch(f"{uri}/s{query}", tmp_path / "there")
    there.repair()
    begun = {trial.number for trial in proposed(there) if COST in trial.user_attrs}
    mirrored = {(e.trial, e.epoch): e for e in there.read_epochs() if e.trial in begun}
    second = Study(tmp_path / "b", trials=4)
    second.search = [*second.search[:3], "resume", f"{uri}/s{query}"]
    second.search += ["--mirror", (tmp_path / "moved").as_uri()]
    second.finish()
    outcome = second.outcome("", "")
    assert outcome.trials == 4
    assert outcome.repeated == 0
    assert len(second.epochs()) == 80
    now = {(e.trial, e.epoch): e for e in StudyFolder(tmp_path / "b" / "s").read_epochs()}
    assert len(mirrored) >= 20
    assert {key: now[key] for key in mirrored} == mirrored, "seconds included: not trained anew"
    assert over(*open_uri((tmp_path / "moved" / "s" / "trials.csv").as_uri()))
    assert_refused(hwtune("search", "digits_cnn", "--mirror", "nowhere://x"), "nowhere://x")


def test_who_does_not_wait_for_the_last_upload_is_told_how_to_complete_it(
    folder, tmp_path, monkeypatch
):
    def hangs(*_):
        signal.raise_signal(signal.SIGINT)
        time.sleep(1)

    said = []
    mirror = Mirror(folder, (tmp_path / "shared").as_uri(), tell=said.append)
    monkeypatch.setattr(mirror, "_end", hangs)
    with pytest.raises(KeyboardInterrupt), mirror.running():
        pass
    assert "not complete" in said[-1]
    assert "hwtune resume" in said[-1]
