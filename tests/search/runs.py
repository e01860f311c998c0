"""A search in the test's own process, inside a Ray cluster that runs already."""

import io

from rich.console import Console

from hwtune.cluster import Slots
from hwtune.data.splits import SplitSpec, search_split
from hwtune.records import create_study
from hwtune.search import study as study_module
from hwtune.search.budget import Budget, Clock, CostModel, Retraining
from hwtune.search.settings import Settings
from hwtune.search.study import run_search
from hwtune.space import SearchSpace, log_uniform

SPACE = SearchSpace(
    question="?",
    data="digits",
    search={"lr": log_uniform(1e-4, 1e-2)},
    fixed={"epochs": 3, "filters": "8"},
)
TWO = Slots(2)


def searched(
    path,
    digits,
    runner,
    *,
    trials=6,
    space=SPACE,
    slots=TWO,
    before=lambda folder: None,
    **settings,
):
    """Run one search in this process and return its folder and ledger."""
    folder = create_study(path, None, "s")
    before(folder)
    study_module.TrialRunner, usual = runner, study_module.TrialRunner
    try:
        ledger = run_search(
            space, search_split(digits, SplitSpec()), folder, Settings(**settings),
            classes=10, costs=[], cost=CostModel(), budget=Budget(trials=trials),
            clock=Clock(None, slots.total, slots.parallel, Retraining(seeds=1), 1.0, lambda _: 1),
            slots=slots, console=Console(file=io.StringIO()),
        )  # fmt: skip
    finally:
        study_module.TrialRunner = usual
    return folder, ledger
