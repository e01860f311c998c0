"""The values that a hyperparameter may take, as Optuna's distributions."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from hwtune.errors import SpaceError


def choice(*values: bool | int | float | str) -> CategoricalDistribution:
    """Return one of `values`, listed from small to large where they have an order."""
    if not values:
        raise SpaceError("choice() needs at least one value.")
    for value in values:
        if not isinstance(value, (bool, int, float, str)):
            raise SpaceError(
                f"choice() takes numbers, texts, True and False one by one, not {value!r}; a list "
                'is written "32-64", and None "none".'
            )
    return CategoricalDistribution(values)


def uniform(low: float, high: float) -> FloatDistribution:
    """Return a float in [low, high]."""
    return _ranged(FloatDistribution, low, high)


def log_uniform(low: float, high: float) -> FloatDistribution:
    """Return a float in [low, high], uniform in its logarithm."""
    return _ranged(FloatDistribution, low, high, log=True)


def integer(low: int, high: int) -> IntDistribution:
    """Return an integer in [low, high]."""
    return _ranged(IntDistribution, low, high)


def _ranged(kind: Any, low: float, high: float, **options: bool) -> Any:
    try:
        return kind(low, high, **options)
    except ValueError as error:
        raise SpaceError(f"A range from {low} to {high} is not possible: {error}") from None


def bounds(distribution: BaseDistribution) -> Sequence[Any]:
    """Return the choices of a distribution, or both ends of a range."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices
    return distribution.low, distribution.high  # type: ignore[attr-defined]


def every_value(distribution: BaseDistribution) -> Sequence[Any] | None:
    """Return all values of a distribution in their order, None of a range of floats."""
    if isinstance(distribution, IntDistribution):
        return range(distribution.low, distribution.high + 1, distribution.step)
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices
    return bounds(distribution)[:1] if distribution.single() else None


def contains(distribution: BaseDistribution, value: Any) -> bool:
    """Return whether `value` is a point of `distribution`, False for a wrong type."""
    if isinstance(distribution, CategoricalDistribution):
        return any(value == each and type(value) is type(each) for each in distribution.choices)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return distribution._contains(distribution.to_internal_repr(value))


def typed(distribution: BaseDistribution, value: Any) -> Any:
    """Return a value that a distribution contains as Optuna gives it back: of floats 12 is 12.0."""
    if isinstance(distribution, CategoricalDistribution):
        return value
    return int(value) if isinstance(distribution, IntDistribution) else float(value)


def nearest(distribution: BaseDistribution, value: Any, *, off: bool = False) -> Any:
    """Return a value where a distribution has it, of numbers the nearest that it has, else None.

    Args:
        off: whether 0 switches something off, so that it is near to no other number.
    """
    if contains(distribution, value):
        return typed(distribution, value)
    if not is_number(value):
        return None
    if isinstance(distribution, CategoricalDistribution):
        numbers = [each for each in distribution.choices if is_number(each)]
        if off:
            numbers = [each for each in numbers if bool(each) == bool(value)]
        return min(numbers, key=lambda each: abs(each - value), default=None)
    (low, high), step = bounds(distribution), distribution.step  # type: ignore[attr-defined]
    within = min(max(value, low), high)
    if step:
        within = low + round((within - low) / step) * step
    found = typed(distribution, within)
    return None if off and bool(found) != bool(value) else found


def is_number(value: Any) -> bool:
    """Return whether a value has others near to it."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def parse_value(key: str, distribution: BaseDistribution, text: str) -> Any:
    """Return the value of `distribution` that `str` wrote as `text`."""
    if isinstance(distribution, CategoricalDistribution):
        for value in distribution.choices:
            if str(value) == text:
                return value
    else:
        with suppress(ValueError):
            return int(text) if isinstance(distribution, IntDistribution) else float(text)
    raise SpaceError(f"{key}={text!r} is not a value of {distribution}.")


def in_words(distribution: BaseDistribution) -> str:
    """Return the values that a distribution may take, as people write them."""
    if isinstance(distribution, CategoricalDistribution):
        return ", ".join(map(str, distribution.choices))
    scale = " (logarithmic)" if getattr(distribution, "log", False) else ""
    return f"{distribution.low} to {distribution.high}{scale}"  # type: ignore[attr-defined]
