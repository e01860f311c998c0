import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hwtune.data.splits import SplitSpec
from hwtune.errors import ClusterError
from hwtune.pipeline.command import Command, Place, command_of
from hwtune.pipeline.searching import Search
from hwtune.pipeline.session import (
    Session,
    begun,
    close_last_run,
    new_session,
    recorded,
)
from hwtune.records import EpochRecord
from hwtune.report.report import write_report
from hwtune.results import create_study
from hwtune.search.budget import Budget, Retraining
from hwtune.search.settings import Settings
from hwtune.slots import Slots
from hwtune.space import load_space


def test_a_command_goes_on_where_nobody_reads_what_it_says():
    """As behind `| head`, which leaves after some lines."""
    code = (
        "import sys; from hwtune.pipeline.command import command_of\n"
        "console = command_of('hwtune search').console\n"
        "for _ in range(10_000): console.print('a line that nobody reads')\n"
        "print('whole', file=sys.stderr)"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdout=pipe, stderr=pipe) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b"whole\n"
    assert process.returncode == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_command_goes_on_where_its_words_find_no_room():
    """As in a log on a full disk, or in a terminal that was closed."""
    code = (
        "import sys; from hwtune.pipeline.command import command_of\n"
        "console = command_of('hwtune search').console\n"
        "for _ in range(10_000): console.print('a line that finds no room')\n"
        "print('whole', file=sys.stderr)"
    )
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert (done.returncode, done.stderr) == (0, b"whole\n")


def test_what_a_resume_leaves_open_is_as_before():
    about = {"parallel": 3, "gpus_per_trial": 0.25}
    assert Place().or_as_before(about) == Place(parallel=3, gpu_share=0.25)
    assert Place(parallel=2).or_as_before(about) == Place(parallel=2, gpu_share=0.25)
    assert Place(gpu_share=0.5).or_as_before(about) == Place(parallel=3, gpu_share=0.5)
    assert Place().or_as_before({}) == Place()


@pytest.mark.parametrize(
    ("error", "status"),
    [(None, "complete"), (KeyboardInterrupt, "interrupted"), (ZeroDivisionError, "failed")],
)
def test_study_json_says_how_it_ended(tmp_path, digits, console, error, status):
    folder = create_study(tmp_path, None, "s", about={"format": 1})
    earlier = {"command": "hwtune search", "started": "2026-01-01T00:00:00Z", "seconds": 5.0}
    seen = []

    def block():
        about = {"format": 1, "runs": [{**earlier, "status": "killed"}]}
        command = Command(text="hwtune resume s", began=time.monotonic(), console=console)
        with recorded(Session(folder, about, digits, Place(), command)):
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
    assert folder.read_study()["seconds"] == 5 + folder.read_study()["runs"][-1]["seconds"]
    assert [run["status"] for run in folder.read_study()["runs"]] == ["killed", status]


def test_a_cluster_that_cannot_be_reached_was_no_run(tmp_path, digits, console):
    folder = create_study(tmp_path, None, "s", about={"format": 1, "status": "complete"})
    command = Command(text="hwtune resume s", began=time.monotonic(), console=console)
    about = {"format": 1, "runs": []}
    seen = []

    def block():
        with recorded(Session(folder, about, digits, Place(), command)):
            seen.append(folder.read_study()["status"])
            raise ClusterError("nobody answers")

    with pytest.raises(ClusterError):
        block()
    assert seen == ["running"]
    assert folder.read_study() == {"format": 1, "status": "complete", "study": "s"}


def test_a_killed_run_lasted_until_its_last_epoch(tmp_path):
    folder = create_study(tmp_path, None, "s")
    folder.append_epoch(EpochRecord(0, 1, 0.1, 0.2, 0.9, 0.1, 1.0))
    started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 100))
    run = {"command": "hwtune search", "started": started, "seconds": None, "status": "running"}
    about = {"status": "running", "runs": [run]}
    os.utime(folder.path / "epochs.csv", (before := time.time() - 50, before))
    folder.repair()  # as every command on the study does first, whenever that is
    close_last_run(folder, about)
    assert about["runs"][0]["seconds"] == pytest.approx(50, abs=3)
    assert (about["status"], about["runs"][0]["status"]) == ("interrupted", "killed")


def test_a_study_that_was_cut_off_before_it_began_has_a_report(tmp_path, digits, console):
    folder = new_session(
        tmp_path, None, "s", space=load_space("digits_cnn"), source="digits_cnn", dataset=digits,
        split=SplitSpec(), place=Place(),
        command=Command(text="hwtune search", began=0.0, console=console),
        asked={"budget": Budget(epochs=1).describe(), **Settings().describe()},
    ).folder  # fmt: skip
    write_report(folder)
    assert "commit unknown" in folder.report.read_text(encoding="utf-8")


def test_copying_a_killed_study_does_not_make_its_run_longer(tmp_path):
    folder = create_study(tmp_path, None, "s")
    folder.append_epoch(EpochRecord(0, 1, 0.1, 0.2, 0.9, 0.1, 1.0))  # written now, as in a copy
    stamps = [
        time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - ago)) for ago in (900, 500)
    ]
    (folder.logs / "0.log").write_text("".join(f"{each} epoch\n" for each in stamps))
    (folder.logs / "1.log").write_text("")
    run = {"command": "hwtune search", "started": stamps[0], "seconds": None, "status": "running"}
    about = {"status": "running", "runs": [{**run, "seconds": 7.0}, run]}
    close_last_run(folder, about)
    assert run["seconds"] == pytest.approx(400, abs=2)
    assert about["seconds"] == 7 + run["seconds"]


def test_who_ends_a_study_before_it_began_leaves_none(tmp_path):
    folder = create_study(tmp_path, None, "s", about={"format": 1, "runs": []})
    with pytest.raises(KeyboardInterrupt), begun(folder):
        raise KeyboardInterrupt
    assert not folder.path.exists()
    folder = create_study(tmp_path, None, "s", about={"format": 1, "runs": [{}]})
    with pytest.raises(KeyboardInterrupt), begun(folder):
        raise KeyboardInterrupt
    assert folder.path.exists()


def test_what_goes_on_on_a_cluster_names_its_address():
    assert Place(address="10.0.0.1:6379").options == ["--address 10.0.0.1:6379"]
    assert Place().options == []


def test_a_command_of_a_notebook_keeps_no_key():
    command = command_of("run_study('s', mirror='s3://key:secret@bucket/x')")
    assert command.text == "run_study('s', mirror='s3://bucket/x')"


def test_the_time_of_a_resumed_study_began_with_its_first_run(digits, console):
    search = object.__new__(Search)  # without a cluster, of which the clock knows the slots alone
    runs = [{"seconds": 100.0}, {"seconds": 7.5}, {"seconds": None}]
    search.about = {"runs": runs, "split": {"counts": {"train": 80, "validation": 20}}}
    search.retraining = Retraining()
    command = Command(text="hwtune resume s", began=1000.0, console=console)
    search.session = Session(None, search.about, digits, Place(), command)
    assert search.clock(Slots(2)).started == 1000 - 107.5
