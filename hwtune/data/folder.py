"""A folder of one's own images: in it a folder for each class, and perhaps for each writer."""

from __future__ import annotations

import os
import shutil
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import numpy as np

from hwtune.data.images import Bytes, Dataset, Integers, cache_folder, progress
from hwtune.data.photos import ENDINGS, OTHER_PICTURES, longer_side, read_image
from hwtune.errors import DataError
from hwtune.files import links_in, write_atomic
from hwtune.words import counted, for_people, printable

MAX_SIDE = 64  # pixels; larger pictures are scaled down to it
MIN_IMAGES = 10  # of a class, so that each part of a random split gets one
MAX_DIGITS = 17  # of a writer's number, to fit into 64 bits
SHOWN, SHOWN_ENDINGS = 5, 20  # faults, and endings, in a line
PARTS = frozenset({"train", "training", "test", "testing", "val", "valid", "validation"})
ALL_TAKEN: Mapping[Path, str] = {}
LAYOUT = "a data set is CLASS/PICTURE, or CLASS/WRITER/PICTURE for every picture"


class NotTaken(DataError):
    """Part of a folder is no picture, or no class, but could be left out."""


def read_folder(name: str, folder: Path, *, without: Mapping[Path, str] = ALL_TAKEN) -> Dataset:
    """Return the pictures CLASS/PICTURE or CLASS/WRITER/PICTURE of a folder as a data set.

    Each is made grey with light ink on black, and square: as large as the largest of them, but at
    most MAX_SIDE pixels. Classes are in the order of their names, numbers by their value.

    Args:
        without: pictures, and folders of classes, that are left out.

    Raises:
        DataError: when the folders are arranged otherwise, a class has too few pictures, or one
            does not read.
    """
    classes = [each.name for each in folders_in(folder) if each not in without]
    pictures = [path for path in told_apart(folder)[0] if path not in without]
    parts = [path.relative_to(folder).parts for path in pictures]
    check_classes(folder, classes, Counter(each[0] for each in parts))
    first, last = (choose(pictures, key=lambda path: len(path.parts)) for choose in (min, max))
    if len(first.parts) != len(last.parts) or len(parts[0]) > 3:
        shown = " and ".join(for_people(path) for path in sorted({first, last}))
        raise DataError(f"{shown}: {LAYOUT}.")
    images = decoded(name, pictures)
    label = {each: place for place, each in enumerate(classes)}
    labels = np.array([label[each[0]] for each in parts], np.int64)
    writers = None
    if len(parts[0]) == 3:
        people = [each[1] for each in parts]
        refuse_parts(folder, sorted(set(people)))
        writers = numbered(people)
    return Dataset(name, images, labels, tuple(classes), writers)


def decoded(name: str, pictures: list[Path]) -> Bytes:
    """Return pictures as grey images (N, S, S), S as large as `read_folder` says.

    Raises:
        DataError: when some do not read; names them.
    """
    images, bad = attempted(pictures, f"Decoding {name}")
    if bad:
        raise NotTaken(
            f"{counted(len(bad), 'picture')} cannot be taken: {listed(list(bad.values()))}; repair "
            "or remove them."
        )
    return images


def attempted(pictures: list[Path], title: str) -> tuple[Bytes, dict[Path, str]]:
    """Return pictures as `decoded` does, and why some of them do not read.

    Args:
        title: of the progress that is shown.
    """
    bad: dict[Path, str] = {}
    sides = [0]
    for path in pictures:
        with noted(bad, path):
            sides.append(longer_side(path))
    side = min(MAX_SIDE, max(sides))
    images = np.empty((len(pictures), side, side), np.uint8)
    for index, path in enumerate(progress(pictures, title)):
        with noted(bad, path):
            images[index] = read_image(path, side)
    return images, bad


def not_taken(folder: Path) -> dict[Path, str]:
    """Return why pictures of a folder cannot be taken, and folders of classes left with too few."""
    pictures, others = told_apart(folder)
    odd = {path: f"{for_people(path)} is of a kind that is not read" for path in unread(others)}
    _, bad = attempted(pictures, "Looking for what cannot be taken")
    left = Counter(path.relative_to(folder).parts[0] for path in pictures if path not in bad)
    classes = [each for each in folders_in(folder) if not lost_links(each)]  # which are refused
    small = [each for each in classes if left[each.name] < MIN_IMAGES]
    words = {each: f"{for_people(each)} ({counted(left[each.name], 'picture')})" for each in small}
    inside = {path: words[top] for path in pictures for top in small if top in path.parents}
    return {**odd, **bad, **words, **inside}


def listed(faults: list[str]) -> str:
    """Return the first of many faults, and the file in the cache folder that names them all."""
    if len(faults) <= SHOWN:
        return ", ".join(faults)
    file = cache_folder() / "faults.txt"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, "".join(f"{printable(each)}\n" for each in faults))
        where = f"; all are in {file}"
    except OSError:
        where = ""
    return f"{', '.join(faults[:SHOWN])} (and {len(faults) - SHOWN:,} more{where})"


@contextmanager
def noted(bad: dict[Path, str], path: Path) -> Iterator[None]:
    """Note, once, why a picture does not read, without the remedy."""
    try:
        yield
    except DataError as error:
        bad.setdefault(path, str(error).rpartition("; ")[0])


def check_classes(folder: Path, classes: list[str], counts: Counter[str]) -> None:
    """Check that the folders in a folder are classes, with pictures enough.

    Args:
        counts: the pictures of each class.

    Raises:
        DataError: when they are not.
    """
    if len(classes) < 2:
        raise DataError(f"{for_people(folder)} holds fewer than two folders; {LAYOUT}.")
    refuse_parts(folder, classes)
    alike: dict[str, str] = {}
    for each in classes:
        if each != each.encode(errors="ignore").decode():
            raise DataError(f"{for_people(folder)}: {each!a} is not UTF-8; rename that folder.")
        if (twin := alike.setdefault(composed(each), each)) != each:
            raise DataError(
                f"{for_people(folder)}: {twin!a} and {each!a} look alike; put their pictures into "
                "one folder, or rename one."
            )
        if each != printable(each):
            raise DataError(
                f"{for_people(folder)}: {each!r} is not a plain name; rename that folder."
            )
        for link in lost_links(folder / each):
            raise DataError(
                f"{for_people(link)} is a link, and links to folders are not followed; put the "
                "folder itself there."
            )
    small = [
        f"{for_people(folder / each)} holds {counted(counts[each], 'picture')}"
        for each in classes
        if counts[each] < MIN_IMAGES
    ]
    if small:
        raise NotTaken(
            f"{listed(small)} ({', '.join(ENDINGS)}); a class needs {MIN_IMAGES}: add some, or "
            "take the folder away."
        )


def refuse_parts(folder: Path, names: list[str]) -> None:
    """Check that folders are something else than the parts of a split.

    Raises:
        DataError: when they are, which the classes or the writers would be called after.
    """
    if PARTS.issuperset(each.lower() for each in names):
        raise DataError(
            f"{for_people(folder)} is divided into {', '.join(names)}, which hwtune does itself; "
            f"{LAYOUT}."
        )


def lost_links(folder: Path) -> list[Path]:
    """Return the links instead of the folder of a class, or of writers in it."""
    if folder.is_symlink():
        return [folder]
    inside = sorted(folder.iterdir())
    if any(is_picture(path) for path in inside if path.is_file()):
        return []
    return [path for path in inside if path.is_symlink() and path.is_dir()]


def folders_in(folder: Path) -> list[Path]:
    """Return the folders in a folder that are not hidden, numbers by value before words."""
    found = (path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    return sorted(found, key=lambda path: in_order(path.name))


def in_order(name: str) -> tuple[bool, int, str]:
    """Return what sorts names: numbers first, by their value."""
    return (False, int(name), name) if name.isdecimal() else (True, 0, name)


def files_in(folder: Path) -> list[Path]:
    """Return the files below a folder, in order, that are not hidden, nor in hidden folders.

    Links to nothing are among them: somebody has to say that what they stood for is not there.

    Raises:
        DataError: when a folder cannot be read.
    """
    found: list[Path] = []
    for place, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place, name) for name in files if not name.startswith(".")]
    return sorted(path for path in found if path.is_file() or path.is_symlink())


def folders_behind_links(folder: Path) -> list[Path]:
    """Return the links to folders below a folder, which `files_in` does not follow."""
    links = [link for link in links_in(folder) if link.is_dir()]
    return [
        link
        for link in links
        if not any(part.startswith(".") for part in link.relative_to(folder).parts)
    ]


def refuse(error: OSError) -> NoReturn:
    """Say that a folder cannot be read, whose pictures would be left out."""
    raise DataError(
        f"{for_people(Path(error.filename))} cannot be read ({error.strerror}); make it readable, "
        "or take it away."
    ) from None


def told_apart(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the files below a folder that are pictures by their names, and the others."""
    files = files_in(folder)
    pictures = [path for path in files if is_picture(path)]
    return pictures, [path for path in files if not is_picture(path)]


def passed_over(others: list[Path]) -> str:
    """Return how many files are no pictures by their names, with their endings."""
    endings = ", ".join(sorted({path.suffix or path.name for path in others})[:SHOWN_ENDINGS])
    return f"{counted(len(others), 'file')} ({endings})"


def is_picture(path: Path) -> bool:
    """Return whether a file is a picture by its name."""
    return path.suffix.lower() in ENDINGS


def asked_of(path: Path) -> tuple[list[Path], list[Path]]:
    """Return a file as it is, of a folder the pictures below it; and the folder's other files."""
    return told_apart(path) if path.is_dir() else ([path], [])


def class_of(picture: Path, folder: Path, names: Mapping[str, str]) -> str:
    """Return the class of a picture below a folder, CLASS/PICTURE or CLASS/WRITER/PICTURE.

    Args:
        names: the classes, by what `composed` makes of them.

    Raises:
        DataError: when it does not lie so, or that is no class.
    """
    inside = picture.relative_to(folder).parts[:-1] if folder != picture else ()
    found = names.get(composed(inside[0])) if inside else None
    if found is None:
        raise DataError(
            f"{for_people(picture)} lies in no folder of a class of the model; with --labelled "
            "give the folder that holds those of the classes, and nothing else in it."
        )
    return found


def copy_pictures(folder: Path, target: Path, *, without: Mapping[Path, str] = ALL_TAKEN) -> None:
    """Copy the pictures below a folder, and nothing else, to where they lie in `target`.

    Args:
        without: pictures that are left out.

    Raises:
        DataError: when some are of a kind that is not read, or have the name of another there.
    """
    pictures, others = told_apart(folder)
    inside = [path for path in others if path.parent != folder]
    if odd := [path for path in unread(inside) if path not in without]:
        raise NotTaken(
            f"{for_people(folder)} holds {counted(len(odd), 'picture')} of a kind that is not read "
            f"({for_people(odd[0])}, for one); convert them to JPEG or PNG, or take them away."
        )
    names = [path.relative_to(folder) for path in pictures if path not in without]
    for name in names:
        copy = target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / name, copy)
    there = {composed(path.relative_to(target)) for path in told_apart(target)[0]}
    if lost := next((name for name in names if composed(name) not in there), None):
        raise DataError(  # the disk takes small letters for large ones, for one
            f"{for_people(folder / lost)} has the name of another folder or picture in "
            f"{target.parent}; rename it, or its folder."
        )


def unread(others: list[Path]) -> list[Path]:
    """Return which files are pictures of a kind that is not read."""
    return [path for path in others if path.suffix.lower() in OTHER_PICTURES]


def composed(name: Path | str) -> str:
    """Return a name in which letters are one with their accents, which some disks part."""
    return unicodedata.normalize("NFC", str(name))


def numbered(people: list[str]) -> Integers:
    """Return a number for each of the names: what they say, if they are numbers, or a place."""
    people = [composed(each) for each in people]  # one person's, from several systems
    names = sorted(set(people), key=in_order)
    said = {int(name) for name in names if name.isdecimal() and len(name) <= MAX_DIGITS}
    numbers = sorted(said) if len(said) == len(names) else range(1, len(names) + 1)
    number = dict(zip(names, numbers, strict=True))
    return np.array([number[each] for each in people], np.int64)
