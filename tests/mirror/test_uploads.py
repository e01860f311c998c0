import signal
import time

import pytest
from pyarrow.fs import FileType

from hwtune.errors import HwtuneFailure, OptionError
from hwtune.mirror.copy import Copy
from hwtune.mirror.fetch import fetch
from hwtune.mirror.places import open_uri
from hwtune.mirror.uploads import LAST_TRIES, Uploads
from hwtune.records import EpochRecord
from hwtune.search.attributes import COST
from hwtune.search.journal import proposed
from hwtune.study_folder import StudyFolder
from scripts.bench.faults import PATIENCE, Study
from tests.conftest import assert_refused


def uploads_to(uri, folder, tell=print):
    return Uploads(Copy(folder, uri), tell=tell, again=folder.command("resume"))


def test_a_study_comes_back_from_its_mirror(place, folder, tmp_path):
    uri, query = place
    said = []
    uploads = uploads_to(uri + query, folder, said.append)
    with uploads.running():
        uploads.request()
        folder.append_epoch(EpochRecord(0, 2, 0.1, 0.2, 0.95, 0.1, 1.0))
    again = fetch(f"{uri}/s{query}", tmp_path / "there")
    assert again.read_epochs() == folder.read_epochs()
    assert again.read_study() == folder.read_study()
    assert (again.checkpoints / "0.pt").read_bytes() == b"state"
    assert not said


def test_a_driver_lets_go_of_a_copy_that_goes_on_elsewhere(place, folder, tmp_path):
    """As when it was cut off from the world for a while, and its study taken for lost."""
    uri, query = place
    begun = {"started": "2026-01-01T00:00:00Z", "id": "0000aaaa"}
    about = {**folder.read_study(), "started": begun["started"], "runs": [begun]}
    folder.write_study(about)
    said = []
    here = uploads_to(uri + query, folder, said.append)
    taken = {**about, "runs": [begun, {**begun, "id": "0000bbbb"}]}  # within the same second

    def go_on_elsewhere():
        with here.running():
            here.request()
            while not here.copy.sent.get("study.json"):
                time.sleep(0.01)
            elsewhere = fetch(f"{uri}/s{query}", tmp_path / "there")
            elsewhere.write_study(taken)
            elsewhere.append_epoch(EpochRecord(0, 2, 0.1, 0.2, 0.95, 0.1, 1.0))
            Copy(elsewhere, uri + query).upload()
            folder.append_epoch(EpochRecord(0, 2, 0.1, 0.2, 0.55, 0.1, 1.0))

    with pytest.raises(HwtuneFailure, match="given up"):
        go_on_elsewhere()
    assert said == [each for each in said if "given up" in each and "a later state" in each] != []
    copy = fetch(f"{uri}/s{query}", tmp_path / "again")
    assert copy.read_study()["runs"] == taken["runs"]
    assert [epoch.val_accuracy for epoch in copy.read_epochs()] == [0.9, 0.95]


def test_a_last_upload_is_waited_for_while_files_arrive(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("hwtune.mirror.uploads.SILENT_SECONDS", 3.0)
    uploads = uploads_to((tmp_path / "shared").as_uri(), folder)
    send = uploads.copy._send

    def slow(name, content):
        time.sleep(0.6)
        send(name, content)

    uploads.copy._send = slow
    began = time.monotonic()
    with uploads.running():
        uploads.request()
    assert time.monotonic() - began > 3
    assert uploads.copy.is_whole()


def test_a_store_that_cannot_be_asked_stops_no_study_that_goes_on(folder, monkeypatch, soon):
    class Unreachable:
        @staticmethod
        def from_uri(uri):
            raise OSError("When resolving region for bucket 'b': no connection")

    monkeypatch.setattr("hwtune.mirror.places.FileSystem", Unreachable)
    with pytest.raises(OptionError, match="resolving region"):
        open_uri("s3://b/studies")  # as a user gave it
    said = []
    uploads = uploads_to("s3://b/studies", folder, said.append)
    with pytest.raises(OSError, match="resolving region"):
        uploads.copy.adopt()
    with pytest.raises(HwtuneFailure, match="Once it can be reached"), uploads.running():
        uploads.request()
    assert "cannot be written (When resolving region" in said[0]


def test_a_mirror_is_left_alone_until_something_is_asked(folder, tmp_path):
    with uploads_to((tmp_path / "shared").as_uri(), folder).running():
        pass
    assert not (tmp_path / "shared").exists()


def test_what_fails_at_the_end_is_tried_again(folder, tmp_path, soon):
    said = []
    uploads = uploads_to((tmp_path / "shared").as_uri(), folder, said.append)
    upload, failures = uploads.copy.upload, [OSError("no connection")] * (LAST_TRIES - 1)

    def fails_at_first():
        if failures:
            raise failures.pop()
        upload()

    uploads.copy.upload = fails_at_first
    with uploads.running():
        uploads.request()
        while not uploads.failing:
            time.sleep(0.01)
    assert said[0] == "The mirror cannot be written (no connection); trying again."
    assert said[1:] == ["Its last upload is tried for 0 seconds more."]
    assert Copy(folder, uploads.copy.uri).is_whole()


def test_a_mirror_that_fails_says_so_and_the_study_goes_on(folder, tmp_path, soon):
    (tmp_path / "taken").write_text("a file where a folder should be")
    said = []
    uploads = uploads_to((tmp_path / "taken").as_uri(), folder, said.append)
    with pytest.raises(HwtuneFailure, match="not complete"), uploads.running():
        uploads.request()
    assert "cannot be written" in said[0]
    interrupted = uploads_to((tmp_path / "taken").as_uri(), folder, said.append)

    def interrupt():
        with interrupted.running():
            interrupted.request()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert "not complete" in said[-1]


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
    uploads = uploads_to((tmp_path / "shared").as_uri(), folder, said.append)
    monkeypatch.setattr(uploads, "_end", hangs)
    with pytest.raises(KeyboardInterrupt), uploads.running():
        pass
    assert "not complete" in said[-1]
    assert "hwtune resume" in said[-1]
