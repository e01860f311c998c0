import pytest

from hwtune import cluster
from hwtune.config import TrialConfig
from hwtune.data.splits import SplitSpec
from hwtune.evaluation import retrain as module
from hwtune.evaluation.retrain import Candidate, Watch, retrain
from hwtune.records import create_study


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
