"""Ctrl-C and SIGTERM while Ray Tune runs, and what else ends a study at once."""

from __future__ import annotations

import functools
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

Method = TypeVar("Method", bound=Callable[..., Any])


class Halt(BaseException):
    """The study's files cannot be written any more; nothing may be written after this.

    Not an Exception: Ray Tune would clean up after one, and call back to write.
    """


def halting(method: Method) -> Method:
    """Make a method that writes raise Halt when the system refuses, such as on a full disk."""

    @functools.wraps(method)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return method(*args, **kwargs)
        except OSError as error:
            raise Halt(error.strerror or str(error)) from error

    return wrapped  # type: ignore[return-value]


class Interrupts:
    """Remembers a signal until `check` is called where stopping is safe."""

    def __init__(self) -> None:
        self.received = False

    def check(self) -> None:
        """Raise KeyboardInterrupt if a signal came."""
        if self.received:
            raise KeyboardInterrupt

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.received:  # asked twice: at once
            raise KeyboardInterrupt
        self.received = True


@contextmanager
def interruptible() -> Iterator[Interrupts]:
    """Catch SIGINT and SIGTERM inside the block, in the main thread.

    Raises:
        KeyboardInterrupt: at the end of the block, when one came that nobody checked for.
    """
    interrupts = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield interrupts
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, interrupts._hear) for number in numbers}
    try:
        yield interrupts
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    interrupts.check()
