"""Ending a command in order."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # Ctrl-C, `kill`, a terminal that closes

_heard: set[int] = set()  # signals that came inside of `signals_caught`
_inside, _waiting = threading.Event(), threading.Event()


def _interrupt(number: int, frame: object) -> None:
    first = not _heard
    if _inside.is_set():
        _heard.add(number)
    if (first and not _waiting.is_set()) or (number == signal.SIGINT and not first):
        raise KeyboardInterrupt  # SIGTERM or SIGHUP may come twice, of a closed terminal and shell


def catch_signals() -> None:
    """Let each of `ENDS` end the main thread as Ctrl-C does, through every `finally`."""
    if threading.current_thread() is threading.main_thread():
        for number in ENDS:
            if signal.getsignal(number) != signal.SIG_IGN:  # as by `nohup`, or behind a shell
                signal.signal(number, _interrupt)


def hush(stream: TextIO | None = None) -> None:
    """Let what is still printed go nowhere, since nobody reads it.

    Args:
        stream: default: the standard output.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, (stream or sys.stdout).fileno())
    os.close(nowhere)


def check_signals() -> None:
    """Raise KeyboardInterrupt where a signal came that waits for this, or whose own was lost.

    Python passes over what is raised in a callback, as when a process is forked or an object
    collected. Call it where a command goes on after something that took long.
    """
    if _heard:
        raise KeyboardInterrupt


@contextmanager
def signals_caught() -> Iterator[None]:
    """Let each of `ENDS` end the block as Ctrl-C does, and remember it until the block's end.

    Afterwards they do what they did before.
    """
    if _inside.is_set() or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in ENDS}
    _inside.set()
    catch_signals()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _inside.clear()
        _heard.clear()


@contextmanager
def signals_waiting() -> Iterator[None]:
    """Let a signal wait until `check_signals`, or the block's end; a second Ctrl-C ends it at once.

    For what must not be cut in two, such as a record and what is made from it.
    """
    main = threading.current_thread() is threading.main_thread()
    with signals_caught():
        if main:
            _waiting.set()
        try:
            yield
        finally:
            if main:
                _waiting.clear()
        check_signals()


@contextmanager
def told_at_once(tell: Callable[[], None]) -> Iterator[None]:
    """Let a thread call `tell` as soon as one of `ENDS` comes, whatever the block waits for.

    The handler itself has to wait until the main thread is back in Python, and a library may end
    the process before that.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    thread = threading.Thread(target=_tell, args=(ours, tell), daemon=True)
    thread.start()
    before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        theirs.shutdown(socket.SHUT_WR)  # which ends the thread
        thread.join()
        theirs.close()
        ours.close()


def _tell(heard: socket.socket, tell: Callable[[], None]) -> None:
    while number := heard.recv(1):
        if number[0] in ENDS:
            tell()
            return
