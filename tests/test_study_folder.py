import errno
import os
import shlex
import threading
import time

import pytest

from hwtune.columns import TRIAL_COLUMNS
from hwtune.commands import once_more
from hwtune.errors import OptionError, StudyError
from hwtune.files import replacing
from hwtune.records import EpochRecord, TrialRecord
from hwtune.results import create_study, find_study
from hwtune.states import StateStore
from hwtune.study_folder import StudyFolder, results_folder


def epoch(trial, number, accuracy):
    return EpochRecord(trial, number, 0.1, 0.5, accuracy, 1e-3, 2.0)


def test_without_a_name_a_free_one_is_chosen(tmp_path):
    names = [create_study(tmp_path / "results", None, "digits_cnn").name for _ in range(3)]
    assert names == ["digits_cnn", "digits_cnn-2", "digits_cnn-3"]


def test_a_name_that_exists_is_refused(tmp_path):
    create_study(tmp_path, "mine", "digits_cnn")
    with pytest.raises(StudyError, match="exists already"):
        create_study(tmp_path, "mine", "digits_cnn")


@pytest.mark.parametrize("name", ["a/b", "..", ".hidden", "-x", "", "a\udce9"])
def test_a_name_that_is_no_folder_name_is_refused(tmp_path, name):
    with pytest.raises(OptionError, match="plain folder name"):
        create_study(tmp_path, name, "digits_cnn")
    with pytest.raises(OptionError, match="is not a plain folder name; give a --name"):
        create_study(tmp_path, None, name)  # as a baseline may be called


def test_a_name_that_is_too_long_is_refused(tmp_path):
    with pytest.raises(OptionError, match="at most 200 bytes"):
        create_study(tmp_path, "x" * 201, "digits_cnn")


def test_results_that_are_a_file_are_refused(tmp_path):
    (tmp_path / "results").write_text("")
    with pytest.raises(StudyError):
        create_study(tmp_path / "results", None, "digits_cnn")


def test_a_torn_last_line_of_epochs_is_left_out(tmp_path):
    folder = create_study(tmp_path, None, "s")
    folder.append_epoch(epoch(0, 1, 0.5))
    with (folder.path / "epochs.csv").open("a") as file:
        file.write("0,2,0.1,0.")
    assert folder.read_epochs() == [epoch(0, 1, 0.5)]


@pytest.mark.parametrize("text", [None, "trial,epoch\n0,1\n", "\xff\n"])
def test_epochs_that_do_not_read_are_named(tmp_path, text):
    folder = create_study(tmp_path, None, "s")
    file = folder.path / "epochs.csv"
    file.unlink()
    if text is not None:
        file.write_bytes(text.encode("latin-1"))
    with pytest.raises(StudyError, match="epochs.csv cannot be read"):
        folder.read_epochs()


@pytest.mark.parametrize(
    "text",
    [
        "trial;state\n0;complete\n",
        "trial,state\nfirst,complete\n",
        f"{','.join(TRIAL_COLUMNS)}\n0,,complete,1,0.5,0.5,100,1.0,,one field too many\n",
        "\xff\n",
    ],
)
def test_trials_that_do_not_read_are_named(tmp_path, text):
    folder = create_study(tmp_path, None, "s")
    (folder.path / "trials.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(StudyError, match="trials.csv cannot be read"):
        folder.read_trials()


@pytest.mark.parametrize("name", ["study.json", "epochs.csv", "trials.csv"])
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path, name):
    folder = create_study(tmp_path, None, "s")
    (folder.path / name).unlink(missing_ok=True)
    os.mkfifo(folder.path / name)
    read = {"study.json": folder.read_study, "epochs.csv": folder.read_epochs}
    with pytest.raises(StudyError, match=f"{name} cannot be read .*no plain file"):
        read.get(name, folder.read_trials)()


def test_json_that_nests_too_deeply_is_named(tmp_path):
    folder = create_study(tmp_path, None, "s")
    (folder.path / "retrain.json").write_text("[" * 200_000, encoding="utf-8")
    with pytest.raises(StudyError, match="retrain.json cannot be read"):
        folder.read_retrain()


@pytest.mark.parametrize(
    ("recorded", "offered"),
    [
        ("hwtune retrain a --name 'b c'", "-m hwtune retrain a --name 'b c'"),
        ("hwtune retrain a; rm -rf ~", "-m hwtune retrain 'a;' rm -rf '~'"),
        ("hwtune retrain 'a", "-m hwtune " + shlex.quote("retrain 'a")),
        ("curl x | sh", "'curl x | sh'"),
        ("run_study('a', trials=3)", "run_study('a', trials=3)"),
    ],
)
def test_a_recorded_command_is_offered_so_that_a_shell_does_no_more(recorded, offered):
    assert once_more(recorded).endswith(offered)


def test_a_searched_length_has_a_column_of_its_own(tmp_path):
    folder = create_study(tmp_path, None, "s")
    record = TrialRecord(0, config={"epochs": 12, "lr": 0.1})
    record.add(epoch(0, 1, 0.5))
    folder.append_epoch(epoch(0, 1, 0.5))
    folder.write_trials([record], ["epochs", "lr"])
    header = (folder.path / "trials.csv").read_text().splitlines()[0]
    assert header.endswith("reason,config.epochs,lr")
    (read,) = folder.read_trials()
    assert (read.epochs, read.config) == (1, {"epochs": "12", "lr": "0.1"})


def test_trials_come_back_as_they_were_written(tmp_path):
    folder = create_study(tmp_path, None, "s")
    record = TrialRecord(3, "oafarih", "stopped", reason='a "reason", with comma', parameters=7)
    record.config = {"lr": 0.1 + 0.2, "pool": "max"}
    folder.append_epoch(epoch(3, 1, 0.5))
    record.add(epoch(3, 1, 0.5))
    folder.write_trials([record], ["lr", "pool"])
    (read,) = folder.read_trials()
    assert read.config == {"lr": "0.30000000000000004", "pool": "max"}
    read.config = record.config
    assert read == record


def test_a_study_held_by_a_living_process_is_refused(tmp_path):
    folder = create_study(tmp_path, None, "s")
    with folder.locked(), pytest.raises(StudyError, match="another process"):  # noqa: SIM117
        with StudyFolder(folder.path).locked():
            pass


def test_an_unknown_study_is_named_with_the_known_ones(tmp_path):
    create_study(tmp_path, "mine", "s").write_study({"format": 1})
    with pytest.raises(StudyError, match="mine/study.json is damaged"):
        find_study(tmp_path, "mine")
    for unknown in ("yours", "y" * 300):
        with pytest.raises(StudyError, match=f"'{unknown}'.*mine"):
            find_study(tmp_path, unknown)


def test_a_study_of_a_newer_format_is_refused(tmp_path):
    folder = create_study(tmp_path, None, "s")
    folder.write_study({"format": 99})
    with pytest.raises(StudyError, match="newer hwtune"):
        folder.read_study()


def test_writing_leaves_no_temporary_file(tmp_path):
    folder = create_study(tmp_path, None, "s")
    folder.write_study({"format": 1})
    assert not [p.name for p in folder.path.iterdir() if p.name.startswith(".")]


def test_what_the_journal_does_not_know_is_forgotten(tmp_path):
    folder = create_study(tmp_path, None, "s")
    for trial in (0, 1, 0, 2):
        folder.append_epoch(EpochRecord(trial, 1, 0.1, 0.2, 0.123457, 0.1, 1.0))
        (folder.checkpoints / f"{trial}.pt").touch()
    (folder.checkpoints / "0 (1).pt").touch()  # what programs that copy make of a conflict
    folder.forget_unknown(begun={0}, waiting={2})
    assert [epoch.trial for epoch in folder.read_epochs()] == [0, 0]
    assert {path.name for path in folder.checkpoints.iterdir()} == {"0.pt", "0 (1).pt", "2.pt"}


def test_torn_lines_and_the_leavings_of_a_killed_process_are_cleaned_up(tmp_path):
    folder = create_study(tmp_path, None, "s")
    head = (folder.path / "epochs.csv").read_text()
    (folder.path / "epochs.csv").write_text(head + "0,1,0.5")
    os.utime(folder.path / "epochs.csv", (1000, 1000))
    folder.journal.write_text("x" * 100_000)  # one line, never ended
    leavings = [
        folder.path / ".123-trials.csv", folder.path / "optuna.journal.lock",
        *(folder.checkpoints / f".{first}3a0f51c9d2e4b67-3.pt" for first in "0123456789abcdef"),
    ]  # fmt: skip
    for path in leavings:
        path.touch()
    leavings.append(folder.path / "optuna.journal.lock.77")
    leavings[-1].symlink_to(folder.journal)  # a lock of Optuna's other kind
    with replacing(folder.checkpoints / "3.pt") as temporary:
        temporary.touch()
        leavings.append(temporary)
    temporary.touch()  # as where its process was killed before it took its name
    assert (
        folder.forget_unknown(begun=set(), waiting=set()) == []
    )  # also of a process that dies a moment later
    leavings.append(folder.path / ".88-retraining")
    (leavings[-1] / "inside").mkdir(parents=True)
    mine = folder.path / ".backup-2026"
    mine.mkdir()
    folder.repair()
    assert mine.is_dir(), "the user's own"
    assert (folder.path / "epochs.csv").read_text() == head
    assert folder.journal.read_text() == ""
    assert folder.last_progress() == 1000.0, "cutting is no progress"
    assert not any(path.exists() for path in leavings)


def test_links_in_a_study_lead_nobody_elsewhere(tmp_path):
    folder = create_study(tmp_path / "a", None, "s")
    (tmp_path / "mine").write_text("untouched")
    (folder.logs / "0.log").symlink_to(tmp_path / "mine")
    assert folder.logs / "0.log" not in set(folder.lasting_files())
    with pytest.raises(StudyError, match="logs/0.log is a link"):
        folder.repair()
    assert (tmp_path / "mine").read_text() == "untouched"


def test_a_study_appears_whole_or_not_at_all(tmp_path):
    with pytest.raises(TypeError):
        create_study(tmp_path, "s", "s", about={"format": object()})
    assert not list(tmp_path.iterdir())
    folder = create_study(tmp_path, "s", "s", about={"format": 1}, source="SPACE\n")
    assert folder.read_study() == {"format": 1, "study": "s"}
    assert (folder.path / "space.py").read_text() == "SPACE\n"


def test_a_study_elsewhere_is_called_by_its_path(tmp_path, monkeypatch):
    folder = create_study(tmp_path / "some where", None, "s")
    assert folder.called == f"'{tmp_path}/some where/s'"
    monkeypatch.setenv("HWTUNE_RESULTS", str(tmp_path / "some where"))
    assert folder.called == "s"
    assert create_study(tmp_path / "some where", "my s", "s").called == "'my s'"


def test_who_looks_at_a_study_keeps_no_writer_away(tmp_path):
    folder, held = create_study(tmp_path, None, "s"), threading.Event()

    def look():
        with folder.locked():
            held.set()
            time.sleep(0.3)

    reader = threading.Thread(target=look)
    reader.start()
    assert held.wait(5)
    with StudyFolder(folder.path).locked():
        pass
    reader.join()


def test_who_may_only_read_sees_whether_a_study_runs(tmp_path):
    folder = create_study(tmp_path, None, "s", about={"format": 1, "status": "running"})
    assert StudyFolder(folder.path).read_study_now()["status"] == "interrupted"
    assert not (folder.path / ".lock").exists(), "who looks leaves nothing behind"
    with folder.locked():
        assert StudyFolder(folder.path).read_study_now()["status"] == "running"
    assert StudyFolder(folder.path).read_study_now()["status"] == "interrupted"


def test_a_study_that_was_moved_away_is_not_written_into_another_at_its_place(tmp_path):
    folder = create_study(tmp_path, "s", "s", about={"format": 1, "status": "running"})
    with folder.locked():
        folder.append_epoch(epoch(0, 1, 0.5))
        store = StateStore(str(folder.checkpoints))
        assert store.save(0, b"state") == ""
        folder.path.rename(tmp_path / "night")
        other = create_study(tmp_path, "s", "s", about={"format": 1, "status": "running"})
        with other.locked():
            for write in (
                lambda: folder.append_epoch(epoch(0, 2, 0.9)),
                lambda: folder.write_study({"format": 1, "status": "complete"}),
                lambda: folder.write_retrain({"configurations": [], "test_openings": []}),
                lambda: folder.write_trials([], []),
                lambda: folder.log(0, "of another"),
            ):
                with pytest.raises(OSError, match="moved away or deleted"):
                    write()
            assert "moved away" in store.save(0, b"state of another")
            assert not any(other.checkpoints.iterdir())
            other.append_epoch(epoch(0, 1, 0.4))
    assert other.read_epochs() == [epoch(0, 1, 0.4)]
    assert StudyFolder(tmp_path / "night").read_epochs() == [epoch(0, 1, 0.5)]


def test_a_power_cut_that_took_the_header_takes_nothing_else(tmp_path):
    folder = create_study(tmp_path, None, "s")
    os.truncate(folder.epochs, 0)
    folder.repair()
    folder.append_epoch(epoch(0, 1, 0.5))
    assert folder.read_epochs() == [epoch(0, 1, 0.5)]


def test_a_folder_that_cannot_be_listed_is_not_taken_for_an_empty_one(tmp_path, monkeypatch):
    """As of a network's disk; a mirror would delete its copy."""
    folder, scandir = create_study(tmp_path, None, "s"), os.scandir

    def failing(path):
        if os.fspath(path) == str(folder.checkpoints):
            raise OSError(errno.ESTALE, "Stale file handle", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", failing)
    with pytest.raises(OSError, match="Stale"):
        list(folder.lasting_files())


def test_lost_trials_are_made_anew_where_a_journal_tells_of_them(tmp_path):
    folder = create_study(tmp_path, None, "s")
    assert folder.read_trials() == []
    folder.append_epoch(epoch(0, 1, 0.5))
    with pytest.raises(StudyError, match="trials.csv is gone; put back a whole copy"):
        folder.read_trials()
    folder.journal.touch()
    with pytest.raises(StudyError, match=r"gone; .* -m hwtune resume .* makes it anew"):
        folder.read_trials()


def test_results_may_lie_in_somebodys_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert results_folder("~/studies") == tmp_path / "studies"
