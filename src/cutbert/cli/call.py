"""One call: reads the words, runs the verb, prints the result, turns errors into lines."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TextIO

from cutbert import api
from cutbert.cli.parser import Call, read_call
from cutbert.cli.streams import complain, is_first, open_streams, show, show_json
from cutbert.errors import CutbertError, InterruptedRun, RunError
from cutbert.lacks import check_working_folder, naming_lacks
from cutbert.table import Shown, as_text

PIPE_WIDTH = 120
MOST_SHOWN = 2000  # characters of an error's line


def run_words(words: Sequence[str]) -> int:
    """Run one command and return its exit code, as `main`; an interrupt passes.

    Args:
        words: verb, positional arguments and options.
    """
    open_streams()
    try:
        with naming_lacks():
            call = read(words)
            if call is not None:
                check_working_folder()  # without one, libraries end the process
                run(call)
    except InterruptedRun as error:
        if is_first():
            complain(str(error))
        return 130
    except CutbertError as error:
        return refuse(error.args)
    return 0


def read(words: Sequence[str]) -> Call | None:
    """Return what a command line asks for; None where help or the version was printed, which nobody may have read.

    Raises:
        InputError: a line that cannot be taken apart.
    """
    try:
        with naming_lacks("standard output"):
            return read_call(words)
    except BrokenPipeError:
        forget_output()
        return None


def run(call: Call) -> None:
    """Run a verb and print its result.

    Raises:
        RunError: runs of a sweep that failed, after the result is printed.
    """
    words, options = call.read()
    is_piped = call.verb.pipes and options.get("out") == "-"
    try:
        result = getattr(api, call.verb.name)(*words, **options)
    except BrokenPipeError:  # whoever reads had enough of it
        if not is_piped:
            raise
        forget_output()
        return
    data = result.to_json()
    with naming_lacks("standard error" if is_piped else "standard output"):
        print_result(result, data, as_json=call.as_json, to=sys.stderr if is_piped else sys.stdout)
    if call.verb.name == "sweep":
        failed = [each for each in data["runs"] if each["status"] == "failed"]
        if failed:
            raise RunError(*(f"run {each['name']} failed: {each['error']}" for each in failed))


def print_result(result: Shown, data: Mapping[str, Any], *, as_json: bool, to: TextIO) -> None:
    """Print the JSON object or the human view on a stream; under several processes only the first one prints."""
    if not is_first():
        return
    try:
        if as_json:
            show_json(data, to)
        else:
            show(as_text(result.view(), None if to.isatty() else PIPE_WIDTH), to)
    except BrokenPipeError:  # whoever reads had enough of it
        forget_output()


def forget_output() -> None:
    """Send what is still to be written nowhere, or Python complains when it flushes."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def refuse(messages: Iterable[str]) -> int:
    """Print each message as an error of the user's input."""
    for each in messages:
        complain(f"error: {shortened(each)}")
    return 2


def shortened(line: str) -> str:
    """Return a line without its middle where it is very long: a file may hold a name of any length."""
    return line if len(line) <= MOST_SHOWN else f"{line[: MOST_SHOWN // 2]} ... {line[-MOST_SHOWN // 4 :]}"
