"""Signals that Python passes over are remembered."""

import os
import signal

import pytest

from hwtune.signals import check_signals, signals_caught


class Loud:
    """Gets a signal while it is collected, where Python ignores what is raised."""

    def __init__(self, number):
        self.number = number

    def __del__(self):
        os.kill(os.getpid(), self.number)
        for _ in range(1000):  # until Python has called the handler
            pass


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_came_in_a_callback_is_not_lost(number):
    before = signal.getsignal(number)
    reached = []

    def block():
        with signals_caught():
            check_signals()
            loud = Loud(number)
            del loud
            reached.append("the block goes on")
            check_signals()
            reached.append("here it must not")

    with pytest.raises(KeyboardInterrupt):
        block()
    assert reached == ["the block goes on"]
    assert signal.getsignal(number) == before
    check_signals()  # nothing of it is left
