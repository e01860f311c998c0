"""Pickles of arrays, read without running anything that they name.

NumPy's own reconstruction functions trust their arguments: a hostile pickle can make them read
memory that is not theirs. So the unpickler below never calls NumPy; it notes what each array was
made of, and the arrays are then built from plain bytes.
"""

from __future__ import annotations

import math
import pickle
import re
import struct
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hwtune.errors import DataError

MAX_BYTES = 2_000_000_000


class StoredType:
    """Stands for numpy.dtype: its code such as "u1", and its byte order."""

    def __init__(self, code: str, *flags: object) -> None:
        self.code, self.order = code, "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]


class StoredArray:
    """Stands for numpy.ndarray: shape, type, whether columns come first, and the bytes."""

    def __init__(self, *ignored: object) -> None:
        self.parts: tuple[Any, ...] = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, *self.parts = state  # type: ignore[assignment]


def from_buffer(buffer: Any, dtype: StoredType, shape: Any, order: str) -> StoredArray:
    """Return the stand-in of an array whose bytes lie in a buffer."""
    if not isinstance(buffer, (bytes, bytearray)):
        raise DataError("holds an array that is not made of bytes.")
    array = StoredArray()
    array.parts = (shape, dtype, order == "F", buffer)
    return array


STAND_INS: dict[str, Any] = {
    "ndarray": None,  # named, never called
    "dtype": StoredType,
    "_reconstruct": StoredArray,
    "_frombuffer": from_buffer,
}


class ArrayUnpickler(pickle._Unpickler):
    """Reads pickles that hold numbers, texts and NumPy arrays; anything else is refused.

    By pickle's own Python: its C makes a list as long as the largest number that a pickle names.
    """

    made = 0  # bytes that it asked for; a text may become bytes again and again
    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in of one of NumPy's constructors.

        Raises:
            DataError: on any other name; nothing is imported.
        """
        if module.partition(".")[0] == "numpy" and name in STAND_INS:
            return STAND_INS[name]
        if (module, name) == ("_codecs", "encode"):
            return self._latin_bytes
        raise DataError(f"holds {module}.{name}, which is not an array; it was not loaded.")

    def _latin_bytes(self, text: str, encoding: str) -> bytes:
        self._count(len(text))
        return text.encode("latin-1")

    def load_bytearray8(self) -> None:
        """Read bytes; pickle's own first makes as many zeros as the pickle claims."""
        (size,) = struct.unpack("<Q", self.read(8))  # type: ignore[attr-defined]
        self._count(size)
        self.append(bytearray(self.read(size)))  # type: ignore[attr-defined]

    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8

    def load_setitem(self) -> None:
        """Put one value into a dict."""
        self._check_names(self.stack[-2:-1])  # type: ignore[attr-defined]
        super().load_setitem()  # type: ignore[misc]

    def load_setitems(self) -> None:
        """Put values into a dict."""
        self._check_names(self.stack[::2])  # type: ignore[attr-defined]
        super().load_setitems()  # type: ignore[misc]

    def load_dict(self) -> None:
        """Make a dict with its values."""
        self._check_names(self.stack[::2])  # type: ignore[attr-defined]
        super().load_dict()  # type: ignore[misc]

    def refuse_set(self) -> None:
        """Refuse a set: what is in it would be looked up, too."""
        raise DataError("holds a set, which is not an array.")

    dispatch |= {
        pickle.SETITEM[0]: load_setitem, pickle.SETITEMS[0]: load_setitems,
        pickle.DICT[0]: load_dict, pickle.EMPTY_SET[0]: refuse_set, pickle.FROZENSET[0]: refuse_set,
    }  # fmt: skip

    def _check_names(self, keys: list[Any]) -> None:
        """Refuse other keys: tuples of tuples of tuples take for ever to look up."""
        if not all(isinstance(key, str) for key in keys):
            raise DataError("holds a dict with other keys than texts.")

    def _count(self, size: int) -> None:
        self.made += size
        if self.made > MAX_BYTES:
            raise DataError("holds more than 2 GB of bytes.")


def is_number(code: str) -> bool:
    """Return whether a type's code is that of a truth value or a number."""
    return bool(re.fullmatch(r"[biuf][1248]", code))


def build(array: StoredArray) -> NDArray[Any]:
    """Return an array of numbers, made of its own bytes.

    Raises:
        DataError: when it is of something else, or its bytes do not fit its shape.
    """
    shape, dtype, by_columns, raw = array.parts
    if not is_number(dtype.code) or dtype.order not in "<>|=":
        raise DataError(f"holds an array of {dtype.code!r}, which are not numbers.")
    kind = np.dtype(dtype.code).newbyteorder(dtype.order)
    if math.prod(shape) * kind.itemsize != len(raw):
        raise DataError("holds an array whose bytes do not fit its shape.")
    return np.frombuffer(raw, kind).reshape(shape, order="F" if by_columns else "C")


def read_arrays(source: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of numbers in the dict that a pickle holds, by name.

    Raises:
        DataError: when it is no such pickle.
    """
    if source.stat().st_size > MAX_BYTES:
        raise DataError(f"{source} has {source.stat().st_size:,} bytes; at most 2 GB are read.")
    try:
        with source.open("rb") as file:
            content = ArrayUnpickler(file).load()
        if not isinstance(content, dict):
            raise DataError("must hold a dict of arrays.")
        return {k: build(v) for k, v in content.items() if isinstance(v, StoredArray)}
    except DataError as error:
        raise DataError(f"{source} {error}") from None
    except Exception as error:  # a damaged pickle may fail in any way
        raise DataError(f"{source} is neither a zip nor a pickle of arrays ({error}).") from None
