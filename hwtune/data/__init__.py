"""Data sets by name: where each is found, how it is read, how it is got."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hwtune.commands import hwtune_command
from hwtune.data.chinese_mnist import (
    copy_chinese_mnist,
    find_chinese_mnist,
    read_chinese_mnist,
)
from hwtune.data.digits import read_digits
from hwtune.data.download import download_kaggle
from hwtune.data.folder import copy_pictures, folders_in, read_folder
from hwtune.data.images import Dataset, cached, data_folder
from hwtune.data.strokes import read_strokes
from hwtune.data.torchvision_sets import (
    copy_torchvision,
    download_torchvision,
    find_torchvision,
    read_torchvision,
)
from hwtune.errors import DataError, HwtuneFailure
from hwtune.files import expanded
from hwtune.words import unknown

KAGGLE_HANDLE = "gpreda/chinese-mnist"
KAGGLE_PAGE = f"https://www.kaggle.com/datasets/{KAGGLE_HANDLE}"
KAGGLE_BYTES = 10_246_005
OWN = "own"  # of the data folder: the part for the user's own folders of images


@dataclass(frozen=True)
class Source:
    """One data set that hwtune knows.

    Attributes:
        title: what it is, in a line.
        read: decodes it from what `find` returned.
        find: returns its archive or folder inside the data folder; None means built in.
        download: puts it into the data folder.
        place: returns where in the data folder `data add` keeps an archive or folder.
        page: where to get it by hand.
        copy: copies of a folder what is of it; the second of its two paths is to become the copy.
        classes, side: how many classes, and the images' side in pixels; 0: its images tell.
    """

    title: str
    classes: int
    side: int
    read: Callable[[Path], Dataset]
    find: Callable[[Path], Path | None] | None = None
    download: Callable[[Path], None] | None = None
    place: Callable[[Path], str] | None = None
    page: str = ""
    copy: Callable[[Path, Path], Any] = shutil.copytree


def _download_chinese(folder: Path) -> None:
    target = folder / "chinese-mnist.zip"
    download_kaggle(KAGGLE_HANDLE, target, total=KAGGLE_BYTES, check=read_chinese_mnist)


def _place_chinese(path: Path) -> str:
    if path.is_dir():
        return "chinese-mnist"
    return "chinese-mnist.zip" if path.suffix == ".zip" else "chn_mnist"  # the pickle


def _torchvision(kind: str, title: str) -> Source:
    return Source(
        title,
        classes=10,
        side=28,
        read=partial(read_torchvision, kind),
        find=partial(find_torchvision, kind),
        download=partial(download_torchvision, kind),
        place=lambda _: f"{kind}/raw",
        copy=copy_torchvision,
    )


DATASETS: dict[str, Source] = {
    "chinese_mnist": Source(
        "15 characters by 100 writers, 15,000 images 64x64 (Kaggle)",
        classes=15,
        side=64,
        read=read_chinese_mnist,
        find=find_chinese_mnist,
        download=_download_chinese,
        place=_place_chinese,
        page=KAGGLE_PAGE,
        copy=copy_chinese_mnist,
    ),
    "chinese_strokes": Source(
        "the same characters, drawn by simulated writers",
        classes=15,
        side=64,
        read=lambda _: read_strokes(),
    ),
    "digits": Source(
        "1,797 digits 8x8, bundled with scikit-learn",
        classes=10,
        side=8,
        read=lambda _: read_digits(),
    ),
    "mnist": _torchvision("MNIST", "70,000 digits 28x28"),
    "fashionmnist": _torchvision("FashionMNIST", "70,000 pieces of clothing 28x28"),
    "kmnist": _torchvision("KMNIST", "70,000 cursive Japanese characters 28x28"),
}


def source_of(name: str) -> Source:
    """Return the entry of a data set; the user's own folders of images have one, too.

    Raises:
        DataError: when the name is unknown.
    """
    if name in DATASETS:
        return DATASETS[name]
    own = own_names()
    if name not in own:
        if (folder := expanded(name)).is_dir():
            called = plain_name(folder.resolve().name)
            if called in own:
                raise DataError(f"{name!r} is a folder; its data set is given by --data {called}.")
            if called in (*DATASETS, "auto"):
                called = f"my_{called}"
            add = hwtune_command(f"data add {called} {shlex.quote(name)}")
            raise DataError(
                f"{name!r} is a folder; make it a data set ({add}), then give --data {called}."
            )
        raise DataError(
            f"{unknown('data set', name, [*DATASETS, *own])}. A folder of your own becomes one by: "
            f"{hwtune_command('data add NAME FOLDER')}"
        )
    return own_source(name)


def plain_name(text: str) -> str:
    """Return what a data set can be called after a text."""
    return re.sub(r"\W+", "_", text).strip("_") or "mine"


def own_names() -> list[str]:
    """Return the names of the user's own data sets."""
    place = data_folder() / OWN
    found = folders_in(place) if place.is_dir() else []
    return [each.name for each in found if each.name not in DATASETS]


def own_source(name: str) -> Source:
    """Return the entry of one of the user's own data sets, which need not be there yet."""
    place = f"{OWN}/{name}"

    def find(folder: Path) -> Path | None:
        return folder / place if (folder / place).is_dir() else None

    return Source(
        "images of your own",
        0,
        0,
        partial(read_folder, name),
        find,
        place=lambda _: place,
        copy=copy_pictures,
    )


def shape_of(name: str) -> tuple[int, int]:
    """Return the number of classes of a data set, and its images' side in pixels.

    Raises:
        DataError: when only its images tell, and they are not at hand.
    """
    source = source_of(name)
    if source.classes:
        return source.classes, source.side
    dataset = load_data(name)
    return len(dataset.classes), dataset.side


def find_data(name: str) -> Path | None:
    """Return the archive or folder of a data set in the data folder, or None."""
    find = source_of(name).find
    return find(data_folder()) if find else None


def is_at_hand(name: str) -> bool:
    """Return whether a data set can be read without a download."""
    return source_of(name).find is None or find_data(name) is not None


def load_data(name: str) -> Dataset:
    """Return a data set, decoded once and then from the cache.

    Raises:
        DataError: when it is not in the data folder, or does not read; says how to get it.
    """
    source, found = source_of(name), find_data(name)
    if source.find is not None and found is None:
        raise DataError(
            f"{name} is not in the data folder {data_folder()}; download it: "
            f"{hwtune_command(f'data get {name}')}, or add it if you have it: {adding(name)}"
        )
    return cached(name, found, partial(source.read, found or Path()))


def find_again(known: Mapping[str, Any]) -> Dataset | None:
    """Return the data set that a study describes, None where it is not at hand or is another."""
    try:
        dataset = load_data(known["name"]) if is_at_hand(known["name"]) else None
    except DataError:
        return None
    return dataset if dataset and dataset.sha256 == known["sha256"] else None


def get_data(name: str) -> None:
    """Download a data set into the data folder, unless it is at hand.

    Raises:
        DataError: when there is no such data set, or what arrived is damaged.
        HwtuneFailure: when nothing arrived, or the disk is full.
    """
    source = source_of(name)
    if not is_at_hand(name) and source.download is not None:
        try:
            source.download(data_folder())
        except (DataError, HwtuneFailure) as error:
            words = f"{str(error).rstrip('.')}; if you have it: {adding(name)}"
            raise type(error)(words) from None


def adding(name: str) -> str:
    """Return the command that adds a data set, and where to get it by hand."""
    page = source_of(name).page
    return hwtune_command(f"data add {name} PATH") + (f" ({page})" if page else "")
