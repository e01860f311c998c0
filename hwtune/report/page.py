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
from hwtune.report.words import percent, short


def write_page(path: Path, template: str, figures: Mapping[str, Figure], **values: Any) -> None:
    """Write a page that works offline; the template finds each figure as `plots.NAME`."""
    environment = Environment(
        loader=PackageLoader("hwtune.report", ""), autoescape=True, undefined=StrictUndefined
    )
    environment.filters["percent"] = percent
    environment.filters["short"] = short
    environment.filters["quote"] = shlex.quote
    plots = {
        name: figure.to_html(full_html=False, include_plotlyjs=False, div_id=name,
                             config={"displayModeBar": False, "responsive": True})
        for name, figure in figures.items()
    }  # fmt: skip
    page = environment.get_template(template)
    write_atomic(path, page.render(plots=plots, plotlyjs=get_plotlyjs(), **values))
