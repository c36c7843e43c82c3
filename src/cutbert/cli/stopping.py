"""Ctrl-C and SIGTERM end a command at any moment, even where a library swallows the interrupt. Loads next to nothing.

A signal raises KeyboardInterrupt where the program is. Libraries that are being imported may catch it and go on: so it
is raised again, a moment later, until it is seen to be on its way out.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

AGAIN_S = 0.1
WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


class Stop:
    """Whether the user asked to stop, and how; called as the handler of a signal."""

    def __init__(self) -> None:
        self.signal: int | None = None

    @property
    def word(self) -> str:
        return WORDS.get(signal.Signals(self.signal or signal.SIGINT), "interrupted")

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        signal.setitimer(signal.ITIMER_REAL, AGAIN_S)
        if signum == signal.SIGALRM:
            if is_on_its_way():
                return
        else:
            self.signal = signum
        raise KeyboardInterrupt

    @contextmanager
    def handled(self, *, to_the_end: bool) -> Iterator[None]:
        """Handle the signals within the block.

        Args:
            to_the_end: whether the process ends after the block: then no signal that comes later says anything.
        """
        try:
            old: dict[int, Any] = {each: signal.getsignal(each) for each in (*WORDS, signal.SIGALRM)}
            for each, handler in old.items():
                if handler is not signal.SIG_IGN:  # nohup, and the background of a script, ignore Ctrl-C
                    signal.signal(each, self)
        except ValueError:  # not in the main thread, where no signal arrives
            old = {}
        hook = sys.unraisablehook
        sys.unraisablehook = lambda raised: None if self.signal is not None else hook(raised)
        try:
            yield
        finally:
            self.silence()
            sys.unraisablehook = hook
            for each, handler in old.items():
                signal.signal(each, signal.SIG_IGN if to_the_end and each == signal.SIGINT else handler)

    def silence(self) -> None:
        """Let no further signal come between the lines that say the end."""
        try:
            signal.setitimer(signal.ITIMER_REAL, 0)
            for each in (*WORDS, signal.SIGALRM):
                signal.signal(each, signal.SIG_IGN)
        except ValueError:  # not in the main thread
            pass


def is_on_its_way() -> bool:
    """Return whether what runs now is cleaning up after an interrupt: the exception being handled is one, or led to it."""
    error = sys.exception()
    while error is not None:
        if isinstance(error, KeyboardInterrupt) or type(error).__name__ == "InterruptedRun":
            return True
        error = error.__context__
    return False
