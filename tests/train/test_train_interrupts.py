"""Ctrl-C and SIGTERM while work is saved first: noticed, at once the second time, ignored where the process ignores."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from cutbert.train.interrupts import deferred_interrupt

STOPS = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Put back what answers signals, and see that the block does so itself."""
    before = {each: signal.getsignal(each) for each in STOPS}
    yield
    for each, handler in before.items():
        signal.signal(each, handler)


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", STOPS)
def test_it_is_noticed_and_a_second_one_interrupts_at_once(number: int) -> None:
    before = [signal.getsignal(each) for each in STOPS]
    reached = []
    with pytest.raises(KeyboardInterrupt), deferred_interrupt() as interrupt:
        assert not interrupt.is_set
        send(number)
        reached.append(interrupt.is_set)
        send(number)
        reached.append(False)
    assert reached == [True] and [signal.getsignal(each) for each in STOPS] == before


def test_one_that_comes_too_late_is_not_lost() -> None:
    with pytest.raises(KeyboardInterrupt), deferred_interrupt():
        send(signal.SIGINT)


@pytest.mark.parametrize("ignored", STOPS)
def test_what_the_process_ignores_stays_ignored(ignored: int) -> None:
    """A script's background ignores Ctrl-C: a command that trains there is not ended by one meant for another."""
    other = next(each for each in STOPS if each != ignored)
    signal.signal(ignored, signal.SIG_IGN)
    with deferred_interrupt() as interrupt:
        send(ignored)
        send(ignored)
        assert not interrupt.is_set
    assert signal.getsignal(ignored) is signal.SIG_IGN
    with pytest.raises(KeyboardInterrupt), deferred_interrupt():
        send(other)


def test_outside_the_main_thread_nothing_is_changed() -> None:
    before, within = [signal.getsignal(each) for each in STOPS], []

    def work() -> None:
        with deferred_interrupt() as interrupt:
            within.extend([signal.getsignal(each) for each in STOPS])
            assert not interrupt.is_set

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert within == before
