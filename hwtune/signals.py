"""Ending a command in order."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


def catch_sigterm() -> None:
    """Let SIGTERM end the main thread as Ctrl-C does, through every `finally`."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, interrupt)


@contextmanager
def sigterm_caught() -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C does; afterwards it does what it did before."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    catch_sigterm()
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
