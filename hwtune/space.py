"""A search space: what varies, what is fixed, and the published baselines."""

from __future__ import annotations

import json
import math
import os
import runpy
import tokenize
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from html import escape
from pathlib import Path
from typing import Any, cast

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    distribution_to_json,
    json_to_distribution,
)

from hwtune.commands import hwtune_command
from hwtune.config import HINTS, Hyperparameters, TrialConfig, trial_config
from hwtune.contract import AboutSpace
from hwtune.distributions import bounds, contains, every_value, in_words, parse_value, typed
from hwtune.distributions import choice as choice  # for the files of spaces, as the next ones
from hwtune.distributions import integer as integer
from hwtune.distributions import log_uniform as log_uniform
from hwtune.distributions import uniform as uniform
from hwtune.errors import SpaceError, StudyError
from hwtune.words import first_line, printable, unknown

optuna.logging.set_verbosity(optuna.logging.WARNING)  # its line a trial drowns the terminal


SPLIT_FIELDS = ("kind", "seed", "validation", "test")  # of `hwtune.data.splits.SplitSpec`
DATA_FIELDS = ("images", "writers", "sha256")  # of `hwtune.data.images.Dataset.describe`


@dataclass(frozen=True, kw_only=True)
class Published:
    """How the authors of a baseline trained it, where that is no part of its point of the space.

    Attributes:
        headline: the accuracy in [0, 1] that they report, None where there is none.
        really: what that figure is, in a line.
        values: hyperparameters of their run, above all its length.
        split: the fields of their split, as `hwtune.data.splits.SplitSpec` has them.
        source: where they published it, a URL.
    """

    headline: float | None
    really: str
    values: Hyperparameters
    split: dict[str, Any]
    source: str = ""


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """The values that a study may try.

    Attributes:
        question: what a search of this space answers, in a sentence.
        data: the data set's name.
        model: the architecture's name, "cnn" or "resnet".
        fixed: hyperparameters that all trials share.
        search: hyperparameters that vary, as Optuna's distributions.
        baselines: what is to be beaten, each a point of `search`; run first, never stopped.
        published: how the baselines were trained by their authors, by name.
        starts: points known to work, tried after the baselines, never stopped either.
        found_on: by a point's name, the split of `data` on which a search found it, and what tells
            these data from others of their name. On another split such a start is left out: it
            knows images that are tested there.
        max_parameters: a larger network is not trained, baselines excepted.
        max_macs: neither is one with more multiply-accumulates an image.

    Raises:
        SpaceError: on an unknown hyperparameter or a point outside the space.
    """

    question: str
    data: str
    search: Mapping[str, BaseDistribution]
    model: str = "cnn"
    fixed: Hyperparameters = field(default_factory=dict)
    baselines: Mapping[str, Hyperparameters] = field(default_factory=dict)
    published: Mapping[str, Published] = field(default_factory=dict)
    starts: Mapping[str, Hyperparameters] = field(default_factory=dict)
    found_on: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    max_parameters: int = 5_000_000
    max_macs: int = 2_000_000_000
    name: str = "space"

    def __post_init__(self) -> None:
        if not self.name or Path(self.name).name != self.name or self.name.startswith("."):
            raise SpaceError(
                f"name={self.name!r} is not a plain name, which a study's folder needs."
            )
        for what in ("question", "data", "model"):
            if not isinstance(text := getattr(self, what), str):
                raise SpaceError(f"{what}={text!r} is not text; put it in quotes.")
        for bound in ("max_parameters", "max_macs"):
            most = getattr(self, bound)
            if isinstance(most, bool) or not isinstance(most, int) or most < 1:
                raise SpaceError(f"{bound}={most!r} is not a whole number of 1 or more.")
        if not self.search:
            raise SpaceError(f"Space {self.name!r} searches nothing; list a value in search={{}}.")
        for key, distribution in self.search.items():
            if not isinstance(distribution, BaseDistribution):
                raise SpaceError(
                    f"search[{key!r}]={distribution!r} is not a range; use choice, uniform, "
                    "log_uniform or integer, or move it to fixed."
                )
            if HINTS.get(key) is str and not isinstance(distribution, CategoricalDistribution):
                ends = f'"{distribution.low}", "{distribution.high}"'  # type: ignore[attr-defined]
                raise SpaceError(
                    f"search[{key!r}] is a range, but {key} takes texts; list them, as in "
                    f"choice({ends})."
                )
            if key in self.fixed:
                raise SpaceError(f"{key!r} stands both in fixed and in search; keep one.")
            choices = getattr(distribution, "choices", ())
            if len({(type(value), value) for value in choices}) < len(choices):
                raise SpaceError(f"search[{key!r}]={distribution!r} repeats a value; list it once.")
        self._check_values()
        for kind, points in (("Baseline", self.baselines), ("Start", self.starts)):
            for name, values in points.items():
                if name != printable(name):
                    raise SpaceError(f"{kind} {name!r} has no plain name; rename it.")
                self._check_point(f"{kind} {name!r}", values)
        for each in ("baselines", "starts"):  # with the values that a record will hold
            points = {n: self._typed(values) for n, values in getattr(self, each).items()}
            object.__setattr__(self, each, points)
        if both := self.baselines.keys() & self.starts.keys():
            raise SpaceError(f"{min(both)!r} is the name of a baseline and of a start; rename one.")
        for name, split in self.found_on.items():
            if name not in self.points:
                raise SpaceError(
                    f"found_on[{name!r}] is neither a baseline nor a start; take it out."
                )
            if not isinstance(split, Mapping) or split.keys() - {*SPLIT_FIELDS, *DATA_FIELDS}:
                raise SpaceError(
                    f"found_on[{name!r}]={split!r} is not a split; give its "
                    f'{", ".join(SPLIT_FIELDS)}, as in {{"kind": "random", "seed": 0}}, or '
                    f"{', '.join(DATA_FIELDS)} of its data."
                )
        for name, published in self.published.items():
            if name not in self.baselines:
                raise SpaceError(
                    f"published[{name!r}] is not a baseline; take it out of published, too."
                )
            self.config({**self.baselines[name], **published.values})

    def _check_values(self) -> None:
        """Build a trial config from each choice and each end of a range."""
        corner = self.corner(largest=False)
        self.config(corner)
        for key, distribution in self.search.items():
            for value in bounds(distribution):
                self.config({**corner, key: value})

    def _check_point(self, title: str, values: Hyperparameters) -> None:
        for key in self.search:
            if key not in values:
                raise SpaceError(f"{title} lacks {key!r}, which the space searches.")
        for key, value in values.items():
            if key not in self.search:
                raise SpaceError(f"{title} sets {key!r}, which the space does not search.")
            if not contains(self.search[key], value):
                raise SpaceError(
                    f"{title} lies outside its space: {key}={value!r} is not one of "
                    f"{in_words(self.search[key])}."
                )

    def _typed(self, values: Hyperparameters) -> dict[str, Any]:
        return {key: typed(self.search[key], value) for key, value in values.items()}

    def config(self, values: Hyperparameters) -> TrialConfig:
        """Return the typed configuration of a point of the space."""
        return trial_config({"model": self.model, **self.fixed, **values})

    def images_seen(self, values: Mapping[str, Any], epochs: int, *, images: int) -> int:
        """Return on how many images a point has trained after `epochs` of `images` each.

        Its last epoch may be a part of one: `max_steps`.
        """
        if not self.fixed.get("max_steps") and "max_steps" not in self.search:
            return epochs * images  # at once: it is asked of every epoch of a study
        return self.config(self.parse(values)).images_seen(epochs, images=images)

    def epochs_seen(self, values: Mapping[str, Any], epochs: int, *, images: int) -> float:
        """Return the same as a number of whole epochs."""
        return self.images_seen(values, epochs, images=images) / images

    def corner(self, *, largest: bool) -> Hyperparameters:
        """Return the point of all first (or last) choices and all low (or high) ends."""
        index = -1 if largest else 0
        return {key: bounds(d)[index] for key, d in self.search.items()}

    def parse(self, texts: Mapping[str, Any]) -> Hyperparameters:
        """Return the point whose values a record holds: as they are, or as texts from its file.

        Raises:
            SpaceError: when a text is not a value of its hyperparameter.
        """
        return {key: parse_value(key, d, str(texts.get(key, ""))) for key, d in self.search.items()}

    @property
    def points(self) -> dict[str, Hyperparameters]:
        """Return the points that have a name: the baselines, then the starts."""
        return {**self.baselines, **self.starts}

    def name_of(self, values: Hyperparameters) -> str:
        """Return the name of a point, "" for one that has none."""
        return next((name for name, each in self.points.items() if each == values), "")

    def found_elsewhere(self, data: Mapping[str, Any], split: Mapping[str, Any]) -> list[str]:
        """Return the points that were found on another split of these data, by name."""
        return found_elsewhere(vars(self), data, split)

    def without(self, names: Sequence[str]) -> SearchSpace:
        """Return the space without some of its baselines and starts."""

        def left(points: Mapping[str, Any]) -> dict[str, Any]:
            return {name: each for name, each in points.items() if name not in names}

        return replace(
            self,
            baselines=left(self.baselines),
            published=left(self.published),
            starts=left(self.starts),
            found_on=left(self.found_on),
        )

    def with_epochs(self, epochs: int) -> SearchSpace:
        """Return the space with this length for every trial."""

        def without(values: Mapping[str, Any]) -> dict[str, Any]:
            return {key: value for key, value in values.items() if key != "epochs"}

        return replace(
            self,
            fixed={**self.fixed, "epochs": epochs},
            search=without(self.search),
            baselines={name: without(values) for name, values in self.baselines.items()},
            starts={name: without(values) for name, values in self.starts.items()},
        )

    def to_json(self) -> AboutSpace:
        """Return the space as JSON data, the inverse of `space_from_json`."""
        data = {key: getattr(self, key) for key in self.__dataclass_fields__}
        data["published"] = {name: asdict(each) for name, each in self.published.items()}
        data["search"] = {k: json.loads(distribution_to_json(d)) for k, d in self.search.items()}
        return cast(AboutSpace, data)

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the question, what varies, and the known points."""
        import pandas as pd  # takes a moment, which only a notebook has

        values = {
            "searched": {key: in_words(d) for key, d in self.search.items()},
            "fixed": {key: str(value) for key, value in self.fixed.items()},
        }
        varied = pd.concat({kind: pd.Series(each) for kind, each in values.items() if each})
        points = pd.DataFrame(self.points).astype(str)
        return (
            f"<p><b>{escape(self.name)}</b> ({escape(self.data)}): {escape(self.question)}</p>"
            + varied.to_frame("values").to_html()
            + (points.to_html() if len(points) else "")
        )


def size_of(space: SearchSpace) -> float:
    """Return how many points a space has, infinite with a range of floats."""
    values = [every_value(each) for each in space.search.values()]
    return math.prod(math.inf if each is None else len(each) for each in values)


def found_elsewhere(
    space: Mapping[str, Any], data: Mapping[str, Any], split: Mapping[str, Any]
) -> list[str]:
    """Return the points that were found on another split than this one of these data, by name.

    Args:
        space: its `data` and `found_on`.
    """
    here = {**data, **split}
    return [
        name
        for name, fields in space["found_on"].items()
        if space["data"] == data["name"] and any(here[k] != value for k, value in fields.items())
    ]


def space_from_json(data: AboutSpace) -> SearchSpace:
    """Return the space that `SearchSpace.to_json` described; no code is executed.

    Raises:
        StudyError: when the description is damaged.
    """
    try:
        search = {k: json_to_distribution(json.dumps(d)) for k, d in data["search"].items()}
        published = {k: Published(**each) for k, each in data.get("published", {}).items()}
        fields: dict[str, Any] = {**data, "search": search, "published": published}
        return SearchSpace(**fields)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise StudyError(
            f"The space in study.json is damaged ({first_line(error)}); put back a whole one."
        ) from None


def space_folders() -> list[Path]:
    """Return where spaces are looked for: inside the installed package, or beside it."""
    package = Path(__file__).parent
    return [package / "search_spaces", package.parent / "search_spaces"]


def space_files() -> dict[str, Path]:
    """Return the files of the spaces that come with hwtune, by name."""
    found: dict[str, Path] = {}
    for folder in space_folders():
        for path in sorted(folder.glob("*.py")):
            found.setdefault(path.stem, path)
    return found


def space_source(name_or_path: str) -> str:
    """Return what stands in the file of a space.

    Raises:
        SpaceError: when there is no such file, or it is no text.
    """
    path = space_file(name_or_path)
    try:
        with tokenize.open(path) as file:  # in the encoding that its first lines name
            return file.read()
    except (SyntaxError, UnicodeDecodeError) as error:
        raise SpaceError(f"{path} cannot be read ({error}); save it as UTF-8.") from None


def space_file(name_or_path: str) -> Path:
    """Return the file of a space, by the space's name or the path of the user's own file.

    Raises:
        SpaceError: when there is none.
    """
    files = space_files()
    path = files.get(name_or_path, Path(name_or_path))
    there = os.path.isfile(path)  # Path's own fails on names that are too long
    if path.suffix != ".py" or not there:
        what = unknown("space", name_or_path, files)
        if there or path.suffix == ".py":
            wrong = f"{path} is not a .py file" if there else f"There is no file {path}"
            what = f"{wrong}; known are {', '.join(files)}"
        raise SpaceError(
            f"{what}, or give a .py file. (A data set is given by --data, as in "
            f"{hwtune_command('search chinese_cnn --data NAME')})"
        )
    return path


def load_space(name_or_path: str) -> SearchSpace:
    """Return a space, by its name or the path of the user's own file.

    Raises:
        SpaceError: when there is none, its file does not run, or it is wrong.
    """
    path = space_file(name_or_path)
    try:
        loaded = runpy.run_path(str(path)).get("SPACE")
    except SpaceError as error:
        raise SpaceError(f"{path.name}: {error}") from None
    except (Exception, SystemExit) as error:  # a user's file may fail in any way
        raise SpaceError(f"{path.name} does not run: {type(error).__name__}: {error}") from None
    if not isinstance(loaded, SearchSpace):
        raise SpaceError(f"{path.name} defines no SPACE = SearchSpace(...).")
    return replace(loaded, name=path.stem)
