"""The command line: reads a call, runs the verb, prints the result, turns errors into lines."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from cutbert import api
from cutbert.api.table import VERBS
from cutbert.api.views import VIEWS
from cutbert.cli.parser import Call, read_call
from cutbert.errors import CutbertError, InterruptedRun, RunError
from cutbert.table import as_text

PIPE_WIDTH = 120
MOST_SHOWN = 2000  # characters of an error's line
ENVIRONMENT_ERRNOS = (
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST,
    errno.ENAMETOOLONG, errno.ELOOP,
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 2 the user's input, 130 interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        call = read_call(words)
        if call is not None:  # run outside typer, which has its own mind about interrupts and closed pipes
            run(call)
    except InterruptedRun as error:
        say(str(error))
        return 130
    except KeyboardInterrupt:
        resumes = words[0] in VERBS and VERBS[words[0]].resumes
        say(f"interrupted; the same command {'goes on from what is saved' if resumes else 'starts again'}")
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it flushes
        return 0
    except CutbertError as error:
        return refuse(str(error))
    except OSError as error:
        if error.errno not in ENVIRONMENT_ERRNOS:
            raise
        return refuse(f"{error.filename or 'a file'}: {error.strerror}")
    except Exception as error:
        if not hasattr(error, "format_message"):  # the parser's own errors, whatever typer calls them
            raise
        return refuse(error.format_message())
    return 0


def run(call: Call) -> None:
    """Run a verb and print its result.

    Raises:
        RunError: runs of a sweep that failed, after the result is printed.
    """
    words, options = call.read()
    data = getattr(api, call.verb.name)(*words, **options).to_json()
    print_result(call.verb.name, data, as_json=call.as_json)
    if call.verb.name == "sweep":
        failed = [each for each in data["runs"] if each["status"] == "failed"]
        if failed:
            raise RunError(*(f"run {each['name']} failed: {each['error']}" for each in failed))


def print_result(verb: str, data: Mapping[str, Any], *, as_json: bool) -> None:
    """Print the JSON object or the human view; under several processes only the first one prints."""
    if int(os.environ.get("RANK", "0")) != 0:
        return
    if as_json:
        print(json.dumps(data, ensure_ascii=False), flush=True)
    else:
        print(as_text(VIEWS[verb](data), None if sys.stdout.isatty() else PIPE_WIDTH), flush=True)


def refuse(message: str) -> int:
    """Print each line of a message as an error of the user's input."""
    for line in message.splitlines():
        say(f"error: {shortened(line)}")
    return 2


def shortened(line: str) -> str:
    """Return a line without its middle where it is very long: a file may hold a name of any length."""
    return line if len(line) <= MOST_SHOWN else f"{line[: MOST_SHOWN // 2]} ... {line[-MOST_SHOWN // 4 :]}"


def say(line: str) -> None:
    print(f"cutbert: {line}", file=sys.stderr, flush=True)
