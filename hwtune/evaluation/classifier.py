"""A finished model: weights, configuration, classes and its own preprocessing."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import nn

from hwtune.commands import once_more
from hwtune.config import TrialConfig, trial_config
from hwtune.data.images import Bytes
from hwtune.data.photos import read_image
from hwtune.data.splits import Part
from hwtune.errors import DataError, StudyError
from hwtune.evaluation.saved import file_hash
from hwtune.files import text_of
from hwtune.models import build_model, measure_cost
from hwtune.records import more_trials
from hwtune.statistics import wilson_interval
from hwtune.study_folder import StudyFolder
from hwtune.training.device import choose_device
from hwtune.training.loop import predict_logits
from hwtune.training.state import plain_batches
from hwtune.values import checked, positive
from hwtune.words import counted

AT_ONCE = 50  # pictures; the first answer waits for so many
SHOWN = 5  # confusions in a line
FLOAT_BYTES = 4
MAX_SIDE = 1024  # pixels of an image; a file from elsewhere may say any number


@dataclass(frozen=True)
class Prediction:
    """The class of an image, and the probability in [0, 1] that the network gives it.

    Attributes:
        others: the classes that come next, the most probable first; as many as were asked for.
    """

    label: str
    probability: float
    others: tuple[Prediction, ...] = ()

    def __str__(self) -> str:
        """Return it in words."""
        return ", ".join(f"{p.label} ({p.probability:.1%})" for p in (self, *self.others))


class Classifier:
    """Reads images as the network was trained to see them.

    Args:
        side: of the data set's images, in pixels; photos are brought to it first.
    """

    def __init__(
        self, model: nn.Module, config: TrialConfig, classes: Sequence[str], *, side: int
    ) -> None:
        self.model, self.config, self.classes, self.side = model.eval(), config, classes, side

    def logits(self, images: NDArray[np.uint8]) -> torch.Tensor:
        """Return (N, classes) for grey images (N, side, side) uint8, 0 background, 255 ink.

        Raises:
            DataError: when they are something else.
        """
        wanted = (self.side, self.side)
        if not isinstance(images, np.ndarray):
            raise DataError(
                f"{type(images).__name__} is no array of images (N, {self.side}, {self.side}); "
                "read() takes files."
            )
        if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1:] != wanted:
            raise DataError(
                f"The model reads images of shape (N, {self.side}, {self.side}) and type uint8, "
                f"not {images.shape} and {images.dtype}; read() takes files of any size."
            )
        if not len(images):
            return torch.empty(0, len(self.classes))
        part = Part(np.ascontiguousarray(images), np.zeros(len(images), np.int64))
        fast = choose_device(gpu=False)
        return predict_logits(self.model, plain_batches(part, self.config, fast=fast), fast=fast)

    def predict(self, images: NDArray[np.uint8], *, top: int = 1) -> list[Prediction]:
        """Return the class of each image (N, side, side); N may be 0.

        Args:
            top: how many classes to name of each, all where there are fewer.
        """
        top = checked("top", positive, top)
        best = self.logits(images).softmax(1).topk(min(top, len(self.classes)), dim=1)
        found = [
            [Prediction(self.classes[label], p) for label, p in zip(labels, values, strict=True)]
            for labels, values in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]
        return [replace(first, others=tuple(others)) for first, *others in found]

    def read(
        self, pictures: str | Path | Iterable[str | Path], *, top: int = 1
    ) -> list[Prediction]:
        """Return the class of each picture file of one character; there may be one alone.

        Args:
            top: how many classes to name of each.

        Raises:
            DataError: when a file is no picture.
        """
        files = [pictures] if isinstance(pictures, (str, Path)) else pictures
        answers = []
        for each in self.read_each(files, top=top):
            if isinstance(each, DataError):
                raise each
            answers.append(each)
        return answers

    def read_each(
        self, pictures: Iterable[str | Path], *, top: int = 1
    ) -> Iterator[Prediction | DataError]:
        """Yield the class of each picture file, or why it is no picture; few are held at once."""
        files = iter(pictures)
        while piece := list(itertools.islice(files, AT_ONCE)):
            yield from self._read_piece(piece, top)

    def _read_piece(self, pictures: list[str | Path], top: int) -> list[Prediction | DataError]:
        read: list[Bytes | DataError] = []
        for each in pictures:
            try:
                read.append(read_image(Path(each), self.side))
            except DataError as error:
                read.append(error)
        images = [each for each in read if not isinstance(each, DataError)]
        answers = iter(self.predict(np.stack(images), top=top) if images else [])
        return [each if isinstance(each, DataError) else next(answers) for each in read]

    def __repr__(self) -> str:
        """Return what a console shows."""
        return f"<Classifier: {self.config.model}, {len(self.classes)} classes>"

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        parameters = sum(each.numel() for each in self.model.parameters())
        return (
            f"<p><b>{self.config.model}</b> of {parameters:,} parameters that reads "
            f"{len(self.classes)} classes: {escape(' '.join(self.classes))}</p>"
        )


def against_labels(read: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Yield how many pictures were read as they are labelled, and what was misread most often.

    Args:
        read: of each picture its label, and what was read; at least one.
    """
    right = sum(label == answer for label, answer in read)
    low, high = wilson_interval(right / len(read), len(read))
    yield (
        f"{right:,} of {counted(len(read), 'picture')} read as labelled: {right / len(read):.2%} "
        f"(95 % interval over such pictures {low:.2%} to {high:.2%})."
    )
    wrong = Counter((label, answer) for label, answer in read if label != answer)
    often = [f"{label} as {answer} ({n:,})" for (label, answer), n in wrong.most_common(SHOWN)]
    if often:
        yield f"Misread most often: {', '.join(often)}."


def load_classifier(folder: Path) -> Classifier:
    """Return the model of a `model/` folder; its weights are read as tensors alone.

    Raises:
        StudyError: when the folder holds no whole model.
    """
    try:
        about = json.loads(text_of(folder / "model.json"))
        config = trial_config(about["config"])
        side = about["preprocessing"]["side"]
        if not all(isinstance(name, str) for name in about["classes"]):
            raise ValueError("its classes are not named by texts")
        if not (type(side) is int and 1 <= side <= MAX_SIDE and config.side <= MAX_SIDE):
            raise ValueError(f"its images have no side from 1 to {MAX_SIDE} pixels")
        weights = folder / "model.safetensors"
        shape = {"classes": len(about["classes"]), "side": side}
        if file_hash(weights) != about["weights_sha256"]:
            raise ValueError("its weights belong to another model.json")
        if FLOAT_BYTES * measure_cost(config, **shape).parameters > weights.stat().st_size:
            raise ValueError("its network has more weights than their file")  # and may be huge
        if is_anothers(folder, about["weights_sha256"]):
            raise ValueError("a command was killed after it had put another there")
        model = build_model(config, **shape)
        model.load_state_dict(load_file(weights))
        if not all(tensor.isfinite().all() for tensor in model.state_dict().values()):
            raise ValueError("some of its weights are not finite")
    except FileNotFoundError:
        raise no_model(folder, "holds no model") from None
    except Exception as error:  # a damaged model may fail in any way
        raise no_model(folder, f"holds a model that cannot be read ({error})") from None
    model = model.to(memory_format=torch.channels_last)
    return Classifier(model, config, about["classes"], side=side)


def is_anothers(folder: Path, weights: str) -> bool:
    """Return whether the model in a study's folder is another than its records name the winner.

    Args:
        weights: their sha256.
    """
    study = StudyFolder(folder.parent)
    if folder.name != study.model.name or not (study.path / "study.json").is_file():
        return False
    tested = study.read_retrain()["configurations"]
    return bool(tested) and tested[0].get("weights_sha256", weights) != weights


def no_model(folder: Path, wrong: str) -> StudyError:
    """Return what to say of a folder with no whole model, by the study that it lies in."""
    study = StudyFolder(folder.parent)
    about = study.read_study_now() if (study.path / "study.json").is_file() else None
    if about is None:
        remedy = "copy all of a study's model/"
    elif about.get("status") == "complete" and "baseline" in about:
        remedy = f"train it anew, under another name: {once_more(about['command'])}"
    elif about.get("status") == "complete":
        retrain = study.command("retrain")
        remedy = f"retrain the study's best, which opens the test set once more: {retrain}"
    elif about.get("status") == "running":
        remedy = "its study runs; wait until it ends"
    else:
        remedy = f"finish the study: {study.command('resume', *more_trials(study.read_trials()))}"
    return StudyError(f"{folder} {wrong}; {remedy}")
