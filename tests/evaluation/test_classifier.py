import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from hwtune.config import TrialConfig
from hwtune.errors import DataError, StudyError
from hwtune.evaluation.classifier import Prediction, load_classifier
from hwtune.evaluation.saved import file_hash, save_model
from hwtune.models import build_model
from hwtune.results import create_study
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
    assert first.predict(images[:0]) == []
    assert all(1 / 3 <= a.probability <= 1 for a in answers)


def test_the_next_most_probable_classes_are_named_where_they_are_asked_for(folder):
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8), np.uint8)
    classifier = load_classifier(folder)
    alone, two, all_of_them = (classifier.predict(images, top=top) for top in (1, 2, 9))
    for one, pair, every in zip(alone, two, all_of_them, strict=True):
        assert (one.label, one.others) == (pair.label, ())
        assert pair.others == every.others[:1]
        named = [every, *every.others]
        assert sorted(each.label for each in named) == sorted(CLASSES)
        chances = [each.probability for each in named]
        assert chances == sorted(chances, reverse=True)
        assert sum(chances) == pytest.approx(1, abs=1e-5)


def test_a_model_carries_its_preprocessing(folder):
    about = json.loads((folder / "model.json").read_text())
    assert about["preprocessing"] == {"side": 8, "scaled_to": 4, "pixels": "symmetric"}
    assert about["classes"] == list(CLASSES)


def test_a_model_says_what_it_reads(folder, tmp_path):
    classifier = load_classifier(folder)
    for images in (np.zeros((2, 5, 5), np.uint8), np.zeros((2, 8, 8)), np.zeros((8, 8), np.uint8)):
        with pytest.raises(DataError, match=r"shape \(N, 8, 8\) and type uint8"):
            classifier.predict(images)
    with pytest.raises(DataError, match=r"list is no array .* read\(\) takes files"):
        classifier.predict([tmp_path / "a.png"])
    Image.new("L", (30, 20)).save(tmp_path / "a.png")
    one = classifier.read(tmp_path / "a.png")
    assert one == classifier.read(str(tmp_path / "a.png")) == classifier.read([tmp_path / "a.png"])


def test_pictures_are_read_in_pieces(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("hwtune.evaluation.classifier.AT_ONCE", 2)
    classifier, random = load_classifier(folder), np.random.default_rng(0)
    files = [tmp_path / f"{number}.png" for number in range(5)]
    for file in files:
        Image.fromarray(random.integers(0, 256, (8, 8), np.uint8)).save(file)
    files[3].write_text("no picture")
    answers = list(classifier.read_each(iter(files)))
    assert [type(each) for each in answers] == 3 * [Prediction] + [DataError, Prediction]
    one_by_one = [next(classifier.read_each([file])) for file in files]
    for each, alone in zip(answers[:3] + answers[4:], one_by_one[:3] + one_by_one[4:], strict=True):
        assert each.label == alone.label
        assert each.probability == pytest.approx(alone.probability, abs=1e-5)


def test_a_network_that_would_be_larger_than_its_weights_is_not_built(folder):
    about = json.loads((folder / "model.json").read_text())
    about["config"]["hidden"] = "60000-60000"
    (folder / "model.json").write_text(json.dumps(about))
    with pytest.raises(StudyError, match="more weights than their file"):
        load_classifier(folder)


def test_no_model_is_refused_with_the_remedy(tmp_path):
    with pytest.raises(StudyError, match=r"holds no model; copy all of a study's model/"):
        load_classifier(tmp_path / "model")
    for status, remedy in (
        ("interrupted", "finish the study: .*python -m hwtune resume "),
        ("complete", "opens the test set once more: .*python -m hwtune retrain "),
    ):
        create_study(tmp_path, status, "s", about={"format": 1, "status": status})
        with pytest.raises(StudyError, match=f"holds no model; .*{remedy}"):
            load_classifier(tmp_path / status / "model")
    running = create_study(tmp_path, "runs", "s", about={"format": 1, "status": "running"})
    with running.locked(), pytest.raises(StudyError, match="wait until it ends"):
        load_classifier(running.model)
    with pytest.raises(StudyError, match="finish the study"):  # its process is dead
        load_classifier(running.model)
    about = {"format": 1, "status": "complete", "baseline": {}, "command": "hwtune retrain x"}
    create_study(tmp_path, "published", "s", about=about)
    with pytest.raises(StudyError, match="under another name: .* -m hwtune retrain x"):
        load_classifier(tmp_path / "published" / "model")


def test_damaged_weights_are_refused(folder):
    (folder / "model.safetensors").write_bytes(b"garbage")
    with pytest.raises(StudyError, match="cannot be read"):
        load_classifier(folder)


def test_weights_that_are_not_finite_are_refused(folder):
    weights = load_file(folder / "model.safetensors")
    next(w for w in weights.values() if w.is_floating_point()).fill_(math.nan)
    save_file(weights, folder / "model.safetensors")
    about = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    about["weights_sha256"] = file_hash(folder / "model.safetensors")
    (folder / "model.json").write_text(json.dumps(about), encoding="utf-8")
    with pytest.raises(StudyError, match="some of its weights are not finite"):
        load_classifier(folder)


def test_classes_that_are_no_texts_are_refused(folder):
    about = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    about["classes"] = list(range(len(about["classes"])))
    (folder / "model.json").write_text(json.dumps(about), encoding="utf-8")
    with pytest.raises(StudyError, match="its classes are not named by texts"):
        load_classifier(folder)


@pytest.mark.parametrize("side", [100_000, 0, 8.5, "8"])
def test_a_side_that_no_image_has_is_refused(folder, side):
    about = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    about["preprocessing"]["side"] = side
    (folder / "model.json").write_text(json.dumps(about), encoding="utf-8")
    with pytest.raises(StudyError, match="no side from 1 to 1024 pixels"):
        load_classifier(folder)


def test_a_model_that_is_not_the_winners_is_refused(folder):
    """A process was killed after it had put a model there and before the records said so."""
    study, weights = folder.parent, json.loads((folder / "model.json").read_text())
    (study / "study.json").write_text('{"format": 1, "status": "complete"}')
    record = {"configurations": [{"weights_sha256": weights["weights_sha256"]}]}
    (study / "retrain.json").write_text(json.dumps(record))
    load_classifier(folder)
    record["configurations"][0]["weights_sha256"] = "0"
    (study / "retrain.json").write_text(json.dumps(record))
    with pytest.raises(StudyError, match=r"killed .* retrain the study's best"):
        load_classifier(folder)
    folder.rename(study / "copied")  # for other uses
    load_classifier(study / "copied")


def test_weights_of_another_model_are_refused(folder, tmp_path):
    about = json.loads((folder / "model.json").read_text())
    about["weights_sha256"] = "0"
    (folder / "model.json").write_text(json.dumps(about))
    with pytest.raises(StudyError, match="belong to another model.json"):
        load_classifier(folder)
