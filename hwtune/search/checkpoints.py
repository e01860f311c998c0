"""How many of the trials' training states are kept."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from hwtune.records import TrialRecord, ranked
from hwtune.states import state_file


def hand_over(folder: Path, trial: int, *, before: int) -> bool:
    """Let a trial without a state go on from that of one `before`; return whether it has one."""
    own = state_file(folder, trial)
    if not own.exists():
        with suppress(FileNotFoundError):
            state_file(folder, before).rename(own)
    return own.exists()


class Retention:
    """Keeps the states of a whole study under a limit: those of the best trials stay.

    Those of trials that run, wait to go on, or were cut off by the end of the search always stay:
    nothing else is ever gone on with.

    Args:
        limit: bytes of all states together.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        self.kept: dict[int, tuple[TrialRecord, int]] = {}  # what may be deleted, and its bytes
        self.total = 0  # bytes of the states of all trials that ended

    def ended(self, record: TrialRecord, *, cut_off: bool = False) -> None:
        """Count the state of a trial that ended; one that failed leaves none.

        Args:
            cut_off: whether the search's end stopped it: an extension goes on from its state.
        """
        size = self._size(record.trial)
        self.total += size
        failed = record.state == "failed"
        if failed or not cut_off:
            self.kept[record.trial] = (record, size)
        if failed:
            self._delete(record.trial)

    def trim(self, to_come: Iterable[int]) -> None:
        """Delete the worst states of ended trials while all states together are too large.

        Args:
            to_come: the trials that run, or wait to go on.
        """
        live = sum(map(self._size, to_come))
        if self.total + live <= self.limit:
            return
        for worst in reversed(ranked(each for each, _ in self.kept.values())):
            if self.total + live <= self.limit:
                break
            self._delete(worst.trial)

    def _size(self, trial: int) -> int:
        try:
            return state_file(self.folder, trial).stat().st_size
        except OSError:
            return 0

    def _delete(self, trial: int) -> None:
        state_file(self.folder, trial).unlink(missing_ok=True)
        _, size = self.kept.pop(trial)
        self.total -= size
