"""The trials of a study: in memory, and written down as they happen."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from optuna.trial import FrozenTrial

from hwtune.config import Hyperparameters
from hwtune.models.layers import Cost
from hwtune.records import EpochRecord, TrialRecord, TrialState, ranked
from hwtune.search.attributes import BASELINE, COST, MOVES, ending, known, refused
from hwtune.space import SearchSpace
from hwtune.study_folder import StudyFolder

WRITING_SHARE = 0.02  # of the time, that writing trials.csv anew may take


class Ledger:
    """Keeps the records of a study and its files in step; one process owns it.

    Args:
        images: to train on.
    """

    def __init__(self, folder: StudyFolder, space: SearchSpace, *, images: int) -> None:
        self.folder, self.space, self.images = folder, space, images
        self.trials: dict[int, TrialRecord] = {}
        self.costs: dict[int, Cost] = {}
        self.rejected: set[int] = set()  # never trained, and no part of a budget
        self.unbegun: set[int] = set()  # stopped before they had an epoch: an extension trains them
        self.known: set[int] = set()  # baselines and starts, which no rule stops
        self.continues: dict[int, int] = {}  # which earlier trial of its point one goes on with
        self.handed: set[int] = set()  # those of them that have the earlier one's state
        self.moves: dict[int, list[int]] = {}  # of those that moved, as under MOVES
        self.live: dict[int, TrialRecord] = {}
        self.best: TrialRecord | None = None
        self._quiet_until = 0.0
        self._put_off = False

    @property
    def trained(self) -> int:
        """Return how many trials count against a budget: not refused, nor ended before an epoch."""
        return len(self.trials) - len(self.rejected) - len(self.unbegun)

    @property
    def running(self) -> list[TrialRecord]:
        """Return the trials that are not over."""
        return list(self.live.values())

    @property
    def to_come(self) -> list[int]:
        """Return the trials that are not over, and those that wait to go on with another."""
        return [*self.live, *(number for number in self.continues if number not in self.trials)]

    def start(
        self, number: int, config: Hyperparameters, *, baseline: str, start: bool, cost: Cost
    ) -> None:
        """Begin a trial, or go on with one that has epochs; `start`: it is known to work."""
        self.costs[number] = cost
        if baseline or start:
            self.known.add(number)
        record = self.trials.get(number)
        if record is not None and record.epochs:
            self.live[number] = record
            self.folder.log(number, f"taken up again after epoch {record.epochs}")
            return
        record = TrialRecord(number, baseline, config=config, parameters=cost.parameters)
        self.trials[number] = self.live[number] = record
        self.folder.log(number, f"start {baseline} {config}")
        self.write()

    def epoch(self, epoch: EpochRecord) -> None:
        """Add an epoch of a running trial."""
        self.folder.append_epoch(epoch)
        self._count(epoch)
        if self._put_off:
            self.write()
        self.folder.log(
            epoch.trial,
            f"epoch {epoch.epoch}: train loss {epoch.train_loss:.4f}, validation loss "
            f"{epoch.val_loss:.4f}, accuracy {epoch.val_accuracy:.4f}, {epoch.seconds:.1f} s",
        )

    def finish(self, number: int, state: TrialState, reason: str = "") -> None:
        """End a trial as complete, stopped or failed."""
        record = self.trials[number]
        record.state, record.reason = state, reason
        if state == "stopped" and not record.epochs:
            self.unbegun.add(number)
        if state == "failed" and record is self.best:
            self.best = next(iter(ranked(self.trials.values())), None)
        self.live.pop(number, None)
        self.folder.log(number, f"{state} {reason}".rstrip())
        self.write()

    def write(self, *, now: bool = False) -> None:
        """Write `trials.csv` anew; where that was done a moment ago, at the next epoch.

        The file grows with the study; what writing costs decides how often it is done.
        """
        began = time.monotonic()
        self._put_off = not now and began < self._quiet_until
        if not self._put_off:
            self.folder.write_trials(
                [self.trials[number] for number in sorted(self.trials)], self.space.search
            )
            ended = time.monotonic()
            self._quiet_until = ended + (ended - began) / WRITING_SHARE

    def restore(self, trials: Sequence[FrozenTrial], epochs: Iterable[EpochRecord]) -> None:
        """Take over what the journal and `epochs.csv` hold of an earlier run."""
        for frozen in trials:
            attributes = frozen.user_attrs
            if COST not in attributes:  # waiting, the repeat of another, or not yet begun
                continue
            cost = Cost(*attributes[COST])
            ended = ending(frozen)
            self.costs[frozen.number] = cost
            self.trials[frozen.number] = TrialRecord(
                frozen.number,
                attributes.get(BASELINE, ""),
                state=ended["state"] if ended else "running",
                reason=ended["reason"] if ended else "",
                config=frozen.params,
                parameters=cost.parameters,
            )
            if not ended:
                self.live[frozen.number] = self.trials[frozen.number]
            if known(frozen):
                self.known.add(frozen.number)
            if moves := attributes.get(MOVES):
                self.moves[frozen.number] = moves
            if ended and refused(frozen):
                self.rejected.add(frozen.number)
        for epoch in epochs:
            self._count(epoch)
        self.unbegun = {n for n, t in self.trials.items() if t.state == "stopped" and not t.epochs}
        self.write(now=True)

    def name(self, number: int) -> str:
        """Return a trial's name for people, with what its space calls its point."""
        trial = self.trials[number]
        known = trial.baseline or self.space.name_of(trial.config)
        return f"trial {number} ({known})" if known else f"trial {number}"

    def longest(self, number: int) -> int:
        """Return how many epochs a trial has at most."""
        return self.space.config(self.trials[number].config).longest(self.images)

    def images_seen(self, number: int, epochs: int) -> int:
        """Return on how many images a trial has trained after so many epochs."""
        return self.space.images_seen(self.trials[number].config, epochs, images=self.images)

    def images_of(self, number: int, epoch: int) -> int:
        """Return on how many images a trial has trained in an epoch."""
        return self.images_seen(number, epoch) - self.images_seen(number, epoch - 1)

    def reported(self, number: int) -> int:
        """Return how many epochs of a trial, or of the one whose state it has, were recorded."""
        return max(self.trials[number].epochs, self.inherited(number))

    def inherited(self, number: int) -> int:
        """Return how many epochs a trial has from the one that it goes on with."""
        return self.trials[self.continues[number]].epochs if number in self.handed else 0

    def first(self, number: int) -> int:
        """Return the trial that a trial goes on with, directly or not, or its own number."""
        while number in self.continues:
            number = self.continues[number]
        return number

    def on_cpu(self, number: int, epoch: int) -> bool:
        """Return whether a trial trained an epoch on a CPU beside GPUs."""
        return sum(move < epoch for move in self.moves.get(number, ())) % 2 == 1

    def _count(self, epoch: EpochRecord) -> None:
        record = self.trials[epoch.trial]
        record.add(epoch)
        candidates = [t for t in (self.best, record) if t is not None]
        self.best = next(iter(ranked(candidates)), None)
