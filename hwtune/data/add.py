"""Take a user's archive or folder into the data folder, whole or not at all."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from hwtune.commands import hwtune_command
from hwtune.data import DATASETS, own_source, plain_name
from hwtune.data.download import not_writable
from hwtune.data.folder import (
    NotTaken,
    copy_pictures,
    folders_in,
    not_taken,
    read_folder,
    told_apart,
)
from hwtune.data.images import cached, data_folder
from hwtune.errors import DataError, OptionError
from hwtune.files import expanded, staging
from hwtune.words import meant


def add_data(name: str, path: Path, *, leave_out: bool = False) -> tuple[Path, list[str]]:
    """Copy the user's archive or folder of a data set into the data folder.

    Returns the copy, and what was left out, in words.

    The path is read and checked in full before anything is copied. A name that no data set has is
    that of a folder of the user's own pictures, of which nothing else is copied.

    Args:
        leave_out: whether pictures of one's own that do not read, and classes with too few, are
            left out; else they are refused.

    Raises:
        DataError: when the path is absent or no such data set, or the folder cannot be written.
        OptionError: when something of another data set than one's own shall be left out.
    """
    source = DATASETS.get(name, own_source(name))
    if source.find is None or source.place is None:
        raise DataError(f"{name} is built in and needs no file; leave out 'data add'.")
    if not path.exists():
        remedy = f"give the archive or folder of {name}."
        if expanded(name).exists():
            words = f"data add {plain_name(path.name)} {shlex.quote(name)}"
            remedy = f"the name comes first: {hwtune_command(words)}"
        raise DataError(f"{path} does not exist; {remedy}")
    if name not in DATASETS:
        check_own(name, path)
    elif leave_out:
        raise OptionError(f"--leave-out is for folders of your own; {name} is taken whole.")
    readable = (source.find(path) or path) if path.is_dir() else path
    target = data_folder() / source.place(path)
    if target.exists():
        raise DataError(
            f"{target} exists already; remove it first if {path} should replace it."
            if name in DATASETS
            else f"{target} exists already; give another name, or remove it first: its studies can "
            "then neither go on nor be retrained."
        )
    if found := source.find(data_folder()):
        raise DataError(f"{found} is read already; remove it first if {path} should be.")
    before = pictures_of(readable)
    left = not_taken(readable) if leave_out else {}
    if left:
        source = replace(
            source,
            read=partial(read_folder, name, without=left),
            copy=partial(copy_pictures, without=left),
        )

    def copy(whole: Path) -> None:
        with suppress(FileNotFoundError):  # it was renamed, for one
            (source.copy if readable.is_dir() else shutil.copyfile)(readable, whole)
            if pictures_of(readable) == before:
                return
        raise DataError(
            f"{path} changed while it was copied; add it again when nothing writes there."
        )

    try:
        dataset = source.read(readable)
        _put_whole(target, copy)
    except NotTaken as error:
        words = str(error).rstrip(".")
        raise DataError(f"{words}; or give --leave-out to go without.") from None
    cached(name, target, lambda: dataset)
    return target, list(dict.fromkeys(left.values()))


def pictures_of(path: Path) -> list[tuple[Path, int, int]]:
    """Return the pictures below a folder, or the file alone, with their sizes and times."""
    files = told_apart(path)[0] if path.is_dir() else [path]
    found = [(file, file.stat()) for file in files if file.exists()]  # no link that leads nowhere
    return [(file, status.st_size, status.st_mtime_ns) for file, status in found]


def check_own(name: str, path: Path) -> None:
    """Check that a path may be a folder of the user's own pictures, of that name.

    Raises:
        DataError: when it may not.
    """
    if name == "auto":
        raise DataError(f"{name!r} stands for a space's own data set; give another name.")
    if not re.fullmatch(r"\w[\w-]*", name):
        raise DataError(
            f"{name!r} names no data set; use letters, digits, _ and -, as in {plain_name(name)}."
        )
    classes = folders_in(path) if path.is_dir() else []
    if len(classes) < 2:
        wants = (
            "a data set of your own is a folder with a folder of pictures for each class, "
            f"CLASS/PICTURE{meant(name, DATASETS)}"
        )
        if not path.is_dir():
            raise DataError(f"{path} is a file; {wants}. Unpack an archive first.")
        holds = f"one folder alone, {classes[0].name!r}" if classes else "no folder"
        raise DataError(f"{path} holds {holds}; {wants}.")


def _put_whole(target: Path, copy: Callable[[Path], None]) -> None:
    """Copy into a temporary folder beside `target`, then put it in place."""
    try:
        with staging(target.parent) as staged:
            whole = staged / target.name
            copy(whole)
            whole.rename(target)
    except OSError as error:
        raise not_writable(target.parent, error) from None
