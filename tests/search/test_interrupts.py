import os
import signal

import pytest

from hwtune.search.interrupts import interruptible


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_nobody_looked_for_is_not_lost(number):
    before, done = signal.getsignal(number), []

    def block():
        with interruptible():
            os.kill(os.getpid(), number)
            done.append("what it had to do")

    with pytest.raises(KeyboardInterrupt):
        block()
    assert done
    assert signal.getsignal(number) == before


def test_a_second_signal_ends_the_block_at_once():
    heard = []

    def block():
        with interruptible() as interrupts:
            for _ in range(3):
                os.kill(os.getpid(), signal.SIGINT)
                heard.append(interrupts.received)

    with pytest.raises(KeyboardInterrupt):
        block()
    assert heard == [True]
