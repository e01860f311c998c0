"""What lies at a place where a study may be copied to, in an object store or on a shared disk."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from pyarrow.fs import FileSelector, FileSystem, FileType

from hwtune.addresses import without_secrets
from hwtune.errors import MirrorError, OptionError
from hwtune.files import links_in
from hwtune.words import first_line

SENT = "mirror.json"  # beside a copy's files: the size and time of change of what was sent
PART = ".part"  # the ending of a file that is being written to a disk


def open_uri(uri: str) -> tuple[FileSystem, str]:
    """Return the file system of a URI that a user gave, and the path in it.

    Raises:
        OptionError: when `opened` fails.
    """
    try:
        return opened(uri)
    except OSError as error:
        raise no_place(uri, error) from None


def no_place(uri: str, error: Exception) -> OptionError:
    """Return what a user is told of a URI that opens nothing."""
    return OptionError(
        f"{uri!r} is not a place to mirror to ({first_line(error)}); give s3://BUCKET/FOLDER, "
        "gs://BUCKET/FOLDER or file:///FOLDER."
    )


def opened(uri: str) -> tuple[FileSystem, str]:
    """Return the file system of a URI such as s3://bucket/studies, and the path in it.

    Raises:
        OptionError: when there is no such file system, or a key stands in the URI, which would be
            written into the study and sent with it.
        OSError: when it cannot be reached: of a bucket the region is asked for.
    """
    if (bare := without_secrets(uri)) != uri:
        raise OptionError(
            f"{bare!r} has a key in it; leave that out (of an older study.json, too), and set "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or GOOGLE_APPLICATION_CREDENTIALS, in "
            "the environment."
        )
    try:
        return FileSystem.from_uri(uri)
    except (ValueError, NotImplementedError, ImportError) as error:  # of fsspec, too
        raise no_place(uri, error) from None


def files_in(system: FileSystem, path: str, *, absent_too: bool = False) -> dict[str, Any]:
    """Return what a file system says of each file of a folder, by the name in the folder.

    Args:
        absent_too: whether a folder that is not there counts as empty.

    Raises:
        MirrorError: when there is a link: files elsewhere would be read, written and deleted as if
            they were the copy's.
    """
    refuse_links(system, path)
    selector = FileSelector(path, allow_not_found=absent_too, recursive=True)
    return {
        str(PurePosixPath(each.path).relative_to(path)): each
        for each in system.get_file_info(selector)
        if each.type == FileType.File
    }


def refuse_links(system: FileSystem, path: str) -> None:
    """Check that a copy on a disk holds no link, as none does that hwtune wrote.

    Raises:
        MirrorError: when it does.
    """
    if system.type_name == "local":
        for link in links_in(Path(path)):
            raise MirrorError(f"{link} is a link, which no copy holds; remove it.")


def notes(system: FileSystem, path: str, files: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Return what a copy says that it was sent: of each file the size, and the time of change.

    Files that have another size now are left out, all where that does not read: then they are sent
    again.

    Args:
        files: what lies there, as `files_in` returns it.
    """
    try:
        with system.open_input_stream(f"{path}/{SENT}") as stream:
            read = json.loads(stream.read())
        return {
            name: (int(size), int(changed))
            for name, (size, changed) in read.items()
            if name in files and files[name].size == size
        }
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
