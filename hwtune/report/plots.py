"""The report's plots, as plotly figures."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from hwtune.records import EpochRecord, TrialRecord
from hwtune.report.effects import Effect

COLOURS = {"complete": "#1b7f5f", "stopped": "#b9bec7", "failed": "#c2453d", "running": "#d9a441"}
BASELINE = "#3b5bdb"
LAYOUT: dict[str, Any] = {
    "template": "plotly_white",
    "margin": {"l": 60, "r": 20, "t": 36, "b": 50},
    "height": 380,
    "hovermode": "closest",
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "font": {"color": "#7a828e"},
    "showlegend": False,
}


def titled(data: str) -> dict[str, Any]:
    """Return the layout of a figure that names its data set."""
    title = {"text": data, "font": {"size": 13}, "x": 1, "xanchor": "right", "y": 0.98}
    return {**LAYOUT, "title": title}


def learning_curves(
    trials: Sequence[TrialRecord], epochs: Sequence[EpochRecord], data: str
) -> go.Figure:
    """Return validation accuracy by epoch, a line a trial, baselines in blue."""
    figure = go.Figure(layout=titled(data))
    by_trial = {
        number: list(group) for number, group in itertools.groupby(
            sorted(epochs, key=lambda e: (e.trial, e.epoch)), key=lambda e: e.trial
        )
    }  # fmt: skip
    for trial in sorted(trials, key=lambda t: (bool(t.baseline), t.state == "complete")):
        points = by_trial.get(trial.trial, [])
        colour = BASELINE if trial.baseline else COLOURS[trial.state]
        label = trial.baseline or f"trial {trial.trial}"
        figure.add_scatter(
            x=[p.epoch for p in points],
            y=[p.val_accuracy for p in points],
            mode="lines+markers",
            line={"color": colour, "width": 2 if trial.state == "complete" else 1},
            marker={"size": [3] * (len(points) - 1) + [7]},
            name=label,
            hovertemplate=f"{label}: %{{y:.2%}} at epoch %{{x}}<br>{trial.reason}<extra></extra>",
        )
    figure.update_xaxes(title="epoch", dtick=1)
    figure.update_yaxes(title="validation accuracy", tickformat=".0%")
    return figure


def best_so_far(trials: Sequence[TrialRecord], data: str) -> go.Figure:
    """Return each trial's validation error and the lowest so far, on a logarithmic scale."""
    figure = go.Figure(layout=titled(data))
    seen = [t for t in trials if t.best_epoch]
    floor = 1e-4  # an error of 0 has no place on a logarithmic axis
    errors = [max(1 - t.val_accuracy, floor) for t in seen]
    figure.add_scatter(
        x=[t.trial for t in seen],
        y=errors,
        mode="markers",
        marker={
            "color": [BASELINE if t.baseline else COLOURS[t.state] for t in seen], "size": 8,
        },
        text=[t.baseline or f"trial {t.trial}" for t in seen],
        hovertemplate="%{text}: error %{y:.2%}<extra></extra>",
    )  # fmt: skip
    figure.add_scatter(
        x=[t.trial for t in seen],
        y=list(itertools.accumulate(errors, min)),
        mode="lines",
        line={"shape": "hv", "color": "#1b7f5f"},
        hovertemplate="best so far: error %{y:.2%}<extra></extra>",
    )
    figure.update_xaxes(title="trial")
    figure.update_yaxes(title="validation error", type="log", tickformat=".2~%", dtick="D2")
    return figure


def tradeoff(trials: Sequence[TrialRecord], front: Sequence[int], data: str) -> go.Figure:
    """Return validation error against parameters; the Pareto front is a line."""
    figure = go.Figure(layout=titled(data))
    seen = {t.trial: t for t in trials if t.best_epoch and t.state != "failed"}
    best = sorted((seen[number] for number in front), key=lambda t: t.parameters)
    floor = 1e-4  # an error of 0 has no place on a logarithmic axis
    for group, mode in ((best, "lines"), (list(seen.values()), "markers")):
        figure.add_scatter(
            x=[t.parameters for t in group],
            y=[max(1 - t.val_accuracy, floor) for t in group],
            mode=mode,
            line={"shape": "hv", "color": "#1b7f5f"},
            marker={
                "color": [BASELINE if t.baseline else COLOURS[t.state] for t in group],
                "size": [11 if t.trial in front else 7 for t in group],
            },
            text=[t.baseline or f"trial {t.trial}" for t in group],
            hovertemplate="%{text}: error %{y:.2%}, %{x:,} parameters<extra></extra>",
        )
    figure.update_xaxes(title="parameters", type="log", dtick="D2")
    figure.update_yaxes(title="validation error", type="log", tickformat=".2~%", dtick="D2")
    return figure


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
        marker={"color": [effect_colour(e) for e in rows], "size": 8},
        customdata=[(100 * e.low, 100 * e.high) for e in rows],
        hovertemplate="%{y}: %{x:+.2f} points (%{customdata[0]:+.2f} to %{customdata[1]:+.2f})"
        "<extra></extra>",
    )
    figure.update_xaxes(title="gain in validation accuracy, points", zeroline=False)
    figure.update_yaxes(autorange="reversed", automargin=True)
    return figure


def effect_colour(effect: Effect) -> str:
    """Return green or red for an effect that is there, grey for one that may be chance."""
    if effect.low <= 0 <= effect.high:
        return COLOURS["stopped"]
    return COLOURS["complete" if effect.gain > 0 else "failed"]


def confusion_map(matrix: Sequence[Sequence[int]], classes: Sequence[str], data: str) -> go.Figure:
    """Return the confusion matrix; the diagonal is left out, so that errors can be seen."""
    errors = [
        [None if row == column else count for column, count in enumerate(counts)]
        for row, counts in enumerate(matrix)
    ]
    names = list(classes)
    figure = go.Figure(
        go.Heatmap(
            z=errors,
            x=names,
            y=names,
            colorscale=[[0, "rgba(194,69,61,0)"], [1, "#c2453d"]],
            text=[[count or "" for count in row] for row in matrix],
            texttemplate="%{text}",
            showscale=False,
            hovertemplate="%{y} read as %{x}: %{text}<extra></extra>",
        ),
        layout={**titled(data), "height": 560},
    )
    figure.update_xaxes(title="read as", type="category", tickangle=0)
    figure.update_yaxes(title="written", type="category", autorange="reversed", tickangle=0)
    return figure
