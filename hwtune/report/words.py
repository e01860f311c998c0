"""Values as people read them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from hwtune.words import counted


def short(text: str) -> str:
    """Return a hyperparameter as its file has it, a long number with four digits."""
    try:
        number = float(text)
    except ValueError:
        return text
    return text if len(text) <= 7 else f"{number:.4g}"


def literal(names: Iterable[str]) -> list[str]:
    """Return names that plotly does not take for mark-up."""
    return [escape(name, quote=False) for name in names]


def percent(value: float | None) -> str:
    """Return a fraction as a percentage with two digits, a dash for none."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.2%}"


def by_writers(record: Mapping[str, Any]) -> str:
    """Return how many writers the test images are by, and what these tell of others, or "".

    Args:
        record: as `retrain.json` has it; one of a split by writer says it.
    """
    alike = record["test_accuracy"].get("independent_images")
    if alike is None or alike >= record["test_images"] or "writers" not in record:
        return ""
    writers, images = len(record["writers"]), counted(alike, "image")
    tell = "tells" if writers == 1 else "tell"
    return f" by {counted(writers, 'writer')}, who {tell} as much of others as {images}"


def exact(probability: float) -> str:
    """Return a probability as a percentage with as many digits as it has."""
    return f"{100 * probability:.10g}%"


def state_of(about: Mapping[str, Any], tested: Mapping[str, Any]) -> str:
    """Return what tells whether a page is a study's last: its runs, how that ended, its tests."""
    runs, openings = len(about.get("runs", ())), len(tested["test_openings"])
    return f"{runs} {about['status']} {openings}"
