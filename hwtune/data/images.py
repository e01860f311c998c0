"""A decoded data set, and its cache on disk."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from platformdirs import user_cache_path, user_data_path
from rich.console import Console
from rich.markup import escape
from rich.progress import track

from hwtune.contract import AboutData
from hwtune.errors import DataError
from hwtune.files import left_over, named_folder, replacing, write_atomic

T = TypeVar("T")
Bytes = NDArray[np.uint8]
Integers = NDArray[np.int64]
CACHE_FORMAT = 5  # raised when a decoder changes, so that older caches are made anew


@dataclass(frozen=True)
class Dataset:
    """Grey images of one size with their labels.

    Attributes:
        images: (N, S, S), 0 is background, 255 is ink.
        labels: (N,), 0 up to the number of classes.
        classes: the names, by label.
        writers: (N,) the person who wrote each image, or None when that is not known.
        test_from: index of the first image of the data set's own test part, or None.
    """

    name: str
    images: Bytes
    labels: Integers
    classes: tuple[str, ...]
    writers: Integers | None = None
    test_from: int | None = None

    def __post_init__(self) -> None:
        count = len(self.images)
        if count == 0 or self.images.ndim != 3 or self.images.shape[1] != self.images.shape[2]:
            raise DataError(f"{self.name}: images of shape {self.images.shape}; want (N, S, S).")
        if len(self.labels) != count or (self.writers is not None and len(self.writers) != count):
            raise DataError(f"{self.name}: {count} images but {len(self.labels)} labels.")
        low, high = int(self.labels.min()), int(self.labels.max())
        if low < 0 or high >= len(self.classes):
            raise DataError(
                f"{self.name}: labels from {low} to {high}; want 0 to {len(self.classes) - 1}."
            )

    @property
    def side(self) -> int:
        """Return the images' side in pixels."""
        return int(self.images.shape[1])

    @cached_property
    def sha256(self) -> str:
        """Return the hash of all images, labels and writers."""
        digest = hashlib.sha256()
        for array in (self.images, self.labels, self.writers):
            if array is not None:
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def describe(self) -> AboutData:
        """Return what a study records of its data."""
        writers = None if self.writers is None else len(np.unique(self.writers))
        return {
            "name": self.name,
            "sha256": self.sha256,
            "images": len(self.images),
            "side": self.side,
            "classes": list(self.classes),
            "writers": writers,
            "test_from": self.test_from,
            "per_class": np.bincount(self.labels, minlength=len(self.classes)).tolist(),
        }


def image_digests(images: Bytes, which: Iterable[int]) -> Iterator[bytes]:
    """Yield for each of some images (N, S, S), by index, 16 bytes that only its equals share."""
    for index in which:
        yield hashlib.blake2b(images[index].tobytes(), digest_size=16).digest()


def progress(items: Sequence[T], what: str) -> Iterable[T]:
    """Return the items, with a bar in a terminal that goes when they end."""
    screen = Console(stderr=True)
    return track(
        items, escape(what), console=screen, transient=True, disable=not screen.is_terminal
    )


def data_folder() -> Path:
    """Return where downloaded archives and folders lie; it may be read-only or absent."""
    return named_folder("HWTUNE_DATA") or user_data_path("hwtune")


def cache_folder() -> Path:
    """Return where decoded arrays lie, and what was compiled."""
    return named_folder("HWTUNE_CACHE") or user_cache_path("hwtune")


def fingerprint(source: Path | None) -> str:
    """Return a text that changes when the files of `source` do: their names, sizes and times."""
    if source is None:
        return "built in"
    files = sorted(source.rglob("*")) if source.is_dir() else [source]
    digest = hashlib.sha256(os.fsencode(source))
    for path in files:
        try:
            status = path.stat() if path.exists() else path.lstat()  # a link that leads nowhere
        except FileNotFoundError:  # of a data set beside it that is being added
            continue
        digest.update(os.fsencode(path.name))  # which need not be UTF-8
        digest.update(f"|{status.st_size}|{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def cached(name: str, source: Path | None, decode: Callable[[], Dataset]) -> Dataset:
    """Return the data set from the cache, or decode it and fill the cache.

    A cache whose source changed, or whose content does not match its recorded hash, is made anew.
    A cache folder that cannot be written costs time, not the data set.
    """
    folder = cache_folder()
    arrays, about = folder / f"{name}.npz", folder / f"{name}.json"
    mark = fingerprint(source)
    kept = _read_cache(name, arrays, about, mark)
    if kept is not None:
        return kept
    dataset = decode()
    parts: dict[str, Any] = {"images": dataset.images, "labels": dataset.labels}
    if dataset.writers is not None:
        parts["writers"] = dataset.writers
    known = {
        "format": CACHE_FORMAT,
        "source": mark,
        "sha256": dataset.sha256,
        "classes": list(dataset.classes),
        "test_from": dataset.test_from,
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for half_written in left_over(folder, arrays.name):
            half_written.unlink(missing_ok=True)
        with replacing(arrays) as temporary:
            np.savez(temporary, **parts)
        write_atomic(about, json.dumps(known))
    except OSError:
        pass
    return dataset


def _read_cache(name: str, arrays: Path, about: Path, mark: str) -> Dataset | None:
    """Return the cached data set, or None when there is none that can be trusted."""
    try:
        known = json.loads(about.read_text(encoding="utf-8"))
        if known["format"] != CACHE_FORMAT or known["source"] != mark:
            return None
        with arrays.open("rb") as file, np.load(file, allow_pickle=False) as parts:
            dataset = Dataset(
                name,
                parts["images"],
                parts["labels"],
                tuple(known["classes"]),
                parts.get("writers"),
                known["test_from"],
            )
    except Exception:  # a damaged cache may fail in any way, and is only a cache
        return None
    return dataset if dataset.sha256 == known["sha256"] else None
