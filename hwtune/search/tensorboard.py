"""TensorBoard's files: a run a trial, with its hyperparameters from the first epoch on."""

from __future__ import annotations

import math
from pathlib import Path

from torch.utils.tensorboard.summary import hparams
from torch.utils.tensorboard.writer import SummaryWriter

from hwtune.records import EpochRecord, TrialRecord

METRIC = "val_accuracy"
SCALARS = ("train_loss", "val_loss", METRIC, "lr", "seconds")


class TensorBoard:
    """Writes `tensorboard/TRIAL/` of a study."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.writers: dict[int, SummaryWriter] = {}

    def epoch(self, epoch: EpochRecord, trial: TrialRecord) -> None:
        """Add the scalars of an epoch, and before the first one the hyperparameters."""
        writer = self.writers.get(epoch.trial)
        if writer is None:
            writer = SummaryWriter(str(self.folder / f"{epoch.trial:04d}"))
            self.writers[epoch.trial] = writer
            for summary in hparams(trial.config, {METRIC: math.nan})[:2]:
                writer._get_file_writer().add_summary(summary)
        for name in SCALARS:
            writer.add_scalar(name, getattr(epoch, name), epoch.epoch)
        writer.flush()

    def close(self, trial: TrialRecord) -> None:
        """Mark a trial's run as ended, if it had begun."""
        writer = self.writers.pop(trial.trial, None)
        if writer is not None:
            writer._get_file_writer().add_summary(hparams(trial.config, {METRIC: math.nan})[2])
            writer.close()
