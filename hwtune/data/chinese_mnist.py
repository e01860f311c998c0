"""Chinese MNIST: 15 characters by 100 writers, 10 times each, as 64x64 grey JPEGs.

K. Nazarpour and M. Chen, Newcastle University (CC BY 4.0); packaged by gpreda on Kaggle.
"""

from __future__ import annotations

import csv
import io
import re
import shutil
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from hwtune.data.images import Dataset, progress
from hwtune.data.pickles import read_arrays
from hwtune.errors import DataError

CLASSES = tuple("零一二三四五六七八九十百千万亿")
VALUES = (*range(11), 100, 1000, 10_000, 100_000_000)  # the number each character stands for
SIDE, WRITERS, SAMPLES = 64, 100, 10
TABLE = "chinese_mnist.csv"
IMAGE_NAME = re.compile(r"input_\d+_\d+_\d+\.jpg")
COLUMNS = ("suite_id", "sample_id", "code")
MAX_IMAGE_BYTES = 1_000_000  # the largest real one has under 1,000
MAX_TABLE_BYTES = 10_000_000
Reader = Callable[[str], bytes]


def find_chinese_mnist(folder: Path) -> Path | None:
    """Return the zip, folder or pickle of Chinese MNIST inside `folder`, or None."""
    names = (
        "chinese-mnist.zip",
        "chinese_mnist.zip",
        "chinese_mnist",
        "chinese-mnist",
        "chn_mnist",
    )
    for name in names:
        if (folder / name).exists():
            return folder / name
    return folder if (folder / TABLE).is_file() else None


def read_chinese_mnist(source: Path) -> Dataset:
    """Return the data set of Kaggle's zip, of its unpacked folder, or of the `chn_mnist` pickle.

    Raises:
        DataError: when the source is not one of these, incomplete, damaged or hostile.
    """
    if source.is_dir():
        return _read_folder(source)
    if zipfile.is_zipfile(source):
        return _read_zip(source)
    if source.suffix in ("", ".pkl", ".pickle"):
        return _read_pickle(source)
    raise DataError(f"{source} is not a zip archive; give Kaggle's zip, its folder, or chn_mnist.")


def _read_zip(source: Path) -> Dataset:
    try:
        with closing(zipfile.ZipFile(source)) as archive:
            members: dict[str, zipfile.ZipInfo] = {}
            for info in archive.infolist():
                path = PurePosixPath(info.filename.replace("\\", "/"))
                if path.is_absolute() or ".." in path.parts or any(":" in p for p in path.parts):
                    raise DataError(
                        f"{source.name} holds {info.filename!r}, which climbs out of its folder; "
                        "do not use this archive."
                    )
                members[path.name] = info

            def read(name: str) -> bytes:
                info = members[name]
                _check_size(source, name, info.file_size)
                if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise DataError(
                        f"{source.name}: {name} is not packed as Kaggle packs it; do not use this "
                        "archive."
                    )
                with archive.open(info) as member:
                    return member.read(info.file_size + 1)  # no more, where the header lies

            return _read_images(source, set(members), read)
    except (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError, OSError, ValueError) as error:
        raise DataError(f"{source} is damaged ({error}); remove it, and get it again.") from None


def _read_folder(source: Path) -> Dataset:
    files = {path.name: path for path in source.rglob("*") if path.is_file()}

    def read(name: str) -> bytes:
        _check_size(source, name, files[name].stat().st_size)
        return files[name].read_bytes()

    try:
        return _read_images(source, set(files), read)
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read ({error.strerror}); mend it.") from None


def copy_chinese_mnist(source: Path, target: Path) -> None:
    """Copy the table and the images of a folder, and nothing that lies beside them."""
    for path in source.rglob("*"):
        if path.is_file() and (path.name == TABLE or IMAGE_NAME.fullmatch(path.name)):
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)


def _check_size(source: Path, name: str, size: int) -> None:
    if size > (MAX_TABLE_BYTES if name == TABLE else MAX_IMAGE_BYTES):
        raise DataError(
            f"{source.name}: {name} would unpack to {size:,} bytes, far more than a 64x64 image; "
            "do not use this archive."
        )


def _read_images(source: Path, names: set[str], read: Reader) -> Dataset:
    """Decode the images that the table lists, in the order (writer, sample, code)."""
    if TABLE not in names:
        raise DataError(f"{source} lacks {TABLE}; give Kaggle's zip, its folder, or chn_mnist.")
    rows = sorted(_read_table(source, read(TABLE)))
    files = [f"input_{writer}_{sample}_{code}.jpg" for writer, sample, code in rows]
    if missing := [file for file in files if file not in names]:
        raise DataError(
            f"{source} lacks {len(missing):,} of {len(files):,} images (the first: {missing[0]}); "
            "remove it, and get it again."
        )
    images = np.empty((len(files), SIDE, SIDE), np.uint8)
    for index, file in enumerate(progress(files, "Decoding Chinese MNIST")):
        images[index] = decode_grey(source, file, read(file))
    table = np.array(rows, np.int64)
    return Dataset("chinese_mnist", images, table[:, 2] - 1, CLASSES, writers=table[:, 0])


def _read_table(source: Path, content: bytes) -> set[tuple[int, int, int]]:
    """Return the (writer, sample, code) of each row."""
    try:
        lines: Iterable[str] = io.StringIO(content.decode("utf-8-sig"), newline="")
        table = [tuple(int(row[column]) for column in COLUMNS) for row in csv.DictReader(lines)]
    except (UnicodeDecodeError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise DataError(
            f"{source}: {TABLE} cannot be read ({type(error).__name__}: {error}); "
            f"it needs the columns {', '.join(COLUMNS)} with numbers."
        ) from None
    limits = (WRITERS, SAMPLES, len(CLASSES))
    for row in table:
        for column, value, limit in zip(COLUMNS, row, limits, strict=True):
            if not 1 <= value <= limit:
                raise DataError(f"{source}: {column} {value} in {TABLE}; want 1 to {limit}.")
    rows = set(table)
    if not rows or len(rows) != len(table):
        raise DataError(f"{source}: {TABLE} has {len(table)} rows, {len(rows)} of them different.")
    return rows  # type: ignore[return-value]


def decode_grey(source: Path, name: str, content: bytes) -> np.ndarray[Any, Any]:
    """Return a 64x64 image as (64, 64) uint8.

    Raises:
        DataError: when it is no image, or has another size; its pixels are not decoded then.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=["JPEG"]) as image:
                if image.size != (SIDE, SIDE):
                    width, height = image.size
                    raise DataError(f"{source}: {name} is {width}x{height} pixels; want 64x64.")
                return np.asarray(image.convert("L"))
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError):
        raise DataError(
            f"{source}: {name} is not an image; remove the archive, and get it again."
        ) from None


def _read_pickle(source: Path) -> Dataset:
    """Return the data set of a pickled {"images": (N, 64, 64), "targets": (N,)}."""
    content = read_arrays(source)
    if not {"images", "targets"} <= content.keys():
        raise DataError(f"{source} must hold a dict with the arrays 'images' and 'targets'.")
    images, targets = content["images"], content["targets"]
    if images.dtype.kind not in "iuf" or not images.size:
        raise DataError(f"{source}: images must be numbers, not {images.dtype}.")
    images = images.reshape([n for i, n in enumerate(images.shape) if n != 1 or i == 0])
    if images.shape[1:] != (SIDE, SIDE):
        raise DataError(f"{source}: images of shape {images.shape[1:]}; want 64x64.")
    if not (images.min() >= 0 and images.max() <= 255):  # NaN fails too
        raise DataError(f"{source}: images of {images.dtype} outside 0..255.")
    if targets.dtype.kind not in "iu" or targets.ndim != 1:
        raise DataError(f"{source}: targets must be one whole number an image.")
    if not np.isin(targets, range(len(CLASSES))).all() and np.isin(targets, VALUES).all():
        targets = np.searchsorted(VALUES, targets)
    scale = np.float32(255.0 if images.max() <= 1 else 1.0)
    images = np.stack([np.rint(image * scale).astype(np.uint8) for image in images])  # not at once
    return Dataset("chinese_mnist", images, targets.astype(np.int64), CLASSES)
