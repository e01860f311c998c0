"""Plots of what the hyperparameters did."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
from optuna.distributions import CategoricalDistribution, FloatDistribution

from hwtune.records import TrialRecord
from hwtune.report.effects import Effect, told_from_chance
from hwtune.report.plots import COLOURS, LAYOUT, titled
from hwtune.space import SearchSpace

MOST_AXES = 9  # of parallel coordinates, the accuracy included


def effect_intervals(found: Sequence[Effect], data: str) -> go.Figure:
    """Return what each value gained over the most tried one, in points, the widest choice first."""
    gained = [each for each in found if each.value != each.against]
    names = dict.fromkeys(
        each.name for each in sorted(gained, key=lambda e: abs(e.gain), reverse=True)
    )
    rows = sorted(gained, key=lambda e: (list(names).index(e.name), -e.gain))
    labels = [f"{e.name}: {e.value} instead of {e.against} ({e.trials})" for e in rows]
    figure = go.Figure(layout={**titled(data), "height": 90 + 22 * len(rows)})
    figure.add_vline(x=0, line={"color": COLOURS["stopped"], "width": 1})
    figure.add_scatter(
        x=[100 * e.gain for e in rows],
        y=labels,
        mode="markers",
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [100 * (e.high - e.gain) for e in rows],
            "arrayminus": [100 * (e.gain - e.low) for e in rows],
            "color": LAYOUT["font"]["color"],
            "thickness": 1.5,
            "width": 3,
        },
        marker={"color": list(map(effect_colour, rows, told_from_chance(rows))), "size": 8},
        customdata=[(100 * e.low, 100 * e.high) for e in rows],
        hovertemplate="%{y}: %{x:+.2f} points (%{customdata[0]:+.2f} to %{customdata[1]:+.2f})"
        "<extra></extra>",
    )
    figure.update_xaxes(title="gain in validation accuracy, points", zeroline=False)
    figure.update_yaxes(autorange="reversed", automargin=True)
    return figure


def effect_colour(effect: Effect, told: bool) -> str:
    """Return green or red for an effect that is there, grey for one that may be chance."""
    if not told:
        return COLOURS["stopped"]
    return COLOURS["complete" if effect.gain > 0 else "failed"]


def importance_bars(shares: Mapping[str, float], data: str) -> go.Figure:
    """Return a bar a hyperparameter, as long as its share in the variance of the accuracy."""
    figure = go.Figure(layout={**titled(data), "height": 90 + 22 * len(shares)})
    figure.add_bar(
        x=list(shares.values()),
        y=list(shares),
        orientation="h",
        marker={"color": COLOURS["complete"], "line": {"width": 0}},
        hovertemplate="%{y}: %{x:.0%}<extra></extra>",
    )
    figure.update_xaxes(title="share in the variance of the accuracy", tickformat=".0%")
    figure.update_yaxes(autorange="reversed", automargin=True)
    return figure


def parallel_coordinates(
    space: SearchSpace, trials: Sequence[TrialRecord], names: Iterable[str], data: str
) -> go.Figure:
    """Return a line a trial through its hyperparameters and its accuracy.

    Args:
        trials: those with an accuracy, the best first.
        names: of the hyperparameters, the most important first; the first eight are drawn.
    """
    shown = trials[::-1]  # the best are drawn last
    points = [space.parse(t.config) for t in shown]
    axes = [axis(space, name, [p[name] for p in points]) for name in list(names)[: MOST_AXES - 1]]
    accuracies = [100 * t.val_accuracy for t in shown]
    ranks = list(range(len(shown)))
    figure = go.Figure(
        go.Parcoords(
            line={"color": ranks, "colorscale": [[0, "#a9afba"], [0.7, "#6fae97"], [1, "#12936a"]]},
            dimensions=[*axes, {"label": "accuracy, %", "values": accuracies}],
            labelangle=-15,
            labelfont={"size": 12, "color": LAYOUT["font"]["color"]},
            tickfont={"size": 11, "color": LAYOUT["font"]["color"]},
            rangefont={"size": 1, "color": "rgba(0,0,0,0)"},
        ),
        layout={**titled(data), "height": 470},
    )
    figure.update_layout(margin={"l": 60, "r": 60, "t": 110, "b": 30})
    return figure


def axis(space: SearchSpace, name: str, values: Sequence[Any]) -> dict[str, Any]:
    """Return an axis of parallel coordinates: a choice by its place, a rate by its logarithm."""
    distribution = space.search[name]
    if isinstance(distribution, CategoricalDistribution):
        choices = list(distribution.choices)
        return {
            "label": name,
            "values": [choices.index(value) for value in values],
            "tickvals": list(range(len(choices))),
            "ticktext": [str(choice) for choice in choices],
            "range": [-0.3, len(choices) - 0.7],
        }
    if isinstance(distribution, FloatDistribution) and distribution.log:
        first, last = (math.log10(each) for each in (distribution.low, distribution.high))
        ticks = [float(each) for each in range(math.ceil(first), math.floor(last) + 1)]
        ticks = ticks if len(ticks) > 1 else [first, last]
        room = 0.03 * (last - first) or 0.5
        return {
            "label": name,
            "values": [math.log10(value) for value in values],
            "tickvals": ticks,
            "ticktext": [f"{10**tick:.2g}" for tick in ticks],
            "range": [first - room, last + room],
        }
    return {"label": name, "values": list(values)}
