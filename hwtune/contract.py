"""What the JSON files of a study hold: the types that the code reads, and that a reader checks."""

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from types import UnionType
from typing import (
    Any,
    Literal,
    NotRequired,
    TypedDict,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

# No `from __future__ import annotations` here, under which Python 3.11 takes every key for required

Status = Literal["running", "complete", "interrupted", "failed"]
Kind = Literal["random", "writer", "ordered", "halved"]  # of a split


class AboutSpace(TypedDict):
    """The space as data; see `SearchSpace.to_json`."""

    question: str
    name: str
    data: str
    model: str
    search: dict[str, dict[str, Any]]
    fixed: dict[str, Any]
    baselines: dict[str, dict[str, Any]]
    published: NotRequired[dict[str, dict[str, Any]]]
    starts: NotRequired[dict[str, dict[str, Any]]]
    found_on: NotRequired[dict[str, dict[str, Any]]]
    max_parameters: NotRequired[int]
    max_macs: NotRequired[int]


class AboutData(TypedDict):
    """The data set; `side` in pixels, `writers` None where nobody knows them."""

    name: str
    sha256: str
    images: int
    side: int
    classes: list[str]
    writers: int | None
    test_from: NotRequired[int | None]  # where its own test part begins
    per_class: NotRequired[list[int]]


class Counts(TypedDict):
    """How many images each part of a split has."""

    train: int
    validation: int
    test: int


class AboutSplit(TypedDict):
    """The split; `validation` and `test` are shares, or how many images the authors had."""

    kind: Kind
    seed: int
    validation: float
    test: float
    counts: Counts


class AboutBudget(TypedDict):
    """What the search may spend; see `Budget`."""

    trials: int | None
    epochs: int
    seconds: float | None
    target: NotRequired[float | None]
    before: NotRequired[float]


class AboutSampler(TypedDict):
    """What proposes."""

    name: str
    startup_trials: NotRequired[int]


class AboutScheduler(TypedDict):
    """What stops early; factor and brackets are ASHA's."""

    name: str
    grace_period: NotRequired[int]
    reduction_factor: NotRequired[int]
    brackets: NotRequired[int]


class AboutRetraining(TypedDict):
    """What follows the search; see `Retraining`."""

    finalists: NotRequired[int]
    folds: NotRequired[int]
    top: int
    seeds: int
    baselines: bool


class AboutBaseline(TypedDict):
    """The published system that a study trains instead of searching."""

    name: str
    honest: bool
    epochs: int
    seeds: int
    headline: float | None  # the accuracy that its authors report
    really: str  # what that is of


class AboutHardware(TypedDict):
    """The machine; `parallel` is how many trainings it ran at once."""

    processor: str
    cores: int | None
    memory_gib: float | None
    gpus: list[str]
    parallel: NotRequired[int | None]


class MadeBy(TypedDict):
    """What a run or a test was made by."""

    versions: dict[str, str]
    git_commit: str | None
    processor: str
    gpus: list[str]


class AboutForecast(TypedDict):
    """What was foreseen of a study when a run began."""

    trials: int
    epochs: int
    seconds: float


class AboutRun(TypedDict):
    """A command that worked on the study."""

    command: str
    started: str
    seconds: float | None
    status: Literal["running", "complete", "interrupted", "failed", "killed"]
    id: NotRequired[str]
    made_by: NotRequired[MadeBy]
    dashboard: NotRequired[str]  # Ray's address, "" where it has none
    forecast: NotRequired[AboutForecast]
    parallel: NotRequired[int]
    epochs_before: NotRequired[int]  # recorded when it began
    probed: NotRequired[float | None]  # the scale of the cost model


class AboutNeed(TypedDict):
    """What a training took of the GPUs of these names, in bytes; see `GpuNeed`."""

    bytes: int
    memory: int
    gpus: NotRequired[list[str]]


class AboutMore(TypedDict, total=False):
    """What not every `study.json` has: the rest of a search, of a baseline, or of older studies."""

    git_commit: str | None
    runs: list[AboutRun]
    parallel: int | None
    gpus_per_trial: float | None
    baseline: AboutBaseline | None
    budget: AboutBudget
    sampler: AboutSampler
    scheduler: AboutScheduler
    objectives: list[str]
    seed: int
    disk_limit: int  # bytes
    retraining: AboutRetraining
    mirror: str | None
    started_from: list[dict[str, Any]]
    may_shorten: bool  # whether a forecast may still give trials fewer epochs
    gpu_need: AboutNeed
    left_out: list[str]  # baselines for which there is no time
    search_seconds: float  # there when the search is over
    trials: int
    pareto: list[int]


class About(AboutMore):
    """`study.json`."""

    format: int
    study: str
    space: AboutSpace
    data: AboutData
    split: AboutSplit
    command: str
    versions: dict[str, str]
    hardware: AboutHardware
    started: str
    seconds: float | None
    status: Status


class Scores(TypedDict):
    """How one class was read, each in [0, 1], None where it cannot be told."""

    precision: float | None
    recall: float | None
    f1: float | None


class MisreadImage(TypedDict):
    """An image, by its place in the data set, and its classes, by theirs."""

    image: int
    true: int
    predicted: int


class WriterRead(TypedDict):
    """How many images of a writer there were, and how many each seed misread."""

    images: int
    misread: list[int]


class TestAccuracy(TypedDict):
    """The accuracy over the seeds in [0, 1]; `low` and `high` bound its 95 % interval."""

    mean: float
    low: float
    high: float
    per_seed: list[float]
    spread: NotRequired[float | None]
    independent_images: NotRequired[int]


class Coverage(TypedDict):
    """How the test images were read to which a network gives `threshold` or more.

    The threshold, the accuracy and its 95 % interval lie in [0, 1].
    """

    threshold: float
    images: int
    accuracy: float
    low: float
    high: float


class Scored(TypedDict):
    """How the first seed read, by class; of many classes `confusion` is no matrix but a list."""

    per_class: dict[str, Scores]
    confusion: list[Any]


class TestRecord(Scored):
    """A configuration that was retrained and tested."""

    name: str
    baseline: str
    config: dict[str, Any]
    parameters: int
    seeds: list[int]
    test_images: int
    test_accuracy: TestAccuracy
    misread: list[MisreadImage]  # by the first seed
    misread_by_seed: NotRequired[list[list[int]]]  # their places in the data set
    writers: NotRequired[dict[str, WriterRead]]  # instead, where the split is by writer
    weights_sha256: NotRequired[str]  # of the first seed's network, where it became `model/`
    coverage: NotRequired[list[Coverage]]  # of the first seed, the most images first
    epochs: NotRequired[list[int]]
    dtypes: NotRequired[list[str]]
    failed: NotRequired[dict[str, str]]  # by seed, why
    opening: NotRequired[int]  # which of the openings was its own
    chosen_among: NotRequired[int]
    passed_over: NotRequired[list[str]]  # chosen before it, but no retraining of these ended well


class Opening(TypedDict):
    """When the test set was opened, and for what."""

    time: str
    command: str
    configuration: str
    made_by: NotRequired[MadeBy]


class Finalist(TypedDict):
    """How a finalist was judged; None stands for trainings that failed."""

    name: str
    accuracy: float | None
    per_fold: list[float | None]
    images: int
    config: NotRequired[dict[str, Any]]


class Leaks(TypedDict):
    """What the test images share with the others; see `leaks`."""

    images: int
    writers: int | None


class Tested(TypedDict):
    """`retrain.json`, the winner first."""

    configurations: list[TestRecord]
    test_openings: list[Opening]
    finalists: NotRequired[list[Finalist]]
    leaks: NotRequired[Leaks]


LARGEST = sys.float_info.max
SURROGATE = re.compile("[\ud800-\udfff]")  # half of a character, which nothing can print
PLAIN = {float: (int, float)}  # what JSON may have for a number
SEARCH = ("budget", "sampler", "scheduler", "seed")  # of a study that is no baseline's training
RESUMED = ("objectives", "disk_limit", "retraining", "runs")  # beside these, of one that goes on


def faults(value: Any, wanted: Any, name: str = "") -> Iterator[str]:
    """Yield what a value out of a JSON file lacks, or has of another type than is wanted.

    Args:
        name: of the value in the file, as "split.counts".
    """
    kind, parts = get_origin(wanted) or wanted, get_args(wanted)
    if wanted is Any:
        return
    if kind is UnionType and any(not any(faults(value, part)) for part in parts):
        return
    if is_typeddict(kind) and type(value) is dict:
        for key, inner in types_of(kind).items():
            path = f"{name}.{key}" if name else key
            if key in value:
                yield from faults(value[key], inner, path)
            elif key in kind.__required_keys__:
                yield f"it has no {path}"
    elif kind is dict and type(value) is dict:
        for key, each in value.items():
            yield from faults(key, parts[0], f"a name in {name}")
            yield from faults(each, parts[1], f"{name}.{key}")
    elif kind is list and type(value) is list:
        for place, each in enumerate(value):
            yield from faults(each, parts[0], f"{name}[{place}]")
    elif kind is Literal and value in parts:
        return
    elif type(value) not in PLAIN.get(kind, (kind,)) or not is_usual(value):
        yield f"{name} is {str(value)[:50]!r}"


def is_usual(value: Any) -> bool:
    """Return whether a number is one that a float holds, or a text one that a file holds."""
    if isinstance(value, (int, float)):
        return -LARGEST <= value <= LARGEST  # NaN is not
    return not isinstance(value, str) or not SURROGATE.search(value)


types_of = cache(get_type_hints)  # one needs a part of a millisecond, and a record hundreds


def wrong_in_study(content: Mapping[str, Any]) -> str:
    """Return what is wrong with the content of a `study.json`, or ""."""
    needed = () if content.get("baseline") else SEARCH
    return next(faults(content, About), "") or lacking(content, needed)


def wrong_in_retrain(content: Mapping[str, Any]) -> str:
    """Return what is wrong with the content of a `retrain.json`, or ""."""
    return next(faults(content, Tested), "")


def lacking(content: Mapping[str, Any], names: Iterable[str]) -> str:
    """Return which of some keys a `study.json` does not have, or ""."""
    return next((f"it has no {name}" for name in names if name not in content), "")
