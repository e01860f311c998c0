"""Whether what was tested on the same images can be told apart, in words."""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from hwtune.contract import AboutData, AboutSplit, TestRecord
from hwtune.statistics import mean_variance, welch_interval

BASIS = (
    "Differences are between the means over seeds, with Welch's 95 % interval for the chance of "
    "training and of which images were tested (by a split by writer: which writers); where three "
    "or more are compared, of all pairs together."
)


def verdicts(studies: Sequence[dict[str, Any]]) -> list[str]:
    """Return in words how the studies that were tested differ from the best on the same images."""
    groups = alike_tested(studies)
    words = [verdict(best, other, of) for best, other, of in pairs(studies)]
    if len(groups) > 1:
        names = "; ".join(", ".join(each["study"] for each in group) for group in groups)
        words.append(f"Tested on different images, so that they do not compare: {names}.")
    return words


def images_tested(data: AboutData, split: AboutSplit) -> list[Any]:
    """Return what two studies share that were tested on the same images."""
    own = data.get("test_from") is not None
    if "test_from" not in data:  # an older record: what is no share of the images is a part itself
        off = split["counts"]["test"] - split["test"] * data["images"]
        own = abs(off) > len(data["classes"])
    own = own and split["kind"] in ("random", "ordered")
    drawn = [split[name] for name in ("kind", "seed", "test")]  # before those to validate with
    return [data["sha256"], "its own" if own else drawn]


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
    names = f"{best['study']} and {other['study']} cannot be told apart by"
    if few := [each["study"] for each in (best, other) if len(each["per_seed"]) < 2]:
        return f"{names} a single seed of {' and '.join(few)}: train with --seeds 5."
    for each in (best, other):
        if each["by_writer"] and "writers" not in each["tested"]:
            return f"{names} writer: the record of {each['study']} is older; retrain it."
        if each["tested"]["test_accuracy"].get("independent_images") == 1:
            return f"{names} so few tested writers, who tell as much as a single image."
    return ""


def verdict(best: dict[str, Any], other: dict[str, Any], of: int = 2) -> str:
    """Return in words how a study differs from the best.

    Args:
        of: how many are compared.
    """
    if why := obstacle(best, other):
        return why
    variance, parts = image_variance(best["tested"], other["tested"])
    gain, low, high = welch_interval(
        best["per_seed"], over=other["per_seed"], chosen_of=of, variance=variance, parts=parts
    )
    ratio = other["parameters"] / best["parameters"]
    times = f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.2g}"
    size = "as many" if times == "1" else f"{times} times the"
    difference = f"{100 * gain:.2f} points ({100 * low:+.2f} to {100 * high:+.2f})"
    if low > 0:
        words = f"{best['study']} reads better than {other['study']}: {difference}"
    else:
        words = f"{best['study']} and {other['study']} cannot be told apart: {difference}"
    return f"{words}; {other['study']} has {size} parameters."


def image_variance(best: TestRecord, other: TestRecord) -> tuple[float, int]:
    """Return the variance of a difference by the choice of the test images, and of how many parts.

    Two records are compared part by part: a part is an image or, where nothing by the tested
    writers was trained on, a writer. Those that both read alike tell nothing of how the others
    scatter, so that they are not counted. Of an older record, the images that its first seed
    misread stand for those of all.

    Args:
        best, other: as `retrain.json` has them.
    """
    both, images = (best, other), best["test_images"]
    if "writers" in best:
        writers = best["writers"]
        ours, theirs = ([np.mean(each["writers"][w]["misread"]) for w in writers] for each in both)
        off = np.subtract(theirs, ours)
        sizes = np.array([writer["images"] for writer in writers.values()])
        between = mean_variance(off - sizes * off.sum() / images, images)
        return max(between, float(np.abs(off).sum()) / images**2), len(writers)
    gaps: dict[int, Fraction] = defaultdict(Fraction)  # by image; thirds of floats do not add to 0
    for each, sign in zip(both, (-1, 1), strict=True):
        seeds = each.get("misread_by_seed") or [[m["image"] for m in each["misread"]]]
        for image in itertools.chain(*seeds):
            gaps[image] += Fraction(sign, len(seeds))
    off = np.zeros(images)  # which image is which does not matter
    off[: len(gaps)] = list(map(float, gaps.values()))
    return mean_variance(off - off.mean(), images), max(2, int(np.count_nonzero(off)))


def compared_of(entry: TestRecord | None, kind: str) -> dict[str, Any]:
    """Return what is compared of a configuration as `retrain.json` has it, of none that.

    Args:
        kind: of the split.
    """
    test: Mapping[str, Any] = entry["test_accuracy"] if entry else {}
    return {
        "parameters": entry and entry["parameters"],
        "test_accuracy": test.get("mean"),
        "low": test.get("low"),
        "high": test.get("high"),
        "per_seed": test.get("per_seed", []),
        "by_writer": kind == "writer",
        "tested": entry,
    }


def verdicts_within(configurations: Sequence[TestRecord], kind: str) -> tuple[list[str], str]:
    """Return in words how the winner of a study differs from what else was tested, and the basis.

    Args:
        configurations: as `retrain.json` has them, the winner first.
        kind: of the split.
    """
    tested = [{"study": each["name"], **compared_of(each, kind)} for each in configurations]
    orders = [sorted((tested[0], each), key=lambda t: -t["test_accuracy"]) for each in tested[1:]]
    words = [verdict(best, other, len(tested)) for best, other in orders]
    return words, "" if all(obstacle(best, other) for best, other in orders) else BASIS
