"""MNIST and its kin, read and downloaded by torchvision, which takes seconds to import."""

from __future__ import annotations

import gzip
import os
import shutil
import socket
import tempfile
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hwtune.data.download import room_in
from hwtune.data.images import Dataset
from hwtune.errors import DataError, DownloadFailure
from hwtune.words import in_a_line

CLASSES = {
    "MNIST": tuple("0123456789"),
    "FashionMNIST": (
        "T-shirt", "trouser", "pullover", "dress", "coat",
        "sandal", "shirt", "sneaker", "bag", "ankle boot",
    ),
    "KMNIST": tuple("おきすつなはまやれを"),
}  # fmt: skip
FILES = tuple(
    f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")
)
SILENCE = 30.0  # seconds without a byte after which a download is given up
TEST_IMAGES = 10_000  # of each of the three
MAX_BYTES = 50_000_000  # the largest file unpacks to 47,040,016


def find_torchvision(kind: str, folder: Path) -> Path | None:
    """Return the folder with the four files of `kind`, packed or not, or None."""
    raw = folder / kind / "raw"
    return None if lacking(raw) else raw


def packed_or_not(raw: Path, file: str) -> tuple[Path, Path]:
    """Return where a file may lie: as it is, or packed."""
    return raw / file, raw / f"{file}.gz"


def lacking(raw: Path) -> list[str]:
    """Return which of the four files a folder has neither packed nor unpacked."""
    return [file for file in FILES if not any(p.is_file() for p in packed_or_not(raw, file))]


def copy_torchvision(raw: Path, target: Path) -> None:
    """Copy the four files of a set, packed or not, and nothing that lies beside them."""
    target.mkdir(parents=True)
    for file in FILES:
        for each in packed_or_not(raw, file):
            if each.is_file():
                shutil.copyfile(each, target / each.name)


def read_torchvision(kind: str, raw: Path) -> Dataset:
    """Return train and test images in one array; `test_from` says where the test part begins.

    Raises:
        DataError: when a file is absent or damaged.
    """
    import torchvision.datasets as sets

    if absent := lacking(raw):
        raise DataError(
            f"{raw} holds no {kind}: it lacks {', '.join(absent)}; give the folder with the four "
            "files, packed (.gz) or not."
        )
    with tempfile.TemporaryDirectory() as name:
        target = Path(name) / kind / "raw"  # the data folder may be read-only: unpack elsewhere
        target.mkdir(parents=True)
        for file in FILES:
            _unpack(raw, file, target)
        try:
            parts = [getattr(sets, kind)(name, train=train) for train in (True, False)]
            images = np.concatenate([part.data.numpy() for part in parts])
            labels = np.concatenate([part.targets.numpy() for part in parts])
        except Exception as error:  # a damaged file may fail in any way
            raise DataError(
                f"{raw} is damaged ({error}); remove it, and get the data set again."
            ) from None
    check_kind(kind, raw, np.bincount(labels[len(parts[0].data) :]))
    return Dataset(kind.lower(), images, labels, CLASSES[kind], test_from=len(parts[0].data))


def check_kind(kind: str, raw: Path, counts: NDArray[np.int64]) -> None:
    """Check by its test part that a set is what it is called; the files of all have one name.

    FashionMNIST's and KMNIST's have a thousand images of each class, MNIST's has not (LeCun and
    others, 1998; Xiao and others, 2017; Clanuwat and others, 2018). Sets of other sizes pass.

    Raises:
        DataError: when it is another.
    """
    even = bool((counts == TEST_IMAGES // len(CLASSES[kind])).all())
    if counts.sum() == TEST_IMAGES and even == (kind == "MNIST"):
        others = "FashionMNIST or KMNIST" if even else "MNIST"
        raise DataError(f"{raw} holds {others}, not {kind}; give the files of {kind}.")


def _unpack(raw: Path, file: str, target: Path) -> None:
    """Put one file, unpacked, into `target`."""
    plain, packed = packed_or_not(raw, file)
    there = plain if plain.is_file() else packed
    try:
        with plain.open("rb") if there is plain else gzip.open(packed) as source:
            content = source.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{there} is damaged ({error}); remove it, and get the data set again."
        ) from None
    if len(content) > MAX_BYTES:
        raise DataError(f"{there} unpacks to more than {MAX_BYTES:,} bytes; do not use it.")
    (target / file).write_bytes(content)


def download_torchvision(kind: str, folder: Path) -> None:
    """Download `kind` into `folder` with torchvision's own progress bar.

    Raises:
        DownloadFailure: when that fails; nothing is left behind then.
    """
    import torchvision.datasets as sets

    raw = folder / kind / "raw"
    patience = socket.getdefaulttimeout()
    with room_in(folder) as staged:
        socket.setdefaulttimeout(SILENCE)  # torchvision sets none
        try:
            getattr(sets, kind)(str(staged), download=True)
            raw.mkdir(parents=True, exist_ok=True)
            for file in (staged / kind / "raw").iterdir():
                os.replace(file, raw / file.name)
        except Exception as error:  # the network may fail in any way
            raise DownloadFailure(
                f"{kind} could not be downloaded ({in_a_line(error)}); check the network, or put "
                f"its four .gz files into {raw}."
            ) from None
        finally:
            socket.setdefaulttimeout(patience)
