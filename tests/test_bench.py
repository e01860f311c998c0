"""The programs under scripts/bench: their parts, and the table of real curves."""

import math

import pytest

from hwtune.space import contains, load_space
from scripts.bench import scale
from scripts.bench.learning_curves import EPOCHS, GRID, config_of, key, points
from scripts.bench.search_quality import METHODS, Method, look_up, read_curves, replay

SPACE = load_space("chinese_cnn")[0]


def test_every_point_of_the_grid_lies_in_the_space():
    assert len({key(point.values()) for point in points()}) == math.prod(map(len, GRID.values()))
    for point in points():
        config = config_of(point)
        SPACE.config(config)
        assert all(contains(SPACE.search[name], config[name]) for name in GRID)


def test_the_table_holds_the_whole_curve_of_every_point():
    curves = read_curves()
    assert set(curves) == {key(point.values()) for point in points()}
    for curve in curves.values():
        assert len(curve) == EPOCHS >= 9
        assert all(0 <= accuracy <= 1 and seconds > 0 for accuracy, seconds in curve)


def test_the_best_curves_do_not_start_best():
    curves = read_curves()
    best = sorted(curves, key=lambda name: -max(accuracy for accuracy, _ in curves[name]))[:10]
    assert sum("onecycle" in name for name in best) == 9
    order = sorted(curves, key=lambda name: -curves[name][0][0])
    ranks = sorted(order.index(name) + 1 for name in best)
    assert (ranks[0], ranks[-1]) == (9, 147)


def test_the_nearest_learning_rate_is_looked_up():
    curves = read_curves()
    for point in points()[:20]:
        assert look_up(curves, {**point, "lr": point["lr"] * 1.5}) == curves[key(point.values())]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_a_replay_improves_and_repeats(method):
    until = math.inf if method == Method("random") else 60.0
    improvements = replay(method, 3, until)
    times, accuracies = zip(*improvements, strict=True)
    assert list(times) == sorted(times)
    assert list(accuracies) == sorted(set(accuracies))
    assert max(times) <= until
    assert replay(method, 3, until) == improvements


@pytest.mark.cluster
def test_the_cost_of_a_trial_is_measured_on_three_nodes(monkeypatch):
    for name, value in (("SLOTS", 4), ("SECONDS", 0.1)):
        monkeypatch.setattr(scale, name, value)
    lines = scale.quarters(scale.run(24, "tpe"), "tpe")
    assert lines[-1]["trials"].endswith(" to 25")
    assert all(line["overhead_ms"] > 0 and line["sampler_ms"] > 0 for line in lines)
