"""The results folder: studies made in it, and found in it."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hwtune.columns import epochs_csv
from hwtune.errors import OptionError, StudyError
from hwtune.study_folder import StudyFolder, not_writable

LONGEST_NAME = 200  # bytes, so that files named after a study have room for more


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
                (new.path / "epochs.csv").write_text(epochs_csv([]), encoding="utf-8")
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
        raise not_writable(results, error, "give another --results") from None
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
