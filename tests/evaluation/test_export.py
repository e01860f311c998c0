import json
import sys

import numpy as np
import onnx
import pytest
import torch

from hwtune.config import TrialConfig
from hwtune.errors import HwtuneFailure, StudyError
from hwtune.evaluation.classifier import load_classifier
from hwtune.evaluation.export import export_onnx, run_onnx
from hwtune.evaluation.saved import save_model
from hwtune.models import build_model
from hwtune.overview import list_spaces
from hwtune.space import load_space
from hwtune.training.state import weights_of

CLASSES = ("零", "一", "二")
SMALL = TrialConfig(filters="4", side=4, pixel_scale="symmetric", norm="before")


def saved(folder, config, *, side):
    torch.manual_seed(0)
    model = build_model(config, classes=len(CLASSES), side=config.side or side)
    arrays = {name: tensor.numpy() for name, tensor in weights_of(model).items()}
    save_model(folder, arrays, config, CLASSES, side=side)
    return load_classifier(folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", [each["space"] for each in list_spaces()])
def test_the_file_reads_as_the_model_does(tmp_path, name):
    space = load_space(name)
    classifier = saved(tmp_path, space.config(space.corner(largest=False)), side=28)
    images = np.random.default_rng(1).integers(0, 256, (3, 28, 28), np.uint8)
    answers = run_onnx(export_onnx(classifier, tmp_path), images)
    assert answers.shape == (3, 3)
    assert np.allclose(answers, classifier.logits(images).softmax(1), atol=1e-4)
    assert answers.std(0).max() > 1e-6, "it looks at the images"


def test_the_file_carries_classes_and_resizes_images_itself(tmp_path):
    classifier = saved(tmp_path, SMALL, side=11)
    file = export_onnx(classifier, tmp_path)
    (classes,) = [each.value for each in onnx.load(file).metadata_props if each.key == "classes"]
    assert json.loads(classes) == list(CLASSES)
    images = np.random.default_rng(1).integers(0, 256, (40, 11, 11), np.uint8)
    assert np.allclose(
        run_onnx(file, images), classifier.logits(images).softmax(1), atol=1e-3
    )  # fmt: skip


def test_a_file_that_reads_otherwise_is_not_left(tmp_path):
    classifier = saved(tmp_path, SMALL, side=4)
    for weights in classifier.model.parameters():
        torch.nn.init.constant_(weights, float("nan"))
    with pytest.raises(HwtuneFailure, match="a probability by nan"):
        export_onnx(classifier, tmp_path)
    assert {each.name for each in tmp_path.iterdir()} == {"model.json", "model.safetensors"}


def test_another_model_takes_the_file_away(tmp_path):
    file = export_onnx(saved(tmp_path, SMALL, side=4), tmp_path)
    assert file.exists()
    saved(tmp_path, SMALL, side=4)
    assert not file.exists()


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # as Python says "not installed"
    with pytest.raises(StudyError, match="pip install onnxruntime"):
        export_onnx(saved(tmp_path, SMALL, side=4), tmp_path)
