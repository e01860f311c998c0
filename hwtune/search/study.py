"""Run one study, or go on with it: Ray Tune schedules, Optuna proposes, a rule stops."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import ray
from ray import tune
from ray.air.execution._internal import actor_manager
from ray.exceptions import RayActorError
from ray.tune import (
    CheckpointConfig,
    CLIReporter,
    FailureConfig,
    PlacementGroupFactory,
    RunConfig,
    TuneConfig,
    Tuner,
)
from ray.tune.execution import tune_controller
from rich.console import Console

from hwtune.board import TensorBoard
from hwtune.cluster import LOST, if_ray_is_there, resources_in_words
from hwtune.data.splits import SearchSplit
from hwtune.models.layers import Cost
from hwtune.records import EpochRecord, TrialRecord
from hwtune.search.budget import Budget, Clock, CostModel
from hwtune.search.cma_states import check_states
from hwtune.search.feasible import cost_of, images_an_epoch, longest
from hwtune.search.halt import Halt, halting
from hwtune.search.journal import open_optuna_study
from hwtune.search.ledger import Ledger
from hwtune.search.objectives import Objectives
from hwtune.search.pace import Pace
from hwtune.search.progress import StudyCallback
from hwtune.search.restored import rebuild, relearn, restored, retained
from hwtune.search.samplers import make_sampler
from hwtune.search.scheduler import EarlyStopping
from hwtune.search.searcher import MAX_LOST, MAX_REJECTED_IN_A_ROW, OptunaSearcher
from hwtune.search.settings import Settings
from hwtune.search.stopping import StoppingRule
from hwtune.search.trial import TrialRunner
from hwtune.search.view import View, shown
from hwtune.signals import check_signals, signals_waiting
from hwtune.slots import Slots
from hwtune.space import SearchSpace, size_of
from hwtune.study_folder import StudyFolder
from hwtune.words import counted


def run_search(
    space: SearchSpace,
    data: ray.ObjectRef,
    store: Any,
    folder: StudyFolder,
    settings: Settings,
    *,
    costs: Sequence[Cost],
    cost: CostModel,
    budget: Budget,
    clock: Clock,
    slots: Slots,
    drift: Sequence[float] = (),
    left_out: Container[str] = (),
    changed: Callable[[], None] = lambda: None,
    console: Console,
    runner: type[tune.Trainable] = TrialRunner,
) -> Ledger:
    """Search a space inside a running Ray cluster until the budget is met.

    What the folder holds of an earlier run is gone on with: nothing recorded is trained again.

    Args:
        data: the `SearchSplit`, in Ray's object store.
        store: a handle of the `StateStore` of the folder's checkpoints.
        costs: of points of the space, as `survey` returns them.
        cost: predicts seconds; it learns from every epoch.
        drift: what each recorded epoch would take now over what it took; see `drifts`.
        left_out: names of baselines that are not trained.
        changed: called after each trial that is over.
        runner: what trains, or breaks, or sleeps.

    Raises:
        KeyboardInterrupt: when a signal came; every file is in order then.
        Halt: when the files cannot be written.
    """
    split: SearchSplit = ray.get(data)
    images = split.train_images
    epochs = longest(space, images=images)
    objectives = Objectives(settings.objectives)
    study = open_optuna_study(folder, objectives)
    check_states(study.get_trials(deepcopy=False))
    ledger, recorded, taken = restored(study, space, folder, left_out, images=images)
    pace = Pace(
        budget, clock, cost, ledger, typical=costs, images=images,
        an_epoch=images_an_epoch(space, images=images), points=size_of(space),
        expected=settings.expected_epochs(epochs), gpus=bool(slots.gpus),
    )  # fmt: skip
    relearn(pace, recorded, taken, drift)
    rule = settings.rule(epochs=epochs)
    stopping = stopping_of(rule, ledger, recorded, objectives, pace)
    searcher = OptunaSearcher(
        study,
        space,
        ledger,
        objectives,
        seed=settings.seed,
        sampler=lambda number, hidden: make_sampler(
            settings.sampler,
            seed=settings.seed,
            trial=number,
            parallel=slots.total > 1,
            hidden=hidden,
        ),
        measure=partial(cost_of, space, classes=split.classes, side=split.side),
        too_slow=pace.too_slow,
        finished=pace.finished,
        endings=stopping.endings,
        gpu_slots=slots.parallel if slots.gpus else 0,
    )
    retention = retained(folder, study, ledger, limit=settings.disk_limit)

    def ended(trial: TrialRecord) -> None:
        retention.ended(trial, cut_off=trial.trial in stopping.endings.cut)
        retention.trim(ledger.to_come)
        changed()

    view = View(
        ledger,
        slots=slots.total,
        resources=resources_in_words(),
        seconds_left=lambda: pace.seconds_left,
    )
    for epoch in recorded:
        view.recall(epoch)
    log = folder.logs / "study.log"
    check_signals()
    with signals_waiting(), shown(view, console, log) as live:
        callback = StudyCallback(
            searcher,
            pace,
            TensorBoard(folder.tensorboard, space.search),
            view,
            recorded=lambda: retention.trim(ledger.to_come),
            ended=ended,
            console=console,
            live=live,
        )
        given = {"data": data, "store": store}
        try:
            fit(runner, searcher, stopping, callback, given, slots)
            check_signals()
        except Halt:
            raise  # nothing can be written any more
        except BaseException:
            with suppress(OSError):  # why it ended is what counts
                ledger.write(now=True)
            raise
        halting(ledger.write)(now=True)
    for words in last_words(searcher, pace):
        console.print(words)
    return ledger


def last_words(searcher: OptunaSearcher, pace: Pace) -> Iterator[str]:
    """Yield what is to be said of points that were not tried, or not trained."""
    ledger = searcher.ledger
    if searcher.exhausted and not pace.finished():
        tried = f"{len(searcher.seen):,}"
        yield f"The search ended: the space has no point that was not tried ({tried})."
    if searcher.barren:
        yield (
            f"The search ended: {MAX_REJECTED_IN_A_ROW:,} points in a row cannot be trained; "
            "trials.csv says why."
        )
    elif ledger.rejected:
        yield (
            f"{counted(len(ledger.rejected), 'configuration')} not trained, being too large, too "
            f"slow or impossible: {ledger.folder.command('trials')}"
        )


def stopping_of(
    rule: StoppingRule | None,
    ledger: Ledger,
    recorded: Sequence[EpochRecord],
    objectives: Objectives,
    pace: Pace,
) -> EarlyStopping:
    """Return the scheduler, with the rungs that the recorded epochs make."""

    def scores(trial: int, result: Mapping[str, Any]) -> list[float]:
        parameters = ledger.trials[trial].parameters
        images = ledger.images_of(trial, result["epoch"])
        return objectives.scores(result, parameters=parameters, images=images)

    return EarlyStopping(
        rule,
        scores,
        over=pace.over,
        decided={} if rule is None else rebuild(rule, ledger, recorded, scores),
        reported=ledger.reported,
        first=ledger.first,
    )


@contextmanager
def giving_back(stopping: EarlyStopping) -> Iterator[None]:
    """End the processes of trials, and free their places, where the block is interrupted.

    Ray Tune does so after an `Exception` alone; a cluster that others started outlives us.
    """
    try:
        yield
    except BaseException:
        if controller := stopping.controller:
            if_ray_is_there(lambda: controller._actor_manager.cleanup())
        raise


def fit(
    runner: type[tune.Trainable],
    searcher: OptunaSearcher,
    stopping: EarlyStopping,
    callback: StudyCallback,
    given: dict[str, Any],
    slots: Slots,
) -> None:
    """Let Ray Tune run trials until the searcher has finished; what is `given` each runner gets."""
    for module in (actor_manager, tune_controller):
        # Tune tries a trial again whose process died, but ends the search where Ray itself has
        # ended it, as its memory monitor does: that error is no RayActorError.
        module.RayActorError = RayActorError, *LOST

    def request(config: dict[str, Any]) -> PlacementGroupFactory:
        return PlacementGroupFactory(**slots.placement(gpu=config["gpu"]))

    trainable = tune.with_resources(tune.with_parameters(runner, **given), request)
    trainable.__name__ = trainable.__qualname__ = runner.__name__  # for `ps` and Ray's dashboard
    with (
        tempfile.TemporaryDirectory(prefix="hwtune-", ignore_cleanup_errors=True) as scratch,
        giving_back(stopping),
    ):
        Tuner(
            trainable,
            tune_config=TuneConfig(
                metric="val_accuracy",
                mode="max",
                search_alg=searcher,
                scheduler=stopping,
                num_samples=1_000_000,  # the searcher says when it has finished
                max_concurrent_trials=slots.total,
                reuse_actors=True,
            ),
            run_config=RunConfig(
                name="study",
                storage_path=scratch,
                verbose=0,
                progress_reporter=CLIReporter(),  # Ray's own for notebooks clears the cell
                callbacks=[callback],
                failure_config=FailureConfig(max_failures=MAX_LOST),
                # The trials keep their own state, and Ray would add a copy at each one's end.
                checkpoint_config=CheckpointConfig(checkpoint_at_end=False),
            ),
        ).fit()
