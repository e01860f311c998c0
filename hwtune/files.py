"""How files are written, whole under a temporary name first or line by line."""

from __future__ import annotations

import calendar
import csv
import errno
import io
import json
import math
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from hwtune.errors import HwtuneError, HwtuneFailure, OptionError

FULL = (errno.ENOSPC, errno.EDQUOT)  # a disk, or somebody's part of it
FULL_OR_BROKEN = (*FULL, errno.EROFS, errno.EIO, errno.EFBIG)
TEMPORARY = re.compile(r"\.(\d+|[0-9a-f]{16})-")  # begins names of `beside`; digits: older ones

MOVED = "the study was moved away or deleted"
STAGED, ABANDONED = "staged", 86400.0  # how such folders are called; seconds


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader finds the old or the new content, never a part.

    That holds after a power cut, too.
    """
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name beside a file; what is written there takes its place at the end."""
    temporary = beside(path)
    try:
        yield temporary
        temporary.replace(path)
        flush_names(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def unwritable(
    place: object, error: OSError, mistake: type[HwtuneError], remedy: str
) -> HwtuneError | HwtuneFailure:
    """Return what to raise where a place cannot be written; a full disk is nobody's mistake."""
    words = f"{place} cannot be written ({error.strerror or error})"
    if error.errno in FULL:
        return HwtuneFailure(f"{words}; free space.")
    return mistake(f"{words}; {remedy}.")


def links_in(folder: Path) -> Iterator[Path]:
    """Yield the links below a folder; to folders, too, which are not followed."""
    for place, folders, files in os.walk(folder):
        for path in (Path(place, name) for name in (*folders, *files)):
            if path.is_symlink():
                yield path


def text_of(path: Path) -> str:
    """Return the text of a file, its line ends as they are.

    Raises:
        OSError: when there is none, or something else, such as a pipe that nobody writes into.
    """
    if path.exists() and not path.is_file():
        raise OSError(f"{path.name} is no plain file")
    with path.open(encoding="utf-8", newline="") as file:
        return file.read()


def identity(path: Path) -> tuple[int, int] | None:
    """Return which file or folder of which disk a path is, None where there is none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def flush_names(folder: Path) -> None:
    """Put the names in a folder on the disk, where the system lets one."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def beside(path: Path) -> Path:
    """Return a temporary name for a file or folder, in the same folder."""
    return path.with_name(f".{secrets.token_hex(8)}-{path.name}")


def left_over(folder: Path, name: str = "*") -> list[Path]:
    """Return what killed processes left under temporary names of a file or folder, or of all."""
    return [path for path in folder.glob(f".*-{name}") if TEMPORARY.match(path.name)]


@contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """Give an empty folder inside one that is made if need be, for what is then put in place.

    What killed processes left in such folders goes a day later.
    """
    folder.mkdir(parents=True, exist_ok=True)
    new = beside(folder / STAGED)
    for old in left_over(folder, STAGED):
        with suppress(OSError):  # another process removes it, too
            if time.time() - old.stat().st_mtime > ABANDONED:
                shutil.rmtree(old)
    new.mkdir()
    try:
        yield new
    finally:
        shutil.rmtree(new, ignore_errors=True)


def named_folder(variable: str) -> Path | None:
    """Return the folder that a variable of the environment names, None where it is not set.

    Raises:
        OptionError: when it begins with the home of nobody.
    """
    named = os.environ.get(variable)
    return expanded(named).absolute() if named else None


def expanded(path: str | Path) -> Path:
    """Return a path that begins with somebody's home, "~", in full.

    Raises:
        OptionError: when nobody has that home.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise OptionError(f"{str(path)!r} names no folder: nobody has that home.") from None


def csv_line(values: Iterable[Any]) -> str:
    """Return a line of a CSV file; floats have six digits."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(
        [f"{value:.6g}" if isinstance(value, float) else value for value in values]
    )
    return line.getvalue()


def cut_to_last_newline(path: Path) -> None:
    """Cut a torn last line off; an absent file is left so.

    The time of its last change stays: where no log tells, a resume knows by it when a process was
    killed.
    """
    if not path.exists():
        return
    before = path.stat()
    with path.open("rb+") as file:
        whole = whole_lines(file)
        if whole == before.st_size:
            return
        file.truncate(whole)
    with suppress(PermissionError):  # the file of somebody else, who lets others write
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def whole_lines(file: BinaryIO) -> int:
    """Return how many bytes a file has up to its last newline."""
    end = file.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - 65536)
        file.seek(start)
        if (cut := file.read(end - start).rfind(b"\n")) >= 0:
            return start + cut + 1
        end = start
    return 0


def dump(content: Any) -> str:
    """Return JSON for a file that people read too; NaN becomes null."""
    return json.dumps(_finite(content), indent=1, ensure_ascii=False) + "\n"


def _finite(content: Any) -> Any:
    """Return the same content with None for floats that JSON cannot hold."""
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def now() -> str:
    """Return the time in UTC, such as 2026-01-31T12:00:00Z."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def moment(stamp: str) -> float:
    """Return what `now` returned as seconds since 1970.

    Raises:
        ValueError: when it is no such text.
    """
    return float(calendar.timegm(time.strptime(stamp, "%Y-%m-%dT%H:%M:%SZ")))
