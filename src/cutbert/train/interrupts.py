"""Ctrl-C and SIGTERM while work goes on that must be saved first: noticed, and answered where the work can stop."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

Handler = Callable[[int, FrameType | None], None]


class Interrupt:
    """Remembers that the user asked to stop."""

    def __init__(self) -> None:
        self.is_set = False

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        if self.is_set:
            raise KeyboardInterrupt
        self.is_set = True


@contextmanager
def answering_stops(handler: Handler) -> Iterator[None]:
    """Let a handler answer Ctrl-C and SIGTERM within the block; one that the process ignores stays ignored.

    A shell's script starts what it puts in the background so that Ctrl-C is ignored there. Outside the main thread no
    signal arrives, and nothing is changed.
    """
    old = {}
    try:
        for each in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(each) is not signal.SIG_IGN:
                old[each] = signal.signal(each, handler)
    except ValueError:  # not in the main thread
        pass
    try:
        yield
    finally:
        for each, before in old.items():
            signal.signal(each, before)


@contextmanager
def deferred_interrupt() -> Iterator[Interrupt]:
    """Within the block Ctrl-C and SIGTERM only set a flag; a second one interrupts at once.

    Raises:
        KeyboardInterrupt: the flag was set too late for the block to see it.
    """
    interrupt = Interrupt()
    with answering_stops(interrupt):
        yield interrupt
    if interrupt.is_set:
        raise KeyboardInterrupt
