import json

import numpy as np
import pytest
import torch
from PIL import Image

from hwtune.config import TrialConfig
from hwtune.errors import DataError, StudyError
from hwtune.evaluation.classifier import load_classifier, read_image
from hwtune.evaluation.saved import save_model
from hwtune.models import build_model
from hwtune.training.state import weights_of

CONFIG = TrialConfig(filters="4", side=4, pixel_scale="symmetric", norm="before")
CLASSES = ("零", "一", "二")


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    model = build_model(CONFIG, classes=3, side=4)
    arrays = {name: tensor.numpy() for name, tensor in weights_of(model).items()}
    save_model(tmp_path / "model", arrays, CONFIG, CLASSES, side=8)
    return tmp_path / "model"


def test_a_saved_model_answers_as_before(folder):
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8), np.uint8)
    first, second = load_classifier(folder), load_classifier(folder)
    assert torch.equal(first.logits(images), second.logits(images))
    answers = first.predict(images)
    assert {a.label for a in answers} <= set(CLASSES)
    assert all(1 / 3 <= a.probability <= 1 for a in answers)


def test_a_model_carries_its_preprocessing(folder):
    about = json.loads((folder / "model.json").read_text())
    assert about["preprocessing"] == {"side": 8, "scaled_to": 4, "pixels": "symmetric"}
    assert about["classes"] == list(CLASSES)


def test_no_model_is_refused_with_the_remedy(tmp_path):
    with pytest.raises(StudyError, match="run 'python -m hwtune retrain"):
        load_classifier(tmp_path / "model")


def test_damaged_weights_are_refused(folder):
    (folder / "model.safetensors").write_bytes(b"garbage")
    with pytest.raises(StudyError, match="does not read"):
        load_classifier(folder)


def test_a_picture_is_brought_to_side_and_polarity(tmp_path):
    paper = np.full((40, 80), 230, np.uint8)
    paper[10:30, 30:50] = 20
    Image.fromarray(paper).save(tmp_path / "ink.png")
    read = read_image(tmp_path / "ink.png", 16)
    assert read.shape == (16, 16)
    assert read[0, 0] == read[-1, 0] == 25
    assert read[8, 8] == 235


def test_an_image_of_the_data_set_is_not_changed(tmp_path):
    image = np.zeros((16, 16), np.uint8)
    image[4:12, 7] = 200
    Image.fromarray(image).save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png", 16), image)


def test_ink_on_transparency_is_ink_on_paper(tmp_path):
    picture = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
    picture.paste((0, 0, 0, 255), (6, 4, 9, 12))
    picture.save(tmp_path / "a.png")
    read = read_image(tmp_path / "a.png", 16)
    assert read[8, 7] == 255
    assert read[0, 0] == 0


def test_weights_of_another_model_are_refused(folder, tmp_path):
    about = json.loads((folder / "model.json").read_text())
    about["weights_sha256"] = "0"
    (folder / "model.json").write_text(json.dumps(about))
    with pytest.raises(StudyError, match="belong to another model.json"):
        load_classifier(folder)


def test_a_file_that_is_no_picture_is_refused(tmp_path):
    (tmp_path / "a.jpg").write_text("hello")
    with pytest.raises(DataError, match="a.jpg is no picture that can be read"):
        read_image(tmp_path / "a.jpg", 16)
    with pytest.raises(DataError, match="no file .*absent.jpg; give the path of a picture"):
        read_image(tmp_path / "absent.jpg", 16)
