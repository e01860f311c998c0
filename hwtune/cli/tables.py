"""Tables in a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console


def show_table(columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    """Print rows under column heads, as wide as the terminal allows."""
    from rich import box
    from rich.table import Table

    table = Table(*columns, box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(*(str(value) for value in row))
    Console(width=None if sys.stdout.isatty() else 200).print(table)
