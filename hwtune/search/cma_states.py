"""What CMA-ES left in a journal: Optuna unpickles it, so nothing else may stand there."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

from optuna.trial import FrozenTrial

from hwtune.data.pickles import ArrayUnpickler, StoredArray, StoredType, build
from hwtune.errors import DataError, StudyError

STATE = "cma:optimizer:"  # begins the attributes that hold the parts of a pickle, in hexadecimal


class _State:
    """Stands for `cmaes.CMA`."""


class _CheckedType(StoredType):
    def __setstate__(self, state: tuple[Any, ...]) -> None:
        super().__setstate__(state)
        if state[2:5] != (None, None, None):  # parts of other types, which NumPy would build
            raise DataError("holds an array of more than numbers.")


class _CheckedArray(StoredArray):
    def __setstate__(self, state: tuple[Any, ...]) -> None:
        super().__setstate__(state)
        build(self)


def _scalar(dtype: StoredType, raw: bytes) -> None:
    _CheckedArray().__setstate__((1, (), dtype, False, raw))


class _StateUnpickler(ArrayUnpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("cmaes._cma", "CMA"):
            return _State
        own = {"dtype": _CheckedType, "_reconstruct": _CheckedArray, "scalar": _scalar}
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
