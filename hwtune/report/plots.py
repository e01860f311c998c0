"""The report's plots, as plotly figures."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from hwtune.records import EpochRecord, TrialRecord

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
