"""What people give, names and numbers; the command line and notebooks take the same."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from contextlib import suppress
from numbers import Real
from typing import Any, Literal, TypeVar

from hwtune.errors import HwtuneError, OptionError

Value = TypeVar("Value")
SplitKind = Literal["random", "writer"]
Sampler = Literal["tpe", "random", "gp", "cmaes"]
Scheduler = Literal["asha", "median", "none"]
FINALISTS, FOLDS, TOP, SEEDS = 1, 3, 1, 3  # of a retraining where nothing else is asked for
DISK_LIMIT = "2GB"  # of the states of a study's trials
DIRECTIONS: dict[str, Literal["maximize", "minimize"]] = {  # of the objectives, as Optuna says it
    "val_accuracy": "maximize",
    "val_loss": "minimize",
    "parameters": "minimize",
    "seconds_per_image": "minimize",
}


def scored(objective: str, value: float) -> float:
    """Return the value of an objective with the sign that makes larger better."""
    return value if DIRECTIONS[objective] == "maximize" else -value


def bytes_of(text: str | int) -> int:
    """Return the bytes of "500MB" or "2GB"."""
    match = re.fullmatch(r"(\d+)(MB|GB)?", str(text))
    if not match or not int(match[1]):
        raise OptionError(f"{text!r} is not a size; write 500MB or 2GB.")
    return int(match[1]) * {"MB": 10**6, "GB": 10**9, None: 1}[match[2]]


def accuracy_of(text: str | float) -> float:
    """Return an accuracy above 0 and at most 1."""
    return fraction(text, name="an accuracy", example=0.998)


def share_of(text: str | float) -> float:
    """Return a part of a GPU, above 0 and at most 1."""
    return fraction(text, name="a share", example=0.25)


def probability_of(text: str | float) -> float:
    """Return a probability above 0 and at most 1."""
    return fraction(text, name="a probability", example=0.9)


def fraction(text: str | float, *, name: str, example: float) -> float:
    """Return the number above 0 and at most 1 that `text` writes."""
    with suppress(ValueError):
        if 0 < float(text) <= 1:
            return float(text)
    raise OptionError(f"{text!r} is not {name} above 0 and at most 1, such as {example}.")


def seconds_of(text: str | float) -> float:
    """Return the seconds of "90s", "30m", "2h" or "1h30m"; a number is seconds already."""
    if isinstance(text, Real) and not isinstance(text, bool) and 0 < text < math.inf:
        return float(text)
    match = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", str(text))
    parts = [int(part or 0) for part in match.groups()] if match else []
    if not any(parts):
        raise OptionError(f"{text!r} is not a duration; write 90s, 30m, 2h or 1h30m.")
    return float(parts[0] * 3600 + parts[1] * 60 + parts[2])


def number_of(text: str | int) -> int:
    """Return a whole number of at least 0."""
    return whole_number(text, at_least=0)


def positive(text: str | int) -> int:
    """Return a whole number of at least 1."""
    return whole_number(text, at_least=1)


def folds_of(text: str | int) -> int:
    """Return a whole number of at least 2."""
    return whole_number(text, at_least=2)


def seed_of(text: str | int) -> int:
    """Return a seed: a whole number of at least 0, as NumPy takes them."""
    number = number_of(text)
    if number >= 2**32:
        raise OptionError(f"{text!r} is too large; seeds lie below {2**32}.")
    return number


def whole_number(text: str | int, *, at_least: int) -> int:
    """Return the number that `text` writes."""
    if not re.fullmatch(r"\d+", str(text)) or int(text) < at_least:
        raise OptionError(f"{text!r} is not a whole number of at least {at_least}.")
    return int(text)


def checked(name: str, parse: Callable[[Any], Value], given: Any) -> Value:
    """Return the value of an argument.

    Raises:
        OptionError: when it is none; names the argument.
    """
    try:
        return parse(given)
    except HwtuneError as error:
        raise OptionError(f"{name}: {error}") from None


def wished(name: str, parse: Callable[[Any], Value], given: Any) -> Value | None:
    """Return the value of an argument that may be left out, as `checked` does."""
    return None if given is None else checked(name, parse, given)
