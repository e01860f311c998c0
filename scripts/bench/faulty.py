"""A trial runner that breaks, really, in the ways that its trials' numbers say."""

import math
import os
import signal
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from hwtune.data.splits import SearchSplit
from hwtune.search.trial import Report, TrialRunner
from hwtune.search.worker import Worker

WARNS, RAISES, NAN, MEMORY, KILLED_ONCE, KILLED_ALWAYS, GPU_MEMORY = 0, 1, 2, 3, 4, 5, 6
FLAG = "HWTUNE_FAULTY_FLAG"  # the environment variable that names a file, absent until a kill


class FaultyRunner(TrialRunner):
    """Trains like any runner, but for its worker."""

    def make_worker(self, data: SearchSplit, store: Any) -> Worker:
        """Return what trains."""
        return FaultyWorker(data, store)


class DyingRunner(TrialRunner):
    """Trains like any runner, but its process dies once between two trials."""

    mark = ".between"  # ends the name of the file that says so

    def reset(self, *args: Any, **options: Any) -> bool:
        """Take the next trial, unless it is the first time."""
        if first_time(self.mark):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().reset(*args, **options)


class FaultyWorker(Worker):
    """Trains like any worker, but in the second epoch some trials fail."""

    def train_epoch(self) -> Report:
        """Fail before the epoch is trained, where this trial's turn has come."""
        assert self.state is not None
        if self.number == WARNS:
            self.state.model.register_forward_pre_hook(
                lambda *_: warnings.warn("odd", stacklevel=1)
            )
        if self.state.epoch == 1:
            if self.number == RAISES:
                raise ValueError("a mistake in the model")
            if self.number == NAN:
                for parameter in self.state.model.parameters():
                    parameter.data.fill_(math.nan)
            if self.number == MEMORY:
                torch.empty(10**15)
            if self.number == GPU_MEMORY:  # which may be another trial's fault
                self.fast = replace(self.fast, device="cuda")
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            if self.number == KILLED_ALWAYS or (self.number == KILLED_ONCE and first_time()):
                os.kill(os.getpid(), signal.SIGKILL)
        return super().train_epoch()


def first_time(what: str = "") -> bool:
    """Return True once."""
    try:
        Path(os.environ[FLAG] + what).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
