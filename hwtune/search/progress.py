"""What a running search shows and writes: a line an event, and TensorBoard."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.progress_reporter import TrialProgressCallback
from rich.console import Console

from hwtune.board import TensorBoard
from hwtune.records import EpochRecord, TrialRecord
from hwtune.search.halt import Halt, halting
from hwtune.search.pace import Pace
from hwtune.search.searcher import OptunaSearcher
from hwtune.search.trial import error_of
from hwtune.search.view import View, accuracy_of
from hwtune.signals import check_signals
from hwtune.words import counted, duration

SILENCE = 30.0  # seconds after which a line says what is running


class StudyCallback(TrialProgressCallback):
    """Hears each result of each trial, records it and tells the user what ended.

    Where Ray Tune is given no such callback it adds its own, which keeps every trial until the end.

    Args:
        recorded: called after each epoch.
        ended: called with each trial that is over.
        live: whether the view is on the screen; else a line tells each event.
    """

    def __init__(
        self,
        searcher: OptunaSearcher,
        pace: Pace,
        board: TensorBoard,
        view: View,
        *,
        recorded: Callable[[], None],
        ended: Callable[[TrialRecord], None],
        console: Console,
        live: bool,
    ) -> None:
        self.searcher, self.pace, self.board = searcher, pace, board
        self.view, self.live = view, live
        self.recorded, self.ended = recorded, ended
        self.console = console
        self.spoke = time.monotonic()

    def __getstate__(self) -> dict[str, Any]:
        """Ray pickles its callbacks; what they hold stays in this process."""
        return {}

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Stop here if the user wants it."""
        check_signals()

    @halting
    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Record one epoch."""
        if result["halt"]:
            raise Halt(result["halt"])
        number, ledger = trial.config["trial"], self.searcher.ledger
        if result["failed"]:
            for line in result["traceback"].splitlines():
                ledger.folder.log(number, line)
            return
        values = {
            name: result[name] for name in EpochRecord.__dataclass_fields__ if name != "trial"
        }
        epoch = EpochRecord(trial=number, **values)
        new = self.searcher.record(trial.trial_id, epoch)
        if epoch.epoch == ledger.trials[number].epochs:  # of a killed driver it may lack the last
            self.board.epoch(epoch, ledger.trials[number])
        if not new:
            return
        for line in result.get("warned", ()):
            ledger.folder.log(number, line)
        self.view.epoch(epoch)
        self.recorded()
        own = epoch.epoch > ledger.inherited(number)  # of the others the machine may be another
        by = number if own else ledger.continues[number]
        self.pace.learn(number, epoch.epoch, by=by, seconds=epoch.seconds)
        if time.monotonic() - self.spoke > SILENCE:
            self._still_running()

    @halting
    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Show how a trial ended; the searcher was told before."""
        self._ended(trial)

    @halting
    def on_trial_recover(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Tell that a trial goes on in another process; what Ray says of it is in the log."""
        record = self.searcher.ledger.trials[trial.config["trial"]]
        raised = self.searcher.endings.reasons.get(record.trial)  # the scheduler heard of it before
        why = f" ({raised})" if raised else ""
        self.console.print(
            f"{self.searcher.ledger.name(record.trial)} lost its process{why} and goes on in "
            f"another after {counted(record.epochs, 'epoch')}"
        )

    @halting
    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Log what broke a trial that Ray gives up; the searcher was told that it does."""
        number, ledger = trial.config["trial"], self.searcher.ledger
        for line in error_of(trial):
            ledger.folder.log(number, line)
        if number not in ledger.live:  # nor is it handed out again
            self._ended(trial)

    def _still_running(self) -> None:
        words = [
            f"trial {t.trial} at epoch {t.epochs}, {accuracy_of(t)}"
            if t.epochs
            else f"trial {t.trial} in its first epoch"
            for t in self.searcher.ledger.running
        ]
        self._say(f"running: {'; '.join(words)}; {duration(self.view.left)} left")

    def _say(self, text: str) -> None:
        if not self.live:
            self.console.print(text)
        self.spoke = time.monotonic()

    def _ended(self, trial: Trial) -> None:
        ledger = self.searcher.ledger
        record = ledger.trials[trial.config["trial"]]
        self.board.end(record)
        self.ended(record)
        reason = f": {record.reason}" if record.reason else ""
        best = ledger.best
        leader = f"; best {best.val_accuracy:.2%} by trial {best.trial}" if best else ""
        reached = f"after {counted(record.epochs, 'epoch')}, {accuracy_of(record)}"
        self._say(
            f"{self.searcher.ledger.name(record.trial)} {record.state} "
            f"{reached if record.epochs else 'in its first epoch'}{reason}{leader}"
        )
