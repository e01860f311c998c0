"""What Ray knows of a trial: an actor that takes one configuration after another."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray import tune
from ray.tune.experiment import Trial

from hwtune.imports import lasting_imports

if TYPE_CHECKING:
    from hwtune.data.splits import SearchSplit
    from hwtune.search.worker import Worker

ONE_TRY = "Failure # "  # begins what Ray notes of each try
RAISED = re.compile(r"(?!ray\.)[\w.]+(Error|Exception): ")  # in a traceback
NO_MEMORY = "its machine short of memory"
SHORT_OF_MEMORY = "due to the node running low on memory"  # in what Ray notes of those it ended
Report = dict[str, Any]  # what crosses the process border: numbers, flags and words


class TrialRunner(tune.Trainable):
    """Trains `config["config"]` an epoch a step; its actor is used again and again."""

    worker: Worker

    def setup(self, config: dict[str, Any], data: SearchSplit, store: Any) -> None:
        """Prepare this process; `data` lies in the object store, `store` keeps the states."""
        self.worker = self.make_worker(data, store)
        self.reset_config(config)

    def make_worker(self, data: SearchSplit, store: Any) -> Worker:
        """Return what trains."""
        with lasting_imports():
            from hwtune.search.worker import Worker  # torch, which the driver can do without

        return Worker(data, store)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next configuration."""
        self.worker.take(new_config["trial"], new_config["config"], seed=new_config["seed"])
        return True

    def step(self) -> Report:
        """Train one epoch."""
        return self.worker.step()


def raised_last(trial: Trial) -> str:
    """Return what a trial raised at its last try, "" where its process died without a word."""
    for line in reversed(error_of(trial)):
        if line.startswith(ONE_TRY):
            break
        if RAISED.match(line):
            return line[:200]
        if SHORT_OF_MEMORY in line:
            return NO_MEMORY
    return ""


def error_of(trial: Trial) -> list[str]:
    """Return the lines, none of them empty, in which Ray noted what broke a trial."""
    file = trial.error_file
    lines = Path(file).read_text(encoding="utf-8").splitlines() if file else []
    return [line for line in lines if line.strip()]
