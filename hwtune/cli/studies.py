"""Commands that train: search, resume, retrain. Heavy imports wait until one runs."""

from __future__ import annotations

import shlex
import sys
from typing import Annotated

import typer

from hwtune.addresses import without_secrets
from hwtune.cli.options import (
    Address,
    Baseline,
    BaselineEpochs,
    Baselines,
    Brackets,
    Data,
    DiskLimit,
    Epochs,
    Finalists,
    Folds,
    GpusPerTrial,
    Honest,
    Kind,
    MirrorUri,
    MoreTime,
    MoreTrials,
    MovedMirror,
    Name,
    Objective,
    Parallel,
    Results,
    SamplerOption,
    SchedulerOption,
    Seed,
    Seeds,
    SplitSeed,
    StartsFrom,
    Target,
    TimeBudget,
    Top,
    Trials,
)
from hwtune.errors import OptionError
from hwtune.study_folder import DEFAULT_RESULTS, StudyFolder
from hwtune.values import DISK_LIMIT, FINALISTS, FOLDS, SEEDS, TOP
from hwtune.words import for_people


def search(
    space: Annotated[str, typer.Argument(help="A name in search_spaces/, or a .py file.")],
    data: Data = "auto",
    split: Kind = "random",
    split_seed: SplitSeed = 0,
    trials: Trials = None,
    epochs: Epochs = None,
    time_budget: TimeBudget = None,
    target: Target = None,
    parallel: Parallel = None,
    address: Address = None,
    gpus_per_trial: GpusPerTrial = None,
    sampler: SamplerOption = "tpe",
    scheduler: SchedulerOption = "asha",
    brackets: Brackets = 1,
    objective: Objective = None,
    seed: Seed = 0,
    disk_limit: DiskLimit = DISK_LIMIT,  # type: ignore[assignment] # parsed as if it were given
    mirror: MirrorUri = None,
    name: Name = None,
    starts_from: StartsFrom = None,
    finalists: Finalists = FINALISTS,
    folds: Folds = FOLDS,
    top: Top = TOP,
    seeds: Seeds = SEEDS,
    baselines: Baselines = False,
    results: Results = DEFAULT_RESULTS,
) -> None:
    """Search one space, retrain the best, test once, and write results/STUDY/.

    Example: `python -m hwtune search chinese_cnn --time-budget 30m --split writer`
    """
    from hwtune.api import run_study

    done = run_study(
        space,
        data=data,
        split=split,
        split_seed=split_seed,
        trials=trials,
        epochs=epochs,
        time_budget=time_budget,
        target=target,
        parallel=parallel,
        address=address,
        gpus_per_trial=gpus_per_trial,
        sampler=sampler,
        scheduler=scheduler,
        brackets=brackets,
        objectives=objective or (),
        seed=seed,
        disk_limit=disk_limit,
        mirror=mirror,
        name=name,
        starts_from=starts_from or (),
        finalists=finalists,
        folds=folds,
        top=top,
        seeds=seeds,
        baselines=baselines,
        results=results,
        command=command_line(),
    )
    say_done(done.folder)


def resume(
    study: Annotated[
        str, typer.Argument(help="A name under the results folder, a path, or a mirror's URI.")
    ],
    trials: MoreTrials = None,
    time_budget: MoreTime = None,
    target: Target = None,
    parallel: Parallel = None,
    address: Address = None,
    gpus_per_trial: GpusPerTrial = None,
    mirror: MovedMirror = None,
    results: Results = DEFAULT_RESULTS,
) -> None:
    """Go on with a study that was interrupted or killed, or extend one that ended.

    Example: `python -m hwtune resume chinese_cnn --trials 400`
    """
    from hwtune.mirror.fetch import fetch
    from hwtune.results import find_study
    from hwtune.study import Study

    here = results.absolute()
    folder = find_study(here, fetch(study, here).name if "://" in study else study)
    Study(folder).resume(
        trials=trials, time_budget=time_budget, target=target, parallel=parallel, address=address,
        gpus_per_trial=gpus_per_trial, mirror=mirror, command=command_line(),
    )  # fmt: skip
    say_done(folder)


def retrain(
    study: Annotated[
        str, typer.Argument(help="A study's name or path; with --baseline a space's.")
    ],
    finalists: Finalists = FINALISTS,
    folds: Folds = FOLDS,
    top: Top = TOP,
    seeds: Seeds = SEEDS,
    baselines: Baselines = False,
    baseline: Baseline = None,
    honest: Honest = False,
    epochs: BaselineEpochs = None,
    data: Data = "auto",
    split: Kind = "random",
    split_seed: SplitSeed = 0,
    name: Name = None,
    parallel: Parallel = None,
    address: Address = None,
    gpus_per_trial: GpusPerTrial = None,
    mirror: MovedMirror = None,
    results: Results = DEFAULT_RESULTS,
) -> None:
    """Retrain the best of a study on several seeds and test them once.

    Example: `python -m hwtune retrain chinese_cnn --top 3 --seeds 5`

    With --baseline, train a published system of a space instead:
    `python -m hwtune retrain chinese_cnn --baseline oafarih --honest`
    """
    from hwtune.api import load_study

    if baseline is None:
        others = {
            "--honest": honest, "--epochs": epochs, "--data": data != "auto",
            "--split": split != "random", "--split-seed": split_seed, "--name": name,
        }  # fmt: skip
        if given := next((option for option, value in others.items() if value), None):
            raise OptionError(f"{given} belongs to --baseline NAME; add it, or leave {given} out.")
        found = load_study(study, results=results)
        found.retrain(
            finalists=finalists, folds=folds, top=top, seeds=seeds, baselines=baselines,
            parallel=parallel, address=address, gpus_per_trial=gpus_per_trial,
            mirror=mirror, command=command_line(),
        )  # fmt: skip
        say_done(found.folder)
        return
    if mirror is not None:
        raise OptionError("--mirror is of searches; leave it out with --baseline.")
    if (finalists, folds, top, baselines) != (FINALISTS, FOLDS, TOP, False):
        raise OptionError(
            "--finalists, --folds, --top and --baselines choose within a study; leave them out "
            "with --baseline."
        )
    from hwtune.api import retrain_baseline
    from hwtune.space import space_files

    if study not in space_files() and (results / study / "study.json").exists():
        raise OptionError(f"{study!r} is a study; with --baseline give the name of a space.")
    done = retrain_baseline(
        study, baseline, honest=honest, epochs=epochs, data=data, split=split,
        split_seed=split_seed, seeds=seeds, parallel=parallel, address=address,
        gpus_per_trial=gpus_per_trial, name=name, results=results, command=command_line(),
    )  # fmt: skip
    say_done(done.folder)


def say_done(folder: StudyFolder) -> None:
    """Say where the page of a study is, and what reads pictures now."""
    if folder.model.is_dir():
        print(f"Read a picture with its model: {folder.command('predict')} PICTURE")
    print(f"Report: {for_people(folder.report)}")


def command_line() -> str:
    """Return the command as the user gave it, without the program's path and without secrets.

    What is no text in it is escaped.
    """
    words = shlex.join(["hwtune", *map(without_secrets, sys.argv[1:])])
    return words.encode("utf-8", "backslashreplace").decode("utf-8")
