"""What a terminal shows while a search runs."""

from __future__ import annotations

import logging
import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from hwtune.records import EpochRecord, TrialRecord, ranked
from hwtune.search.ledger import Ledger
from hwtune.words import duration

BLOCKS, LETTERS = "▁▂▃▄▅▆▇█", "._-~=+*#"  # of a curve, and where the terminal has no such blocks
FINEST = 3.5  # the curve's highest step: an error of 10 to the minus that
WIDEST_CURVE = 24  # epochs
LOGGERS = ("ray", "ray.tune", "optuna", "py.warnings")
BEST, FRAMES = 5, 2  # trials in the list of the best; redrawings a second
LOOK = 1.0  # seconds between two estimates of the time left
SMALL = 12  # rows of a terminal that has no room for the best
FEW = 8  # running trials, for which they make room
HEAD = 3  # rows above those of a table; one more parts two of them
NARROW = 60  # columns of one that has no room for lines


class View:
    """The state of a search, drawn anew whenever rich asks for it, in a thread of its own.

    Args:
        slots: trials at once.
        resources: of the cluster, in words.
        seconds_left: of the search.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        slots: int,
        resources: str,
        seconds_left: Callable[[], float],
    ) -> None:
        self.ledger, self.slots = ledger, slots
        self.resources, self.seconds_left = resources, seconds_left
        self.began = time.monotonic()
        self.looked = self.began
        self.ends = self.began + seconds_left()
        self.starting = True
        self.curves: dict[int, list[float]] = defaultdict(list)

    def recall(self, epoch: EpochRecord) -> None:
        """Take an epoch into its trial's curve."""
        self.curves[epoch.trial].append(epoch.val_accuracy)

    def epoch(self, epoch: EpochRecord) -> None:
        """Take a new epoch in, and see from time to time when the search will end."""
        self.recall(epoch)
        now = time.monotonic()
        if self.starting or now > self.looked + LOOK:
            self.looked, self.ends = now, now + self.seconds_left()
        self.starting = False

    @property
    def left(self) -> float:
        """Return the seconds that the search will still take."""
        return max(0.0, self.ends - time.monotonic())

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield what there is room for, the most important first."""
        rows: list[RenderableType] = [self._budget(), self._counts()]
        lines = box.SIMPLE_HEAD if options.max_width > NARROW else None
        best = ranked(list(self.ledger.trials.values()))[:BEST]
        if console.height <= SMALL + min(FEW, len(self.ledger.live)):
            best = []
        room = console.height - len(rows) - HEAD - bool(best) * (1 + HEAD + len(best))
        if room >= 0:
            rows.append(self._running(room, lines, LETTERS if options.ascii_only else BLOCKS))
        if best:
            rows.append(self._best(best, lines))
        yield Group(*rows)

    def _budget(self) -> RenderableType:
        """Return how much of the search is done, as a bar, and the time left."""
        spent, left = time.monotonic() - self.began, self.left
        line = Table.grid(padding=(0, 1), expand=True)
        line.add_column(no_wrap=True)
        line.add_column(ratio=1)
        line.add_column(no_wrap=True)
        words = f"{duration(left)} left"
        if self.starting:
            spent, words = 0.0, "starting"
        elif left < 1:
            words = "about to end"
        line.add_row("searching", ProgressBar(spent + left, spent), words)
        return line

    def _counts(self) -> Text:
        """Return how many trials there are of each state."""
        counts = Counter(trial.state for trial in list(self.ledger.trials.values()))
        words = [f"{counts[state]} {state}" for state in ("complete", "stopped", "failed")]
        words.append(f"{counts['running']} running of {self.slots} at once on {self.resources}")
        return Text(", ".join(words), no_wrap=True, overflow="ellipsis")

    def _running(self, room: int, lines: box.Box | None, steps: str) -> Table:
        """Return the running trials with their curves."""
        table = table_of("running", "epoch", "accuracy", "curve", lines=lines)
        trials = self.ledger.running
        shown = trials if len(trials) <= max(1, room) else trials[: max(1, room - 1)]
        for trial in shown:
            table.add_row(
                self.ledger.name(trial.trial),
                f"{trial.epochs} of {self.ledger.longest(trial.trial)}",
                accuracy_of(trial),
                sparkline(self.curves.get(trial.trial, []), steps),
            )
        if (more := len(trials) - len(shown)) and room > 1:
            table.add_row(f"and {more:,} more", "", "", "")
        return table

    def _best(self, best: list[TrialRecord], lines: box.Box | None) -> Table:
        """Return the best trials so far."""
        table = table_of("best so far", "accuracy", "parameters", "", lines=lines)
        for trial in best:
            name, size = self.ledger.name(trial.trial), f"{trial.parameters:,}"
            table.add_row(name, accuracy_of(trial), size, trial.state)
        return table


def table_of(*titles: str, lines: box.Box | None) -> Table:
    """Return an empty table of which every row is one line."""
    table = Table(box=lines, pad_edge=False)
    for title in titles:
        table.add_column(title, no_wrap=True)
    return table


def accuracy_of(trial: TrialRecord) -> str:
    """Return a trial's best accuracy, or a dash before its first epoch."""
    return f"{trial.val_accuracy:.2%}" if trial.best_epoch else "-"


def sparkline(accuracies: list[float], steps: str) -> str:
    """Return a curve as one character an epoch, on the logarithm of the error."""
    last = accuracies[-WIDEST_CURVE:]
    heights = [-math.log10(max(1 - each, 10**-FINEST)) / FINEST for each in last]
    return "".join(steps[min(len(steps) - 1, int(each * len(steps)))] for each in heights)


@contextmanager
def shown(view: View, console: Console, log: Path) -> Iterator[bool]:
    """Draw a view at the foot of a terminal during the block; yield whether there is a terminal.

    What Ray and other libraries log or warn of goes to the file `log` meanwhile.
    """
    live = console.is_terminal and not console.is_dumb_terminal
    drawn = Live(
        view, console=console, refresh_per_second=FRAMES, transient=True, vertical_overflow="crop"
    )
    with logged(log), drawn if live else nullcontext():
        yield live


@contextmanager
def logged(path: Path) -> Iterator[None]:
    """Send log lines and warnings to a file, and nowhere else, during the block."""
    path.parent.mkdir(exist_ok=True)
    to_file = logging.FileHandler(path, encoding="utf-8", delay=True)
    to_file.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [(each.handlers[:], each.propagate) for each in loggers]
    logging.captureWarnings(True)
    try:
        for each in loggers:
            each.handlers, each.propagate = [to_file], False
        yield
    finally:
        logging.captureWarnings(False)
        for each, (handlers, propagate) in zip(loggers, before, strict=True):
            each.handlers, each.propagate = handlers, propagate
        to_file.close()
