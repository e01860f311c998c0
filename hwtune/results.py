"""The results folder: studies made in it, and found in it."""

from __future__ import annotations

import itertools
import os
import shutil
from pathlib import Path
from typing import Any

from hwtune.columns import epochs_csv
from hwtune.contract import About
from hwtune.errors import OptionError, StudyError
from hwtune.files import flush_names, staging, write_atomic
from hwtune.study_folder import StudyFolder, not_writable
from hwtune.words import meant

LONGEST_NAME = 200  # bytes, so that files named after a study have room for more


def create_study(
    results: Path,
    wanted: str | None,
    usual: str,
    *,
    about: About | None = None,
    source: str = "",
) -> StudyFolder:
    """Make the folder of a new study: `wanted`, or the first free of usual, usual-2, ...

    It appears whole, with `study.json` and the source of the space in it, or not at all.

    Raises:
        OptionError: when its name is no plain one.
        StudyError: when it exists, or the folder may not be written.
        HwtuneFailure: when the disk is full.
    """
    if not is_plain(usual if wanted is None else wanted):
        given = repr(usual) if wanted is None else f"--name {wanted!r}"
        raise OptionError(
            f"{given} is not a plain folder name; give a --name of at most {LONGEST_NAME} bytes "
            "without slash, and with no dot or dash in front."
        )
    try:
        with staging(results) as staged:
            for number in itertools.count(1):
                name = wanted or (usual if number == 1 else f"{usual}-{number}")
                new = StudyFolder(staged / name)
                for path in (new.path, new.logs, new.tensorboard, new.checkpoints):
                    path.mkdir()
                write_atomic(new.epochs, epochs_csv([]))
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


def is_plain(name: str) -> bool:
    """Return whether a name can be a folder's, and a word of a command."""
    return (
        Path(name).name == name
        and name[:1] not in ("", ".", "-")
        and name.isprintable()
        and len(name.encode(errors="replace")) <= LONGEST_NAME
    )


def _renamed(source: Path, target: Path) -> bool:
    """Rename a folder unless something with content has its name; return whether it was done."""
    try:
        source.rename(target)
    except OSError:
        if not target.exists():
            raise
        return False
    flush_names(target.parent)
    return True


def studies_in(results: Path) -> list[StudyFolder]:
    """Return the studies of a results folder by their names, damaged ones too."""
    return [StudyFolder(path.parent) for path in sorted(results.glob("*/study.json"))]


def summary(folder: StudyFolder) -> dict[str, Any]:
    """Return what a list says of a study; `tested` is the mean accuracy of its winner, or None.

    Raises:
        StudyError: when its files are damaged.
    """
    folder.check()
    about, tested = folder.read_study_now(), folder.read_retrain()["configurations"]
    baseline = about.get("baseline")
    winner = tested[0] if tested else None
    return {
        "study": folder.name,
        "started": about["started"],
        "data": about["data"]["name"],
        "asks": f"how {baseline['name']} does" if baseline else about["space"]["question"],
        "status": about["status"],
        "winner": winner and winner["name"],
        "tested": winner and winner["test_accuracy"]["mean"],
    }


def model_folder(results: Path, name_or_path: str) -> Path:
    """Return the folder of a study's final model, or the path of such a folder itself.

    Raises:
        StudyError: when there is no such study, or its files are damaged.
    """
    alone = Path(name_or_path)
    if os.path.isfile(alone / "model.json") and not os.path.isfile(results / alone / "study.json"):
        return alone
    return find_study(results, name_or_path).model


def find_study(results: Path, name_or_path: str) -> StudyFolder:
    """Return an existing study by its name under `results` or its path.

    Raises:
        StudyError: when there is none, naming those that exist, or its files are damaged.
    """
    for path in (results / name_or_path, Path(name_or_path)):
        if os.path.isfile(path / "study.json"):  # Path's own fails on names that are too long
            found = StudyFolder(path)
            found.check()
            return found
    known = [folder.name for folder in studies_in(results)]
    there = f"there are {', '.join(known)}" if known else "there is none yet"
    raise StudyError(
        f"Unknown study {name_or_path!r}{meant(name_or_path, known)}; in {results} {there}. Give a "
        "study's path, or another folder of studies by --results."
    )
