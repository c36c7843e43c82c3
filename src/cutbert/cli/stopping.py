"""Ctrl-C and SIGTERM end a command at any moment, even where a library swallows the interrupt.

A signal raises KeyboardInterrupt where the program is. Libraries that are being imported may catch it and go on: so it
is raised again, a moment later, until it is seen to be on its way out. Loads as little as can be: until the block of
`Stop` is entered, an interrupt is Python's own, with a traceback.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from types import FrameType
    from typing import Any
else:
    import _signal as signal  # what signal is made of, in C: no enum, functools and collections before us

AGAIN_S = 0.1
WORDS: dict[int, str] = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


class Stop:
    """Whether the user asked to stop, and how; called as the handler of signals within its with block.

    Args:
        to_the_end: whether the process ends after the block: then no Ctrl-C that comes later says anything.
    """

    def __init__(self, *, to_the_end: bool) -> None:
        self.to_the_end = to_the_end
        self.signal: int | None = None
        self._old: dict[int, Any] = {}

    @property
    def word(self) -> str:
        return WORDS[self.signal or signal.SIGINT]

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        signal.setitimer(signal.ITIMER_REAL, AGAIN_S)
        if signum == signal.SIGALRM:
            if is_on_its_way():
                return
        else:
            self.signal = signum
        raise KeyboardInterrupt

    def __enter__(self) -> Stop:
        self._hook = sys.unraisablehook
        sys.unraisablehook = self._unraisable
        try:
            for each in (*WORDS, signal.SIGALRM):
                if signal.getsignal(each) is not signal.SIG_IGN:  # nohup, and a script's background, ignore Ctrl-C
                    self._old[each] = signal.signal(each, self) or signal.SIG_DFL
        except ValueError:  # not in the main thread, where no signal arrives
            pass
        return self

    def __exit__(self, *error: object) -> None:
        self.silence()
        sys.unraisablehook = self._hook
        for each, handler in self._old.items():
            if not (self.to_the_end and each == signal.SIGINT):
                signal.signal(each, handler)

    def silence(self) -> None:
        """Let no further signal come between the lines that say the end."""
        if self._old:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for each in self._old:
            signal.signal(each, signal.SIG_IGN)

    def _unraisable(self, raised: Any) -> None:
        """Say nothing of an interrupt that came where Python can only ignore it: it is raised again."""
        if self.signal is None:
            self._hook(raised)


def is_on_its_way() -> bool:
    """Return whether what runs now cleans up after an interrupt: the exception being handled is one, or led to it."""
    error = sys.exception()
    while error is not None:
        if isinstance(error, KeyboardInterrupt) or type(error).__name__ == "InterruptedRun":
            return True
        error = error.__context__
    return False
