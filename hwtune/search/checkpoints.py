"""Where the trials' training states lie: one file each beside the study, whatever node trains."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from hwtune.records import TrialRecord, ranked


class CheckpointStore:
    """Writes and reads the states of trials; runs as an actor on the driver's node."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def save(self, trial: int, content: bytes) -> str:
        """Put the state of a trial on disk, replacing its last; return the system's error or ""."""
        path = checkpoint_file(self.folder, trial)
        temporary = path.with_suffix(f".{os.getpid()}")
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())  # an epoch that is recorded must not lack its state
            temporary.replace(path)
        except OSError as error:
            return error.strerror or str(error)
        finally:
            temporary.unlink(missing_ok=True)
        return ""

    def load(self, trial: int) -> bytes | None:
        """Return the last state of a trial, None where there is none."""
        try:
            return checkpoint_file(self.folder, trial).read_bytes()
        except OSError:
            return None


def checkpoint_file(folder: Path, trial: int) -> Path:
    """Return the file of a trial's state."""
    return folder / f"{trial}.pt"


def start_store(folder: Path) -> Any:
    """Return a handle of the store that every trial of the cluster can call."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor: Any = ray.remote(CheckpointStore)
    return actor.options(
        num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here
    ).remote(str(folder))


class Retention:
    """Keeps the states of a whole study under a limit: those of the best trials stay.

    The states of running trials always stay, since they cannot be made again.

    Args:
        limit: bytes of all states together.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        self.kept: dict[int, tuple[TrialRecord, int]] = {}
        self.total = 0  # bytes of what is kept

    def ended(self, record: TrialRecord) -> None:
        """Count the state of a trial that ended; one that failed leaves none."""
        size = self._size(record.trial)
        self.kept[record.trial] = (record, size)
        self.total += size
        if record.state == "failed":
            self._delete(record.trial)

    def trim(self, running: list[TrialRecord]) -> None:
        """Delete the worst states of ended trials while all states together are too large."""
        live = sum(self._size(each.trial) for each in running)
        if self.total + live <= self.limit:
            return
        for worst in reversed(ranked(each for each, _ in self.kept.values())):
            if self.total + live <= self.limit:
                break
            self._delete(worst.trial)

    def _size(self, trial: int) -> int:
        try:
            return checkpoint_file(self.folder, trial).stat().st_size
        except OSError:
            return 0

    def _delete(self, trial: int) -> None:
        checkpoint_file(self.folder, trial).unlink(missing_ok=True)
        _, size = self.kept.pop(trial)
        self.total -= size
