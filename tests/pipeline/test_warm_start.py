import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from hwtune.data import load_data
from hwtune.data.add import add_data
from hwtune.data.images import Dataset
from hwtune.data.splits import SplitSpec
from hwtune.errors import OptionError
from hwtune.pipeline.warm_start import BEST, told, with_starts_from
from hwtune.records import EpochRecord, TrialRecord
from hwtune.results import create_study
from hwtune.space import SearchSpace, choice, integer, log_uniform, space_from_json, uniform

SPACE = SearchSpace(
    question="?",
    data="old",
    search={"lr": log_uniform(1e-4, 1e-2), "filters": choice("8", "16"), "pool": choice("max")},
    fixed={"epochs": 3, "batch_size": 100},
)
PLAIN = SplitSpec()
POINTS = [
    {"lr": 1e-3, "filters": "8", "pool": "max"},
    {"lr": 2e-3, "filters": "16", "pool": "max"},
    {"lr": 3e-3, "filters": "8", "pool": "max"},
    {"lr": 4e-3, "filters": "16", "pool": "max"},
    {"lr": 5e-3, "filters": "8", "pool": "max"},
]
ACCURACIES = [0.5, 0.9, 0.7, 0.8, 0.6]


def images(name, seed=0):
    rng = np.random.default_rng(seed)
    pixels, labels = rng.integers(0, 256, (40, 28, 28), np.uint8), np.arange(40) % 2
    return Dataset(name, pixels, labels, ("a", "b"))


def study(results, name="first", *, data=None, split=PLAIN, space=SPACE, origins=(), points=POINTS):
    data = data or images("old")
    about = {
        "format": 1, "space": space.to_json(), "data": data.describe(),
        "split": split.describe({}), "started_from": list(origins),
    }  # fmt: skip
    folder = create_study(results, name, name, about=about)
    for number, accuracy in enumerate(ACCURACIES):
        folder.append_epoch(EpochRecord(number, 1, 0.1, 0.2, accuracy, 0.1, 1.0))
    trials = [
        TrialRecord(number, state="complete", config=values) for number, values in enumerate(points)
    ]
    folder.write_trials(trials, space.search)
    return folder


def starts(tmp_path, space=SPACE, *, space_before=SPACE, **options):
    before = study(tmp_path, space=space_before, **options)
    new, _ = with_starts_from(space, [before], images("new", 1), PLAIN)
    return dict(new.starts)


def test_the_best_trials_of_a_study_are_starts_of_the_next(tmp_path):
    found = starts(tmp_path)
    assert list(found) == ["first-1", "first-3", "first-2"]
    assert list(found.values()) == [POINTS[1], POINTS[3], POINTS[2]]
    assert len(found) == BEST


def test_starts_of_the_space_stay_and_come_after(tmp_path):
    found = starts(tmp_path, replace(SPACE, starts={"mine": POINTS[0]}))
    assert list(found) == ["first-1", "first-3", "first-2", "mine"]


def test_starts_of_one_name_stand_beside_each_other(tmp_path):
    others = [{**values, "lr": values["lr"] / 3} for values in POINTS]
    first, second = study(tmp_path / "a"), study(tmp_path / "b", points=others)
    space = replace(SPACE, baselines={"first-3": {**POINTS[0], "lr": 1e-4}})
    new, _ = with_starts_from(space, [first, second], images("new", 1), PLAIN)
    assert list(new.starts) == [
        "first-1", "first-3-2", "first-2", "first-1-2", "first-3-3", "first-2-2",
    ]  # fmt: skip


def test_what_is_tried_anyway_makes_room_for_the_next_best(tmp_path):
    space = replace(SPACE, baselines={"old": POINTS[3]}, starts={"mine": POINTS[1]})
    assert list(starts(tmp_path / "a", space)) == ["first-2", "first-4", "first-0", "mine"]
    again, origins = with_starts_from(
        SPACE, [study(tmp_path / "b"), study(tmp_path / "c", "second")], images("new", 1), PLAIN
    )
    assert list(again.starts) == ["first-1", "first-3", "first-2", "second-4", "second-0"]
    known = replace(SPACE, starts={str(n): values for n, values in enumerate(POINTS)})
    again, origins = with_starts_from(known, [study(tmp_path / "d")], images("new", 1), PLAIN)
    assert again.starts == known.starts
    assert "first (which has no trial that is new to this space)" in told(origins)


def test_what_the_new_space_searches_and_the_old_fixed_is_taken_from_there(tmp_path):
    space = replace(SPACE, fixed={"epochs": 3},
                    search={**SPACE.search, "batch_size": choice(32, 64, 128)})  # fmt: skip
    assert {values["batch_size"] for values in starts(tmp_path, space).values()} == {128}


def test_numbers_become_the_nearest_that_the_space_has(tmp_path):
    space = replace(
        SPACE,
        search={
            "lr": log_uniform(1e-5, 1.5e-3), "rotation": uniform(5.0, 10.0), "side": choice(16, 32),
            "convs_per_stage": integer(2, 3), "filters": choice("8", "16"),
        },
    )  # fmt: skip
    found = starts(tmp_path, space)
    assert list(found.values()) == [
        {"lr": 1.5e-3, "rotation": 5.0, "side": 32, "convs_per_stage": 2, "filters": "16"},
        {"lr": 1.5e-3, "rotation": 5.0, "side": 32, "convs_per_stage": 2, "filters": "8"},
        {"lr": 1e-3, "rotation": 5.0, "side": 32, "convs_per_stage": 2, "filters": "8"},
    ]  # trials that become equal count once


def test_a_trial_that_is_no_point_of_the_space_is_passed_over(tmp_path):
    space = replace(SPACE, search={**SPACE.search, "filters": choice("8", "32")})
    assert list(starts(tmp_path, space)) == ["first-2", "first-4", "first-0"]


def test_a_side_of_zero_stays_or_is_that_of_the_old_images(tmp_path):
    for sides, expected in (((0, 16, 32), 0), ((16, 32), 32)):
        space = replace(SPACE, search={**SPACE.search, "side": choice(*sides)})
        found = starts(tmp_path / str(expected), space)
        assert {values["side"] for values in found.values()} == {expected}


def test_no_number_is_near_to_what_is_switched_off(tmp_path):
    space = replace(SPACE, search={**SPACE.search, "max_steps": integer(100, 1000)})
    with pytest.raises(OptionError, match="max_steps=0 is not one of"):
        starts(tmp_path, space)


@pytest.mark.parametrize(
    ("values", "before", "now"),
    [((0, 0.99), 0.0, 0), ((0.0, 0.5), 0.99, 0.5), ((0.9, 0.99), 0.999, 0.99)],
)
def test_what_was_off_stays_off_and_what_was_on_stays_on(tmp_path, values, before, now):
    old = replace(SPACE, fixed={**SPACE.fixed, "ema": before})
    space = replace(SPACE, search={**SPACE.search, "ema": choice(*values)})
    assert {each["ema"] for each in starts(tmp_path, space, space_before=old).values()} == {now}


def test_a_network_that_the_space_does_not_train_is_passed_over(tmp_path):
    assert list(starts(tmp_path / "a", replace(SPACE, max_parameters=5_000))) == [
        "first-2", "first-4", "first-0",
    ]  # fmt: skip
    deep = replace(SPACE, fixed={**SPACE.fixed, "padding": "none", "kernel": "9", "side": 8})
    with pytest.raises(OptionError, match=r"can be trained \(.* no pixel"):
        starts(tmp_path / "b", deep)


def test_a_study_without_a_point_of_the_space_is_refused(tmp_path):
    space = replace(SPACE, search={**SPACE.search, "filters": choice("32")})
    with pytest.raises(
        OptionError, match=r"first: none of its trials .*filters='16' is not one of"
    ):
        starts(tmp_path, space)
    resnet = replace(
        SPACE, model="resnet", search={"lr": SPACE.search["lr"]},
        fixed={"filters": "8-16", "strides": "1"},
    )  # fmt: skip
    with pytest.raises(OptionError, match="model='cnn' is not 'resnet'"):
        starts(tmp_path, resnet, name="second")
    empty = create_study(tmp_path, "empty", "empty", about=study(tmp_path, "third").read_study())
    with pytest.raises(OptionError, match="empty: it has no trained trial"):
        with_starts_from(SPACE, [empty], images("new", 1), PLAIN)


def test_a_study_that_knows_the_images_that_are_tested_is_refused(tmp_path):
    other = SplitSpec(seed=1)
    first = study(tmp_path)
    _, origins = with_starts_from(SPACE, [first], images("old"), PLAIN)  # of the same split
    with pytest.raises(OptionError, match="another split of old.*--split random --split-seed 0"):
        with_starts_from(SPACE, [first], images("old"), other)
    # Nor by way of a study of other data.
    second = study(tmp_path, "second", data=images("new", 1), split=other, origins=origins)
    with pytest.raises(OptionError, match="second: study first searched another split of old"):
        with_starts_from(SPACE, [second], images("old"), other)
    with pytest.raises(OptionError, match="other images that are called old, too"):
        with_starts_from(SPACE, [first], images("old", 2), PLAIN)


def test_a_study_of_data_that_share_images_with_what_is_tested_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("HWTUNE_DATA", str(tmp_path / "data"))
    for name, count in (("letters", 60), ("letters2", 80)):
        for seed in range(count):
            folder = tmp_path / name / "ab"[seed % 2]
            folder.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(seed).integers(0, 256, (16, 16), np.uint8)
            Image.fromarray(pixels).save(folder / f"{seed}.png")
        add_data(name, tmp_path / name)
    first = study(tmp_path, data=load_data("letters"))
    with pytest.raises(OptionError, match=r"searched letters, which shares \d of the images that"):
        with_starts_from(SPACE, [first], load_data("letters2"), PLAIN)
    _, (origin,) = with_starts_from(SPACE, [first], load_data("digits"), PLAIN)
    assert origin["not_compared"] == []


def test_data_that_are_gone_cannot_be_compared_which_is_said(tmp_path):
    _, origins = with_starts_from(SPACE, [study(tmp_path)], images("new", 1), PLAIN)
    assert told(origins) == (
        "Starts from first (trials 1, 3, 2). Not at hand, so that nobody looked for images tested "
        "here: old."
    )


def test_a_point_that_knows_the_images_that_are_tested_does_not_come_by_way_of_other_data(tmp_path):
    known = replace(
        SPACE, starts={"a": POINTS[0]}, found_on={"a": {"kind": "random", "seed": 0, "images": 40}}
    )
    first = study(tmp_path, data=images("new", 1), space=known)
    with_starts_from(SPACE, [first], images("old"), PLAIN)
    with pytest.raises(OptionError, match="tried a, which was found on another split of old"):
        with_starts_from(SPACE, [first], images("old"), SplitSpec(seed=1))


def test_another_split_that_tests_the_same_images_is_taken(tmp_path):
    old = replace(images("old"), test_from=30)
    with_starts_from(SPACE, [study(tmp_path, data=old)], old, SplitSpec(seed=1))


def test_where_a_search_began_is_recorded_and_comes_back(tmp_path):
    first = study(tmp_path)
    new, origins = with_starts_from(SPACE, [first], images("new", 1), PLAIN)
    (origin,) = json.loads(json.dumps(origins))
    assert origin["study"] == "first"
    assert origin["trials"] == [1, 3, 2]
    assert origin["split"] == vars(PLAIN)
    assert space_from_json(json.loads(json.dumps(new.to_json()))).starts == new.starts
