"""The trials of a running study: in memory, and written down as they happen."""

from __future__ import annotations

from collections.abc import Iterable

from hwtune.config import Hyperparameters
from hwtune.records import EpochRecord, StudyFolder, TrialRecord, ranked


class Ledger:
    """Keeps the records of a study and its files in step; one process owns it."""

    def __init__(self, folder: StudyFolder, searched: Iterable[str]) -> None:
        self.folder = folder
        self.searched = list(searched)
        self.trials: dict[int, TrialRecord] = {}
        self.rejected: set[int] = set()  # infeasible: never trained, and no part of a budget

    @property
    def trained(self) -> list[TrialRecord]:
        """Return the trials that were started, whatever became of them."""
        return [t for t in self.trials.values() if t.trial not in self.rejected]

    @property
    def best(self) -> TrialRecord | None:
        """Return the leader of the study so far."""
        first = ranked(self.trials.values())
        return first[0] if first else None

    def start(
        self, number: int, config: Hyperparameters, *, baseline: str, parameters: int
    ) -> TrialRecord:
        """Begin a trial."""
        record = TrialRecord(number, baseline, config=config, parameters=parameters)
        self.trials[number] = record
        self.folder.log(number, f"start {baseline} {config}")
        self._write()
        return record

    def epoch(self, record: EpochRecord) -> None:
        """Add an epoch of a running trial."""
        self.folder.append_epoch(record)
        self.trials[record.trial].add(record)
        self.folder.log(
            record.trial,
            f"epoch {record.epoch}: train loss {record.train_loss:.4f}, validation loss "
            f"{record.val_loss:.4f}, accuracy {record.val_accuracy:.4f}, {record.seconds:.1f} s",
        )

    def finish(self, number: int, state: str, reason: str = "") -> TrialRecord:
        """End a trial as complete, stopped or failed."""
        record = self.trials[number]
        record.state, record.reason = state, reason  # type: ignore[assignment]
        self.folder.log(number, f"{state} {reason}".rstrip())
        self._write()
        return record

    def _write(self) -> None:
        self.folder.write_trials(
            [self.trials[number] for number in sorted(self.trials)], self.searched
        )
