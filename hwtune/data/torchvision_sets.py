"""MNIST and its kin, read and downloaded by torchvision."""

from __future__ import annotations

import gzip
import os
import shutil
import socket
import tempfile
import zlib
from pathlib import Path

import numpy as np
import torchvision.datasets as sets

from hwtune.data.images import Dataset
from hwtune.errors import DataError

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
MAX_BYTES = 50_000_000  # the largest file unpacks to 47,040,016


def find_torchvision(kind: str, folder: Path) -> Path | None:
    """Return the folder with the four files of `kind`, packed or not, or None."""
    raw = folder / kind / "raw"
    there = all((raw / file).is_file() or (raw / f"{file}.gz").is_file() for file in FILES)
    return raw if there else None


def copy_torchvision(raw: Path, target: Path) -> None:
    """Copy the four files of a set, packed or not, and nothing that lies beside them."""
    target.mkdir(parents=True)
    for file in FILES:
        for each in (raw / file, raw / f"{file}.gz"):
            if each.is_file():
                shutil.copyfile(each, target / each.name)


def read_torchvision(kind: str, raw: Path) -> Dataset:
    """Return train and test images in one array; `test_from` says where the test part begins.

    Raises:
        DataError: when a file is damaged.
    """
    with tempfile.TemporaryDirectory() as name:
        target = Path(name) / kind / "raw"  # the data folder may be read-only: unpack elsewhere
        target.mkdir(parents=True)
        for file in FILES:
            _unpack(raw, file, target)
        try:
            parts = [getattr(sets, kind)(name, train=train) for train in (True, False)]
        except Exception as error:  # a damaged file may fail in any way
            raise DataError(f"{raw} is damaged ({error}); get the data set again.") from None
    images = np.concatenate([part.data.numpy() for part in parts])
    labels = np.concatenate([part.targets.numpy() for part in parts])
    return Dataset(kind.lower(), images, labels, CLASSES[kind], test_from=len(parts[0].data))


def _unpack(raw: Path, file: str, target: Path) -> None:
    """Put one file, unpacked, into `target`."""
    plain = raw / file
    try:
        with plain.open("rb") if plain.is_file() else gzip.open(raw / f"{file}.gz") as source:
            content = source.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{raw / file}.gz is damaged ({error}); get the data set again.") from None
    if len(content) > MAX_BYTES:
        raise DataError(f"{raw / file}.gz unpacks to more than {MAX_BYTES:,} bytes; do not use it.")
    (target / file).write_bytes(content)


def download_torchvision(kind: str, folder: Path) -> None:
    """Download `kind` into `folder` with torchvision's own progress bar.

    Raises:
        DataError: when that fails; nothing is left behind then.
    """
    raw = folder / kind / "raw"
    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SILENCE)  # torchvision sets none
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as staging:
            getattr(sets, kind)(staging, download=True)
            raw.mkdir(parents=True, exist_ok=True)
            for file in (Path(staging) / kind / "raw").iterdir():
                os.replace(file, raw / file.name)
    except Exception as error:  # the network may fail in any way
        raise DataError(
            f"{kind} could not be downloaded ({' '.join(str(error).split())[:200]}); check the "
            f"network, or put its four .gz files into {raw}."
        ) from None
    finally:
        socket.setdefaulttimeout(patience)
