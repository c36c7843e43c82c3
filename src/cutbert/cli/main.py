"""The command line: finds the verb, lets typer read its words, prints the result, turns errors into lines."""

from __future__ import annotations

import errno
import inspect
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import typer
from rich.console import Console

from cutbert import __version__
from cutbert.cli.verb import Verb, read_words
from cutbert.cli.verbs import VERBS
from cutbert.errors import CutbertError, InputError, InterruptedRun, RunError

SUMMARY = "Cut a BERT to fit: the best sub-network under your limit, the whole front, a folder that loads anywhere."
PIPE_WIDTH = 120
ENVIRONMENT_ERRNOS = (
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST,
    errno.ENAMETOOLONG, errno.ELOOP,
)  # fmt: skip


@dataclass(frozen=True)
class Call:
    """What stands on a command line: a verb, words and options still as text, and how to print."""

    verb: Verb
    words: list[str]
    raw: dict[str, Any]
    as_json: bool

    def run(self) -> None:
        given, options = read_words(self.verb, self.words, self.raw)
        data = self.verb.run(given, options).to_json()
        print_result(self.verb, data, as_json=self.as_json)
        if failed := self.verb.failures(data):
            raise RunError(*failed)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 2 the user's input, 130 interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        check_verb(words)
        calls: list[Call] = []
        command = typer.main.get_command(make_app(words, calls.append))
        command.main(args=words, prog_name="cutbert", standalone_mode=False)
        for call in calls:  # outside typer, which has its own mind about interrupts and closed pipes
            call.run()
    except InterruptedRun as error:
        say(str(error))
        return 130
    except KeyboardInterrupt:
        resumes = any(verb.resumes for verb in VERBS if verb.name == words[0])
        say(f"interrupted; the same command {'goes on from what is saved' if resumes else 'starts anew'}")
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


def check_verb(words: Sequence[str]) -> None:
    """Raise unless the first word is a verb of ours, or the help or version is asked for."""
    names = ", ".join(verb.name for verb in VERBS)
    if not words:
        raise InputError(f"a verb must be given, one of {names}; cutbert --help says what each does")
    first = words[0]
    if first not in [verb.name for verb in VERBS] and first not in ("--help", "--version"):
        raise InputError(f"verb must be one of {names}, got {first!r}")


def make_app(words: Sequence[str], take: Callable[[Call], None]) -> typer.Typer:
    """Return the typer application, which hands the call it reads to `take`.

    Only the verb called gets its options, which keeps the help quick.
    """
    app = typer.Typer(help=SUMMARY, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

    def show_version(wanted: bool) -> None:
        if wanted:
            typer.echo(__version__)
            raise typer.Exit()

    shown = typer.Option(False, "--version", callback=show_version, is_eager=True, help="Show the version.")

    @app.callback()
    def root(version: bool = shown) -> None: ...

    settings = {"allow_extra_args": True, "ignore_unknown_options": True}
    for verb in VERBS:
        callback = make_callback(verb, take, with_options=verb.name == words[0])
        usage = " ".join([*(word.usage for word in verb.words), "[OPTIONS]"])
        about = "\n\n".join([verb.summary, *(f"{word.name}: {word.help}" for word in verb.words)])
        app.command(verb.name, help=about, short_help=verb.summary, options_metavar=usage, context_settings=settings)(
            callback
        )
    return app


def make_callback(verb: Verb, take: Callable[[Call], None], *, with_options: bool) -> Callable[..., None]:
    """Return a function whose signature holds the verb's options as text, for typer to read.

    Everything else on the line comes in the context. `Call.run` checks it all, so that all mistakes
    come together.
    """

    def callback(context: typer.Context, json_: bool, **raw: Any) -> None:
        take(Call(verb, list(context.args), raw, json_))

    parameters = [parameter("context", typer.Context, inspect.Parameter.empty)]
    for option in verb.options() if with_options else ():
        if option.is_flag:
            name = option.name
            names = f"{name}/--no-{name.removeprefix('--')}" if option.field.default is not False else name
            default = typer.Option(None, names, help=option.help, show_default=False)
            parameters.append(parameter(option.field.name, bool | None, default))
        else:
            kind = list[str] | None if option.is_list else str | None
            default = typer.Option(None, option.name, help=option.help, metavar=option.metavar, show_default=False)
            parameters.append(parameter(option.field.name, kind, default))
    as_json = typer.Option(False, "--json", help="Print the result as one JSON object, the last line of output.")
    parameters.append(parameter("json_", bool, as_json))
    callback.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    callback.__annotations__ = {each.name: each.annotation for each in parameters}
    return callback


def parameter(name: str, kind: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)


def print_result(verb: Verb, data: dict[str, Any], *, as_json: bool) -> None:
    """Print the JSON object or the human view; under several processes only the first one prints."""
    if int(os.environ.get("RANK", "0")) != 0:
        return
    if as_json:
        print(json.dumps(data, ensure_ascii=False), flush=True)
    else:
        width = None if sys.stdout.isatty() else PIPE_WIDTH
        console = Console(width=width, markup=False, emoji=False)  # labels and paths are no markup
        with console.capture() as shown:
            console.print(verb.show(data))
        print(shown.get(), end="", flush=True)


def refuse(message: str) -> int:
    """Print each line of a message as an error of the user's input."""
    for line in message.splitlines():
        say(f"error: {line}")
    return 2


def say(line: str) -> None:
    print(f"cutbert: {line}", file=sys.stderr, flush=True)
