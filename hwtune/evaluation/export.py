"""A finished model as one ONNX file, which other programs read without hwtune or torch."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from hwtune.data.batches import PixelScale, to_floats
from hwtune.errors import HwtuneFailure, StudyError
from hwtune.evaluation.classifier import Classifier
from hwtune.evaluation.saved import ONNX_FILE

PACKAGES = ("onnx", "onnxscript", "onnxruntime")  # what `hwtune[onnx]` installs
CHECKED = 16  # images that the file has to read as the model does
TOLERANCE = 1e-3  # of a probability; pixels are rounded, and a tie may fall to either side


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
    and 255 ink; its output is `probabilities`; the classes stand in its metadata as JSON. It is
    compared with the classifier before it takes its place.

    Raises:
        StudyError: when a package is missing.
        HwtuneFailure: when the file cannot be written, or does not read as the classifier does.
    """
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        raise StudyError(f"export needs {', '.join(missing)}: pip install {' '.join(missing)}.")
    config, side = classifier.config, classifier.side
    reader = Reader(
        classifier.model, side=side, scaled_to=config.side, scale=config.pixel_scale
    ).eval()  # fmt: skip
    images = np.random.default_rng(0).integers(0, 256, (CHECKED, side, side), np.uint8)
    program = torch.onnx.export(
        reader, (torch.from_numpy(images),), dynamo=True, verbose=False,
        input_names=["images"], output_names=["probabilities"],
        dynamic_shapes={"images": {0: torch.export.Dim("count")}},
    )  # fmt: skip
    assert program is not None
    program.model.metadata_props["classes"] = json.dumps(classifier.classes, ensure_ascii=False)
    temporary, file = folder / f".{ONNX_FILE}", folder / ONNX_FILE
    try:
        program.save(temporary)
        expected = classifier.logits(images).softmax(1).numpy()
        difference = np.abs(run_onnx(temporary, images) - expected).max()
        if not difference <= TOLERANCE:  # NaN is none
            raise HwtuneFailure(
                f"The ONNX file reads otherwise than the model: a probability by {difference:.1e}."
            )
        temporary.replace(file)
    except OSError as error:
        raise HwtuneFailure(f"{file} cannot be written ({error.strerror}).") from None
    finally:
        temporary.unlink(missing_ok=True)
    return file


def run_onnx(file: Path, images: Any) -> Any:
    """Return what an exported file answers: (N, classes) probabilities of images (N, S, S)."""
    from onnxruntime import InferenceSession

    session = InferenceSession(file, providers=["CPUExecutionProvider"])
    return session.run(["probabilities"], {"images": images})[0]
