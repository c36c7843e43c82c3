"""The three streams of a process: open whatever the caller did with them, and written to without fail."""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from typing import Any, TextIO

from cutbert.printable import printable

STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))


def is_first() -> bool:
    """Return whether this is the first process of a launch, which speaks for all."""
    return int(os.environ.get("RANK", "0")) == 0


def open_streams() -> None:
    """Open streams that the caller closed (`>&-`) on nothing: the next file that is opened would take their place."""
    for number, (name, mode) in enumerate(STREAMS):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # takes the lowest number that is free: this one
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))


def show(text: str, to: TextIO | None = None) -> None:
    """Print lines on a stream, standard output where none is given, in the characters that it has."""
    to = to or sys.stdout
    encoding = to.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), file=to, flush=True)


def show_json(data: Any, to: TextIO | None = None) -> None:
    """Print one JSON object in a line, with escapes where the stream lacks characters or shows none; as above."""
    to = to or sys.stdout
    text = json.dumps(data, ensure_ascii=False)
    try:
        text.encode(to.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(data)
    if printable(text) != text:
        text = json.dumps(data)
    print(text, file=to, flush=True)


def complain(line: str) -> None:
    """Print a line on standard error; where that takes none, there is nobody to tell."""
    with suppress(OSError):
        print(f"cutbert: {printable(line)}", file=sys.stderr, flush=True)
