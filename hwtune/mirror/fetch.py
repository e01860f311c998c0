"""Fetch a study from where it was copied to."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import Any

from pyarrow.fs import FileSystem

from hwtune.addresses import around
from hwtune.errors import StudyError
from hwtune.files import staging
from hwtune.mirror.order import CHECKPOINTS, STUDY, rank
from hwtune.mirror.places import PART, SENT, files_in, notes, open_uri
from hwtune.study_folder import StudyFolder, not_writable
from hwtune.words import first_line

GIVEN_UP = (CHECKPOINTS, "retraining", "model.onnx")  # what a study that runs may delete


def fetch(uri: str, results: Path) -> StudyFolder:
    """Copy a mirrored study into the results folder and return it.

    Raises:
        StudyError: when there is no study at the URI, or its name is taken here.
    """
    system, path = open_uri(uri)
    path = path.rstrip("/")
    target = results / PurePosixPath(path).name
    if target.exists():
        raise StudyError(f"{target} exists already; resume it by its name, or move it away.")
    try:
        files = files_in(system, path)
    except (OSError, ValueError) as error:
        raise StudyError(f"{uri!r} cannot be read ({first_line(error)}).") from None
    if not {STUDY, "epochs.csv"} <= files.keys():
        raise StudyError(
            f"{uri!r} holds no study.json with its epochs.csv; give the URI of a mirrored study."
        )
    noted = notes(system, path, files)
    try:
        with staging(results) as folder:
            copy = folder / target.name
            for name in sorted(files, key=rank, reverse=True):
                if not name.endswith(PART) and name != SENT:
                    _, changed = noted.get(name, (0, files[name].mtime_ns))
                    _fetch_file(system, files[name], copy, PurePosixPath(name), changed)
            try:
                about = StudyFolder(copy).read_study()
            except StudyError as error:  # names a folder that will be gone
                raise StudyError(str(error).replace(str(copy), uri)) from None
            if about.get("mirror") is not None:  # it goes on where the user found it, nowhere else
                StudyFolder(copy).write_study({**about, "mirror": around(uri)})
            copy.rename(target)
    except OSError as error:
        raise not_writable(results, error, "give another --results") from None
    return StudyFolder(target)


def _fetch_file(
    system: FileSystem, entry: Any, copy: Path, inside: PurePosixPath, changed: int | None
) -> None:
    """Copy one file with its time of change, by which a resume may know how long a run was.

    Args:
        changed: when, in nanoseconds; as it was sent, so that it is not sent back.
    """
    if ".." in inside.parts:
        raise StudyError(f"The mirror holds {entry.path!r}, which lies outside of the study.")
    local = copy / inside
    local.parent.mkdir(parents=True, exist_ok=True)
    try:
        with system.open_input_stream(entry.path) as stream:
            local.write_bytes(stream.read())
    except OSError as error:
        if isinstance(error, FileNotFoundError) and {*inside.parts} & {*GIVEN_UP}:
            return  # its driver lives
        raise StudyError(f"{entry.path!r} cannot be fetched ({first_line(error)}).") from None
    if changed is not None:
        os.utime(local, ns=(changed, changed))
