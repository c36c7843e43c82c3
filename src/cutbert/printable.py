"""Text that others wrote, made fit for a terminal and a line of ours: it moves no cursor and ends no line."""

from __future__ import annotations

import re

# Control bytes, line and paragraph separators, marks that reverse the order of what is read, halves of characters.
UNPRINTABLE = r"\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff"
IS_UNPRINTABLE = re.compile(f"[{UNPRINTABLE}]")
IS_UNPRINTABLE_IN_LINES = re.compile(rf"(?!\n)[{UNPRINTABLE}]")
ADVICE = ("weights_only", "trust_remote_code", "allow_pickle")  # options that run what strangers wrote


def printable(text: str, *, many_lines: bool = False) -> str:
    r"""Return a text with an escape in the place of every character that is not seen; twice is the same as once.

    Args:
        text: any.
        many_lines: whether it may have several lines; a line end is else escaped too.

    >>> printable("layer\x1b[2J\ncutbert: error: forged")
    'layer\\x1b[2J\\ncutbert: error: forged'
    """
    unprintable = IS_UNPRINTABLE_IN_LINES if many_lines else IS_UNPRINTABLE
    return unprintable.sub(lambda found: ascii(found[0])[1:-1], text)


def reason_of(error: BaseException) -> str:
    """Return in a few words why a library refused something: the first line of its error, or what it is called.

    Advice to let a file run code of its own is left out.
    """
    text = str(error).strip()
    if any(word in text for word in ADVICE):
        return "it holds more than plain data, or asks for code of its own to be run, which is never done"
    return printable(text.partition("\n")[0]) or type(error).__name__
