from dataclasses import replace

import pytest

from hwtune.config import TrialConfig, numbers, per_stage, trial_config
from hwtune.errors import SpaceError


def test_an_unknown_hyperparameter_is_named_with_the_known_ones():
    with pytest.raises(SpaceError, match="Unknown hyperparameter 'learning_rate'.*lr"):
        trial_config({"learning_rate": 0.1})


def test_a_choice_that_was_misspelt_is_guessed():
    with pytest.raises(SpaceError, match=r"one of adam, adamw, sgd \(did you mean 'adamw'\?\)"):
        TrialConfig(optimizer="adam_w")


@pytest.mark.parametrize(
    "values",
    [
        {"lr": "fast"},
        {"epochs": 0},
        {"epochs": 1.5},
        {"batch_size": True},
        {"softmax": 1},
        {"optimizer": "lion"},
        {"ema": 1.0},
        {"lr": float("nan")},
        {"rotation": float("inf")},
        {"lr_decay": 1.0},
    ],
)
def test_a_bad_value_is_refused_with_its_name(values):
    with pytest.raises(SpaceError, match=next(iter(values))):
        trial_config(values)


def test_a_config_survives_the_way_through_plain_data():
    config = TrialConfig(filters="8-16", lr=0.5)
    assert trial_config(config.to_dict()) == config


def test_lists_are_read_and_repeated_per_stage():
    assert numbers("16-32", name="filters") == [16, 32]
    assert numbers("none", name="hidden") == []
    assert numbers("0.4-0.2", name="dropout", kind=float) == [0.4, 0.2]
    assert per_stage([3], 2, name="kernel") == [3, 3]


@pytest.mark.parametrize("text", ["1.5", "1.0", "nan", "a"])
def test_a_bad_dropout_is_refused(text):
    with pytest.raises(SpaceError, match="dropout"):
        numbers(text, name="dropout", kind=float)


@pytest.mark.parametrize("text", ["", "16-", "a", "0-8", "16--32"])
def test_a_bad_list_is_refused(text):
    with pytest.raises(SpaceError, match="filters"):
        numbers(text, name="filters")


def test_a_list_that_does_not_fit_the_stages_is_refused():
    with pytest.raises(SpaceError, match="2 values where 3 fit"):
        per_stage([1, 2], 3, name="kernel")


def test_an_annealed_configuration_is_retrained_for_its_whole_length():
    assert TrialConfig(epochs=12, lr_schedule="constant").retrain_epochs(4) == 4
    assert TrialConfig(epochs=12, lr_schedule="onecycle").retrain_epochs(4) == 12
    assert TrialConfig(epochs=12, early_stop=3).retrain_epochs(4) == 12


def test_watching_validation_follows_from_early_stop_or_plateau():
    assert TrialConfig(early_stop=3).needs_validation
    assert TrialConfig(lr_schedule="plateau").needs_validation
    assert not TrialConfig().needs_validation


def test_a_last_epoch_may_be_a_part_of_one():
    config = TrialConfig(batch_size=16, max_steps=200)
    assert [config.images_seen(n, images=1000) for n in (0, 1, 3, 4)] == [0, 1000, 3000, 3226]
    assert replace(config, max_steps=0).images_seen(3, images=1000) == 3000
    assert replace(config, batch_size=2000, max_steps=5).images_seen(2, images=1000) == 2000
