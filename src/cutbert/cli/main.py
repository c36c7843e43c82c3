"""The command: streams and signals in order, then all else is loaded and the call runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from cutbert.cli.stopping import Stop
from cutbert.cli.streams import complain, open_streams


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 2 the user's input or the machine's limits, 130 interrupted.

    Args:
        argv: the words of the command; None for those of this process, which ends after it.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    stop = Stop()
    open_streams()
    with stop.handled(to_the_end=argv is None):
        try:
            from cutbert.cli.call import run_words

            return run_words(words)
        except BaseException as error:
            # What is half imported as the user interrupts may fail in any way.
            if not isinstance(error, KeyboardInterrupt) and stop.signal is None:
                raise
            stop.silence()
            complain(f"{stop.word}; the same command {way_on(words)}")
            return 130


def way_on(words: Sequence[str]) -> str:
    """Return what a command does when it is given again."""
    from cutbert.api.table import VERBS

    resumes = words[:1] and words[0] in VERBS and VERBS[words[0]].resumes
    return "goes on from what is saved" if resumes else "starts again"
