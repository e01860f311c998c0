"""The report's plots, as plotly figures."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import plotly.graph_objects as go

from hwtune.records import EpochRecord, TrialRecord, taken_over
from hwtune.report.words import literal

COLOURS = {"complete": "#1b7f5f", "stopped": "#858c99", "failed": "#c2453d", "running": "#b8851f"}
BASELINE = "#3b5bdb"
FLOOR = 1e-4  # an error of 0 has no place on a logarithmic axis
LEAST_SPAN = 5.0  # of an axis of errors, between its ends
MOST_CURVES, MOST_POINTS = 300, 2000  # of the best trials, beside the baselines
MOST_BARS = 100  # classes that have a bar each
CELL = 14  # pixels of a row of a confusion matrix, at least
MANY_LETTERS = 120  # of all class names, which a row does not hold
LINES = "rgba(128, 136, 150, 0.2)"  # of the grid, on light and dark paper
LAYOUT: dict[str, Any] = {
    "template": "plotly_white",
    "margin": {"l": 60, "r": 20, "t": 36, "b": 50},
    "height": 380,
    "hovermode": "closest",
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "font": {"color": "#7a828e"},
    "showlegend": False,
    "xaxis": {"gridcolor": LINES, "linecolor": LINES, "zerolinecolor": LINES},
    "yaxis": {"gridcolor": LINES, "linecolor": LINES, "zerolinecolor": LINES},
}


def titled(data: str) -> dict[str, Any]:
    """Return the layout of a figure that names its data set."""
    title = {"text": data, "font": {"size": 13}, "x": 1, "xanchor": "right", "y": 0.98}
    return {**LAYOUT, "title": title}


def scale_errors(figure: go.Figure) -> None:
    """Give a figure a logarithmic axis of validation errors that holds what is drawn."""
    drawn = [error for trace in figure.data for error in trace.y or () if math.isfinite(error)]
    highest = max(drawn, default=1.0)
    lowest = min([highest / LEAST_SPAN, *drawn])
    figure.update_yaxes(
        title="validation error", type="log", tickformat=".2~%", dtick="D2",
        range=[math.log10(0.8 * lowest), math.log10(1.25 * highest)],
    )  # fmt: skip


def unit_of(minutes: Sequence[float]) -> tuple[str, float]:
    """Return in which unit of time so many minutes are drawn, and how many of it a minute has."""
    longest = max(minutes, default=0.0)
    if longest < 2:
        return "seconds", 60.0
    return ("minutes", 1.0) if longest < 180 else ("hours", 1 / 60)


def foremost(trials: Sequence[TrialRecord], most: int) -> list[TrialRecord]:
    """Return the first `most` of the trials, and every baseline."""
    return [trial for place, trial in enumerate(trials) if place < most or trial.baseline]


def learning_curves(
    trials: Sequence[TrialRecord],
    epochs: Sequence[EpochRecord],
    data: str,
    *,
    rungs: Sequence[int] = (),
) -> go.Figure:
    """Return validation error by epoch, a line a trial, baselines in blue, a cross at a stop.

    Args:
        trials: the best first; after many only the baselines are drawn.
        rungs: the epochs after which the scheduler compared trials.
    """
    figure = go.Figure(layout=titled(data))
    for epoch in rungs:
        figure.add_vline(x=epoch, line={"color": COLOURS["stopped"], "width": 1, "dash": "dot"})
    by_trial = {
        number: list(group) for number, group in itertools.groupby(
            sorted(epochs, key=lambda e: (e.trial, e.epoch)), key=lambda e: e.trial
        )
    }  # fmt: skip
    shown = foremost(trials, MOST_CURVES)
    for trial in sorted(shown, key=lambda t: (bool(t.baseline), t.state == "complete")):
        points = by_trial.get(trial.trial, [])
        colour, (name, reason) = colour_of(trial), literal([trial.name, trial.reason])
        figure.add_scatter(
            x=[p.epoch for p in points],
            y=[max(1 - p.val_accuracy, FLOOR) for p in points],
            mode="lines+markers",
            line={"color": colour, "width": 2 if trial.state == "complete" else 1},
            marker={
                "size": [3] * (len(points) - 1) + [8],
                "symbol": ["circle"] * (len(points) - 1)
                + ["x" if trial.state in ("stopped", "failed") else "circle"],
                "opacity": 1,  # where sizes differ, plotly makes bubbles of them
                "line": {"width": 0},
            },
            name=name,
            hovertemplate=f"{name}: error %{{y:.2%}} at epoch %{{x}}<br>{reason}<extra></extra>",
        )
    longest = max((epoch.epoch for epoch in epochs), default=1)
    figure.update_xaxes(
        title="epoch", dtick=1 if longest <= 20 else None, range=[0.5, longest + 0.5]
    )
    scale_errors(figure)
    return figure


def best_so_far(
    trials: Sequence[TrialRecord],
    epochs: Sequence[EpochRecord],
    data: str,
    *,
    slots: Sequence[int],
) -> go.Figure:
    """Return the lowest validation error so far against the time of training, and each trial's.

    Args:
        trials: the best first; after many only the baselines are drawn.
        epochs: in the order in which they were recorded.
        slots: how many trials trained at once, epoch by epoch.
    """
    figure = go.Figure(layout=titled(data))
    minutes, lowest = lowest_errors(trials, epochs, slots)
    unit, per_minute = unit_of(minutes)
    times = [per_minute * each for each in minutes]
    ended = {epoch.trial: time for epoch, time in zip(epochs, times, strict=True)}
    seen = foremost([t for t in trials if t.best_epoch], MOST_POINTS)
    figure.add_scatter(
        x=[ended[t.trial] for t in seen],
        y=[max(1 - t.val_accuracy, FLOOR) for t in seen],
        mode="markers",
        marker={"color": [colour_of(t) for t in seen], "size": 8},
        text=literal(t.name for t in seen),
        hovertemplate="%{text}: error %{y:.2%}<extra></extra>",
    )
    steps = steps_of(lowest)
    figure.add_scatter(
        x=[times[i] for i in steps],
        y=[lowest[i] for i in steps],
        mode="lines",
        line={"shape": "hv", "color": COLOURS["complete"]},
        hovertemplate="best so far: error %{y:.2%}<extra></extra>",
    )
    at_once = " then ".join(str(number) for number, _ in itertools.groupby(slots))
    figure.update_xaxes(title=f"{unit} of training, {at_once} at once", rangemode="tozero")
    scale_errors(figure)
    return figure


def steps_of(lowest: Sequence[float]) -> list[int]:
    """Return the places where the lowest error falls, and both ends: they draw the same line."""
    ends = (0, len(lowest) - 1)
    return [i for i, low in enumerate(lowest) if i in ends or low < lowest[i - 1]]


def lowest_errors(
    trials: Sequence[TrialRecord], epochs: Sequence[EpochRecord], slots: Sequence[int]
) -> tuple[list[float], list[float]]:
    """Return, epoch by epoch as recorded, the minutes of training and the lowest error so far.

    An epoch that a trial took over from another took no time. What failed at last is no best.
    """
    taken = taken_over(trials, epochs)
    failed = {trial.trial for trial in trials if trial.state == "failed"}
    each = (
        epoch.seconds / 60 / at_once if epoch.epoch > taken.get(epoch.trial, 0) else 0.0
        for epoch, at_once in zip(epochs, slots, strict=True)
    )
    minutes = list(itertools.accumulate(each))
    errors = (1.0 if e.trial in failed else max(1 - e.val_accuracy, FLOOR) for e in epochs)
    return minutes, list(itertools.accumulate(errors, min))


def tradeoff(
    trials: Sequence[TrialRecord],
    front: Sequence[int],
    data: str,
    *,
    cost: Callable[[TrialRecord], float],
    title: str,
    form: str,
) -> go.Figure:
    """Return validation error against what a trial cost; the Pareto front is a line.

    Args:
        form: of costs on the axis, in d3's notation.
    """
    figure = go.Figure(layout=titled(data))
    seen = [t for t in trials if t.best_epoch and t.state != "failed"]
    best = sorted((t for t in seen if t.trial in front), key=cost)
    drawn = {t.trial: t for t in (*foremost(seen, MOST_POINTS), *best)}
    for group, mode in ((best, "lines"), (list(drawn.values()), "markers")):
        figure.add_scatter(
            x=[cost(t) for t in group],
            y=[max(1 - t.val_accuracy, FLOOR) for t in group],
            mode=mode,
            line={"shape": "hv", "color": COLOURS["complete"]},
            marker={
                "color": [colour_of(t) for t in group],
                "size": [11 if t.trial in front else 7 for t in group],
                "opacity": 1,
                "line": {"width": 0},
            },
            text=literal(t.name for t in group),
            hovertemplate=f"%{{text}}: error %{{y:.2%}}, %{{x:.4{form}}} {title}<extra></extra>",
        )
    figure.update_xaxes(title=title, type="log", dtick="D2", tickformat=form)
    scale_errors(figure)
    return figure


def colour_of(trial: TrialRecord) -> str:
    """Return a trial's colour: by its state, baselines blue."""
    return BASELINE if trial.baseline else COLOURS[trial.state]


def confusion_map(matrix: Sequence[Sequence[int]], classes: Sequence[str], data: str) -> go.Figure:
    """Return the confusion matrix; the diagonal is left out, so that errors can be seen."""
    errors = [
        [None if row == column else count for column, count in enumerate(counts)]
        for row, counts in enumerate(matrix)
    ]
    names = literal(classes)
    most = max((count for counts in errors for count in counts if count), default=1)
    figure = go.Figure(
        go.Heatmap(
            z=errors,
            zmin=0,
            zmax=most,
            x=names,
            y=names,
            colorscale=[[0, "rgba(194,69,61,0)"], [1, "rgba(194,69,61,0.6)"]],
            text=[[count or "" for count in row] for row in errors],
            texttemplate="%{text}",
            showscale=False,
            hovertemplate="%{y} read as %{x}: %{text}<extra></extra>",
        ),
        layout={**titled(data), "height": max(560, CELL * len(names))},
    )
    figure.add_scatter(
        x=names,
        y=names,
        mode="text",
        text=[counts[row] for row, counts in enumerate(matrix)],
        hoverinfo="skip",
    )
    figure.update_xaxes(title="read as", type="category", tickangle=angle_of(classes))
    figure.update_yaxes(
        title="written", type="category", autorange="reversed", tickangle=0, automargin=True
    )
    return figure


def angle_of(classes: Sequence[str]) -> int:
    """Return how the names of classes are turned below an axis, in degrees."""
    return 0 if sum(map(len, classes)) < MANY_LETTERS else -90


def class_counts(counts: Sequence[int], classes: Sequence[str], data: str) -> go.Figure:
    """Return a bar a class, as high as it has images; of many classes, how many have so many."""
    figure = go.Figure(layout={**titled(data), "height": 240})
    if len(counts) > MOST_BARS:
        figure.add_histogram(
            x=list(counts),
            marker={"color": BASELINE, "line": {"width": 0}},
            hovertemplate="%{x} images: %{y:,} classes<extra></extra>",
        )
        figure.update_xaxes(title="images of a class")
        figure.update_yaxes(title="classes")
        return figure
    figure.add_bar(
        x=literal(classes),
        y=list(counts),
        marker={"color": BASELINE, "line": {"width": 0}},
        hovertemplate="%{x}: %{y:,} images<extra></extra>",
    )
    figure.update_xaxes(type="category", tickangle=angle_of(classes))
    figure.update_yaxes(title="images")
    return figure
