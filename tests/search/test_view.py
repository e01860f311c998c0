import io

import pytest
from rich.console import Console

from hwtune.models.layers import Cost
from hwtune.records import EpochRecord, TrialRecord
from hwtune.results import create_study
from hwtune.search.ledger import Ledger
from hwtune.search.view import View
from hwtune.space import SearchSpace, choice, load_space


@pytest.mark.parametrize(
    ("running", "height", "seen"),
    [
        (400, 30, ["trial 24", "and 385 more", "trial 9 ", "trial 5 "]),
        (400, 12, ["trial 15", "and 394 more"]),
        (9, 24, ["trial 18", "trial 9 "]),
        (2, 8, ["trial 11"]),
    ],
)
def test_the_best_are_shown_however_many_run(tmp_path, running, height, seen):
    ledger = Ledger(create_study(tmp_path, None, "s"), load_space("digits_cnn"), images=1)
    for number in range(10 + running):
        trial = TrialRecord(number, state="running" if number >= 10 else "complete")
        trial.add(EpochRecord(number, 1, 0.1, 0.2, 0.5 + min(number, 9) / 100, 1e-3, 1.0))
        ledger.trials[number] = trial
        if trial.state == "running":
            trial.val_accuracy, ledger.live[number] = 0.3, trial
    console = Console(file=io.StringIO(), width=80, height=height)
    console.print(View(ledger, slots=running, resources="2 CPUs", seconds_left=lambda: 60.0))
    shown = console.file.getvalue().rstrip()
    assert len(shown.splitlines()) <= height
    for words in seen:
        assert words in shown
    assert ("best so far" in shown) == (height > 20)
    assert ("more" in shown) == (running == 400)


def test_a_running_trial_shows_its_own_length_and_what_its_space_calls_it(tmp_path):
    start = {"lr": 0.01, "epochs": 2}
    space = SearchSpace(
        question="?", data="digits", starts={"quick": start},
        search={"lr": choice(0.1, 0.01), "epochs": choice(2, 5)},
    )  # fmt: skip
    ledger = Ledger(create_study(tmp_path, None, "s"), space, images=1)
    ledger.start(0, start, baseline="", start=True, cost=Cost(1, 1))
    console = Console(file=io.StringIO(), width=80, height=20)
    console.print(View(ledger, slots=1, resources="1 CPU", seconds_left=lambda: 60.0))
    shown = console.file.getvalue()
    assert "trial 0 (quick)" in shown
    assert "0 of 2" in shown
