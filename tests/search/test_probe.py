import os
import signal
from dataclasses import replace

import ray
import torch

from hwtune.data.splits import SplitSpec, search_split
from hwtune.search.budget import CostModel
from hwtune.search.probe import (
    GPU_CONTEXT_BYTES,
    RANDOM_POINTS,
    Probed,
    answer,
    free_memories,
    measure,
    probe,
    probed_points,
    short_of_memory,
)
from hwtune.slots import GpuNeed
from hwtune.space import SearchSpace, choice, uniform

SHAPE = {"classes": 10, "side": 8}
SPACE = SearchSpace(
    question="?",
    data="digits",
    fixed={"batch_size": 32, "lr": 1e6},  # at which training diverges in its first steps
    search={"filters": choice("4", "64"), "translation": uniform(0.0, 0.1)},
    baselines={"large": {"filters": "64", "translation": 0.0}},
    starts={"small": {"filters": "4", "translation": 0.0}},
)


def test_the_machine_at_hand_is_measured_and_nothing_diverges(digits, monkeypatch, ray_here):
    monkeypatch.setattr("hwtune.search.probe.PATIENCE", 600.0)  # after which it says that it waits
    cost, said = CostModel(), []
    data = ray.put(search_split(digits, SplitSpec()))
    assert probe(SPACE, data, cost, tell=said.append) is None  # no GPU's memory
    jobs = [(config.to_dict(), each.macs) for config, each in probed_points(SPACE, **SHAPE)]
    found = ray.get(ray.remote(measure).remote(jobs, data, seconds=600.0))
    assert len(found.epochs) == len(jobs) >= len(cost.ratios) >= 2  # at least one a process
    assert said == []
    assert all(seconds > 0 for _, _, seconds in found.epochs)
    assert {images for _, images, _ in found.epochs} == {96}  # of three batches


def kills_itself_over_a_hundred(jobs, data):
    """Measure jobs of so many multiply-accumulates, or die as for lack of memory."""
    if any(macs > 100 for _, macs in jobs):
        os.kill(os.getpid(), signal.SIGKILL)
    return Probed([(macs, 1, 1.0) for _, macs in jobs], None)


def test_a_process_that_was_lost_is_followed_by_one_without_the_costliest_configuration(ray_here):
    task, data = ray.remote(max_retries=0)(kills_itself_over_a_hundred), ray.put(None)

    def measured(*costs):
        jobs = [({}, macs) for macs in costs]
        return [macs for macs, _, _ in answer(task, jobs, data, task.remote(jobs, data)).epochs]

    assert measured(50, 500, 10, 200) == [10, 50]
    assert measured(500) == []


def test_a_gpu_that_lets_nobody_in_has_no_free_memory(monkeypatch):
    def free(device):
        if device:
            raise RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable")
        return 8 * 2**30, 80 * 2**30

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "mem_get_info", free)
    assert free_memories() == [8 * 2**30 + GPU_CONTEXT_BYTES, 0]


def test_a_gpu_without_room_for_a_training_is_said():
    assert "8.0 GiB free, where the hungriest configuration needs 9.0" in short_of_memory(
        GpuNeed(bytes=9 * 2**30, memory=8 * 2**30)
    )
    assert short_of_memory(GpuNeed(bytes=8 * 2**30, memory=8 * 2**30)) == ""


def test_known_points_are_measured_first_and_too_large_ones_only_where_published():
    filters = [config.filters for config, _ in probed_points(SPACE, **SHAPE)]
    assert filters[:2] == ["64", "4"]
    assert len(filters) == 2 + RANDOM_POINTS
    parameters = max(cost.parameters for _, cost in probed_points(SPACE, **SHAPE))
    bounded = replace(SPACE, max_parameters=parameters - 1)
    assert [c.filters for c, _ in probed_points(bounded, **SHAPE)].count("64") == 1
