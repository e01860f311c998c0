"""What `hwtune spaces` and `hwtune data check` show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hwtune.commands import hwtune_command
from hwtune.data import find_data, load_data, shape_of, source_of
from hwtune.data.folder import passed_over, told_apart
from hwtune.data.images import Dataset, image_digests
from hwtune.data.own import picture_files
from hwtune.data.splits import SplitSpec, split_indices
from hwtune.distributions import in_words
from hwtune.errors import DataError, MisfitError
from hwtune.search.feasible import check_idle, cost_of, survey, too_large
from hwtune.space import SearchSpace, load_space, space_files
from hwtune.words import counted

SHOWN = 20  # names in a line
FEW_WRITERS = 10  # who are tested


def list_spaces() -> list[dict[str, str]]:
    """Return name, data set and question of each space that comes with hwtune."""
    spaces = [load_space(name) for name in space_files()]
    return [{"space": s.name, "data": s.data, "question": s.question} for s in spaces]


def describe_space(name: str) -> dict[str, Any]:
    """Return a space with the costs of its baselines, starts and corners, all of them built.

    Raises:
        SpaceError: when it is wrong, or nothing of it can be trained.
    """
    space = load_space(name)
    classes, side = shape_of(space.data)
    shape: dict[str, Any] = {"classes": classes, "side": side}
    check_idle(space)
    survey(space, **shape)
    points = {
        **space.baselines,
        **{f"{name} (start)": values for name, values in space.starts.items()},
        "smallest corner": space.corner(largest=False),
        "largest corner": space.corner(largest=True),
    }
    build = partial(cost_of, space, **shape)
    return {
        "space": space.name,
        "question": space.question,
        "data": space.data,
        "model": space.model,
        "search": {key: in_words(d) for key, d in space.search.items()},
        "fixed": dict(space.fixed),
        "points": [point(space, name, values, build) for name, values in points.items()],
    }


def point(space: SearchSpace, name: str, values: Any, build: Any) -> dict[str, Any]:
    """Return the cost of one point and whether a study would train it."""
    try:
        cost = build(values)
    except MisfitError as error:
        return {"name": name, "parameters": None, "macs": None, "trained": f"no: {error}"}
    reason = too_large(space, cost)
    if name in space.baselines:
        reason = ""
    trained = f"no: {reason}" if reason else "yes"
    return {"name": name, "parameters": cost.parameters, "macs": cost.macs, "trained": trained}


def describe_data(name: str) -> dict[str, Any]:
    """Return the counts of a data set, decoded anew from its source.

    Raises:
        DataError: when it is not at hand, or damaged.
    """
    source, found = source_of(name), find_data(name)
    if source.find is not None and found is None:
        load_data(name)  # raises, saying how to get it
    dataset: Dataset = source.read(found or Path())
    described = dataset.describe()
    counts = np.array(described["per_class"])
    if counts.min() == 0:
        raise DataError(
            f"{name} has no image of class {dataset.classes[int(counts.argmin())]!r}; add some to "
            "the source, and the data set anew."
        )
    twins, disputed = alike(dataset)
    return {
        **described,
        "source": str(found or "built in"),
        "identical_images": twins,
        "under_two_classes": [list(pair) for pair in disputed],
    }


def alike(dataset: Dataset) -> tuple[int, list[tuple[int, int]]]:
    """Return how many images equal an earlier one, and pairs of equal ones of different classes."""
    first: dict[bytes, int] = {}
    disputed = []
    for index, digest in enumerate(image_digests(dataset.images, range(len(dataset.images)))):
        before = first.setdefault(digest, index)
        if dataset.labels[index] != dataset.labels[before]:
            disputed.append((before, index))
    return len(dataset.images) - len(first), disputed


def alike_in_words(name: str, twins: int, disputed: Sequence[Sequence[int]]) -> str:
    """Return what `alike` found in a data set, "" where all of its images differ."""
    if not twins:
        return ""
    files = picture_files(name)
    words = f"{counted(twins, 'image')} of them {'equal' if twins > 1 else 'equals'} another"
    if disputed:
        one, other = (files[i] if files else f"image {i}" for i in disputed[0])
        words += (
            f"; {counted(len(disputed), 'pair')} of equal images under two labels ({one} and "
            f"{other}, for one): one of these is wrong"
        )
    return f"{words}."


def in_lines(described: Mapping[str, Any]) -> Iterator[str]:
    """Yield for people what `describe_data` returned."""
    counts = described["per_class"]
    yield f"{described['name']}: {described['source']}, sha256 {described['sha256']}"
    yield size_in_words(described)
    each = " to ".join(f"{n:,}" for n in dict.fromkeys([min(counts), max(counts)]))
    yield f"{each} images of a class"
    if described["test_from"] is not None:
        yield f"Published test part: from image {described['test_from']:,}"
    found = described["identical_images"], described["under_two_classes"]
    yield alike_in_words(described["name"], *found) or "No two images are equal."


def size_in_words(described: Mapping[str, Any]) -> str:
    """Return how many images, writers and classes a data set has, as it describes itself."""
    side, writers, names = described["side"], described["writers"], described["classes"]
    by = f" by {writers:,} writers" if writers else ""
    return (
        f"{described['images']:,} images {side}x{side}{by}, {len(names)} classes: "
        f"{shortened(names)}"
    )


def shortened(names: Sequence[str]) -> str:
    """Return the first names of many in a line."""
    more = f", and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"


def describe_own(name: str, folder: Path) -> list[str]:
    """Return lines on a data set of the user's own: what was taken from a folder, and what next."""
    dataset = load_data(name)
    by_writer = few = ""
    if dataset.writers is not None:
        writers = len(np.unique(dataset.writers))
        try:
            kept = split_indices(dataset, SplitSpec(kind="writer")).outside_test
        except DataError as error:  # too few, or a class that few wrote
            few = f"Not by writer: {error}"
        else:
            by_writer, tested = " --split writer", writers - len(np.unique(dataset.writers[kept]))
            if tested < FEW_WRITERS:
                few = (
                    f"By writer {tested} of {writers:,} would be tested, and so few tell little of "
                    "others: the interval will be wide."
                )
    lines = [size_in_words(dataset.describe())]
    if others := told_apart(folder)[1]:
        lines.append(f"Left out, being no pictures: {passed_over(others)}.")
    if found := alike_in_words(name, *alike(dataset)):
        lines.append(found)
    if few:
        lines.append(few)
    lines.append(
        f"Search them: {hwtune_command(f'search chinese_cnn --data {name}{by_writer}')}, or a "
        "space of your own (docs/spaces.md)."
    )
    return lines
