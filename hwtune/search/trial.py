"""A trial inside its Ray actor: one configuration, trained an epoch a step."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from ray import tune

from hwtune.config import TrialConfig, trial_config
from hwtune.data.splits import Part
from hwtune.errors import TrainingDiverged
from hwtune.training.device import choose_device, keep_freed_memory
from hwtune.training.loop import EpochResult, train_config
from hwtune.training.state import TrainState, start_training

Arrays = dict[str, Any]  # of a SearchSplit: what crosses the process border
CHECKPOINT = "state.pt"


class TrialRunner(tune.Trainable):
    """Trains `config["config"]` and reports each epoch; its actor is used again and again."""

    def setup(self, config: dict[str, Any], data: Arrays) -> None:
        """Prepare this process; `data` lies in the object store."""
        keep_freed_memory()
        gpu = bool(ray.get_gpu_ids())
        if not gpu:
            torch.set_num_threads(1)
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        self.fast = choose_device(gpu=gpu)
        self.data = data
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Forget the last configuration and take the next; its first step builds it."""
        self.values: TrialConfig = trial_config(new_config["config"])
        self.seed: int = new_config["seed"]
        self.state: TrainState | None = None
        self.results: Iterator[EpochResult] = iter(())
        if self.fast.device == "cuda":
            torch.cuda.empty_cache()
        return True

    def begin(self) -> TrainState:
        """Build the network of the configuration, untrained."""
        data = self.data
        self.state, train_batches, val_batches = start_training(
            self.values,
            Part(data["train_images"], data["train_labels"]),
            Part(data["val_images"], data["val_labels"]),
            classes=data["classes"],
            seed=self.seed,
            fast=self.fast,
        )
        self.results = train_config(self.state, train_batches, val_batches, self.values)
        return self.state

    def step(self) -> dict[str, Any]:
        """Train one epoch; an expected failure is a result, since an exception costs the actor."""
        try:
            state = self.state or self.begin()
            result = next(self.results)
        except TrainingDiverged as error:
            return self.failed(f"diverged at {error}", diverged=True)
        except (RuntimeError, MemoryError) as error:
            if isinstance(error, RuntimeError) and "memory" not in str(error):
                raise  # torch reports a failed allocation on the CPU as a plain RuntimeError
            return self.failed("out of memory")
        stop = self.values.early_stop
        full_length = result.epoch >= self.values.epochs or (
            bool(stop) and state.epochs_since_best >= stop
        )
        return {**asdict(result), "full_length": full_length, "failed": "", "done": full_length}

    def failed(self, reason: str, *, diverged: bool = False) -> dict[str, Any]:
        """Return the last result of a configuration that cannot go on, and let go of it."""
        epoch = self.state.epoch if self.state else 0
        self.state, self.results = None, iter(())
        return {
            "epoch": epoch,
            "val_accuracy": np.nan,
            "full_length": False,
            "failed": reason,
            "diverged": diverged,
            "done": True,
        }

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write the state of training into a folder."""
        (self.state or self.begin()).save(Path(checkpoint_dir) / CHECKPOINT)

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        """Go on from a folder that `save_checkpoint` wrote."""
        (self.state or self.begin()).load(Path(checkpoint_dir) / CHECKPOINT)
