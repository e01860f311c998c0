"""A signal ends a command where that is safe, and none is lost."""

import hashlib
import os
import signal
import threading

import pytest

from hwtune.signals import ENDS, check_signals, signals_caught, signals_waiting, told_at_once


class Loud:
    """Gets a signal while it is collected, where Python ignores what is raised."""

    def __init__(self, number):
        self.number = number

    def __del__(self):
        os.kill(os.getpid(), self.number)
        for _ in range(1000):  # until Python has called the handler
            pass


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("number", ENDS)
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


@pytest.mark.parametrize("number", ENDS)
def test_a_signal_that_nobody_looked_for_is_not_lost(number):
    before, done = signal.getsignal(number), []

    def block():
        with signals_waiting():
            os.kill(os.getpid(), number)
            done.append("what it had to do")

    with pytest.raises(KeyboardInterrupt):
        block()
    assert done
    assert signal.getsignal(number) == before


def test_a_signal_waits_for_a_safe_place():
    reached = []

    def block():
        with signals_caught(), signals_waiting():
            os.kill(os.getpid(), signal.SIGTERM)
            reached.append("what must not be cut in two")
            check_signals()
            reached.append("here it must not")

    with pytest.raises(KeyboardInterrupt):
        block()
    assert reached == ["what must not be cut in two"]
    check_signals()


@pytest.mark.parametrize(
    ("number", "done"),
    [(signal.SIGINT, [0]), (signal.SIGTERM, [0, 1, 2]), (signal.SIGHUP, [0, 1, 2])],
)
def test_a_second_ctrl_c_alone_ends_the_block_at_once(number, done):
    """A terminal that closes and its shell may both say so."""
    reached = []

    def block():
        with signals_waiting():
            for place in range(3):
                os.kill(os.getpid(), number)
                reached.append(place)

    with pytest.raises(KeyboardInterrupt):
        block()
    assert reached == done


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_what_ends_in_order_is_not_cut_short_by_the_same_signal(number):
    reached = []

    def block():
        with signals_caught():
            try:
                os.kill(os.getpid(), number)
                check_signals()
            finally:
                os.kill(os.getpid(), number)
                reached.append("what an end has to do")

    with pytest.raises(KeyboardInterrupt):
        block()
    assert reached


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_what_runs_behind_a_shell_or_nohup_ignores_what_it_ignored(number):
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with signals_waiting():
            os.kill(os.getpid(), number)
        assert signal.getsignal(number) == signal.SIG_IGN
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("number", ENDS)
def test_who_ends_a_block_is_told_while_it_is_deaf(number):
    done = []

    def block():
        with signals_caught(), told_at_once(lambda: done.append("told")):
            try:
                threading.Timer(0.3, os.kill, (os.getpid(), number)).start()
                hashlib.pbkdf2_hmac("sha256", b"", b"", 6_000_000)  # two seconds, all of it in C
            finally:
                done.append("in Python again")

    with pytest.raises(KeyboardInterrupt):
        block()
    assert done == ["told", "in Python again"]


def test_nobody_is_told_of_other_signals_or_of_later_ones():
    told, before = [], signal.signal(signal.SIGUSR1, lambda *_: None)
    listening = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(listening)
    try:
        with told_at_once(lambda: told.append("told")):
            os.kill(os.getpid(), signal.SIGUSR1)
        assert signal.set_wakeup_fd(listening) == listening
        with signals_waiting():
            os.kill(os.getpid(), signal.SIGTERM)
            told.append("the block goes on")
    except KeyboardInterrupt:
        told.append("ended")
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert told == ["the block goes on", "ended"]
