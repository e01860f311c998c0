"""hwtune for notebooks and scripts: what its commands do, as functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from hwtune.addresses import reach_out
from hwtune.data.splits import SplitSpec
from hwtune.errors import OptionError
from hwtune.results import find_study, model_folder
from hwtune.signals import signals_caught
from hwtune.space import SearchSpace, space_source
from hwtune.space import load_space as load_space  # for notebooks, too
from hwtune.study import Study, called_with
from hwtune.study_folder import results_folder
from hwtune.values import (
    DISK_LIMIT,
    FINALISTS,
    FOLDS,
    SEEDS,
    TOP,
    Sampler,
    Scheduler,
    SplitKind,
    accuracy_of,
    bytes_of,
    checked,
    positive,
    seconds_of,
    seed_of,
    wished,
)

if TYPE_CHECKING:
    from hwtune.evaluation.classifier import Classifier


def run_study(
    space: str | SearchSpace,
    *,
    data: str = "auto",
    split: SplitKind = "random",
    split_seed: int = 0,
    trials: int | None = None,
    epochs: int | None = None,
    time_budget: float | str | None = None,
    target: float | None = None,
    parallel: int | None = None,
    address: str | None = None,
    gpus_per_trial: float | None = None,
    sampler: Sampler = "tpe",
    scheduler: Scheduler = "asha",
    brackets: int = 1,
    objectives: Sequence[str] = (),
    seed: int = 0,
    disk_limit: int | str = DISK_LIMIT,
    mirror: str | None = None,
    name: str | None = None,
    starts_from: str | Path | Sequence[str | Path] = (),
    finalists: int = FINALISTS,
    folds: int = FOLDS,
    top: int = TOP,
    seeds: int = SEEDS,
    baselines: bool = False,
    results: str | Path | None = None,
    command: str | None = None,
) -> Study:
    """Search a space, retrain the best, test once, and return the study.

    The options are those of `hwtune search --help`; durations are seconds or texts such as "30m".

    Args:
        space: a name, the path of a file, or a space made here.
        results: the folder of studies; default: HWTUNE_RESULTS, or "results".
        command: what `study.json` says that made the study; default: this call.

    Raises:
        HwtuneError: when something given is wrong; nothing is left behind then.
        HwtuneFailure: when no trial was trained, no retraining ended well, or the files or the
            report cannot be written.
        KeyboardInterrupt: when it was interrupted; `load_study(NAME).resume()` goes on.
    """
    given = dict(locals())
    reach_out(address)
    drawn = _split(split, split_seed)
    from hwtune.pipeline import search
    from hwtune.pipeline.command import command_of, place_of
    from hwtune.pipeline.retrain import retraining_of
    from hwtune.search.budget import Budget
    from hwtune.search.objectives import check_objectives
    from hwtune.search.settings import Settings

    space, source = _loaded(space)
    with signals_caught():
        folder = search.search(
            space,
            source=source,
            data=data,
            split=drawn,
            budget=Budget(
                trials=wished("trials", positive, trials),
                epochs=wished("epochs", positive, epochs),
                seconds=wished("time_budget", seconds_of, time_budget),
                target=wished("target", accuracy_of, target),
            ),
            settings=Settings(
                sampler=sampler,
                scheduler=scheduler,
                brackets=checked("brackets", positive, brackets),
                objectives=check_objectives(objectives),
                seed=checked("seed", seed_of, seed),
                disk_limit=checked("disk_limit", bytes_of, disk_limit),
            ),
            retraining=retraining_of(
                finalists=finalists, folds=folds, top=top, seeds=seeds, baselines=baselines
            ),
            place=place_of(parallel, address, gpus_per_trial),
            mirror=mirror,
            name=name,
            starts_from=[
                str(each)
                for each in ([starts_from] if isinstance(starts_from, str | Path) else starts_from)
            ],
            results=results_folder(results),
            command=command_of(command or _call(run_study, given)),
        )
    return Study(folder)


def retrain_baseline(
    space: str | SearchSpace,
    baseline: str,
    *,
    honest: bool = False,
    epochs: int | None = None,
    data: str = "auto",
    split: SplitKind = "random",
    split_seed: int = 0,
    seeds: int = SEEDS,
    parallel: int | None = None,
    address: str | None = None,
    gpus_per_trial: float | None = None,
    name: str | None = None,
    results: str | Path | None = None,
    command: str | None = None,
) -> Study:
    """Train a published system of a space on several seeds, test it, and return its records.

    As `hwtune retrain SPACE --baseline NAME`: as its authors did, or with `honest` on train and
    validation of hwtune's own split.

    Args:
        space: a name, the path of a file, or a space made here.
        epochs: instead of the authors' own length.
        results: the folder of studies; default: HWTUNE_RESULTS, or "results".
        command: what `study.json` says that made the study; default: this call.

    Raises:
        HwtuneError: when something given is wrong; nothing is left behind then.
        HwtuneFailure: when no training ends well.
        KeyboardInterrupt: when it was interrupted; `load_study(NAME).resume()` goes on.
    """
    given = dict(locals())
    reach_out(address)
    drawn = _split(split, split_seed)
    if not honest and split != "random":
        raise OptionError(f"--split {split} belongs to --honest; add it.")
    from hwtune.pipeline import baseline as published
    from hwtune.pipeline.command import command_of, place_of

    space, source = _loaded(space)
    with signals_caught():
        folder = published.retrain_baseline(
            space,
            baseline,
            source=source,
            honest=honest,
            epochs=wished("epochs", positive, epochs),
            data=data,
            split=drawn,
            seeds=checked("seeds", positive, seeds),
            place=place_of(parallel, address, gpus_per_trial),
            name=name,
            results=results_folder(results),
            command=command_of(command or _call(retrain_baseline, given)),
        )
    return Study(folder)


def _split(kind: SplitKind, seed: int) -> SplitSpec:
    """Return what was asked for as a split."""
    if kind not in (known := get_args(SplitKind)):
        raise OptionError(f"split={kind!r} is not one of {', '.join(known)}.")
    return SplitSpec(kind=kind, seed=checked("split_seed", seed_of, seed))


def _loaded(space: str | SearchSpace) -> tuple[SearchSpace, str]:
    """Return a space with its source, for people."""
    if isinstance(space, SearchSpace):
        return space, f"{space!r}\n"
    return load_space(space), space_source(space)


def _call(function: Callable[..., Study], given: Mapping[str, Any]) -> str:
    """Return how a function was called; a space made in a notebook is named."""
    space = given["space"]
    named = {**given, "space": space.name if isinstance(space, SearchSpace) else space}
    return f"{function.__name__}({called_with(named, function)})"


def load_study(study: str | Path, *, results: str | Path | None = None) -> Study:
    """Return a study by its name in the folder of results, or by its path.

    Raises:
        StudyError: when there is none.
    """
    return Study(find_study(results_folder(results), str(study)))


def load_classifier(study: str | Path, *, results: str | Path | None = None) -> Classifier:
    """Return the final model of a study, or that of a `model/` folder by its path.

    Raises:
        StudyError: when there is no such study, or it has no model.
    """
    from hwtune.evaluation import classifier

    return classifier.load_classifier(model_folder(results_folder(results), str(study)))
