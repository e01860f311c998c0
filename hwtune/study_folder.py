"""The folder of a study: the one place that knows its files.

`epochs.csv`, the journal and the logs grow by whole lines and are cut to their last newline when
they are opened again; TensorBoard's files grow, too. All others are written under a temporary name
and renamed.
"""

from __future__ import annotations

import csv
import errno
import fcntl
import io
import json
import os
import shlex
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from filelock import FileLock, Timeout

from hwtune.columns import epoch_line, epochs_csv, epochs_of, trial_of, trials_csv
from hwtune.commands import hwtune_command
from hwtune.contract import About, Tested, wrong_in_retrain, wrong_in_study
from hwtune.errors import HwtuneError, HwtuneFailure, StudyError
from hwtune.files import (
    MOVED,
    cut_to_last_newline,
    dump,
    expanded,
    identity,
    left_over,
    links_in,
    moment,
    named_folder,
    now,
    text_of,
    unwritable,
    write_atomic,
)
from hwtune.records import EpochRecord, TrialRecord

FORMAT = 1
DEFAULT_RESULTS = Path("results")  # holds the studies, unless HWTUNE_RESULTS names another
LOCK_SECONDS = 2.0  # a reader holds a lock for a moment, to see whether a study runs
WHOLE_COPY = "put back a whole copy"
JOURNAL_LOCK = "optuna.journal.lock"  # the names of Optuna's locks begin so


def results_folder(given: str | Path | None = None) -> Path:
    """Return the folder that holds the studies: `given`, HWTUNE_RESULTS, or the default."""
    return expanded(given or named_folder("HWTUNE_RESULTS") or DEFAULT_RESULTS).absolute()


class StudyFolder:
    """The files of one study under `results/STUDY/`."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.name = self.path.name
        self.journal = self.path / "optuna.journal"  # Optuna's
        self.epochs = self.path / "epochs.csv"
        self.logs = self.path / "logs"
        self.tensorboard = self.path / "tensorboard"
        self.checkpoints = self.path / "checkpoints"  # the trials' training states
        self.retraining = self.path / "retraining"  # those of a retraining that runs
        self.model = self.path / "model"  # the final one
        self.report = self.path / "report.html"  # the page for people
        self._held: tuple[int, int] | None = None  # which file the lock is, while it is held

    @property
    def called(self) -> str:
        """Return what a command calls the study: its name in the usual place, else its path."""
        usual = self.path.parent == results_folder()
        return shlex.quote(self.name if usual else str(self.path))

    def command(self, name: str, *options: str) -> str:
        """Return the line that gives a command of hwtune on the study, as "resume"."""
        return hwtune_command(" ".join([name, self.called, *options]))

    @contextmanager
    def locked(self, *, patience: float = LOCK_SECONDS) -> Iterator[None]:
        """Hold the study for writing; a dead process's lock is void (the system frees it).

        Args:
            patience: seconds to wait for it.

        Raises:
            StudyError: when another process holds it, or the folder may not be written.
            HwtuneFailure: when the disk is full.
        """
        lock = FileLock(self.path / ".lock", timeout=patience)
        try:
            lock.acquire()
        except Timeout:
            raise StudyError(
                f"Study {self.name!r} is being written by another process; wait until it ends."
            ) from None
        except OSError as error:
            raise not_writable(self.path, error) from None
        self._held = identity(self.path / ".lock")
        try:
            yield
        finally:
            self._held = None
            lock.release()

    @property
    def in_place(self) -> bool:
        """Return whether the study that is held for writing is still the one at its place."""
        return self._held is None or identity(self.path / ".lock") == self._held

    def _check_place(self) -> None:
        """Check that no other study is at the place of the one that is held.

        Raises:
            OSError: when its folder was moved away or deleted.
        """
        if not self.in_place:
            raise OSError(errno.ESTALE, MOVED, str(self.path))

    def repair(self) -> None:
        """Remove what a killed process left half-written; call it with the lock held.

        Raises:
            StudyError: when the folder may not be written, or would lead a writer elsewhere.
            HwtuneFailure: when the disk is full.
        """
        for path in links_in(self.path):
            if not path.name.startswith(JOURNAL_LOCK):
                raise StudyError(
                    f"{path} is a link; put what it leads to in its place, or let the whole study "
                    "be one."
                )
        try:
            for path in (self.epochs, self.journal, *self.logs.glob("*.log")):
                cut_to_last_newline(path)
            if self.epochs.is_file() and not self.epochs.stat().st_size:  # of a power cut
                write_atomic(self.epochs, epochs_csv([]))
            half_written = [
                path
                for folder in (self.path, self.checkpoints, self.retraining, self.model)
                for path in left_over(folder)
            ]
            for path in (*self.path.glob(f"{JOURNAL_LOCK}*"), *half_written):
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)  # a dying process may finish what it wrote
            for folder in (self.checkpoints, self.tensorboard, self.logs):
                folder.mkdir(exist_ok=True)
        except OSError as error:
            raise not_writable(self.path, error) from None

    def lasting_files(self) -> Iterator[Path]:
        """Yield every file of the study but locks and what is half-written or being deleted.

        Raises:
            OSError: when a folder cannot be listed, unless it has vanished.
        """
        for place, folders, files in os.walk(self.path, onerror=unless_gone):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in files:
                path = Path(place, name)
                if not (name.startswith((".", JOURNAL_LOCK)) or path.is_symlink()):
                    yield path

    def read_study(self) -> About:
        """Return `study.json`.

        Raises:
            StudyError: when it is absent, damaged or of a newer format.
        """
        content = self._read_json("study.json")
        if content is None:
            raise StudyError(f"{self.path} holds no study.json; give a study that hwtune wrote.")
        number = content.get("format", 0)
        if isinstance(number, int) and number > FORMAT:
            raise StudyError(f"Study {self.name!r} was written by a newer hwtune; update hwtune.")
        return cast(About, content)  # as `check` finds

    def check(self) -> None:
        """Check that `study.json` and `retrain.json` are those of a study.

        Raises:
            StudyError: when they lack what every study has.
        """
        for name, found in (
            ("study.json", wrong_in_study(self.read_study())),
            ("retrain.json", wrong_in_retrain(self.read_retrain())),
        ):
            if found:
                raise StudyError(
                    f"{self.path / name} is damaged, or of no study: {found}; put back a whole one."
                )

    def read_study_now(self) -> About:
        """Return `study.json`; a killed process's "running" is read as "interrupted".

        Raises:
            StudyError: as `read_study`.
        """
        content = self.read_study()
        if content.get("status") == "running" and not self._is_locked():
            content["status"] = "interrupted"
        return content

    def _is_locked(self) -> bool:
        """Return whether a process holds the study, as far as one who may only read can tell."""
        try:
            descriptor = os.open(self.path / ".lock", os.O_RDONLY)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(descriptor)  # and the lock with it
        return False

    def write_study(self, content: About) -> None:
        """Write `study.json`."""
        self._check_place()
        write_atomic(self.path / "study.json", dump(content))

    def write_space(self, source: str) -> None:
        """Write the space as it was, for people; nothing executes it."""
        write_atomic(self.path / "space.py", source)

    def read_retrain(self) -> Tested:
        """Return `retrain.json`, or its empty form."""
        content = self._read_json("retrain.json") or {"configurations": [], "test_openings": []}
        return cast(Tested, content)

    def write_retrain(self, content: Tested) -> None:
        """Write `retrain.json`."""
        self._check_place()
        write_atomic(self.path / "retrain.json", dump(content))

    def _read_json(self, name: str) -> dict[str, Any] | None:
        try:
            content = json.loads(text_of(self.path / name))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:  # the last where it nests deeply
            raise StudyError(
                f"{self.path / name} cannot be read ({error}); {WHOLE_COPY}."
            ) from None
        if not isinstance(content, dict):
            raise StudyError(f"{self.path / name} holds no JSON object; {WHOLE_COPY}.")
        return content

    def log(self, trial: int, line: str) -> None:
        """Add a line to a trial's log."""
        self._check_place()
        with (self.logs / f"{trial}.log").open("a", encoding="utf-8") as file:
            file.write(f"{now()} {line}\n")

    def append_epoch(self, epoch: EpochRecord) -> None:
        """Add a line to `epochs.csv`, which is on the disk when this returns."""
        self._check_place()
        with self.epochs.open("a", encoding="utf-8") as file:
            file.write(epoch_line(epoch))
            file.flush()
            os.fsync(file.fileno())

    def last_progress(self) -> float:
        """Return when an epoch or a retraining's state was last written, in seconds since 1970.

        Of an epoch its line in a log says so, for copying a study changes the times of its files.
        """
        said = [last_stamp(log) for log in self.logs.glob("[0-9]*.log")]
        return max(
            [path.stat().st_mtime for path in self.retraining.glob("*.pt")]
            + ([each for each in said if each] or [self.epochs.stat().st_mtime])
        )

    def forget_unknown(self, *, begun: set[int], waiting: set[int]) -> list[EpochRecord]:
        """Drop what the journal does not know of; return the epochs that stay.

        The numbers of those trials will be given again. A study of one machine has none; a mirror
        is copied file by file, the journal first.

        Args:
            begun: trials whose states and epochs stay.
            waiting: those that have a state to go on from, and no epoch yet.
        """
        for path in self.checkpoints.glob("[0-9]*.pt"):
            if path.stem.isdecimal() and int(path.stem) not in begun | waiting:
                path.unlink()
        epochs = self.read_epochs()
        kept = [epoch for epoch in epochs if epoch.trial in begun]
        if len(kept) < len(epochs):
            write_atomic(self.epochs, epochs_csv(kept))
        return kept

    def read_epochs(self) -> list[EpochRecord]:
        """Return `epochs.csv`; a torn last line is left out.

        Raises:
            StudyError: when it does not read.
        """
        try:
            return epochs_of(text_of(self.epochs))
        except (OSError, csv.Error, ValueError, TypeError, KeyError) as error:
            raise StudyError(f"{self.epochs} cannot be read ({error}); {WHOLE_COPY}.") from None

    def write_trials(self, trials: Iterable[TrialRecord], searched: Iterable[str]) -> None:
        """Write `trials.csv`, with one column a searched hyperparameter at the end."""
        self._check_place()
        write_atomic(self.path / "trials.csv", trials_csv(trials, searched))

    def read_trials(self) -> list[TrialRecord]:
        """Return `trials.csv`, the best epochs taken from `epochs.csv`.

        Hyperparameters come back as the texts of the file.

        Raises:
            StudyError: when it does not read.
        """
        path = self.path / "trials.csv"
        try:
            rows = csv.DictReader(io.StringIO(text_of(path), newline=""))
            trials = {int(row["trial"]): trial_of(row) for row in rows}
        except FileNotFoundError:
            if not self.read_epochs():
                return []
            raise self._lost(path, "is gone") from None
        except (OSError, csv.Error, AttributeError, ValueError, TypeError, KeyError) as error:
            raise self._lost(path, f"cannot be read ({error})") from None
        for epoch in self.read_epochs():
            if epoch.trial in trials:
                trials[epoch.trial].add(epoch)
        return list(trials.values())

    def _lost(self, path: Path, how: str) -> StudyError:
        """Return what to raise where a file is lost that the journal can make anew."""
        again = f"{self.command('resume')} makes it anew"
        return StudyError(f"{path} {how}; {again if self.journal.is_file() else WHOLE_COPY}.")


def unless_gone(error: OSError) -> None:
    """Raise what stood in the way of listing a folder that is there."""
    if not isinstance(error, FileNotFoundError):
        raise error


def last_stamp(log: Path) -> float:
    """Return the time of the last line of a log, in seconds since 1970; 0 where none reads."""
    try:
        return moment(text_of(log).splitlines()[-1].split()[0])
    except (OSError, ValueError, IndexError):
        return 0.0


def not_writable(
    path: Path, error: OSError, remedy: str = "make it writable, or copy the study elsewhere"
) -> HwtuneError | HwtuneFailure:
    """Return what to raise where a file of a study cannot be written."""
    return unwritable(path, error, StudyError, remedy)
