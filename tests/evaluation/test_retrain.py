import dataclasses

import numpy as np
import pytest
import ray

from hwtune import cluster
from hwtune.config import TrialConfig
from hwtune.data.splits import SplitSpec, search_split
from hwtune.evaluation import parallel as module
from hwtune.evaluation.parallel import Watch
from hwtune.evaluation.retrain import Candidate, retrain
from hwtune.evaluation.tasks import save, state_name, train_one
from hwtune.records import create_study
from hwtune.states import start_store
from hwtune.training.device import choose_device
from hwtune.training.loop import train_config
from hwtune.training.state import start_training


def test_a_training_that_is_over_is_not_spoken_of():
    watch = Watch()
    watch.note("a, seed 0", 1)
    watch.note("a, seed 1", 2)
    watch.over("a, seed 0")
    watch.note("a, seed 0", 3)
    assert watch.words() == "a, seed 1 at epoch 2"


@pytest.mark.slow
def test_a_long_retraining_says_how_far_it_is_and_uses_validation_or_not(
    tmp_path, digits, monkeypatch
):
    monkeypatch.setattr(module, "SILENCE", 0.3)
    said = []
    config = TrialConfig(filters="8", epochs=40, lr=3e-3)
    with cluster.started(cpus=2):
        for join in (True, False):
            entries = retrain(
                [Candidate("small", "", config)], digits, SplitSpec(),
                create_study(tmp_path, None, "s"), seeds=[0, 1], slots=cluster.plan_slots(2),
                join_validation=join, command="test", tell=said.append,
            )  # fmt: skip
            assert entries[0]["test_accuracy"]["mean"] > 0.9
    assert any("small, seed 0 at epoch" in line for line in said)
    assert sum(line.startswith("retrained small") for line in said) == 4


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"early_stop": 2, "dropout": "0.2", "hidden": "16"}])
def test_a_retraining_goes_on_from_the_state_of_a_killed_process(tmp_path, digits, changes):
    config = TrialConfig(filters="8", epochs=6, lr=3e-3, rotation=5.0, ema=0.9, **changes)
    split = search_split(digits, SplitSpec())
    data = {
        "train": (split.train.images, split.train.labels),
        "validation": (split.validation.images, split.validation.labels),
        "classes": 10,
    }
    words = config.to_dict()

    def state_after(epochs, seed):
        state, batches, watched = start_training(
            config, split.train, split.validation, classes=10, seed=seed,
            fast=choose_device(gpu=False),
        )  # fmt: skip
        for _ in zip(range(epochs), train_config(state, batches, watched, config), strict=False):
            pass
        return state

    with cluster.started(cpus=2):
        store, watch = start_store(tmp_path), ray.remote(num_cpus=0)(Watch).remote()
        undisturbed, accuracy = train_one(words, data, 0, store, watch, "a")
        assert [path.stem for path in tmp_path.glob("*.pt")] == [state_name("a", words, 0)]
        save(state_after(3, seed=0), store, state_name("a", words, 0))
        resumed, again = train_one(words, data, 0, store, watch, "a")
        # Seed 1 finds the state of seed 0: what it returns shows that it was taken.
        save(state_after(3, seed=0), store, state_name("a", words, 1))
        taken, _ = train_one(words, data, 1, store, watch, "a")
        fresh, _ = train_one(words, data, 2, store, watch, "a")
    assert accuracy == again > 0.5
    for name, weights in undisturbed.items():
        assert np.array_equal(weights, resumed[name])
        assert np.array_equal(weights, taken[name])
    assert any(not np.array_equal(weights, fresh[name]) for name, weights in undisturbed.items())


def test_a_state_belongs_to_a_configuration_and_a_seed():
    config = TrialConfig().to_dict()
    other = dataclasses.replace(TrialConfig(), epochs=3).to_dict()
    names = {state_name("a", config, 0), state_name("a", config, 1), state_name("a", other, 0)}
    assert len({*names, state_name("b", config, 0)}) == 4
