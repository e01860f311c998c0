"""What is wrong with a file of a study is named by its place in it."""

import copy
import json
from pathlib import Path

import pytest

from hwtune.contract import SEARCH, wrong_in_retrain, wrong_in_study
from scripts.kept import kept

ROOT = Path(__file__).parent.parent
STUDIES = [path.parent for path in kept("study.json")]
STUDY = json.loads((ROOT / "results" / "chinese_cnn-hour" / "study.json").read_text("utf-8"))
RETRAIN = json.loads((ROOT / "results" / "chinese_cnn-hour" / "retrain.json").read_text("utf-8"))


def changed(content, path, value):
    """Return a copy with another value at a path of keys and places; None takes it out."""
    new = copy.deepcopy(content)
    *way, last = path
    inner = new
    for step in way:
        inner = inner[step]
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    return new


@pytest.mark.parametrize("folder", STUDIES, ids=lambda path: path.name)
def test_nothing_is_wrong_with_a_kept_study(folder):
    assert not wrong_in_study(json.loads((folder / "study.json").read_text("utf-8")))
    assert not wrong_in_retrain(json.loads((folder / "retrain.json").read_text("utf-8")))


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("format",), "1", "format is '1'"),
        (("format",), True, "format is 'True'"),
        (("data", "sha256"), None, "it has no data.sha256"),
        (("data", "classes", 3), 7, "data.classes[3] is '7'"),
        (("data", "writers"), "few", "data.writers is 'few'"),
        (("split", "kind"), "halfed", "split.kind is 'halfed'"),
        (("split", "counts"), [], "split.counts is '[]'"),
        (("seconds",), "10", "seconds is '10'"),
        (("status",), "done", "status is 'done'"),
        (("space", "search", "lr"), 1e-3, "space.search.lr is '0.001'"),
        (("runs", 0, "seconds"), "long", "runs[0].seconds is 'long'"),
        (("budget",), None, "it has no budget"),
        (("data", "images"), 10**400, f"data.images is '1{'0' * 49}'"),
        (("versions", "\udce9"), "1", "a name in versions is '\\udce9'"),
        (("seconds",), float("nan"), "seconds is 'nan'"),
        (("study",), "a\udce9", "study is 'a\\udce9'"),
    ],
)
def test_what_is_wrong_in_a_study_is_named(path, value, said):
    assert wrong_in_study(changed(STUDY, path, value)) == said


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("test_openings",), None, "it has no test_openings"),
        (("configurations", 0), 5, "configurations[0] is '5'"),
        (("configurations", 0, "seeds"), None, "it has no configurations[0].seeds"),
        (("configurations", 0, "test_accuracy", "mean"), "1", "mean is '1'"),
        (("configurations", 0, "misread", 0, "image"), 1.5, "misread[0].image is '1.5'"),
        (("configurations", 0, "misread", 0, "true"), None, "no configurations[0].misread[0].true"),
    ],
)
def test_what_is_wrong_in_a_retraining_is_named(path, value, said):
    assert wrong_in_retrain(changed(RETRAIN, path, value)).endswith(said)


def test_large_wishes_are_recorded_as_they_are():
    assert not wrong_in_study(changed(STUDY, ("disk_limit",), 10**20))


def test_a_baselines_training_needs_no_budget():
    published = ROOT / "results" / "published" / "chinese_cnn-oafarih" / "study.json"
    study = json.loads(published.read_text("utf-8"))
    assert not {*SEARCH} & study.keys()
    assert not wrong_in_study(study)
    assert wrong_in_study({**study, "baseline": None}) == "it has no budget"


def test_a_number_may_be_whole_where_it_need_not():
    assert not wrong_in_study(changed(STUDY, ("seconds",), 10))
