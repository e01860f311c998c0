"""Commands that train: search, resume, retrain. Heavy imports wait until one runs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from hwtune.cli.addresses import reach_out
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
    Name,
    Objective,
    Parallel,
    Results,
    Sampler,
    SamplerOption,
    Scheduler,
    SchedulerOption,
    Seed,
    Seeds,
    SplitKind,
    SplitSeed,
    Target,
    TimeBudget,
    Top,
    Trials,
)
from hwtune.errors import INTERRUPTED, HwtuneError, HwtuneFailure
from hwtune.records import DEFAULT_RESULTS

if TYPE_CHECKING:
    from hwtune.pipeline import Place
    from hwtune.records import StudyFolder


def search(
    space: Annotated[str, typer.Argument(help="A name in search_spaces/, or a .py file.")],
    data: Data = "auto",
    split: Kind = SplitKind.random,
    split_seed: SplitSeed = 0,
    trials: Trials = None,
    epochs: Epochs = None,
    time_budget: TimeBudget = None,
    target: Target = None,
    parallel: Parallel = None,
    address: Address = None,
    gpus_per_trial: GpusPerTrial = None,
    sampler: SamplerOption = Sampler.tpe,
    scheduler: SchedulerOption = Scheduler.asha,
    brackets: Brackets = 1,
    objective: Objective = None,
    seed: Seed = 0,
    disk_limit: DiskLimit = 2_000_000_000,
    mirror: MirrorUri = None,
    name: Name = None,
    finalists: Finalists = 1,
    folds: Folds = 3,
    top: Top = 1,
    seeds: Seeds = 3,
    baselines: Baselines = False,
    results: Results = DEFAULT_RESULTS,
) -> None:
    """Search one space, retrain the best, test once, and write results/STUDY/.

    Example: `python -m hwtune search chinese_cnn --time-budget 30m --split writer`
    """
    reach_out(address)
    from hwtune import pipeline
    from hwtune.data.splits import SplitSpec
    from hwtune.search.budget import Budget, Retraining
    from hwtune.search.settings import checked_settings

    console = Console(soft_wrap=True, highlight=False)
    folder, code = pipeline.search(
        space,
        data=data,
        split=SplitSpec(kind=split.value, seed=split_seed),
        budget=Budget(trials=trials, epochs=epochs, seconds=time_budget, target=target),
        settings=checked_settings(
            sampler=sampler.value,
            scheduler=scheduler.value,
            brackets=brackets,
            objectives=objective or [],
            seed=seed,
            disk_limit=disk_limit,
        ),
        retraining=Retraining(
            finalists=finalists, folds=folds, top=top, seeds=seeds, baselines=baselines
        ),
        place=place_of(parallel, address, gpus_per_trial),
        mirror=mirror,
        name=name,
        results=results.absolute(),
        command=command_line(),
        console=console,
    )
    say_end(folder, code, console)


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
    results: Results = DEFAULT_RESULTS,
) -> None:
    """Go on with a study that was interrupted or killed, or extend one that ended.

    Example: `python -m hwtune resume chinese_cnn --trials 400`
    """
    reach_out(address)
    from hwtune import pipeline
    from hwtune.mirror import fetch
    from hwtune.records import find_study

    console = Console(soft_wrap=True, highlight=False)
    here = results.absolute()
    folder = fetch(study, here) if "://" in study else find_study(here, study)
    place = place_of(parallel, address, gpus_per_trial)
    if "baseline" in folder.read_study():
        from hwtune.published import resume_baseline

        if trials or time_budget or target:
            raise HwtuneError(f"{folder.name} is no search: resume it without a budget.")
        resume_baseline(folder, place=place, command=command_line(), console=console)
        console.print(f"Report: {folder.report}")
        return
    code = pipeline.resume(
        folder, trials=trials, time_budget=time_budget, target=target, place=place,
        command=command_line(), console=console,
    )  # fmt: skip
    say_end(folder, code, console)


def say_end(folder: StudyFolder, code: int, console: Console) -> None:
    """Say how a search ended and what can be done next; leave unless it ended well."""
    if code == INTERRUPTED:
        console.print(
            f"Interrupted; nothing was tested. Go on: python -m hwtune resume {folder.called}\n"
            f"Or test the best so far: python -m hwtune retrain {folder.called}"
        )
        raise typer.Exit(code)
    if code:
        raise HwtuneFailure(f"No trial of {folder.name} was trained; see {folder.path}/trials.csv.")
    console.print(f"Report: {folder.report}")


def retrain(
    study: Annotated[
        str, typer.Argument(help="A study's name or path; with --baseline a space's.")
    ],
    finalists: Finalists = 1,
    folds: Folds = 3,
    top: Top = 1,
    seeds: Seeds = 3,
    baselines: Baselines = False,
    baseline: Baseline = None,
    honest: Honest = False,
    epochs: BaselineEpochs = None,
    data: Data = "auto",
    split: Kind = SplitKind.random,
    split_seed: SplitSeed = 0,
    name: Name = None,
    parallel: Parallel = None,
    address: Address = None,
    gpus_per_trial: GpusPerTrial = None,
    results: Results = DEFAULT_RESULTS,
) -> None:
    """Retrain the best of a study on several seeds and test them once.

    Example: `python -m hwtune retrain chinese_cnn --top 3 --seeds 5`

    With --baseline, train a published system of a space instead:
    `python -m hwtune retrain chinese_cnn --baseline oafarih --honest`
    """
    reach_out(address)
    from hwtune import pipeline
    from hwtune.records import find_study
    from hwtune.search.budget import Retraining

    console = Console(soft_wrap=True, highlight=False)
    place = place_of(parallel, address, gpus_per_trial)
    if baseline is None:
        if honest or epochs or name or split_seed or split != "random" or data != "auto":
            raise HwtuneError(
                "--honest, --epochs, --data, --split, --split-seed and --name belong to --baseline "
                "NAME; add it."
            )
        folder = find_study(results.absolute(), study)
        pipeline.retrain_study(
            folder, place=place, command=command_line(), console=console,
            retraining=Retraining(
                finalists=finalists, folds=folds, top=top, seeds=seeds, baselines=baselines
            ),
        )  # fmt: skip
    else:
        if finalists > 1:
            raise HwtuneError(f"--finalists {finalists} chooses within a study, not --baseline.")
        if not honest and (split_seed or split != "random"):
            raise HwtuneError("--split and --split-seed belong to --honest; add it.")
        from hwtune.data.splits import SplitSpec
        from hwtune.published import retrain_baseline

        folder = retrain_baseline(
            study, baseline, honest=honest, epochs=epochs, data=data,
            split=SplitSpec(kind=split.value, seed=split_seed), seeds=seeds, place=place,
            name=name, results=results.absolute(), command=command_line(), console=console,
        )  # fmt: skip
    console.print(f"Report: {folder.report}")


def place_of(parallel: int | None, address: str | None, gpu_share: float | None) -> Place:
    """Return where a command trains."""
    from hwtune.pipeline import Place

    return Place(parallel=parallel, address=address, gpu_share=gpu_share)


def command_line() -> list[str]:
    """Return the command as the user gave it, without the paths of this machine."""
    return ["hwtune", *sys.argv[1:]]
