"""Whether what was tested on the same images can be told apart, in words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from hwtune.statistics import welch_interval

BASIS = (
    "Differences are between the means over seeds, with Welch's 95 % interval for the chance of "
    "training (where three or more are compared, of all pairs together), on the same test images; "
    "other images, or other writers, may order them otherwise."
)


def verdicts(studies: Sequence[dict[str, Any]]) -> list[str]:
    """Return in words how the studies that were tested differ from the best on the same images."""
    groups = alike_tested(studies)
    words = [verdict(best, other, of) for best, other, of in pairs(studies)]
    if len(groups) > 1:
        names = "; ".join(", ".join(each["study"] for each in group) for group in groups)
        words.append(f"Tested on different images, so that they do not compare: {names}.")
    return words


def alike_tested(studies: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Return the studies that were tested, those on the same images together."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for study in studies:
        if study["test_accuracy"] is not None:
            groups.setdefault(json.dumps(study["test_part"]), []).append(study)
    return list(groups.values())


def basis(studies: Sequence[dict[str, Any]]) -> str:
    """Return what the verdicts rest on, "" where none could be given."""
    return "" if all(obstacle(best, other) for best, other, _ in pairs(studies)) else BASIS


def pairs(
    studies: Sequence[dict[str, Any]],
) -> list[tuple[dict[str, Any], dict[str, Any], int]]:
    """Return of studies tested on the same images the best, each other, and how many they are."""
    bests = [(max(g, key=lambda s: s["test_accuracy"]), g) for g in alike_tested(studies)]
    return [(best, each, len(group)) for best, group in bests for each in group if each is not best]


def obstacle(best: dict[str, Any], other: dict[str, Any]) -> str:
    """Return why two studies cannot be judged, or ""."""
    names = f"{best['study']} and {other['study']}"
    few = [each["study"] for each in (best, other) if len(each["per_seed"]) < 2]
    if few:
        return (
            f"{names} cannot be told apart by a single seed of {' and '.join(few)}: retrain with "
            "--seeds 5."
        )
    if alike := [each["study"] for each in (best, other) if len({*each["per_seed"]}) == 1]:
        vary = "does not vary over its" if len(alike) == 1 else "do not vary over their"
        gain = 100 * (best["test_accuracy"] - other["test_accuracy"])
        return (
            f"{names} differ by {gain:.2f} points, which cannot be judged: {' and '.join(alike)} "
            f"{vary} seeds, which therefore tell nothing of chance; retrain with more."
        )
    return ""


def verdict(best: dict[str, Any], other: dict[str, Any], of: int = 2) -> str:
    """Return in words how a study differs from the best.

    Args:
        of: how many are compared.
    """
    if why := obstacle(best, other):
        return why
    gain, low, high = welch_interval(best["per_seed"], over=other["per_seed"], chosen_of=of)
    ratio = other["parameters"] / best["parameters"]
    times = f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.2g}"
    size = "as many" if times == "1" else f"{times} times the"
    difference = f"{100 * gain:.2f} points ({100 * low:+.2f} to {100 * high:+.2f})"
    if low > 0:
        words = (
            f"{best['study']} reads these test images better than {other['study']}: {difference}"
        )
    else:
        words = f"{best['study']} and {other['study']} cannot be told apart: {difference}"
    return f"{words}; {other['study']} has {size} parameters."


def verdicts_within(configurations: Sequence[dict[str, Any]]) -> tuple[list[str], str]:
    """Return in words how the winner of a study differs from what else was tested, and the basis.

    Args:
        configurations: as `retrain.json` has them, the winner first.
    """
    tested = [
        {
            "study": each["name"],
            "parameters": each["parameters"],
            "test_accuracy": each["test_accuracy"]["mean"],
            "per_seed": each["test_accuracy"]["per_seed"],
        }
        for each in configurations
    ]
    orders = [sorted((tested[0], each), key=lambda t: -t["test_accuracy"]) for each in tested[1:]]
    words = [verdict(best, other, len(tested)) for best, other in orders]
    return words, "" if all(obstacle(best, other) for best, other in orders) else BASIS
