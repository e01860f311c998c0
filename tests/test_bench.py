"""The programs under scripts/bench: their parts, and the tables of real curves."""

import json
import math
import statistics
import sys
import time

import numpy as np
import psutil
import pytest

from hwtune.distributions import contains
from hwtune.models import measure_cost
from hwtune.pipeline.warm_start import BEST
from hwtune.space import load_space
from scripts.bench import (
    breakdown,
    engine,
    gpu,
    memory,
    scale,
    speedrun,
    states,
    throughput,
    wide_curves,
)
from scripts.bench.learning_curves import EPOCHS, GRID, config_of, key, points
from scripts.bench.outcome import RESULTS, in_process
from scripts.bench.peers import __main__ as peers
from scripts.bench.peers import page as peers_page
from scripts.bench.peers import task
from scripts.bench.peers.task import Event
from scripts.bench.replay import DRAWS, REFERENCE, replay
from scripts.bench.search_quality import COMPARISONS, regrets, summarise
from scripts.bench.wide_curves import ACCURACIES, NAMES, RANDOM, neighbour, random_point, read
from scripts.bench.worlds import found_on_mnist, look_up, read_curves, wide

SPACE = load_space("chinese_cnn")


def test_every_point_of_the_grid_lies_in_the_space():
    assert len({key(point.values()) for point in points()}) == math.prod(map(len, GRID.values()))
    for point in points():
        config = config_of(point)
        SPACE.config(config)
        assert all(contains(SPACE.search[name], config[name]) for name in GRID)


def test_the_table_holds_the_whole_curve_of_every_point():
    curves = read_curves("chinese_mnist")
    assert set(curves) == {key(point.values()) for point in points()}
    for curve in curves.values():
        assert len(curve) == EPOCHS >= 9
        assert all(0 <= accuracy <= 1 and seconds > 0 for accuracy, seconds in curve)


def test_the_table_of_mnist_holds_the_first_points_of_the_mixed_order():
    curves = read_curves("mnist")
    assert set(curves) == {key(point.values()) for point in points()[: len(curves)]}
    assert len(curves) >= 4 * DRAWS
    for curve in curves.values():
        assert len(curve) == EPOCHS
        assert all(0 <= accuracy <= 1 and seconds > 0 for accuracy, seconds in curve)


def test_each_seed_has_the_best_of_its_own_search_of_mnist():
    found = [found_on_mnist(seed) for seed in range(5)]
    assert found[0] == found_on_mnist(0)
    assert len({str(each) for each in found}) > 1
    curves = read_curves("mnist")
    reached = sorted(max(accuracy for accuracy, _ in curve) for curve in curves.values())
    for each in found:
        assert len(each) == BEST
        best = [max(accuracy for accuracy, _ in curves[key(values)]) for values in each.values()]
        assert best == sorted(best, reverse=True)
        assert best[0] >= reached[-len(reached) // 10]


def test_the_best_curves_do_not_start_best():
    curves = read_curves("chinese_mnist")
    best = sorted(curves, key=lambda name: -max(accuracy for accuracy, _ in curves[name]))[:10]
    assert sum("onecycle" in name for name in best) == 9
    order = sorted(curves, key=lambda name: -curves[name][0][0])
    ranks = sorted(order.index(name) + 1 for name in best)
    assert (ranks[0], ranks[-1]) == (9, 147)


def test_the_nearest_learning_rate_is_looked_up():
    curves = read_curves("chinese_mnist")
    for point in points()[:20]:
        assert look_up(curves, {**point, "lr": point["lr"] * 1.5}) == curves[key(point.values())]


def test_the_wide_table_holds_random_points_and_neighbours_of_the_best():
    rows = sorted(read(), key=lambda row: row["number"])
    assert [row["number"] for row in rows] == list(range(RANDOM + wide_curves.NEIGHBOURS))
    points = [{name: row[name] for name in NAMES} for row in rows]
    assert len({str(point) for point in points}) == len(rows)
    assert points[:RANDOM:25] == [random_point((0, number)) for number in range(0, RANDOM, 25)]
    means = [statistics.fmean(row[ACCURACIES[-1]] for row in part)
             for part in (rows[:RANDOM], rows[RANDOM:])]  # fmt: skip
    assert means[1] > means[0] + 0.2


def test_a_neighbour_is_one_of_the_best_with_some_values_drawn_anew():
    known = [row for row in read() if row["number"] < RANDOM]
    known.sort(key=lambda row: -max(row[name] for name in ACCURACIES))
    for number in range(20):
        child = neighbour(number, known)
        equal = [sum(child[name] == row[name] for name in NAMES) for row in known]
        assert equal.index(max(equal)) < RANDOM / 10
        assert len(NAMES) / 2 < max(equal) < len(NAMES)


def test_what_a_killed_run_left_of_the_wide_table_is_not_trained_twice(tmp_path, monkeypatch):
    whole = wide_curves.TABLE.read_text(encoding="utf-8").splitlines(keepends=True)
    there = {int(line.split(",")[0]) for line in whole[1:200]}
    monkeypatch.setattr(wide_curves, "TABLE", tmp_path / "wide.csv")
    wide_curves.TABLE.write_text("".join(whole[:200]) + whole[200][:50], encoding="utf-8")
    wide_curves.mend()
    assert wide_curves.TABLE.read_text(encoding="utf-8") == "".join(whole[:200])
    first = next(wide_curves.missing())
    assert first[0] == min(set(range(RANDOM)) - there)
    assert first[1] == random_point((0, first[0]))


def test_regret_is_told_at_a_tenth_and_at_half_of_the_time():
    times = [float(time) for time in range(1, 101)]
    runs = [[(5.0, 0.5), (40.0, 0.8)], [(8.0, 0.7), (20.0, 0.8)]]
    found = np.array([regrets(run, 0.9, times) for run in runs])
    row = summarise("a way", found, np.array([0.1, 0.2]), times, 100.0)
    assert row["regret_tenth"] == pytest.approx((0.4 + 0.2) / 2)
    assert row["regret_half"] == pytest.approx(0.1)
    assert row["speedup"] == pytest.approx(100 / 40)
    assert row["reached"] == 0


def test_the_committed_replays_have_twenty_seeds_and_every_method():
    for name, compared in COMPARISONS.items():
        seen = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
        assert seen["seeds"] >= 20
        assert [row["method"] for row in seen["rows"]] == [m.name for m in compared.methods]
        assert all(row["interval_tenth"] >= 0 and row["speedup_interval"] for row in seen["rows"])


def test_a_model_of_the_wide_table_gives_its_points_their_own_curves():
    for row in read()[::5]:
        curve = wide().curve(row)
        assert [accuracy for accuracy, _ in curve] == pytest.approx(
            [row[name] for name in ACCURACIES], abs=1e-4
        )
        assert curve[0][1] == pytest.approx(row["seconds"])


@pytest.mark.parametrize(
    ("name", "method"),
    [(name, method) for name, each in COMPARISONS.items() for method in each.methods],
    ids=lambda each: getattr(each, "name", each),
)
def test_a_replay_improves_and_repeats(name, method):
    """That it repeats is seen by the first and the last method of each world."""
    until, world = math.inf if method == REFERENCE else 60.0, COMPARISONS[name].world()
    improvements = replay(method, world, 3, until)
    times, accuracies = zip(*improvements, strict=True)
    assert list(times) == sorted(times)
    assert list(accuracies) == sorted(set(accuracies))
    assert max(times) <= until
    if method in (COMPARISONS[name].methods[0], COMPARISONS[name].methods[-1]):
        assert replay(method, world, 3, until) == improvements


@pytest.mark.cluster
def test_the_cost_of_a_trial_is_measured_on_three_nodes(monkeypatch):
    monkeypatch.setattr(scale, "SLOTS", 4)
    *lines, end = scale.quarters(scale.run(24, "tpe"), "tpe")
    assert [line["trials"] for line in lines] == ["0 to 6", "6 to 12", "12 to 18", "18 to 24"]
    assert all(line["overhead_ms"] > 0 and line["sampler_ms"] > 0 for line in lines)
    assert (end["trials"], end["overhead_ms"] > 0) == ("the end", True)


def test_operations_are_those_of_a_step_without_the_gradient_of_the_images():
    network = next(each for each in engine.NETWORKS if each.baseline == "ahed9x_64")
    macs = measure_cost(engine.config_of(network), classes=10, side=28).macs
    first = 26 * 26 * 32 * 9
    assert engine.operations(network) == 2 * (3 * macs - first)


def test_the_speedrun_trains_a_baseline_and_tells_its_share():
    assert "hwtune_fast" in load_space("chinese_fast").baselines
    runs = [{"seconds": 50.0, "accuracy": 0.995}, {"seconds": 60.0, "accuracy": 0.997}]
    page = speedrun.page(runs, [100.0, 90.0, 80.0])
    assert "its measured epoch, 90.0 s" in page
    assert "| hwtune_fast, mean of 2 seeds | 99.60% | 55.0 |" in page
    assert "1/131 of S0's time" in page


def test_the_peers_search_the_space_of_hwtune_in_their_own_words():
    words = task.in_words_of(
        lambda _, values: ("choice", *values),
        lambda _, low, high: ("uniform", low, high),
        lambda _, low, high: ("log", low, high),
    )
    assert words.keys() == task.SPACE.search.keys() == SPACE.search.keys() - task.SMALL.keys()
    assert words["pool"] == ("choice", "max", "avg", "none")
    assert words["rotation"] == ("uniform", 0.0, 25.0)
    assert words["lr"] == ("log", 1e-5, 1e-2)


def test_epochs_of_peers_are_read_in_the_order_of_time_without_a_torn_line(tmp_path):
    events = [Event(float(at), "a", at, at / 10, 1.0, {"lr": 0.1}) for at in (3, 1, 2)]
    for event in events:
        task.write(tmp_path / "events.jsonl", event)
    with (tmp_path / "events.jsonl").open("a") as file:
        file.write('{"at": 4')
    assert task.read(tmp_path / "events.jsonl") == sorted(events, key=lambda each: each.at)
    assert list(peers.rises(task.read(tmp_path / "events.jsonl"), began=0.5)) == [
        (0.5, 0.1), (1.5, 0.2), (2.5, 0.3),
    ]  # fmt: skip


def test_a_peer_ends_with_all_that_it_started():
    code = "import subprocess as s, sys; s.Popen([sys.executable, *sys.argv[1:]]).wait()"
    sleep = [sys.executable, "-c", code, "-c", "import time; time.sleep(600)"]
    tuner = psutil.Popen(sleep)
    while not (children := tuner.children()):
        time.sleep(0.05)
    peers.end(tuner)
    assert not tuner.is_running()
    assert not any(child.is_running() for child in children)


def test_the_page_of_the_peers_and_their_curves():
    rows = [
        {
            "peer": peer, "seed": seed, "trials": 10, "epochs": 30, "first_epoch_seconds": 8.0,
            "idle_share": 0.25, "val_accuracy": 0.9 + seed / 100, "test_accuracy": [0.9, 0.92],
            "curve": [(20.0, 0.5), (40.0, 0.9 + seed / 100)],
        }
        for peer in ("hwtune", "other") for seed in (0, 2)
    ]  # fmt: skip
    text = peers_page.page(rows, 360.0)
    assert "6 minutes each, 2 seeds" in text
    line = (
        "| hwtune | 10 | 30 | 8.0 | 25% | 91.00% (90.00% to 92.00%) | 91.00% (90.00% to 92.00%) |"
    )
    assert line in text
    best = peers_page.best_so_far(rows[0]["curve"], np.array([10.0, 20.0, 39.0, 50.0]))
    assert best.tolist() == [0.0, 0.5, 0.5, 0.9]


def test_without_a_gpu_its_benchmark_says_so(monkeypatch, capsys):
    monkeypatch.setattr(gpu, "hardware", lambda: {"gpus": []})
    monkeypatch.setattr(sys, "argv", ["gpu"])
    gpu.main()
    assert capsys.readouterr().out == "No GPU was found on this machine: nothing was measured.\n"


def test_the_figures_of_a_peer(tmp_path, monkeypatch):
    points = [{"lr": 0.1}, {"lr": 0.2}]
    events = [
        Event(10.0, "0", 1, 0.5, 4.0, points[0]), Event(12.0, "1", 1, 0.7, 5.0, points[1]),
        Event(20.0, "0+", 2, 0.6, 3.0, points[0]), Event(31.0, "1", 2, 0.9, 8.0, points[1]),
    ]  # fmt: skip
    for event in events:
        task.write(tmp_path / "events.jsonl", event)
    (tmp_path / "about.json").write_text('{"began": 1.0, "git_commit": "abc"}')
    seen = peers.outcome("ray_tune", tmp_path, seed=0, seconds=24.0)  # the last epoch is late
    assert (seen["trials"], seen["epochs"], seen["val_accuracy"]) == (2, 3, 0.7)
    assert (seen["point"], seen["first_epoch_seconds"]) == (points[1], 5.0)
    assert seen["idle_share"] == 1 - 12 / 48


def test_the_share_outside_training_is_counted_from_the_first_epochs_start():
    seen = throughput.outcome(
        began=0.0, first=12.0, ended=32.0, first_seconds=2.0, trained=33.0, epochs=9, trials=3
    )
    assert (seen["seconds_to_first_epoch"], seen["trials_an_hour"]) == (10.0, 3 / 32 * 3600)
    assert seen["share_outside_training"] == 1 - 33 / (2 * 22)


def test_the_pages_of_throughput_memory_and_gpu():
    figures = {"share_outside_training": 0.04, "seconds_to_first_epoch": 9.5, "trials": 12}
    rows = [
        {"load": load, "way": way, "repetition": again, "trials_an_hour": hourly, **figures}
        for again, speed in enumerate((100.0, 200.0))
        for load, gain in (("small", 2), ("s0", 6))
        for way, hourly in (("Ray Tune as documented", speed), ("hwtune", gain * speed))
    ]
    page = throughput.page(rows)
    assert "2.0 times as many trials an hour for small networks, 32x32; 6.0 times" in page
    assert "| S0's network, 64x64: hwtune | 900 | 4.0% | 9.5 |" in page
    assert "medians of 2 repetitions" in page
    rows = [
        {"trials": trials, "process": "driver", "peak_mb": 400.0 + trials}
        for trials in memory.TRIALS
    ]
    assert "| driver | 402 | 404 | 500 |" in memory.page(rows)
    network = {"network": "S0", **dict(zip(gpu.WAYS, (10.0, 50.0, 30.0, 40.0), strict=True))}
    rates = {"at_once": 8, "trials_an_hour": 60.0, "trials_an_hour_training": 90.0, "busy": 0.5}
    studies = [{"study": title, **rates} for title in gpu.SHARES]
    speeds = [{**network, "ratio": 5.0}]
    page = gpu.page(speeds, studies, "NVIDIA X")
    assert "| S0 | 10 | 50 | 30 | 40 | 5.0 |" in page
    assert "| as hwtune plans | 8 | 60 | 90 | 50% |" in page
    parts = [gpu.page(speeds, [], "NVIDIA X"), gpu.page([], studies, "NVIDIA X")]
    assert "\n\n".join(parts) == page
    assert "| as hwtune plans | nan |" in gpu.page(speeds, studies[:1], "NVIDIA X"), "not done yet"


def test_the_page_of_states_tells_the_ratio():
    rows = [
        {"megabytes": megabytes, "at_once": at_once, "states_a_second": 10.0 * at_once}
        for megabytes in states.STATES for at_once in states.WAYS
    ]  # fmt: skip
    assert "| 50 MB | 10.0 | 80.0 | 8.0 |" in states.page(rows)


@pytest.mark.parametrize(
    ("operator", "kind"),
    [
        ("aten::mkldnn_convolution", "convolutions"),
        ("aten::convolution_backward", "convolutions"),
        ("aten::max_pool2d_with_indices_backward", "pooling"),
        ("Optimizer.step#LeanAdam.step", "optimiser"),
        ("aten::_fused_adam_", "optimiser"),
        ("aten::grid_sampler_2d", "distortion"),
        ("aten::mul", breakdown.REST),
    ],
)
def test_operators_are_counted_by_the_kind_of_their_work(operator, kind):
    assert breakdown.kind_of(operator) == kind


@pytest.mark.slow
def test_the_shares_of_a_training_make_a_whole():
    row = in_process(breakdown.MODULE, "ahed9x_64")
    assert sum(row["shares"].values()) == pytest.approx(1.0)
    assert row["shares"]["convolutions"] == max(row["shares"].values())
    assert 0 < row["validation"] < 0.5
    assert row["network"] in breakdown.page([row])
