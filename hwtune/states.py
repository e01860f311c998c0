"""Where training states lie: one file each beside the study, whatever node trains."""

from __future__ import annotations

import threading
from collections import defaultdict
from pathlib import Path
from typing import Any

import ray

from hwtune.cluster import on_driver_node
from hwtune.files import MOVED, identity, write_atomic

STATES_AT_ONCE = 8  # of a search, whose trials wait each for its own


class StateStore:
    """Writes and reads training states by name; runs as an actor on the driver's node."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.place = identity(self.folder)
        self.locks: dict[object, threading.Lock] = defaultdict(threading.Lock)  # by name

    def save(self, name: object, content: bytes) -> str:
        """Put a state on disk, replacing its last; return the system's error or ""."""
        if self.place and identity(self.folder) != self.place:
            return MOVED  # another study may be there
        try:
            with self.locks[name]:
                write_atomic(state_file(self.folder, name), content)
        except OSError as error:
            return error.strerror or str(error)
        return ""

    def load(self, name: object) -> bytes | None:
        """Return the last state of that name, None where there is none."""
        try:
            with self.locks[name]:  # what a lost process sent last may be on its way
                return state_file(self.folder, name).read_bytes()
        except FileNotFoundError:
            return None


def state_file(folder: Path, name: object) -> Path:
    """Return the file of a state: of a trial, by its number, or of a retraining."""
    return folder / f"{name}.pt"


def start_store(folder: Path, *, at_once: int = 1) -> Any:
    """Return a handle of the store that every training of the cluster can call.

    Args:
        at_once: states written at once, in any order; with 1 in that of the calls.
    """
    actor: Any = ray.remote(StateStore)
    return actor.options(
        num_cpus=0, max_restarts=-1, max_task_retries=-1, max_concurrency=at_once,
        scheduling_strategy=on_driver_node(),
    ).remote(str(folder))  # fmt: skip
