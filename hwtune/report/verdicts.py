"""Whether what was tested on the same images can be told apart, in words."""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Contender:
    """A configuration that was tested, to be compared with others.

    Attributes:
        name: what it is called: by its study, or within one.
        record: as `retrain.json` has it.
        kind: of the split.
        part: the same for what was tested on the same images; see `images_tested`.
    """

    name: str
    record: TestRecord
    kind: str
    part: Sequence[Any] = ()

    @property
    def accuracy(self) -> float:
        """Return the mean over the seeds, in [0, 1]."""
        return self.record["test_accuracy"]["mean"]

    @property
    def per_seed(self) -> list[float]:
        """Return the accuracy of each seed, in [0, 1]."""
        return self.record["test_accuracy"]["per_seed"]


def verdicts(tested: Sequence[Contender]) -> list[str]:
    """Return in words how what was tested differs from the best on the same images."""
    groups = alike_tested(tested)
    words = [verdict(best, other, of) for best, other, of in pairs(tested)]
    if len(groups) > 1:
        names = "; ".join(", ".join(each.name for each in group) for group in groups)
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


def alike_tested(tested: Sequence[Contender]) -> list[list[Contender]]:
    """Return what was tested on the same images together."""
    groups: dict[str, list[Contender]] = {}
    for each in tested:
        groups.setdefault(json.dumps(each.part), []).append(each)
    return list(groups.values())


def basis(tested: Sequence[Contender]) -> str:
    """Return what the verdicts rest on, "" where none could be given."""
    return "" if all(obstacle(best, other) for best, other, _ in pairs(tested)) else BASIS


def pairs(tested: Sequence[Contender]) -> list[tuple[Contender, Contender, int]]:
    """Return of what was tested on the same images the best, each other, and how many they are."""
    bests = [(max(group, key=lambda each: each.accuracy), group) for group in alike_tested(tested)]
    return [(best, each, len(group)) for best, group in bests for each in group if each is not best]


def obstacle(best: Contender, other: Contender) -> str:
    """Return why two cannot be judged, or ""."""
    names = f"{best.name} and {other.name} cannot be told apart by"
    if few := [each.name for each in (best, other) if len(each.per_seed) < 2]:
        return f"{names} a single seed of {' and '.join(few)}: train with --seeds 5."
    for each in (best, other):
        if each.kind == "writer" and "writers" not in each.record:
            return f"{names} writer: the record of {each.name} is older; retrain it."
        if each.record["test_accuracy"].get("independent_images") == 1:
            return f"{names} so few tested writers, who tell as much as a single image."
    return ""


def verdict(best: Contender, other: Contender, of: int = 2) -> str:
    """Return in words how one differs from the best.

    Args:
        of: how many are compared.
    """
    if why := obstacle(best, other):
        return why
    variance, parts = image_variance(best.record, other.record)
    gain, low, high = welch_interval(
        best.per_seed, over=other.per_seed, chosen_of=of, variance=variance, parts=parts
    )
    ratio = other.record["parameters"] / best.record["parameters"]
    times = f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.2g}"
    size = "as many" if times == "1" else f"{times} times the"
    difference = f"{100 * gain:.2f} points ({100 * low:+.2f} to {100 * high:+.2f})"
    if low > 0:
        words = f"{best.name} reads better than {other.name}: {difference}"
    else:
        words = f"{best.name} and {other.name} cannot be told apart: {difference}"
    return f"{words}; {other.name} has {size} parameters."


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


def verdicts_within(configurations: Sequence[TestRecord], kind: str) -> tuple[list[str], str]:
    """Return in words how the winner of a study differs from what else was tested, and the basis.

    Args:
        configurations: as `retrain.json` has them, the winner first.
        kind: of the split.
    """
    tested = [Contender(each["name"], each, kind) for each in configurations]
    orders = [sorted((tested[0], each), key=lambda t: -t.accuracy) for each in tested[1:]]
    words = [verdict(best, other, len(tested)) for best, other in orders]
    return words, "" if all(obstacle(best, other) for best, other in orders) else BASIS
