import json
import os

import pytest
from ray.cluster_utils import Cluster

from hwtune import cluster
from hwtune.cluster import GpuNeed, Slots, divide
from hwtune.search.trial import TrialRunner
from tests.search.runs import searched


@pytest.mark.parametrize(
    ("machine", "parallel", "expected"),
    [
        ({"cpus": 2, "gpus": 0, "per_gpu": 0}, None, Slots(2)),
        ({"cpus": 8, "gpus": 0, "per_gpu": 0}, 3, Slots(3)),
        ({"cpus": 2, "gpus": 0, "per_gpu": 0}, 3, Slots(3, cpus=0.6666)),
        ({"cpus": 16, "gpus": 1, "per_gpu": 35}, None, Slots(8, gpus=0.125)),
        ({"cpus": 16, "gpus": 1, "per_gpu": 1}, None, Slots(1, gpus=1.0)),
        ({"cpus": 8, "gpus": 1, "per_gpu": 7}, None, Slots(7, gpus=0.1428)),
        ({"cpus": 4, "gpus": 2, "per_gpu": 20}, None, Slots(4, gpus=0.5)),
        ({"cpus": 8, "gpus": 2, "per_gpu": 20}, 3, Slots(3, gpus=0.5)),
        ({"cpus": 8, "gpus": 4, "per_gpu": 20}, 2, Slots(2, gpus=1.0)),
        ({"cpus": 8, "gpus": 1, "per_gpu": 4, "plain": 6}, None, Slots(4, 0.0, 0.25, plain=6)),
        ({"cpus": 8, "gpus": 1, "per_gpu": 4, "plain": 6}, 3, Slots(3, gpus=0.3333)),
    ],
)
def test_slots_are_divided_so_that_all_fit_at_once(machine, parallel, expected):
    slots = divide(**machine, parallel=parallel)
    assert slots == expected
    assert slots.cpus * slots.parallel <= machine["cpus"]
    if slots.gpus:
        per_gpu = int(1 / slots.gpus)
        assert per_gpu * machine["gpus"] >= slots.parallel


@pytest.mark.parametrize(("asked", "slots"), [(0.25, 8), (0.3, 6), (1.0, 2)])
def test_a_share_of_a_gpu_can_be_asked_for(asked, slots):
    expected = Slots(slots, cpus=1.0, gpus=asked)
    assert divide(cpus=16, gpus=2, per_gpu=99, parallel=None, gpu_share=asked) == expected


def test_the_trainings_beside_the_gpus_ask_for_a_cpu_and_those_on_them_for_none():
    slots = Slots(4, 0.0, 0.25, plain=6)
    assert slots.total == 10
    assert slots.request(gpu=True) == {"CPU": 0.0, "GPU": 0.25}
    assert slots.request(gpu=False) == {"CPU": 1.0, "GPU": 0.0}
    assert Slots(2, cpus=0.5).request(gpu=False) == {"CPU": 0.5, "GPU": 0.0}


def test_a_gpu_holds_what_its_memory_holds():
    assert GpuNeed(bytes=3 * 2**30, memory=10 * 2**30).per_gpu == 3


class PlacedRunner(TrialRunner):
    """Notes which machine trains, with which GPU, by which copy of hwtune."""

    def train_epoch(self):
        """Train after taking a note."""
        import ray

        import hwtune

        note = {
            "node": ray.get_runtime_context().get_node_id(),
            "gpus": ray.get_gpu_ids(),
            "hwtune": hwtune.__file__,
        }
        with open(os.environ["HWTUNE_TEST_NOTES"], "a", encoding="utf-8") as file:
            file.write(json.dumps(note) + "\n")
        return super().train_epoch()


@pytest.mark.cluster
def test_a_cluster_of_cpus_and_gpus_trains_on_both_by_the_drivers_hwtune(
    tmp_path, digits, monkeypatch
):
    """The GPU is one for Ray alone; training on it falls back to the CPU."""
    notes = tmp_path / "notes"
    monkeypatch.setenv("HWTUNE_TEST_NOTES", str(notes))
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "num_gpus": 0})
    try:
        nodes.add_node(num_cpus=1, num_gpus=1)
        with cluster.started(nodes.address):
            slots = cluster.plan_slots()
            assert slots == Slots(1, cpus=0.0, gpus=1.0, plain=1)
            _, ledger = searched(tmp_path, digits, PlacedRunner, slots=slots, scheduler="none")
    finally:
        nodes.shutdown()
    assert all(t.state == "complete" for t in ledger.trials.values())
    seen = [json.loads(line) for line in notes.read_text().splitlines()]
    assert len(seen) == 6 * 3
    by_gpu = {bool(note["gpus"]): note["node"] for note in seen}
    assert len(by_gpu) == len(set(by_gpu.values())) == 2
    assert all("runtime_resources" in note["hwtune"] for note in seen)
