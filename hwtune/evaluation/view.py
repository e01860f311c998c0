"""What people see while trainings run side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

SILENCE = 30.0  # seconds after which a line says how far the trainings are


@contextmanager
def shown(
    lengths: Mapping[str, int], console: Console
) -> Iterator[Callable[[Mapping[str, int]], None]]:
    """Show trainings during the block: bars in a terminal, elsewhere a line from time to time.

    Yields what is to be called with the epochs, by title, of every training that has begun.

    Args:
        lengths: the most epochs of each training, by its title.
    """
    if not console.is_terminal or console.is_dumb_terminal:
        yield Lines(lengths, console).look
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bars:
        whole = bars.add_task("all epochs", total=sum(lengths.values()))
        tasks = {
            title: bars.add_task(title, total=n, visible=False) for title, n in lengths.items()
        }

        def look(epochs: Mapping[str, int]) -> None:
            bars.update(whole, completed=sum(epochs.values()))
            for title, epoch in epochs.items():
                running = 0 < epoch < lengths[title]
                bars.update(tasks[title], completed=epoch, visible=running)

        yield look


class Lines:
    """Says from time to time, in a line, what runs."""

    def __init__(self, lengths: Mapping[str, int], console: Console) -> None:
        self.lengths, self.console, self.spoke = lengths, console, time.monotonic()

    def look(self, epochs: Mapping[str, int]) -> None:
        """Say it, unless it was said a moment ago."""
        if time.monotonic() < self.spoke + SILENCE:
            return
        self.spoke = time.monotonic()
        words = (f"{title} at epoch {n}" for title, n in epochs.items() if n < self.lengths[title])
        self.console.print(f"training: {'; '.join(words) or 'the first epochs'}")
