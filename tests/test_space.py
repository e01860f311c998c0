import json
import re

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hwtune.data import DATASETS
from hwtune.data.splits import Part
from hwtune.errors import MisfitError, SpaceError, StudyError
from hwtune.search.feasible import check_idle, cost_of, misfits, survey, too_large
from hwtune.space import (
    SearchSpace,
    choice,
    integer,
    load_space,
    log_uniform,
    space_file,
    space_files,
    space_from_json,
    space_source,
    uniform,
)
from hwtune.training.device import Fast
from hwtune.training.loop import train_config
from hwtune.training.state import start_training
from tests.strategies import points

SPACES = {name: load_space(name) for name in space_files()}
EVERY_SPACE = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)


def tiny(**changes):
    values = {
        "question": "?",
        "data": "digits",
        "search": {"lr": log_uniform(1e-4, 1e-1), "pool": choice("max", "none")},
    }
    return SearchSpace(**{**values, **changes})


def shape(space):
    source = DATASETS[space.data]
    return {"classes": source.classes, "side": source.side}


def test_the_spaces_of_the_issue_are_there():
    assert {
        "chinese_cnn", "chinese_resnet", "digits_cnn", "mnist_cnn", "mnist_m3"
    } <= SPACES.keys()  # fmt: skip


@EVERY_SPACE
def test_every_space_has_points_that_can_be_trained(space):
    assert survey(space, **shape(space))


@EVERY_SPACE
def test_a_space_survives_the_way_through_json(space):
    assert space_from_json(json.loads(json.dumps(space.to_json()))) == space
    for damaged in ({"search": {"lr": {}}}, {"search": {"lr": 3}}, {"unheard": 1}, {"search": []}):
        with pytest.raises(StudyError, match="space in study.json is damaged"):
            space_from_json({**space.to_json(), **damaged})


@EVERY_SPACE
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_every_point_builds_a_network_and_trains_a_step(space, data):
    values = data.draw(points(space))
    dimensions = shape(space)
    try:
        if too_large(space, cost_of(space, values, **dimensions)):
            return
    except MisfitError:
        return
    count = 8
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(
        0, 256, (count, dimensions["side"], dimensions["side"]), generator=generator
    )
    part = Part(images.to(torch.uint8).numpy(), torch.arange(count).numpy())
    config = space.config({**values, "batch_size": count}).to_dict()
    config = space.config({**config, "epochs": 1})
    state, batches, _ = start_training(
        config, part, None, classes=dimensions["classes"], seed=0, fast=Fast("cpu", bf16=False)
    )
    before = [p.detach().clone() for p in state.model.parameters()]
    (result,) = train_config(state, batches, None, config)
    assert result.epoch == 1
    after = list(state.model.parameters())
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


@EVERY_SPACE
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_values_survive_the_way_through_trials_csv(space, data):
    values = data.draw(points(space))
    assert space.parse({key: str(value) for key, value in values.items()}) == values
    assert space.parse(values) == values


def test_a_baseline_outside_its_space_is_refused():
    with pytest.raises(SpaceError, match="'old'.*lr=5"):
        tiny(baselines={"old": {"lr": 5.0, "pool": "max"}})


def test_a_baseline_that_lacks_a_value_is_refused():
    with pytest.raises(SpaceError, match="'old' lacks 'pool'"):
        tiny(baselines={"old": {"lr": 0.01}})


def test_a_choice_of_true_is_not_met_by_one():
    with pytest.raises(SpaceError, match="softmax=1"):
        tiny(
            search={"softmax": choice(False, True)},
            baselines={"old": {"softmax": 1}},
        )


def test_an_unknown_hyperparameter_in_a_space_is_refused():
    with pytest.raises(SpaceError, match="Unknown hyperparameter 'depth'"):
        tiny(search={"depth": integer(1, 3)})


def test_a_bad_end_of_a_range_is_refused():
    with pytest.raises(SpaceError, match="translation=1.5"):
        tiny(search={"translation": uniform(0.0, 1.5)})


def test_a_range_upside_down_is_refused():
    with pytest.raises(SpaceError, match="from 2 to 1"):
        uniform(2, 1)


def test_a_plain_value_in_search_is_refused():
    with pytest.raises(SpaceError, match="use choice"):
        tiny(search={"lr": 0.1})


@pytest.mark.parametrize("bound", [None, "5M", 0, 2.5, True])
def test_a_bound_that_is_no_number_is_refused(bound):
    for name in ("max_parameters", "max_macs"):
        with pytest.raises(SpaceError, match=f"{name}={bound!r} is not a whole number"):
            SearchSpace(question="?", data="digits", search={"lr": choice(0.1)}, **{name: bound})


def test_a_point_that_was_found_must_be_there():
    with pytest.raises(SpaceError, match=r"found_on\['a'\] is neither a baseline"):
        SearchSpace(
            question="?", data="digits", search={"lr": choice(0.1)},
            found_on={"a": {"kind": "random"}},
        )  # fmt: skip
    for wrong in ({"kid": "random"}, "random"):
        with pytest.raises(SpaceError, match=r"=.* is not a split; give its kind, seed"):
            SearchSpace(
                question="?", data="digits", search={"lr": choice(0.1)}, starts={"a": {"lr": 0.1}},
                found_on={"a": wrong},
            )  # fmt: skip


def test_a_choice_that_is_repeated_is_refused():
    with pytest.raises(SpaceError, match="repeats a value"):
        SearchSpace(question="?", data="digits", search={"batch_size": choice(32, 64, 64)})
    SearchSpace(question="?", data="digits", search={"weight_decay": choice(0.0, 1.0)})


def test_a_value_both_fixed_and_searched_is_refused():
    with pytest.raises(SpaceError, match="'a' is the name of a baseline and of a start"):
        SearchSpace(
            question="?", data="digits", search={"pool": choice("max", "none")},
            baselines={"a": {"pool": "max"}}, starts={"a": {"pool": "none"}},
        )  # fmt: skip
    with pytest.raises(SpaceError, match="'lr' stands both"):
        tiny(fixed={"lr": 0.1})


def test_a_space_that_leaves_no_pixel_is_refused():
    space = tiny(fixed={"filters": "8-8-8-8"}, search={"pool": choice("max", "avg")})
    with pytest.raises(SpaceError, match="no point that can be trained.*no pixel"):
        survey(space, classes=10, side=8)


def test_known_points_for_which_images_are_too_small_are_named_and_can_be_left_out():
    space = load_space("mnist_cnn")
    assert misfits(space, classes=10, side=28) == []
    small = misfits(space, classes=10, side=8)
    assert "ahed9x_128" in small
    left = space.without(small)
    assert not left.points.keys() & set(small)
    assert survey(left, classes=10, side=8)


def test_with_epochs_sets_the_length_of_every_trial():
    space = tiny(
        search={"lr": log_uniform(1e-4, 1e-1), "epochs": integer(3, 9)},
        baselines={"old": {"lr": 0.01, "epochs": 9}},
    ).with_epochs(4)
    assert "epochs" not in space.search
    assert space.config(space.baselines["old"]).epochs == 4


def test_a_users_own_file_is_loaded_by_its_path(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from hwtune.space import *\n"
        "SPACE = SearchSpace(question='?', data='digits', search={'lr': log_uniform(.001, .1)})\n"
    )
    assert load_space(str(file)).name == "mine"
    assert space_file(str(file)) == file


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SPACE = 3", "defines no SPACE"),
        ("1/0", "ZeroDivisionError"),
        ("def (", "SyntaxError"),
    ],
)
def test_a_file_that_is_no_space_is_refused(tmp_path, text, message):
    file = tmp_path / "mine.py"
    file.write_text(text)
    with pytest.raises(SpaceError, match=message):
        load_space(str(file))


@pytest.mark.parametrize("name", ["", "../x", "lr/dropout", ".hidden"])
def test_a_name_that_is_no_folder_name_is_refused(name):
    with pytest.raises(SpaceError, match="not a plain name"):
        SearchSpace(question="?", data="digits", search={"lr": choice(0.1)}, name=name)


def test_the_source_of_a_space_is_read_in_its_own_encoding(tmp_path):
    file = tmp_path / "mine.py"
    file.write_bytes("# -*- coding: latin-1 -*-\n# \xe9\n".encode("latin-1"))
    assert "\xe9" in space_source(str(file))
    file.write_bytes(b"# \xe9\n")
    with pytest.raises(SpaceError, match=r"mine.py cannot be read"):
        space_source(str(file))


@pytest.mark.parametrize("what", ["question", "data", "model"])
def test_what_a_space_says_in_words_is_a_text(what):
    values = {"question": "?", "data": "digits", "search": {"lr": choice(0.1)}, what: None}
    with pytest.raises(SpaceError, match=f"{what}=None is not text"):
        SearchSpace(**values)


@pytest.mark.parametrize("value", [[32, 64], (32, 64), None])
def test_a_choice_takes_its_values_one_by_one(value):
    with pytest.raises(SpaceError, match="one by one"):
        choice(value)


def test_a_range_of_what_takes_texts_is_refused():
    with pytest.raises(SpaceError, match=r'takes texts; list them, as in choice\("0.0", "0.5"\)'):
        tiny(search={"dropout": uniform(0.0, 0.5)})


@pytest.mark.parametrize(("value", "text"), [(None, "none"), ((32, 64), "32-64"), (0.5, "0.5")])
def test_a_value_that_should_be_a_text_is_shown_as_one(value, text):
    with pytest.raises(SpaceError, match=f'must be of type str: write "{text}"'):
        tiny(search={"lr": choice(0.1)}, fixed={"hidden": value})


@pytest.mark.parametrize(
    ("search", "changes", "why"),
    [
        ({"pool": choice("max", "none")}, {"model": "resnet"}, "model 'resnet' has none"),
        ({"strides": choice("1-2", "2-2")}, {}, "model 'cnn' has none"),
        ({"momentum": uniform(0.5, 0.9)}, {}, "optimizer 'adam' has none"),
        ({"lr_decay": uniform(0.9, 0.99)}, {}, "lr_schedule 'constant' has none"),
        ({"dropout": choice("0", "0.5")}, {}, "hidden 'none' has none"),
        (
            {"strides": choice("1", "2")},
            {"model": "resnet", "fixed": {"filters": "resnet18"}},
            "filters 'resnet18' has none",
        ),
    ],
)
def test_a_search_among_what_changes_nothing_is_refused(search, changes, why):
    space = SearchSpace(question="?", data="digits", search=search, **changes)
    with pytest.raises(SpaceError, match=re.escape(f"changes nothing: {why}")):
        check_idle(space)


def test_what_changes_something_for_some_points_is_searched():
    check_idle(
        SearchSpace(
            question="?", data="digits",
            search={"optimizer": choice("adam", "sgd"), "momentum": uniform(0.5, 0.9)},
        )
    )  # fmt: skip
    for name in space_files():
        check_idle(load_space(name))
