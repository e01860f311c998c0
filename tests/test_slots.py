import math
from collections import Counter

import pytest

from hwtune.slots import GpuNeed, Slots, divide, plan_slots


@pytest.mark.parametrize(
    ("machines", "per_gpu", "parallel", "expected"),
    [
        ([(2, 0)], 0, None, Slots(2)),
        ([(8, 0)], 0, 3, Slots(3)),
        ([(2, 0)], 0, 3, Slots(3, cpus=0.6666)),
        ([(6, 0), (2, 0)], 0, None, Slots(8)),
        ([(1, 0), (1, 0), (1, 0)], 0, 4, Slots(4, cpus=0.5)),
        ([(2, 0), (1, 0)], 0, 4, Slots(4, cpus=0.6666)),
        ([(4, 0), (1, 0)], 0, 2, Slots(2)),
        ([(16, 1)], 35, None, Slots(8, gpus=0.125)),
        ([(16, 1)], 1, None, Slots(1, gpus=1.0)),
        ([(8, 1)], 7, None, Slots(7, gpus=0.1428)),
        ([(4, 2)], 20, None, Slots(4, gpus=0.5)),
        ([(8, 2)], 20, 3, Slots(3, gpus=0.5)),
        ([(8, 4)], 20, 2, Slots(2, gpus=1.0)),
        ([(32, 1), (4, 2)], 20, None, Slots(6, gpus=0.5)),
        ([(64, 1), (2, 4)], 20, None, Slots(5, cpus=0.5, gpus=1.0)),
        ([(64, 1), (4, 2)], 20, 9, Slots(9, cpus=0.6666, gpus=0.3333)),
    ],
)
def test_slots_are_divided_so_that_all_fit_at_once(machines, per_gpu, parallel, expected):
    slots = divide(machines, per_gpu=per_gpu, parallel=parallel)
    assert slots == expected
    by_cpu = [int(cpus / slots.cpus + 1e-9) for cpus, _ in machines]
    by_gpu = [int(1 / slots.gpus) * gpus if slots.gpus else math.inf for _, gpus in machines]
    assert sum(map(min, by_cpu, by_gpu)) >= slots.parallel


@pytest.mark.parametrize(
    ("asked", "slots", "gpus"),
    [(0.25, 8, 0.25), (0.3, 6, 0.3), (1.0, 2, 1.0), (1 / 6, 12, 0.1666), (1 / 7, 14, 0.1428)],
)
def test_a_share_of_a_gpu_can_be_asked_for(asked, slots, gpus):
    expected = Slots(slots, cpus=1.0, gpus=gpus)
    assert divide([(16, 2)], per_gpu=99, parallel=None, gpu_share=asked) == expected


def test_the_trainings_beside_the_gpus_ask_for_a_cpu_of_other_machines():
    slots = Slots(4, 1.0, 0.25, plain=6, plain_nodes=("a", "b"))
    assert slots.total == 10
    assert slots.placement(gpu=True) == {"bundles": [{"CPU": 1.0, "GPU": 0.25}]}
    assert slots.placement(gpu=False) == {
        "bundles": [{"CPU": 1.0}],
        "bundle_label_selector": [{"ray.io/node-id": "in(a,b)"}],
    }
    assert Slots(2, cpus=0.5).placement(gpu=False) == {"bundles": [{"CPU": 0.5, "GPU": 0.0}]}


def test_a_gpu_holds_what_its_memory_holds():
    assert GpuNeed(bytes=3 * 2**30, memory=10 * 2**30).per_gpu == 3


def test_no_more_trainings_run_at_once_than_fit_into_the_memory():
    laptop, small = (
        Counter(CPU=16, memory=7e9, object_store_memory=3e9),
        Counter(CPU=8, memory=0.5e9),
    )
    both = {"a": laptop, "b": small}
    assert plan_slots(both) == Slots(13, short_of_memory=True)
    large = plan_slots(both, held=1_700_000_000)  # images that each has scaled for itself
    assert large == Slots(5, short_of_memory=True)
    assert plan_slots(both, 20) == Slots(20)  # who asks for so many gets them
    assert plan_slots({"a": Counter(CPU=2, memory=10e9)}) == Slots(2)


def test_on_a_gpu_a_training_takes_of_the_machines_own_memory_too():
    machine = Counter(CPU=8, GPU=1, memory=12e9)
    need = GpuNeed(bytes=10**9, memory=80 * 10**9)
    small = plan_slots({"a": machine}, need=need)
    assert (small.total, small.gpus, small.short_of_memory) == (4, 0.25, True)
    large = plan_slots({"a": machine + Counter(memory=28e9)}, need=need)
    assert (large.total, large.gpus, large.short_of_memory) == (8, 0.125, False)
