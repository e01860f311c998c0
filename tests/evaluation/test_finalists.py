"""Finalists are judged on all images outside of the test part, by the kind of the split."""

import math
from dataclasses import replace

import numpy as np
import pytest
import ray

from hwtune.config import TrialConfig
from hwtune.data import load_data
from hwtune.data.splits import SplitSpec, search_split, split_indices
from hwtune.errors import OptionError
from hwtune.evaluation.candidates import Candidate, Ground
from hwtune.evaluation.finalists import _described, as_judged, check_folds, fold_positions, judge
from hwtune.evaluation.tasks import train_one
from hwtune.results import create_study
from hwtune.slots import Slots


@pytest.fixture(scope="module")
def strokes():
    return load_data("chinese_strokes")


@pytest.mark.parametrize("kind", ["random", "writer"])
def test_the_folds_hold_every_image_outside_of_the_test_part_once(strokes, kind):
    spec = SplitSpec(kind=kind, seed=3)
    indices = split_indices(strokes, spec)
    pool = np.concatenate([indices.train, indices.validation])
    parts = list(fold_positions(strokes, spec, pool, folds=3))
    folds = [pool[judged] for _, judged in parts]
    assert np.array_equal(np.sort(np.concatenate(folds)), np.sort(pool))
    for fold, (trains, _) in zip(folds, parts, strict=True):
        others = np.setdiff1d(pool, fold)
        assert np.array_equal(np.sort(pool[trains]), others)
        if kind == "writer":
            assert not set(strokes.writers[fold]) & set(strokes.writers[others])
        else:
            counts = np.bincount(strokes.labels[fold])
            assert counts.max() - counts.min() <= 1
    again = list(fold_positions(strokes, spec, pool, folds=3))
    assert all(np.array_equal(a[1], b[1]) for a, b in zip(parts, again, strict=True))


def test_more_folds_than_writers_or_images_are_refused(strokes, digits):
    with pytest.raises(OptionError, match="--folds 91 is more than there are writers \\(90\\)"):
        check_folds(strokes, SplitSpec(kind="writer"), 91)
    check_folds(strokes, SplitSpec(kind="writer"), 90)
    with pytest.raises(OptionError, match="--folds 500 .* images of a class"):
        check_folds(digits, SplitSpec(), 500)


def test_folds_by_writer_that_leave_a_class_without_an_image_are_refused(strokes):
    spec = SplitSpec(kind="writer")
    writer = strokes.writers[split_indices(strokes, spec).train[0]]
    labels = np.where(strokes.writers == writer, 15, strokes.labels)  # a class that one wrote
    alone = replace(strokes, labels=labels, classes=(*strokes.classes, "own"))
    with pytest.raises(OptionError, match="--folds 3: .* without the class 'own'"):
        check_folds(alone, spec, 3)


def test_what_was_judged_stands_for_the_same_finalists_and_folds():
    two = [Candidate(name, "", TrialConfig()) for name in ("trial 1", "trial 2")]
    judged = [
        {"name": each.name, "config": each.config.to_dict(), "per_fold": [0.9, 0.8]}
        for each in two[::-1]
    ]
    assert as_judged(two, judged, 2) == two[::-1]
    assert as_judged(two, judged, 3) is None
    assert as_judged([*two, Candidate("trial 3", "", TrialConfig())], judged, 2) is None
    assert as_judged(two[:1], judged, 2) is None
    longer = [two[0], replace(two[1], config=TrialConfig(epochs=7))]
    assert as_judged(longer, judged, 2) is None
    assert as_judged(two, [], 2) is None


def test_a_fold_counts_with_its_images():
    """As on a split by writer, of which some wrote more than others."""
    found = _described(Candidate("a", "", TrialConfig()), [0.98, 0.9], [500, 50])
    assert found["accuracy"] == pytest.approx((500 * 0.98 + 50 * 0.9) / 550)
    assert found["images"] == 550
    assert (
        _described(Candidate("a", "", TrialConfig()), [0.9, math.nan], [1, 1])["accuracy"] is None
    )


@pytest.mark.slow
def test_the_better_finalist_comes_first_and_a_broken_one_last(tmp_path, digits, console, ray_here):
    good = Candidate("good", "", TrialConfig(filters="8-16", epochs=8, lr=3e-3))
    poor = Candidate("poor", "", TrialConfig(filters="1", head="max", epochs=1, lr=1e-5))
    broken = Candidate(
        "broken", "", TrialConfig(optimizer="sgd", lr=1e9, epochs=2, pixel_scale="raw")
    )
    folder = create_study(tmp_path, None, "s")
    data = ray.put(search_split(digits, SplitSpec()))
    ground = Ground(folder, digits, SplitSpec(), data, Slots(2), console)
    order = judge([poor, broken, good], ground, folds=2)
    assert order == [good, poor, broken]
    first, second, last = folder.read_retrain()["finalists"]
    assert [first["name"], second["name"], last["name"]] == ["good", "poor", "broken"]
    assert first["accuracy"] == pytest.approx(np.mean(first["per_fold"]))
    assert first["accuracy"] > 2 * second["accuracy"]
    assert first["images"] == sum(split_indices(digits, SplitSpec()).counts().values()) - 179
    assert last["accuracy"] is None
    assert "broken, fold 1 of 2 failed" in console.file.getvalue()


@pytest.mark.slow
def test_a_finalist_is_judged_on_what_it_was_not_trained_on(tmp_path, digits, console, ray_here):
    """What learns drawn labels by heart reads no others."""
    drawn = replace(digits, labels=np.random.default_rng(0).permutation(digits.labels))
    config = TrialConfig(filters="32-64", epochs=40, lr=3e-3, lr_schedule="onecycle")
    split = search_split(drawn, SplitSpec())
    learnt = train_one(
        config.to_dict(), split.train, split.train, classes=10, seed=0, gpu=False, saved=None,
        note=lambda _: None, keep=lambda _: None,
    )[1]  # fmt: skip
    assert learnt > 0.5
    folder = create_study(tmp_path, None, "s")
    ground = Ground(folder, drawn, SplitSpec(), ray.put(split), Slots(2), console)
    judge([Candidate("a", "", config)], ground, folds=2)
    (judged,) = folder.read_retrain()["finalists"]
    assert max(judged["per_fold"]) < 0.2
