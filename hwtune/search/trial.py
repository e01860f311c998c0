"""A trial inside its Ray actor: one configuration, trained an epoch a step."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray import tune

from hwtune.config import trial_config
from hwtune.data.splits import Part
from hwtune.errors import TrainingDiverged
from hwtune.training.device import choose_device, keep_freed_memory

Arrays = dict[str, Any]  # of a SearchSplit: what crosses the process border
CHECKPOINT = "state.pt"


class TrialRunner(tune.Trainable):
    """Trains `config["config"]` and reports each epoch; its actor is used again and again."""

    def setup(self, config: dict[str, Any], data: Arrays) -> None:
        """Prepare the first configuration of this actor; `data` lies in the object store."""
        keep_freed_memory()
        import torch  # after the allocator is set

        if not ray.get_gpu_ids():
            torch.set_num_threads(1)
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        self.fast = choose_device(gpu=bool(ray.get_gpu_ids()))
        self.data = data
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin another configuration in the same process."""
        from hwtune.training.loop import EpochResult, train_config
        from hwtune.training.state import start_training

        values = trial_config(new_config["config"])
        data = self.data
        self.values = values
        self.state, train_batches, val_batches = start_training(
            values,
            Part(data["train_images"], data["train_labels"]),
            Part(data["val_images"], data["val_labels"]),
            classes=data["classes"],
            seed=new_config["seed"],
            fast=self.fast,
        )
        self.results: Iterator[EpochResult] = train_config(
            self.state, train_batches, val_batches, values
        )
        return True

    def step(self) -> dict[str, Any]:
        """Train one epoch; an expected failure is a result, since an exception costs the actor."""
        import torch

        try:
            result = next(self.results)
        except TrainingDiverged as error:
            return self._failed(f"diverged at {error}", diverged=True)
        except (torch.OutOfMemoryError, MemoryError):
            return self._failed("out of memory")
        stop = self.values.early_stop
        full_length = result.epoch >= self.values.epochs or (
            bool(stop) and self.state.epochs_since_best >= stop
        )
        return {**asdict(result), "full_length": full_length, "failed": "", "done": full_length}

    def _failed(self, reason: str, *, diverged: bool = False) -> dict[str, Any]:
        return {
            "epoch": self.state.epoch,
            "val_accuracy": np.nan,
            "full_length": False,
            "failed": reason,
            "diverged": diverged,
            "done": True,
        }

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write the state of training into a folder."""
        self.state.save(Path(checkpoint_dir) / CHECKPOINT)

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        """Go on from a folder that `save_checkpoint` wrote."""
        self.state.load(Path(checkpoint_dir) / CHECKPOINT)
