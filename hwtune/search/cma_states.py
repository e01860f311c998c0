"""What CMA-ES left in a journal: Optuna unpickles it, so nothing else may stand there."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

from optuna.trial import FrozenTrial

from hwtune.data.pickles import (
    ArrayUnpickler,
    StoredArray,
    StoredType,
    build,
    from_buffer,
    is_number,
)
from hwtune.errors import DataError, StudyError

STATE = "cma:optimizer:"  # begins the attributes that hold the parts of a pickle, in hexadecimal


class _State:
    """Stands for `cmaes.CMA`."""


class _CheckedType(StoredType):
    def __init__(self, code: str, *flags: object) -> None:
        super().__init__(code)
        if not is_number(code):  # others point at things, wherever their bytes say
            raise DataError(f"holds the type {code!r}, which is not a number.")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        super().__setstate__(state)
        if state[2:] != (None, None, None, -1, -1, 0):  # what a type of numbers alone has
            raise DataError("holds an array of more than numbers.")


class _CheckedArray(StoredArray):
    def __init__(self, *given: object) -> None:
        super().__init__()
        if given[1:] != ((0,), b"b"):  # empty, before its content is known
            raise DataError("holds an array without content.")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        super().__setstate__(state)
        build(self)


def _checked_buffer(*parts: Any) -> StoredArray:
    array = from_buffer(*parts)
    build(array)
    return array


def _scalar(dtype: StoredType, raw: bytes) -> StoredArray:
    return _checked_buffer(raw, dtype, (), "C")


class _StateUnpickler(ArrayUnpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("cmaes._cma", "CMA"):
            return _State
        own = {
            "dtype": _CheckedType, "_reconstruct": _CheckedArray, "_frombuffer": _checked_buffer,
            "scalar": _scalar,
        }  # fmt: skip
        if name in own and module.partition(".")[0] == "numpy":
            return own[name]
        return super().find_class(module, name)


def check_states(trials: Iterable[FrozenTrial]) -> None:
    """Check that the trials of a journal hold no pickle but that of CMA-ES, numbers and arrays.

    Raises:
        StudyError: when one does; nothing that it names was imported.
    """
    for trial in trials:
        parts = [key for key in trial.system_attrs if key.startswith(STATE)]
        if not parts:
            continue
        try:
            whole = "".join(trial.system_attrs[f"{STATE}{place}"] for place in range(len(parts)))
            _StateUnpickler(io.BytesIO(bytes.fromhex(whole))).load()
        except Exception as error:  # a foreign pickle may fail in any way
            raise StudyError(
                f"The journal's state of CMA-ES at trial {trial.number} is not its own "
                f"({str(error).rstrip('.')}); do not go on with this study."
            ) from None
