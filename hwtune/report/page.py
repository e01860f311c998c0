"""What all pages are made with."""

from __future__ import annotations

import math

from jinja2 import Environment, PackageLoader, StrictUndefined


def environment() -> Environment:
    """Return where the templates lie, with their filters."""
    found = Environment(
        loader=PackageLoader("hwtune.report", ""), autoescape=True, undefined=StrictUndefined
    )
    found.filters["percent"] = percent
    found.filters["short"] = short
    return found


def short(text: str) -> str:
    """Return a hyperparameter as its file has it, a long number with four digits."""
    try:
        number = float(text)
    except ValueError:
        return text
    return text if len(text) <= 7 else f"{number:.4g}"


def percent(value: float | None) -> str:
    """Return a fraction as a percentage with two digits, a dash for none."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.2%}"
