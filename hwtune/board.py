"""TensorBoard's files: a run a trial, with its hyperparameters from the start, and pictures."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import ray
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo
from tensorboard.plugins.hparams.summary_v2 import (
    Discrete,
    Domain,
    HParam,
    IntInterval,
    Metric,
    RealInterval,
    hparams_config_pb,
    hparams_pb,
)
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from hwtune.config import Hyperparameters, TrialConfig
from hwtune.data.images import Bytes, Integers
from hwtune.imports import lasting_imports
from hwtune.pictures import tiled
from hwtune.records import EpochRecord, TrialRecord

METRIC = "val_accuracy"
SCALARS = ("train_loss", "val_loss", METRIC, "lr", "seconds")
PICTURES = "pictures"  # the run that holds them
DISTORTED_ROWS, DISTORTED_CLASSES = 4, 16  # at most
OUTCOMES = {"failed": api_pb2.STATUS_FAILURE, "running": api_pb2.STATUS_RUNNING}


class TensorBoard:
    """Writes `tensorboard/TRIAL/` of a study, by TensorBoard's own writer: torch's imports torch.

    Args:
        searched: what the HParams tab shows a column for.
    """

    def __init__(self, folder: Path, searched: Mapping[str, BaseDistribution]) -> None:
        self.folder = folder
        self.writers: dict[int, EventFileWriter] = {}
        columns = [HParam(name, domain_of(values)) for name, values in searched.items()]
        root = EventFileWriter(str(folder))
        add(root, hparams_config_pb(columns, [Metric(METRIC)]))
        root.close()

    def begin(self, trial: TrialRecord) -> EventFileWriter:
        """Return the writer of a trial; a new one starts with the hyperparameters."""
        writer = self.writers.get(trial.trial)
        if writer is None:
            name = f"{trial.trial:04d}"
            writer = self.writers[trial.trial] = EventFileWriter(str(self.folder / name))
            add(writer, hparams_pb(trial.config, trial_id=name))
        return writer

    def epoch(self, epoch: EpochRecord, trial: TrialRecord) -> None:
        """Add the scalars of an epoch."""
        writer = self.begin(trial)
        values = [Summary.Value(tag=n, simple_value=getattr(epoch, n)) for n in SCALARS]
        add(writer, Summary(value=values), step=epoch.epoch)
        writer.flush()

    def end(self, trial: TrialRecord) -> None:
        """Mark a trial's run as ended, also one that failed before its first epoch."""
        writer = self.begin(trial)
        add(writer, ended(OUTCOMES.get(trial.state, api_pb2.STATUS_SUCCESS)))
        writer.close()
        del self.writers[trial.trial]


def ended(status: int) -> Summary:
    """Return what marks a run as ended; TensorBoard's own function for it wants TensorFlow."""
    info = HParamsPluginData(
        session_end_info=SessionEndInfo(status=status, end_time_secs=time.time())
    )
    value = Summary.Value(
        tag=metadata.SESSION_END_INFO_TAG,
        metadata=metadata.create_summary_metadata(info),
        tensor=metadata.NULL_TENSOR,
    )
    return Summary(value=[value])


def domain_of(values: BaseDistribution) -> Domain | None:
    """Return what TensorBoard filters a hyperparameter by, None where it has no filter for it."""
    if isinstance(values, CategoricalDistribution):
        kinds = {type(each) for each in values.choices}
        if kinds == {int, float}:
            return Discrete([float(each) for each in values.choices])  # type: ignore[arg-type]
        return Discrete(values.choices) if len(kinds) == 1 else None
    interval = IntInterval if isinstance(values, IntDistribution) else RealInterval
    return interval(values.low, values.high)  # type: ignore[attr-defined]


def add(writer: EventFileWriter, summary: Summary, *, step: int = 0) -> None:
    """Add a summary to an event file, now."""
    writer.add_event(Event(wall_time=time.time(), step=step, summary=summary))


def add_picture(folder: Path, tag: str, picture: Bytes) -> None:
    """Add a picture (H, W) or (H, W, 3) to a study's TensorBoard folder."""
    encoded = BytesIO()
    Image.fromarray(picture).save(encoded, "PNG")
    image = Summary.Image(
        height=picture.shape[0],
        width=picture.shape[1],
        colorspace=1 if picture.ndim == 2 else 3,
        encoded_image_string=encoded.getvalue(),
    )
    writer = EventFileWriter(str(folder / PICTURES))
    add(writer, Summary(value=[Summary.Value(tag=tag, image=image)]))
    writer.close()


def examples(images: Bytes, labels: Integers) -> Bytes:
    """Return the first image (C, S, S) of each class."""
    return images[np.unique(labels, return_index=True)[1]]


def add_distorted(folder: Path, tag: str, config: TrialConfig, images: Bytes) -> None:
    """Add a picture of images (N, S, S), and below them as a configuration distorts them.

    It is drawn in a process of the Ray cluster: this one does without torch. Should that fail,
    there is no picture; it is only to look at.
    """
    task = ray.remote(num_cpus=0, max_retries=0)(distorted)
    with suppress(ray.exceptions.RayError):
        few = images[:DISTORTED_CLASSES]
        add_picture(folder, tag, tiled(ray.get(task.remote(config.to_dict(), few))))


def distorted(values: Hyperparameters, images: Bytes) -> Any:
    """Return images (N, S, S) as the network gets them, and rows of them as it is trained on."""
    with lasting_imports():
        import torch

        from hwtune.config import trial_config
        from hwtune.data.augment import augment, augmentation_of
        from hwtune.data.batches import to_pixels

    config = trial_config(values)
    plain = to_pixels(torch.from_numpy(images.copy()), side=config.side)
    random = torch.Generator().manual_seed(0)
    rows = [plain.float()]
    for _ in range(DISTORTED_ROWS):
        rows.append(augment(plain.float(), augmentation_of(config), random))
    return [row[:, 0].round().clamp(0, 255).to(torch.uint8).numpy() for row in rows]
