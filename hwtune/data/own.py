"""What the files and folders of a data set of one's own are called."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hwtune.data import DATASETS, find_again, find_data
from hwtune.data.folder import numbered, told_apart
from hwtune.words import printable


def picture_files(name: str) -> list[str]:
    """Return the file of each image of a data set of one's own, within its folder; [] of others."""
    return [printable(path) for path in _pictures(name)]


def _pictures(name: str) -> list[Path]:
    """Return the pictures of a data set of one's own, within its folder; [] of others."""
    folder = None if name in DATASETS else find_data(name)
    return [path.relative_to(folder) for path in told_apart(folder)[0]] if folder else []


def writer_names(known: Mapping[str, Any]) -> dict[int, str]:
    """Return what the folders of writers are called, by number, of the data set of a study.

    {} where it is none of one's own, knows no writers, or is not at hand.
    """
    dataset = None if known["name"] in DATASETS else find_again(known)
    parts = [path.parts for path in _pictures(dataset.name)] if dataset else []
    if not parts or len(parts[0]) < 3:
        return {}
    people = [each[1] for each in parts]  # as `read_folder` numbers them
    return dict(zip(numbered(people).tolist(), map(printable, people), strict=True))
