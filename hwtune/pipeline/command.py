"""What the user gave beside a study: where to train, and where words go."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, TextIO, cast

from rich.console import Console

from hwtune.addresses import without_secrets
from hwtune.contract import About
from hwtune.signals import hush
from hwtune.values import positive, share_of, wished


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a command trains.

    Attributes:
        parallel: trainings at once, None for as many as fit.
        address: of a running Ray cluster, or None for this machine.
        gpu_share: the part of a GPU a training asks for, None by memory.
    """

    parallel: int | None = None
    address: str | None = None
    gpu_share: float | None = None

    @property
    def options(self) -> list[str]:
        """Return the option that gives the address again, if there is one."""
        return [f"--address {shlex.quote(self.address)}"] if self.address else []

    def or_as_before(self, about: About) -> Place:
        """Return the place, where it leaves something open as `study.json` says."""
        return replace(
            self,
            parallel=self.parallel or about.get("parallel"),
            gpu_share=self.gpu_share or about.get("gpus_per_trial"),
        )


@dataclass(frozen=True, kw_only=True)
class Command:
    """What the user gave, when it began by `time.monotonic`, and where its words go."""

    text: str
    began: float
    console: Console


def place_of(parallel: int | None, address: str | None, gpus_per_trial: float | None) -> Place:
    """Return where to train, from what the user gave."""
    return Place(
        parallel=wished("parallel", positive, parallel),
        address=address,
        gpu_share=wished("gpus_per_trial", share_of, gpus_per_trial),
    )


class Lasting:
    """A stream that falls silent where it cannot be written, so that no study ends of it.

    As behind `| head`, after a logout, or in a log on a full disk.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write a text, if that can still be."""
        with self._lasting():
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Send what was written on its way."""
        with self._lasting():
            self.stream.flush()

    @contextmanager
    def _lasting(self) -> Iterator[None]:
        try:
            yield
        except BlockingIOError:  # it takes more in a moment
            pass
        except OSError:
            with suppress(OSError):  # a notebook's has no number
                hush(self.stream)

    def __getattr__(self, name: str) -> Any:
        """Return what else is asked of a stream."""
        return getattr(self.stream, name)


def command_of(text: str) -> Command:
    """Return a command that begins now; a notebook gets plain lines."""
    plain = False if Console().is_jupyter else None  # None: rich finds out
    console = Console(
        file=cast(TextIO, Lasting(sys.stdout)) if sys.stdout else None,  # which may be closed
        soft_wrap=True, highlight=False, markup=False, emoji=False,  # names are no mark-up
        force_jupyter=plain, force_terminal=plain,
    )  # fmt: skip
    return Command(text=without_secrets(text), began=time.monotonic(), console=console)
