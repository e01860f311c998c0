"""A folder of one's own images: in it a folder for each class, and perhaps for each writer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich.progress import track

from hwtune.data.images import Dataset, Integers
from hwtune.data.photos import ENDINGS, longer_side, read_image
from hwtune.errors import DataError
from hwtune.records import for_people

MAX_SIDE = 64  # pixels; larger pictures are scaled down to it
MIN_IMAGES = 10  # of a class, so that each part of a random split gets one
LAYOUT = "a data set is CLASS/PICTURE, or CLASS/WRITER/PICTURE for every picture"


def read_folder(name: str, folder: Path) -> Dataset:
    """Return the pictures CLASS/PICTURE or CLASS/WRITER/PICTURE of a folder as a data set.

    Each is made grey with light ink on black, and square: as large as the largest of them, but at
    most MAX_SIDE pixels. Classes are in the order of their names, numbers by their value. Files
    that are hidden, or no pictures by their names, are left out.

    Raises:
        DataError: when the folders are arranged otherwise, a class has too few pictures, or one
            does not read.
    """
    classes = folders_in(folder)
    if len(classes) < 2:
        raise DataError(f"{for_people(folder)} holds fewer than two folders; {LAYOUT}.")
    pictures: list[Path] = []
    labels: list[int] = []
    for label, each in enumerate(classes):
        found = sorted(path for path in each.rglob("*") if is_picture(path))
        if len(found) < MIN_IMAGES:
            raise DataError(
                f"{for_people(each)} holds {len(found)} pictures ({', '.join(ENDINGS)}); a class "
                f"needs {MIN_IMAGES}: add some, or take the folder away."
            )
        pictures += found
        labels += [label] * len(found)
    writers = writers_of(pictures, folder)
    side = min(MAX_SIDE, max(longer_side(path) for path in pictures))
    images = np.empty((len(pictures), side, side), np.uint8)
    for index, path in enumerate(track(pictures, f"Decoding {name}", transient=True)):
        images[index] = read_image(path, side)
    names = tuple(each.name for each in classes)
    return Dataset(name, images, np.array(labels, np.int64), names, writers)


def folders_in(folder: Path) -> list[Path]:
    """Return the folders in a folder that are not hidden, numbers by value before words."""
    found = (path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    return sorted(found, key=lambda path: in_order(path.name))


def in_order(name: str) -> tuple[bool, int, str]:
    """Return what sorts names: numbers first, by their value."""
    return (False, int(name), name) if name.isdecimal() else (True, 0, name)


def is_picture(path: Path) -> bool:
    """Return whether a file is a picture by its name, and not hidden."""
    return path.suffix.lower() in ENDINGS and not path.name.startswith(".") and path.is_file()


def writers_of(pictures: list[Path], folder: Path) -> Integers | None:
    """Return the writer of each picture, or None where there are no folders of writers.

    Raises:
        DataError: when some pictures lie in a folder of a writer and others do not.
    """
    parts = [path.relative_to(folder).parts for path in pictures]
    for path, each in zip(pictures, parts, strict=True):
        if len(each) != len(parts[0]) or len(each) > 3:
            raise DataError(f"{for_people(path)} does not lie where it should; {LAYOUT}.")
    if len(parts[0]) == 2:
        return None
    people = sorted({each[1] for each in parts}, key=in_order)
    number = {person: index for index, person in enumerate(people)}
    if all(person.isdecimal() for person in people):
        number = {person: int(person) for person in people}
    return np.array([number[each[1]] for each in parts], np.int64)
