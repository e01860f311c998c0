"""The work of a trial's actor: one configuration, trained an epoch a step."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from traceback import format_exc
from typing import Any

import numpy as np
import ray
import torch

from hwtune.config import Hyperparameters, TrialConfig, trial_config
from hwtune.data.splits import SearchSplit
from hwtune.errors import TrainingDiverged
from hwtune.records import DIVERGED
from hwtune.search.trial import Report
from hwtune.training.device import free_gpu_memory, prepare_process
from hwtune.training.loop import EpochResult, is_over, train_config
from hwtune.training.state import TrainState, gone_on_with, start_training, unpacked
from hwtune.words import in_a_line


class Worker:
    """Trains one configuration after another; prepares its process for it.

    The state of training is on the driver's disk before an epoch is reported. A trial that was cut
    off, by a lost process or an ended study, goes on from there and reports its epochs again.

    Args:
        store: a handle of the `StateStore`.
    """

    def __init__(self, data: SearchSplit, store: Any) -> None:
        self.fast = prepare_process(gpu=bool(ray.get_gpu_ids()))
        self.data, self.store = data, store

    def take(self, trial: int, values: Hyperparameters, *, seed: int) -> None:
        """Forget the last configuration and take the next; its first step builds it."""
        self.number, self.seed = trial, seed
        self.config: TrialConfig = trial_config(values)
        self.state: TrainState | None = None
        self.results: Iterator[EpochResult] = iter(())
        self.reports: list[Report] = []
        self.warned: set[str] = set()
        self.known: list[Report] = []  # of an earlier process: reported again, not trained again
        free_gpu_memory()

    def step(self) -> Report:
        """Train one epoch; an expected failure is a result, since an exception costs the actor."""
        try:
            if self.state is None:
                self.begin()
            return {**self.known.pop(0), "again": True} if self.known else self.train_epoch()
        except TrainingDiverged as error:
            return self.failed(f"{DIVERGED} at {error}", diverged=True)
        except MemoryError:
            return self.failed("out of memory")
        except ray.exceptions.RayError:
            raise  # not the configuration's fault: it goes on in another process
        except Exception as error:
            if isinstance(error, RuntimeError) and self.fast.device == "cuda":
                raise  # its GPU may be lost to this process, or full of another's trial
            if isinstance(error, RuntimeError) and "allocate" in str(error):
                return self.failed("out of memory")  # torch has no better class on a CPU
            return self.failed(
                f"{type(error).__name__}: {in_a_line(error)}", traceback=format_exc()
            )

    def begin(self) -> None:
        """Build the network, and go on from the state on disk, where there is one.

        Its epochs are reported again, since the study may lack the last; it leaves out what it has.
        """
        start = partial(
            start_training,
            self.config,
            self.data.train,
            self.data.validation,
            classes=self.data.classes,
            seed=self.seed,
            fast=self.fast,
        )
        saved: bytes | None = ray.get(self.store.load.remote(self.number))
        content = unpacked(saved, device=self.fast.device)
        self.state, train_batches, val_batches = gone_on_with(start, content.get("state"))
        if self.state.epoch:
            self.reports, self.known = list(content["reports"]), list(content["reports"])
        self.results = train_config(self.state, train_batches, val_batches, self.config)

    def train_epoch(self) -> Report:
        """Train an epoch and return its report, once the state is on disk."""
        assert self.state is not None
        with warnings.catch_warnings(record=True) as caught:
            result = next(self.results)
        full_length = is_over(self.state, self.config)
        # With the digits of epochs.csv, so that a resumed study decides as an undisturbed one.
        epoch = {name: float(f"{value:.6g}") for name, value in asdict(result).items()}
        report = {
            **epoch, "epoch": result.epoch, "full_length": full_length, "failed": "", "halt": "",
            "done": full_length,
        }  # fmt: skip
        buffer = io.BytesIO()
        self.reports.append(report)
        torch.save({"state": self.state.to_dict(), "reports": self.reports}, buffer)
        if problem := ray.get(self.store.save.remote(self.number, buffer.getvalue())):
            return {**report, "halt": problem}
        said = {" ".join(str(each.message).split()) for each in caught} - self.warned
        self.warned |= said
        return {**report, "warned": sorted(said)}

    def failed(self, reason: str, *, diverged: bool = False, traceback: str = "") -> Report:
        """Return the last result of a configuration that cannot go on, and let go of it."""
        epoch = self.state.epoch if self.state else 0
        self.state, self.results = None, iter(())
        return {
            "epoch": epoch,
            "val_accuracy": np.nan,
            "full_length": False,
            "failed": reason,
            "halt": "",
            "traceback": traceback,
            "diverged": diverged,
            "done": True,
        }
