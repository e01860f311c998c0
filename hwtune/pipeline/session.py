"""One command's work on one study: where it trains, and what is kept true meanwhile."""

from __future__ import annotations

import errno
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import ray

from hwtune import cluster
from hwtune.cluster import gpu_types, machines_alive
from hwtune.contract import About, AboutMore, AboutRun, Status, wrong_in_study
from hwtune.data import load_data
from hwtune.data.images import Dataset
from hwtune.data.splits import SplitSpec, split_indices, split_of
from hwtune.errors import NO_CLUSTER, DataError, HwtuneFailure, MirrorError
from hwtune.evaluation.candidates import Ground
from hwtune.files import FULL_OR_BROKEN, moment, now
from hwtune.hardware import git_commit, hardware, made_by, versions
from hwtune.pipeline.command import Command, Place
from hwtune.pipeline.reporting import reported
from hwtune.results import create_study
from hwtune.search.halt import Halt
from hwtune.signals import told_at_once
from hwtune.slots import GpuNeed, Slots, plan_slots
from hwtune.space import SearchSpace, space_from_json
from hwtune.study_folder import FORMAT, StudyFolder

# That a file cannot be written; other errors of the system, of the network above all, are no such.
NOT_WRITTEN = (*FULL_OR_BROKEN, errno.EACCES, errno.EPERM, errno.ESTALE)


@dataclass(frozen=True)
class Session:
    """One command's work on one study.

    Attributes:
        about: what `study.json` says, as this command changes it.
    """

    folder: StudyFolder
    about: About
    dataset: Dataset
    place: Place
    command: Command

    @property
    def space(self) -> SearchSpace:
        """Return the space of the study."""
        return space_from_json(self.about["space"])

    @property
    def split(self) -> SplitSpec:
        """Return the split of the study."""
        return split_of(self.about["split"])

    def say(self, text: str) -> None:
        """Tell the user."""
        self.command.console.print(text)

    def again(self, name: str, *options: str) -> str:
        """Return the line that gives a command on the study where this one trains."""
        return self.folder.command(name, *options, *self.place.options)

    def write(self) -> None:
        """Write `study.json`."""
        self.folder.write_study(self.about)

    def slots(self) -> Slots:
        """Return where trainings run, by what the study's probe saw one take of the same GPUs."""
        seen = self.about.get("gpu_need", {})
        same = seen.get("gpus") == gpu_types()
        need = GpuNeed(bytes=seen["bytes"], memory=seen["memory"]) if same else None
        return plan_slots(
            machines_alive(),
            self.place.parallel,
            gpu_share=self.place.gpu_share,
            need=need,
            held=self.held_bytes,
        )

    @property
    def held_bytes(self) -> int:
        """Return how many bytes of images a training keeps at most, beside those that all share."""
        space = self.space  # which is made from its record each time
        corners = [space.config(space.corner(largest=end)).side for end in (False, True)]
        sides = getattr(space.search.get("side"), "choices", corners)
        scaled = {int(side) for side in sides} - {0, self.dataset.side}  # the others all share
        counts = self.about["split"]["counts"]
        return max(scaled, default=0) ** 2 * (counts["train"] + counts["validation"])

    def ground(self, data: ray.ObjectRef, slots: Slots) -> Ground:
        """Return where candidates are judged, retrained and tested; `data` lies in Ray's store."""
        return Ground(self.folder, self.dataset, self.split, data, slots, self.command.console)


def new_session(
    results: Path,
    name: str | None,
    default: str,
    *,
    space: SearchSpace,
    source: str,
    dataset: Dataset,
    split: SplitSpec,
    place: Place,
    command: Command,
    asked: AboutMore,
) -> Session:
    """Make the folder of a new study, and return the work on it.

    Args:
        default: its name where none is given, with that of other data than the space's own behind
            it; one that is taken gets a number.
        source: of the space, for people.
        asked: what the command asks for beside all that.

    Raises:
        StudyError: when it cannot be made.
    """
    usual = default if dataset.name == space.data else f"{default}-{dataset.name}"
    about: About = {
        "format": FORMAT,
        "study": name or usual,
        "space": space.to_json(),
        "data": dataset.describe(),
        "split": split.describe(split_indices(dataset, split).counts()),
        **asked,
        "parallel": place.parallel,
        "gpus_per_trial": place.gpu_share,
        "command": command.text,
        "versions": versions(),
        "hardware": {**hardware(), "parallel": None},
        "git_commit": None,
        "started": now(),
        "seconds": None,
        "status": "running",
        "runs": [],
    }
    assert not (found := wrong_in_study(about)), found
    folder = create_study(results, name, usual, about=about, source=source)
    return Session(folder, {**about, "study": folder.name}, dataset, place, command)


def session_again(folder: StudyFolder, about: About, place: Place, command: Command) -> Session:
    """Return the work on a study that goes on where it was before, the last run's end recorded.

    Raises:
        DataError: when its data set is not the one at hand.
    """
    about["study"] = folder.name  # which may have been renamed
    session = Session(folder, about, same_data(folder, about), place.or_as_before(about), command)
    close_last_run(folder, about)
    return session


@contextmanager
def begun(folder: StudyFolder) -> Iterator[None]:
    """Hold the lock of a new study, which is gone again where it ends before anything began."""
    with folder.locked():
        try:
            yield
        except (*NO_CLUSTER, MirrorError, KeyboardInterrupt) as error:
            went_on = isinstance(error, KeyboardInterrupt) and folder.read_study()["runs"]
            if folder.in_place and not went_on:
                shutil.rmtree(folder.path)
            raise


@contextmanager
def working(session: Session) -> Iterator[str]:
    """Keep the files of a locked study true while the block trains; yield Ray's dashboard, or "".

    Raises:
        HwtuneFailure: when the files cannot be written any more.
    """
    folder, about = session.folder, session.about
    about |= {"versions": versions(), "git_commit": git_commit()}
    about["hardware"] = {**hardware(), "parallel": session.place.parallel}
    with (
        writable(folder, session.again("resume")),
        reported(folder, session.command.console),
        ExitStack() as after,
        explained(session),
        recorded(session),
    ):
        # Ray ends after the records and the words: where it was killed with us, that takes it nine
        # seconds, or it kills us.
        dashboard = after.enter_context(cluster.started(session.place.address))
        about["runs"][-1]["dashboard"] = dashboard
        session.write()
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
        where = folder.path
        if not folder.in_place:
            raise HwtuneFailure(
                f"{where} was moved away or deleted, so that nothing more was written; where it "
                "was moved, resume it by its path."
            ) from None
        if isinstance(error, OSError):
            if error.errno not in NOT_WRITTEN:
                raise
            where = error.filename or where  # Ray's, in the temporary folder, perhaps
        raise HwtuneFailure(
            f"{where} cannot be written ({error.args[-1]}); nothing recorded is lost. Free space, "
            f"or make it writable, then: {again}"
        ) from None


@contextmanager
def explained(session: Session) -> Iterator[None]:
    """Say how to go on when the user ends the block: at once, and before the report is written."""
    folder, resume = session.folder, session.again("resume")
    opened = openings(folder)
    try:
        with told_at_once(lambda: session.say(at_once(resume))):
            yield
    except KeyboardInterrupt:
        if not folder.read_study()["runs"]:  # nothing was begun, and the folder will be gone
            raise
        untouched = "" if openings(folder) > opened else "Nothing was tested. "
        session.say(f"{untouched}To continue: {resume}")
        if any(trial.epochs for trial in folder.read_trials()):
            session.say(f"Or test the best so far: {session.again('retrain')}")
        raise


def at_once(again: str) -> str:
    """Return what is said as soon as the user ends a command that `again` continues."""
    return f"Ending. Should that be cut short, this continues: {again}"


def openings(folder: StudyFolder) -> int:
    """Return how often the test set was opened for a study."""
    return len(folder.read_retrain()["test_openings"])


@contextmanager
def recorded(session: Session) -> Iterator[None]:
    """Keep `study.json` true: a new run inside the block, then how it ended and after how long."""
    folder, about, command = session.folder, session.about, session.command
    run: AboutRun = {
        "command": command.text, "id": secrets.token_hex(4), "started": now(), "seconds": None,
        "status": "running", "made_by": made_by(),
    }  # fmt: skip
    before = folder.read_study()
    about["runs"].append(run)
    about |= {"status": "running"}

    def end(status: Status) -> None:
        run["status"], run["seconds"] = status, round(time.monotonic() - command.began, 1)
        about["status"], about["seconds"] = status, seconds_of_all(about["runs"])
        session.write()

    try:
        session.write()
        yield
    except NO_CLUSTER:
        folder.write_study(before)  # nothing was begun
        raise
    except BaseException as error:
        with suppress(OSError):  # it still says "running", which a resume mends
            end("interrupted" if isinstance(error, (KeyboardInterrupt, Halt)) else "failed")
        raise
    end("complete")


def close_last_run(folder: StudyFolder, about: About) -> None:
    """Give a run that was killed its time until then."""
    for run in about.setdefault("runs", []):
        if run["seconds"] is None:
            run["seconds"] = max(0.0, round(folder.last_progress() - moment(run["started"]), 1))
            run["status"] = "killed"
            about |= {"status": "interrupted", "seconds": seconds_of_all(about["runs"])}


def was_killed(about: About) -> bool:
    """Return whether the search of a study that nobody holds was killed."""
    return "search_seconds" not in about and any(
        run["seconds"] is None for run in about.get("runs", ())
    )


def seconds_of_all(runs: Sequence[AboutRun]) -> float:
    """Return what the runs of a study took together."""
    return float(round(sum(run["seconds"] or 0.0 for run in runs), 1))


def same_data(folder: StudyFolder, about: About) -> Dataset:
    """Return the data set of a study.

    Raises:
        DataError: when the one at hand is another.
    """
    dataset = load_data(about["data"]["name"])
    known = about["data"]
    if (dataset.sha256, list(dataset.classes)) != (known["sha256"], known["classes"]):
        raise DataError(
            f"{dataset.name} is not the data that study {folder.name!r} searched (other images or "
            "classes, or another hwtune decoded them); put the original into the data folder, or "
            "search anew."
        )
    return dataset
