"""Search over known learning curves, with a simulated clock: hwtune's own searcher, no training."""

from __future__ import annotations

import heapq
import itertools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.trial import TrialState
from ray.tune.experiment import Trial as RayTrial

from hwtune.config import Hyperparameters
from hwtune.models.layers import Cost
from hwtune.records import EpochRecord
from hwtune.results import create_study
from hwtune.search.journal import enqueue_known_points, open_optuna_study
from hwtune.search.ledger import Ledger
from hwtune.search.objectives import Objectives
from hwtune.search.samplers import make_sampler
from hwtune.search.scheduler import EarlyStopping
from hwtune.search.searcher import OptunaSearcher
from hwtune.search.settings import REDUCTION_FACTOR, Settings
from hwtune.search.stopping import Rungs
from hwtune.space import SearchSpace

DRAWS, SLOTS = 50, 2  # draws of the reference; trials at once
Curve = list[tuple[float, float]]  # of (accuracy, seconds), an epoch each


@dataclass(frozen=True)
class Method:
    """One way to search.

    Attributes:
        mixed: tell a stopped trial as complete with its last accuracy, as Ray's OptunaSearch does.
        baselines, starts: train the known points first.
        earlier: train the best of a search on other data first.
        factor: of ASHA.
        once: let ASHA compare a trial only when it reaches a rung, as Ray's does.
    """

    sampler: str
    scheduler: str = "none"
    mixed: bool = False
    baselines: bool = False
    starts: bool = False
    earlier: bool = False
    brackets: int = 1
    factor: int = REDUCTION_FACTOR
    once: bool = False

    @property
    def name(self) -> str:
        """Return a name for the table."""
        stops = f"{self.scheduler}, {self.brackets} brackets" if self.brackets > 1 else ""
        if self.once:
            stops = f"{self.scheduler} as Ray's, factor {self.factor}"
        known = " + ".join(
            word
            for word, on in (
                ("baselines", self.baselines),
                ("start", self.starts),
                ("best of an MNIST search", self.earlier),
            )
            if on
        )
        told = " (mixed fidelities)" if self.mixed else ""
        return f"{self.sampler}{told}, {stops or self.scheduler}{f', {known}' if known else ''}"


REFERENCE = Method("random")


@dataclass(frozen=True)
class World:
    """What is searched: a space, and the learning curve of each of its points.

    Attributes:
        space: what a method searches with a seed; its known points are those that it trains first.
        curve: of a point.
        epochs: of a whole curve.
        best: the highest accuracy of all that were trained.
        epoch_seconds: of a random point on average.
        curves: how many were trained.
        title: what this is, for people.
    """

    space: Callable[[Method, int], SearchSpace]
    curve: Callable[[Hyperparameters], Curve]
    epochs: int
    best: float
    epoch_seconds: float
    curves: int
    title: str

    @property
    def seconds(self) -> float:
        """Return the simulated seconds that the reference's draws take on average."""
        return DRAWS * self.epochs * self.epoch_seconds / SLOTS


class Once:
    """A rule that compares a trial only when it reaches one of its rungs."""

    def __init__(self, rungs: Rungs) -> None:
        self.rungs, self.epochs = rungs, {rung.epoch for rung in rungs.descending}

    def judge(self, trial: int, epoch: int, scores: Sequence[float]) -> str:
        """Record one epoch and return why the trial should stop, or ""."""
        return self.rungs.judge(trial, epoch, scores) if epoch in self.epochs else ""


class MixedFidelities(OptunaSearcher):
    """Tells Optuna what Ray's OptunaSearch tells: any trial is complete, with its last accuracy.

    Whether it ran its full length or was stopped (ray/tune/search/optuna/optuna_search.py).
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.last: dict[str, float] = {}

    def record(self, trial_id: str, epoch: EpochRecord) -> bool:
        """Remember the accuracy of a trial's last epoch."""
        self.last[trial_id] = epoch.val_accuracy
        return super().record(trial_id, epoch)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell a trial's last accuracy."""
        trial = self.asked.pop(trial_id)
        return self._tell(trial, TrialState.COMPLETE, "complete", values=[self.last[trial_id]])


def replay(method: Method, world: World, seed: int, until: float) -> list[tuple[float, float]]:
    """Search once; return the (simulated seconds, accuracy) of every improvement.

    The reference ends after its draws, others at `until`.
    """
    space = world.space(method, seed)
    settings = Settings(
        sampler=method.sampler, scheduler=method.scheduler, brackets=method.brackets, seed=seed,
        reduction_factor=method.factor,
    )  # fmt: skip
    rule = settings.rule(epochs=world.epochs)
    memory = Path("/dev/shm")  # Optuna's journal waits for the disk at every line
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        study_folder = create_study(Path(folder), "s", "s")
        objectives = Objectives(("val_accuracy",))
        study = open_optuna_study(study_folder, objectives)
        enqueue_known_points(study, space)
        ledger = Ledger(study_folder, space, images=1)
        stopping = EarlyStopping(
            Once(rule) if method.once and isinstance(rule, Rungs) else rule,
            lambda _, result: [result["val_accuracy"]], over=lambda _: "",
        )  # fmt: skip
        searcher = (MixedFidelities if method.mixed else OptunaSearcher)(
            study, space, ledger, objectives,
            seed=seed,
            sampler=lambda number, hidden: make_sampler(
                method.sampler, seed=seed, trial=number, parallel=True, hidden=hidden
            ),
            measure=lambda values: Cost(1, 1),
            too_slow=lambda cost, config: "",
            finished=lambda: method == REFERENCE and ledger.trained >= DRAWS,
            endings=stopping.endings,
        )  # fmt: skip
        best, improvements = 0.0, []
        for seconds, accuracy in events(searcher, stopping, world, until):
            if accuracy > best:
                best = accuracy
                improvements.append((seconds, best))
        return improvements


def events(
    searcher: OptunaSearcher, stopping: EarlyStopping, world: World, until: float
) -> Iterator[tuple[float, float]]:
    """Yield (time, accuracy) of every epoch, in time's order, as the slots train side by side."""
    counter = itertools.count()
    queue: list[tuple[float, int, RayTrial, Curve, int]] = []

    def begin(now: float) -> None:
        name = f"t{next(counter)}"
        suggested = searcher.suggest(name)
        if isinstance(suggested, dict):  # else it has finished
            curve = world.curve(searcher.asked[name].params)
            trial = RayTrial("replay", config=suggested, trial_id=name, stub=True)
            heapq.heappush(queue, (now + curve[0][1], next(counter), trial, curve, 1))

    for _ in range(SLOTS):
        begin(0.0)
    while queue:
        now, _, trial, curve, epoch = heapq.heappop(queue)
        if now > until:
            return
        accuracy, last = curve[epoch - 1][0], epoch == world.epochs
        result = {"epoch": epoch, "val_accuracy": accuracy, "full_length": last}
        stops = not last and stopping.on_trial_result(None, trial, result) == "STOP"
        number = trial.config["trial"]
        record = EpochRecord(number, epoch, 0.0, 1 - accuracy, accuracy, 0.0, curve[epoch - 1][1])
        searcher.record(trial.trial_id, record)
        yield now, accuracy
        if stops or last:
            stopping.on_trial_complete(None, trial, result)
            searcher.on_trial_complete(trial.trial_id, result)
            begin(now)
        else:
            later = now + curve[epoch][1]
            heapq.heappush(queue, (later, next(counter), trial, curve, epoch + 1))
