"""A search alone, in this process: no command, no retraining, no report."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from ray import tune
from rich.console import Console

from hwtune.data import Dataset
from hwtune.data.splits import SplitSpec, search_split
from hwtune.results import create_study
from hwtune.search.budget import Budget, Clock, CostModel, Retraining
from hwtune.search.ledger import Ledger
from hwtune.search.settings import Settings
from hwtune.search.study import run_search
from hwtune.search.trial import TrialRunner
from hwtune.slots import Slots
from hwtune.space import SearchSpace, log_uniform
from hwtune.states import STATES_AT_ONCE, start_store
from hwtune.study_folder import StudyFolder

SPACE = SearchSpace(
    question="Which learning rate?",
    data="digits",
    search={"lr": log_uniform(1e-4, 1e-2)},
    fixed={"epochs": 3, "filters": "8"},
)
TWO = Slots(2)


def bare_search(
    results: Path,
    dataset: Dataset,
    *,
    runner: type[tune.Trainable] = TrialRunner,
    trials: int = 6,
    target: float | None = None,
    space: SearchSpace = SPACE,
    slots: Slots = TWO,
    before: Callable[[StudyFolder], object] = lambda folder: None,
    cost: CostModel | None = None,
    console: Console | None = None,
    changed: Callable[[], None] = lambda: None,
    **settings: Any,
) -> tuple[StudyFolder, Ledger]:
    """Run or extend a study named s in the Ray cluster that runs; return its folder and ledger.

    Args:
        results: the folder that gets the study.
        runner: of the trials.
        before: is called with the folder before the search begins.
        cost: learns what epochs cost.
        console: is told what happens.
        changed: is called after each trial that is over.
        settings: of `Settings`.
    """
    there = (results / "s").exists()
    folder = StudyFolder(results / "s") if there else create_study(results, "s", "s")
    before(folder)
    data, store = (
        ray.put(search_split(dataset, SplitSpec())),
        start_store(folder.checkpoints, at_once=STATES_AT_ONCE),
    )
    try:
        ledger = run_search(
            space, data, store, folder, Settings(**settings),
            costs=[], cost=cost or CostModel(), budget=Budget(trials=trials, target=target),
            clock=Clock(
                parallel=slots.total, retrainings=slots.parallel, retraining=Retraining(seeds=1),
                retrain_growth=1.0, retrain_epochs=lambda _: 1,
            ),
            slots=slots, changed=changed, console=console or Console(file=io.StringIO()),
            runner=runner,
        )  # fmt: skip
    finally:
        ray.kill(store)  # a process that the cluster would keep
    return folder, ledger
