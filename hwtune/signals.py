"""Ending a command in order."""

from __future__ import annotations

import signal
import threading


def catch_sigterm() -> None:
    """Let SIGTERM end the main thread as Ctrl-C does, through every `finally`."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, interrupt)
