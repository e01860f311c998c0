"""Tables in a terminal."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console

from hwtune.words import printable


def say(line: str) -> None:
    """Print a line that may hold what was read from a file."""
    print(printable(line))


def complain(text: object) -> None:
    """Print a line to the standard error, whatever it was read from."""
    print(f"hwtune: {printable(text)}", file=sys.stderr)


def width() -> int:
    """Return how many columns the terminal has; a file has many."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 200


def show_table(columns: Sequence[str], rows: Iterable[Iterable[Any]], *, whole: int = 1) -> None:
    """Print rows under column heads, as wide as the terminal allows.

    Args:
        whole: how many of the first columns keep their width, the others wrap.
    """
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, no_wrap=index < whole, overflow="fold")
    for row in rows:
        table.add_row(*map(printable, row))
    Console(width=width(), markup=False, emoji=False).print(table)  # an error may hold brackets
