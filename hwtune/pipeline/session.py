"""One command's work on one study: where it trains, and what is kept true meanwhile."""

from __future__ import annotations

import calendar
import errno
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from hwtune import cluster
from hwtune.cluster import GpuNeed, Slots, gpu_types, plan_slots
from hwtune.data import load_data
from hwtune.data.images import Dataset
from hwtune.data.splits import SplitSpec, split_indices
from hwtune.errors import ClusterError, DataError, HwtuneFailure, MirrorError
from hwtune.files import now
from hwtune.hardware import git_commit, hardware, versions
from hwtune.mirror import Mirror
from hwtune.pipeline.reporting import reported
from hwtune.results import create_study
from hwtune.search.interrupts import Halt
from hwtune.signals import catch_sigterm
from hwtune.space import SearchSpace
from hwtune.study_folder import FORMAT, StudyFolder
from hwtune.values import positive, share_of, wished

# That a file cannot be written; other errors of the system, of the network above all, are no such.
NOT_WRITTEN = (
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM, errno.EFBIG,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a command trains.

    Attributes:
        parallel: trainings at once, None for as many as fit.
        address: of a running Ray cluster, or None for this machine.
        gpu_share: the part of a GPU a training asks for, None by memory.
    """

    parallel: int | None = None
    address: str | None = None
    gpu_share: float | None = None

    def or_as_before(self, about: dict[str, Any]) -> Place:
        """Return the place, where it leaves something open as `study.json` says."""
        return replace(
            self,
            parallel=self.parallel or about.get("parallel"),
            gpu_share=self.gpu_share or about.get("gpus_per_trial"),
        )


@dataclass(frozen=True, kw_only=True)
class Command:
    """What the user gave, when it began by `time.monotonic`, and where its words go."""

    text: str
    began: float
    console: Console


def planned_slots(place: Place, about: dict[str, Any]) -> Slots:
    """Return where trainings of a study run, by what its probe saw one take of the same GPUs."""
    seen = about.get("gpu_need", {})
    same = seen.get("gpus") == gpu_types()
    need = GpuNeed(bytes=seen["bytes"], memory=seen["memory"]) if same else None
    return plan_slots(place.parallel, gpu_share=place.gpu_share, need=need)


def place_of(parallel: int | None, address: str | None, gpus_per_trial: float | None) -> Place:
    """Return where to train, from what the user gave."""
    return Place(
        parallel=wished("parallel", positive, parallel),
        address=address,
        gpu_share=wished("gpus_per_trial", share_of, gpus_per_trial),
    )


def command_of(text: str) -> Command:
    """Return a command that begins now; a notebook gets plain lines."""
    plain = False if Console().is_jupyter else None  # None: rich finds out
    console = Console(
        soft_wrap=True, highlight=False, markup=False, emoji=False,  # names are no mark-up
        force_jupyter=plain, force_terminal=plain,
    )  # fmt: skip
    return Command(text=text, began=time.monotonic(), console=console)


def new_study(
    results: Path,
    name: str | None,
    default: str,
    *,
    space: SearchSpace,
    source: str,
    dataset: Dataset,
    split: SplitSpec,
    command: Command,
    asked: dict[str, Any],
) -> tuple[StudyFolder, dict[str, Any]]:
    """Make the folder of a new study; return it and what its `study.json` says.

    Args:
        default: its name where none is given, with that of other data than the space's own behind
            it; one that is taken gets a number.
        source: of the space, for people.
        asked: what the command asks for beside space, data and split.

    Raises:
        StudyError: when it cannot be made.
    """
    about = {
        "format": FORMAT,
        "space": space.to_json(),
        "data": dataset.describe(),
        "split": {**split.to_dict(), "counts": split_indices(dataset, split).counts()},
        **asked,
        "command": command.text,
        "versions": versions(),
        "hardware": {**hardware(), "parallel": None},
        "git_commit": None,
        "started": now(),
        "seconds": None,
        "status": "running",
        "runs": [],
    }
    usual = default if dataset.name == space.data else f"{default}-{dataset.name}"
    folder = create_study(results, name, usual, about=about, source=source)
    return folder, {**about, "study": folder.name}


@contextmanager
def begun(folder: StudyFolder) -> Iterator[None]:
    """Hold the lock of a new study, which is gone again where its cluster cannot be reached."""
    with folder.locked():
        try:
            yield
        except (ClusterError, MirrorError):
            shutil.rmtree(folder.path)
            raise


@contextmanager
def working(
    folder: StudyFolder, about: dict[str, Any], *, place: Place, command: Command
) -> Iterator[str]:
    """Keep the files of a locked study true while the block trains; yield Ray's dashboard, or "".

    Raises:
        HwtuneFailure: when the files cannot be written any more.
    """
    about |= {"versions": versions(), "git_commit": git_commit()}
    about["hardware"] = {**hardware(), "parallel": place.parallel}
    catch_sigterm()
    with (
        writable(folder, f"python -m hwtune resume {folder.called}"),
        reported(folder, command.console),
        explained(folder, place, command),
        recorded(folder, about, command=command),
        cluster.started(place.address) as dashboard,
    ):
        about["runs"][-1]["dashboard"] = dashboard
        folder.write_study(about)
        yield dashboard


@contextmanager
def writable(folder: StudyFolder, again: str) -> Iterator[None]:
    """Mend the files of a locked study, and say how to go on where they cannot be written any more.

    Args:
        again: the command that goes on.

    Raises:
        HwtuneFailure: when they cannot.
    """
    try:
        folder.repair()
        yield
    except (Halt, OSError) as error:
        if isinstance(error, OSError) and error.errno not in NOT_WRITTEN:
            raise
        raise HwtuneFailure(
            f"{folder.path} cannot be written ({error}); nothing recorded is lost. Free space, or "
            f"make it writable, then: {again}"
        ) from None


@contextmanager
def explained(folder: StudyFolder, place: Place, command: Command) -> Iterator[None]:
    """Say how to go on when the user ends the block, before the report takes its seconds."""
    opened = openings(folder)
    try:
        yield
    except KeyboardInterrupt:
        say = command.console.print
        untouched = "" if openings(folder) > opened else "Nothing was tested. "
        where = f" --address {place.address}" if place.address else ""
        say(f"{untouched}Go on: python -m hwtune resume {folder.called}{where}")
        if any(trial.epochs for trial in folder.read_trials()):
            say(f"Or test the best so far: python -m hwtune retrain {folder.called}{where}")
        raise


def openings(folder: StudyFolder) -> int:
    """Return how often the test set was opened for a study."""
    return len(folder.read_retrain()["test_openings"])


@contextmanager
def recorded(folder: StudyFolder, about: dict[str, Any], *, command: Command) -> Iterator[None]:
    """Keep `study.json` true: a new run inside the block, then how it ended and after how long."""
    run: dict[str, Any] = {
        "command": command.text, "started": now(), "seconds": None, "status": "running",
    }  # fmt: skip
    before = folder.read_study()
    about["runs"].append(run)
    about |= {"status": "running"}
    folder.write_study(about)

    def end(status: str) -> None:
        run.update(status=status, seconds=round(time.monotonic() - command.began, 1))
        seconds = round(sum(each["seconds"] for each in about["runs"]), 1)
        about.update(status=status, seconds=seconds)
        folder.write_study(about)

    try:
        yield
    except ClusterError:
        folder.write_study(before)  # nothing was begun
        raise
    except BaseException as error:
        with suppress(OSError):  # it still says "running", which a resume mends
            end("interrupted" if isinstance(error, (KeyboardInterrupt, Halt)) else "failed")
        raise
    end("complete")


@contextmanager
def mirrored(
    folder: StudyFolder, uri: str | None, console: Console
) -> Iterator[Callable[[], None]]:
    """Keep a copy of the study at `uri`, if there is one; yields what asks for an upload.

    Nothing is sent before it was asked once, so that a study that never began leaves no copy.
    """
    if uri is None:
        yield lambda: None
        return
    mirror = Mirror(folder, uri, tell=console.print)
    with suppress(OSError):  # the mirror itself says so, and tries again
        mirror.adopt()
    with mirror.running():
        yield mirror.request


def close_last_run(folder: StudyFolder, about: dict[str, Any]) -> None:
    """Give a run that was killed its time until then."""
    for run in about["runs"]:
        if run["seconds"] is None:
            started = calendar.timegm(time.strptime(run["started"], "%Y-%m-%dT%H:%M:%SZ"))
            run["seconds"] = max(0.0, round(folder.last_progress() - started, 1))
            run["status"] = "killed"
            about["status"] = "interrupted"


def same_data(folder: StudyFolder, about: dict[str, Any]) -> Dataset:
    """Return the data set of a study.

    Raises:
        DataError: when the one at hand is another.
    """
    dataset = load_data(about["data"]["name"])
    known = about["data"]
    if (dataset.sha256, list(dataset.classes)) != (known["sha256"], known["classes"]):
        raise DataError(
            f"{dataset.name} is not the data that study {folder.name!r} searched (other images or "
            "classes); put the original into the data folder."
        )
    return dataset


def split_of(about: dict[str, Any]) -> SplitSpec:
    """Return the split that `study.json` holds."""
    return SplitSpec(**{k: v for k, v in about["split"].items() if k != "counts"})
