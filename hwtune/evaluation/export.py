"""A finished model as one ONNX file, which other programs read without hwtune or torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from hwtune.commands import installing
from hwtune.data.batches import PixelScale, to_floats
from hwtune.data.images import Bytes
from hwtune.data.splits import Part
from hwtune.errors import HwtuneFailure, OptionError
from hwtune.evaluation.classifier import Classifier
from hwtune.evaluation.saved import ONNX_FILE
from hwtune.files import write_atomic
from hwtune.training.device import Fast
from hwtune.training.loop import predict_logits
from hwtune.training.state import plain_batches
from hwtune.words import first_line

PACKAGES = ("onnx", "onnxscript", "onnxruntime")  # what `hwtune[onnx]` installs
CHECKED = 16  # images that the file has to read as the model does
LEAST = 1e-6  # the probability that still counts
# Of its logarithm. A resized pixel is rounded, and what lies in the middle may fall to either side.
TOLERANCE, RESIZED_TOLERANCE = 0.01, 0.2


class Reader(nn.Module):
    """A network with its preprocessing, (N, side, side) uint8 -> (N, classes) probabilities.

    Resizing an image is two products with a matrix here, which every runtime computes alike.
    """

    rows: torch.Tensor  # (scaled_to, side)

    def __init__(self, model: nn.Module, *, side: int, scaled_to: int, scale: PixelScale) -> None:
        super().__init__()
        self.model, self.scale = model, scale
        self.resizes = scaled_to not in (0, side)
        if self.resizes:
            rows = F.interpolate(
                torch.eye(side)[None, None], (scaled_to, side), mode="bilinear", antialias=True
            )
            self.register_buffer("rows", rows[0, 0])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the probability in [0, 1] of each class."""
        pixels = images.float().unsqueeze(1)
        if self.resizes:
            pixels = (self.rows @ pixels @ self.rows.T).round().clamp(0, 255)
        return self.model(to_floats(pixels, self.scale)).softmax(1)


def export_onnx(classifier: Classifier, folder: Path) -> Path:
    """Write a classifier as `model.onnx` into a folder, and return the file.

    Its input `images` takes any number of grey images of the data set's size, uint8, 0 background
    and 255 ink; its output is `probabilities`; the metadata names both and, as JSON, the classes.
    It is compared with the classifier, in float32, before it is written.

    Raises:
        OptionError: when a package is missing.
        HwtuneFailure: when there is no such file of the model, it does not read as the classifier
            does, or it cannot be written.
    """
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        raise OptionError(f"export needs {', '.join(missing)}: {installing(*missing)}")
    config, side, file = classifier.config, classifier.side, folder / ONNX_FILE
    reader = Reader(classifier.model, side=side, scaled_to=config.side, scale=config.pixel_scale)
    images = noise(side)
    try:
        content = onnx_of(reader.eval(), images, classifier.classes)
        read = run_onnx(content, images)
    except Exception as error:  # exporter and runtime have errors of many kinds
        raise HwtuneFailure(f"The model cannot be exported ({first_line(error)}).") from None
    part = Part(images, np.zeros(len(images), np.int64))
    fast = Fast("cpu", bf16=False)
    batches = plain_batches(part, config, fast=fast)
    known = predict_logits(classifier.model, batches, fast=fast).softmax(1).numpy()
    apart = np.abs(np.log(read + LEAST) - np.log(known + LEAST)).max()
    if not apart <= (RESIZED_TOLERANCE if reader.resizes else TOLERANCE):  # NaN is none
        raise HwtuneFailure(
            f"The ONNX file reads otherwise than the model: a log-probability by {apart:.1e}."
        )
    try:
        write_atomic(file, content)
    except OSError as error:
        raise HwtuneFailure(f"{file} cannot be written ({error.strerror}).") from None
    return file


def noise(side: int) -> Bytes:
    """Return images of noise, (CHECKED, side, side), from nearly empty to full ones."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (CHECKED, side, side), np.uint8)
    inked = np.linspace(0, 1, CHECKED)[:, None, None]  # the share of pixels
    return np.where(rng.random(images.shape) < inked, images, 0).astype(np.uint8)


def onnx_of(reader: Reader, images: Bytes, classes: Sequence[str]) -> bytes:
    """Return a network that reads as the content of an ONNX file, traced with these images."""
    side = images.shape[1]
    program = torch.onnx.export(
        reader, (torch.from_numpy(images),), dynamo=True, verbose=False,
        input_names=["images"], output_names=["probabilities"],
        dynamic_shapes={"images": {0: torch.export.Dim("count")}},
    )  # fmt: skip
    assert program is not None
    program.model.metadata_props.update(
        {
            "images": f"uint8 (N, {side}, {side}), 0 all of the background, up to 255 the ink",
            "probabilities": "float32 (N, classes)",
            "classes": json.dumps(classes, ensure_ascii=False),
        }
    )
    return program.model_proto.SerializeToString()


def run_onnx(content: bytes, images: Bytes) -> NDArray[np.float32]:
    """Return what an exported file answers: (N, classes) probabilities of images (N, S, S)."""
    from onnxruntime import InferenceSession

    session = InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(["probabilities"], {"images": images})[0]
