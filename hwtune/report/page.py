"""What all pages are made with."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from plotly.graph_objects import Figure
from plotly.offline import get_plotlyjs

from hwtune.files import write_atomic
from hwtune.report.words import exact, percent, short

LABELS = {  # of figures, for those who cannot see them
    "curves": "Validation error by epoch, a line a trial",
    "progress": "The lowest validation error so far by the time of training",
    "size": "Validation error by parameters, a point a trial",
    "time": "Validation error by the seconds of an epoch, a point a trial",
    "importance": "The share of each hyperparameter in the variance of the accuracy",
    "coordinates": "Trials as lines through their hyperparameters",
    "effects": "The gain of each choice, with its interval",
    "classes": "Images of each class",
    "confusion": "How often each class was read as which",
    "seeds": "Test accuracy of each study, a point a seed",
}


def write_page(path: Path, template: str, figures: Mapping[str, Figure], **values: Any) -> None:
    """Write a page that works offline; the template finds each figure as `plots.NAME`."""
    environment = Environment(
        loader=PackageLoader("hwtune.report", ""), autoescape=True, undefined=StrictUndefined
    )
    environment.filters["percent"] = percent
    environment.filters["exact"] = exact
    environment.filters["short"] = short
    environment.filters["quote"] = shlex.quote
    bare: dict[str, Any] = {
        "full_html": False, "include_plotlyjs": False,
        "config": {"displayModeBar": False, "responsive": True},
    }  # fmt: skip
    plots = {
        name: f'<div role="img" aria-label="{LABELS[name]}">'
        f"{figure.to_html(div_id=name, **bare)}</div>"
        for name, figure in figures.items()
    }
    page = environment.get_template(template)
    write_atomic(path, page.render(plots=plots, plotlyjs=get_plotlyjs(), **values))
