"""The command: signals in order first, then all else is loaded and the call runs."""

from __future__ import annotations

import sys

from cutbert.cli.stopping import Stop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 2 the user's input or the machine's limits, 130 interrupted.

    Args:
        argv: the words of the command; None for those of this process, which ends after it.
    """
    with Stop(to_the_end=argv is None) as stop:
        words = list(sys.argv[1:] if argv is None else argv)
        try:
            from cutbert.cli.call import run_words

            return run_words(words)
        except BaseException as error:
            # What is half imported as the user interrupts may fail in any way.
            if not isinstance(error, KeyboardInterrupt) and stop.signal is None:
                raise
            stop.silence()
            say_stopped(stop.word, words)
            return 130


def say_stopped(word: str, words: Sequence[str]) -> None:
    """Say what a command that was stopped does when it is given again."""
    from cutbert.api.table import VERBS
    from cutbert.cli.streams import complain, is_first

    if not is_first():
        return
    resumes = words[:1] and words[0] in VERBS and VERBS[words[0]].resumes
    complain(f"{word}; the same command {'goes on from what is saved' if resumes else 'starts again'}")
