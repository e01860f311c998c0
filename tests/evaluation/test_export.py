import json
import sys

import numpy as np
import onnx
import pytest
import torch

from hwtune.config import TrialConfig
from hwtune.data.splits import Part
from hwtune.errors import HwtuneFailure, OptionError
from hwtune.evaluation.classifier import load_classifier
from hwtune.evaluation.export import export_onnx, run_onnx
from hwtune.evaluation.saved import save_model
from hwtune.models import build_model
from hwtune.overview import list_spaces
from hwtune.space import load_space
from hwtune.training.device import Fast
from hwtune.training.loop import predict_logits
from hwtune.training.state import plain_batches, weights_of

CLASSES = ("零", "一", "二")
SMALL = TrialConfig(filters="4", side=4, pixel_scale="symmetric", norm="before")


def saved(folder, config, *, side):
    torch.manual_seed(0)
    model = build_model(config, classes=len(CLASSES), side=side)
    arrays = {name: tensor.numpy() for name, tensor in weights_of(model).items()}
    save_model(folder, arrays, config, CLASSES, side=side)
    return load_classifier(folder)


def assert_alike(file, classifier, *, count):
    side, fast = classifier.side, Fast("cpu", bf16=False)
    images = np.random.default_rng(1).integers(0, 256, (count, side, side), np.uint8)
    images[: count // 2, : side // 2] = 0
    part = Part(images, np.zeros(count, np.int64))
    batches = plain_batches(part, classifier.config, fast=fast)
    known = predict_logits(classifier.model, batches, fast=fast).softmax(1).numpy()
    read = run_onnx(file.read_bytes(), images)
    resized = classifier.config.side not in (0, side)
    assert np.allclose(read, known, rtol=1e-4, atol=5e-3 if resized else 0)
    assert count == 1 or read.std(0).max() > 1e-3, "the answers differ by image"


@pytest.mark.slow
@pytest.mark.parametrize("name", [each["space"] for each in list_spaces()])
def test_a_network_of_every_space_is_exported(tmp_path, name):
    space = load_space(name)
    classifier = saved(tmp_path, space.config(space.corner(largest=False)), side=28)
    file = export_onnx(classifier, tmp_path)
    read = run_onnx(file.read_bytes(), np.zeros((2, 28, 28), np.uint8))
    assert read.shape == (2, len(CLASSES))


@pytest.mark.parametrize(
    ("scale", "side"), [("unit", 0), ("root", 7), ("symmetric", 16), ("raw", 6)]
)
def test_the_file_reads_as_the_model_does(tmp_path, scale, side):
    config = TrialConfig(filters="16-32", hidden="32", side=side, pixel_scale=scale)
    classifier = saved(tmp_path, config, side=12)
    file = export_onnx(classifier, tmp_path)
    for count in (1, 40):
        assert_alike(file, classifier, count=count)


def test_the_file_says_what_it_takes_and_gives(tmp_path):
    file = export_onnx(saved(tmp_path, SMALL, side=11), tmp_path)
    said = {each.key: each.value for each in onnx.load(file).metadata_props}
    assert json.loads(said["classes"]) == list(CLASSES)
    assert said["images"] == "uint8 (N, 11, 11), 0 all of the background, up to 255 the ink"


def test_a_file_that_reads_otherwise_is_not_left(tmp_path):
    classifier = saved(tmp_path, SMALL, side=4)
    for weights in classifier.model.parameters():
        torch.nn.init.constant_(weights, float("nan"))
    with pytest.raises(HwtuneFailure, match="a log-probability by nan"):
        export_onnx(classifier, tmp_path)
    assert {each.name for each in tmp_path.iterdir()} == {"model.json", "model.safetensors"}


def test_another_model_takes_the_file_away(tmp_path):
    file = export_onnx(saved(tmp_path, SMALL, side=4), tmp_path)
    assert file.exists()
    saved(tmp_path, SMALL, side=4)
    assert not file.exists()


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # as Python says "not installed"
    with pytest.raises(OptionError, match="python -m pip install onnxruntime"):
        export_onnx(saved(tmp_path, SMALL, side=4), tmp_path)
