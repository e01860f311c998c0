"""The folder of a study: the one place that knows its files and their columns.

`epochs.csv` grows by whole lines and is cut to its last newline when it is opened again; the
other files are written under a temporary name and renamed.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import shlex
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from hwtune.errors import OptionError, StudyError
from hwtune.files import csv_line, cut_to_last_newline, dump, left_over, now, write_atomic
from hwtune.records import EpochRecord, TrialRecord

FORMAT = 1
DEFAULT_RESULTS = Path("results")  # holds the studies, unless HWTUNE_RESULTS names another
EPOCH_COLUMNS = ("trial", "epoch", "train_loss", "val_loss", "val_accuracy", "lr", "seconds")
TRIAL_COLUMNS = (
    "trial", "baseline", "state", "epochs", "val_accuracy", "val_loss", "parameters", "seconds",
    "reason",
)  # fmt: skip
SEARCHED = "config."  # begins the column of a hyperparameter that has the name of another
LONGEST_NAME = 200  # bytes, so that files named after a study have room for more
JOURNAL_LOCK = "optuna.journal.lock"  # the names of Optuna's locks begin so


def results_folder(given: str | Path | None = None) -> Path:
    """Return the folder that holds the studies: `given`, HWTUNE_RESULTS, or the default."""
    return Path(given or os.environ.get("HWTUNE_RESULTS") or DEFAULT_RESULTS).absolute()


class StudyFolder:
    """The files of one study under `results/STUDY/`."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.name = self.path.name

    @property
    def called(self) -> str:
        """Return what a command calls the study: its name in the usual place, else its path."""
        usual = self.path.parent == results_folder()
        return shlex.quote(self.name if usual else str(self.path))

    @property
    def journal(self) -> Path:
        """Return Optuna's journal."""
        return self.path / "optuna.journal"

    @property
    def tensorboard(self) -> Path:
        """Return TensorBoard's log directory."""
        return self.path / "tensorboard"

    @property
    def checkpoints(self) -> Path:
        """Return the folder of the trials' training states."""
        return self.path / "checkpoints"

    @property
    def retraining(self) -> Path:
        """Return the folder of the training states of a retraining that runs."""
        return self.path / "retraining"

    @property
    def model(self) -> Path:
        """Return the folder of the final model."""
        return self.path / "model"

    @property
    def report(self) -> Path:
        """Return the page for people."""
        return self.path / "report.html"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the study for writing; a dead process's lock is void (the system frees it).

        Raises:
            StudyError: when another process holds it, or the folder cannot be written.
        """
        lock = FileLock(self.path / ".lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise StudyError(
                f"Study {self.name!r} is being written by another process; wait until it ends."
            ) from None
        except OSError as error:
            raise _not_writable(self.path, error) from None
        try:
            yield
        finally:
            lock.release()

    def repair(self) -> None:
        """Cut what a killed process left half-written; call it with the lock held.

        Raises:
            StudyError: when the folder cannot be written.
        """
        try:
            for path in (self.path / "epochs.csv", self.journal, *self.path.glob("logs/*.log")):
                cut_to_last_newline(path)
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
            for folder in (self.checkpoints, self.tensorboard, self.path / "logs"):
                folder.mkdir(exist_ok=True)
        except OSError as error:
            raise _not_writable(self.path, error) from None

    def lasting_files(self) -> Iterator[Path]:
        """Yield every file of the study but locks and what is half-written or being deleted."""
        for place, folders, files in os.walk(self.path):  # which minds no folder that vanishes
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in files:
                if not name.startswith((".", JOURNAL_LOCK)):
                    yield Path(place, name)

    def read_study(self) -> dict[str, Any]:
        """Return `study.json`.

        Raises:
            StudyError: when it is absent, damaged or of a newer format.
        """
        content = self._read_json("study.json")
        if content is None:
            raise StudyError(f"{self.path} holds no study.json; give a study that hwtune wrote.")
        if content.get("format", 0) > FORMAT:
            raise StudyError(f"Study {self.name!r} was written by a newer hwtune; update hwtune.")
        return content

    def write_study(self, content: dict[str, Any]) -> None:
        """Write `study.json`."""
        write_atomic(self.path / "study.json", dump(content))

    def write_space(self, source: str) -> None:
        """Write the space as it was, for people; nothing executes it."""
        write_atomic(self.path / "space.py", source)

    def read_retrain(self) -> dict[str, Any]:
        """Return `retrain.json`, or its empty form."""
        return self._read_json("retrain.json") or {"configurations": [], "test_openings": []}

    def write_retrain(self, content: dict[str, Any]) -> None:
        """Write `retrain.json`."""
        write_atomic(self.path / "retrain.json", dump(content))

    def _read_json(self, name: str) -> dict[str, Any] | None:
        try:
            content = json.loads((self.path / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise StudyError(f"{self.path / name} does not read ({error}).") from None
        if not isinstance(content, dict):
            raise StudyError(f"{self.path / name} holds no JSON object.")
        return content

    def log(self, trial: int, line: str) -> None:
        """Add a line to a trial's log."""
        with (self.path / "logs" / f"{trial}.log").open("a", encoding="utf-8") as file:
            file.write(f"{now()} {line}\n")

    def append_epoch(self, epoch: EpochRecord) -> None:
        """Add a line to `epochs.csv`, which is on the disk when this returns."""
        line = csv_line(getattr(epoch, column) for column in EPOCH_COLUMNS)
        with (self.path / "epochs.csv").open("a", encoding="utf-8") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def last_progress(self) -> float:
        """Return when an epoch or a state was last written, in seconds since 1970."""
        written = [self.path / "epochs.csv", *self.retraining.glob("*.pt")]
        return max(path.stat().st_mtime for path in written)

    def forget_unknown(self, known: set[int]) -> list[EpochRecord]:
        """Drop epochs and states of trials that the journal lacks; return the epochs that stay.

        The numbers of those trials will be given again. A study of one machine has none; a mirror
        is copied file by file, the journal first.
        """
        for path in self.checkpoints.glob("[0-9]*.pt"):
            if int(path.stem) not in known:
                path.unlink()
        epochs = self.read_epochs()
        kept = [epoch for epoch in epochs if epoch.trial in known]
        if len(kept) < len(epochs):
            lines = [csv_line(getattr(e, c) for c in EPOCH_COLUMNS) for e in kept]
            text = csv_line(EPOCH_COLUMNS) + "".join(lines)
            write_atomic(self.path / "epochs.csv", text)
        return kept

    def read_epochs(self) -> list[EpochRecord]:
        """Return `epochs.csv`; a torn last line is left out.

        Raises:
            StudyError: when it does not read.
        """
        path = self.path / "epochs.csv"
        try:
            text = path.read_text(encoding="utf-8")
            return [
                EpochRecord(
                    int(row["trial"]),
                    int(row["epoch"]),
                    *(float(row[column]) for column in EPOCH_COLUMNS[2:]),
                )
                for row in csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1]))
            ]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise StudyError(f"{path} does not read ({error}).") from None

    def write_trials(self, trials: Iterable[TrialRecord], searched: Iterable[str]) -> None:
        """Write `trials.csv`, with one column a searched hyperparameter at the end."""
        write_atomic(self.path / "trials.csv", trials_csv(trials, searched))

    def read_trials(self) -> list[TrialRecord]:
        """Return `trials.csv`, the best epochs taken from `epochs.csv`.

        Hyperparameters come back as the texts of the file.

        Raises:
            StudyError: when it does not read.
        """
        path = self.path / "trials.csv"
        try:
            with path.open(encoding="utf-8", newline="") as file:
                trials = {int(row["trial"]): trial_of(row) for row in csv.DictReader(file)}
        except FileNotFoundError:
            return []
        except (OSError, csv.Error, AttributeError, ValueError, TypeError, KeyError) as error:
            raise StudyError(f"{path} does not read ({error}).") from None
        for epoch in self.read_epochs():
            if epoch.trial in trials:
                trials[epoch.trial].add(epoch)
        return list(trials.values())


def column_of(hyperparameter: str) -> str:
    """Return the column of a hyperparameter in `trials.csv`; `epochs` is what a trial had."""
    return f"{SEARCHED}{hyperparameter}" if hyperparameter in TRIAL_COLUMNS else hyperparameter


def trial_of(row: dict[str, str]) -> TrialRecord:
    """Return a trial from its line of `trials.csv`, without its epochs."""
    return TrialRecord(
        trial=int(row["trial"]),
        baseline=row["baseline"],
        state=row["state"],  # type: ignore[arg-type]
        parameters=int(row["parameters"]),
        reason=row["reason"],
        config={k.removeprefix(SEARCHED): v for k, v in row.items() if k not in TRIAL_COLUMNS},
    )


def trials_csv(trials: Iterable[TrialRecord], searched: Iterable[str]) -> str:
    """Return trials as lines, with one column a searched hyperparameter at the end."""
    names = list(searched)
    text = csv_line([*TRIAL_COLUMNS, *map(column_of, names)])
    for trial in trials:
        values = [getattr(trial, column) for column in TRIAL_COLUMNS]
        text += csv_line([*values, *(str(trial.config.get(name, "")) for name in names)])
    return text


def create_study(
    results: Path,
    wanted: str | None,
    space: str,
    *,
    about: dict[str, Any] | None = None,
    source: str = "",
) -> StudyFolder:
    """Make the folder of a new study: `wanted`, or the first free of space, space-2, ...

    It appears whole, with `study.json` and the source of the space in it, or not at all.

    Raises:
        OptionError: when `wanted` is no plain name.
        StudyError: when it exists, or the folder cannot be written.
    """
    if wanted is not None and not (
        wanted
        and Path(wanted).name == wanted
        and wanted[0] != "."
        and wanted.isprintable()
        and len(wanted.encode()) <= LONGEST_NAME
    ):
        raise OptionError(
            f"--name {wanted!r} is no plain folder name; give one of at most {LONGEST_NAME} bytes "
            "without slash or leading dot."
        )
    try:
        results.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            dir=results, prefix=".creating-", ignore_cleanup_errors=True
        ) as staging:
            for number in itertools.count(1):
                name = wanted or (space if number == 1 else f"{space}-{number}")
                new = StudyFolder(Path(staging) / name)
                for path in (new.path, new.path / "logs", new.tensorboard, new.checkpoints):
                    path.mkdir()
                (new.path / "epochs.csv").write_text(csv_line(EPOCH_COLUMNS), encoding="utf-8")
                if about is not None:
                    new.write_study({**about, "study": name})
                    new.write_space(source)
                if _renamed(new.path, results / name):
                    return StudyFolder(results / name)
                if wanted:
                    raise StudyError(
                        f"{results / name} exists already; give another --name, or leave it out."
                    )
                shutil.rmtree(new.path)
    except OSError as error:
        raise _not_writable(results, error, "give another --results") from None
    raise AssertionError("an endless count ended")


def _renamed(source: Path, target: Path) -> bool:
    """Rename a folder unless something with content has its name; return whether it was done."""
    try:
        source.rename(target)
    except OSError:
        if not target.exists():
            raise
        return False
    return True


def find_study(results: Path, name_or_path: str) -> StudyFolder:
    """Return an existing study by its name under `results` or its path.

    Raises:
        StudyError: when there is none; names those that exist.
    """
    for path in (results / name_or_path, Path(name_or_path)):
        if (path / "study.json").is_file():
            return StudyFolder(path)
    known = sorted(path.parent.name for path in results.glob("*/study.json"))
    there = f"there are {', '.join(known)}" if known else "there is none yet"
    raise StudyError(f"Unknown study {name_or_path!r}; in {results} {there}.")


def _not_writable(
    path: Path, error: OSError, remedy: str = "make it writable, or copy the study elsewhere"
) -> StudyError:
    return StudyError(f"{path} cannot be written ({error.strerror}); {remedy}.")
