"""The parser of a command line, made of the table of verbs: typer's application, its help, and typed values."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import typer
from typer.core import TyperCommand

from cutbert.api.table import TABLE, VERBS
from cutbert.api.verb import HELP_WIDTH, Verb
from cutbert.errors import InputError, Mistakes
from cutbert.options import Option, did_you_mean
from cutbert.parsing import is_plain
from cutbert.version import __version__

SUMMARY = "Compress BERT-family encoders: find, measure and export the best sub-network under a limit."
REST = "Output"
NAMES_WIDTH = 30


@dataclass(frozen=True)
class Call:
    """What a command line asks for: a verb, words and options still as text, and how to print."""

    verb: Verb
    given: list[str]
    raw: dict[str, Any]
    as_json: bool

    def read(self) -> tuple[list[str], dict[str, Any]]:
        """Return the words and the options that have an effect, typed.

        Raises:
            InputError: unknown options, missing or surplus words, values of the wrong type; all together.
        """
        mistakes = Mistakes()
        words = read_words(self.verb, self.given, mistakes)
        values = read_options(self.verb, self.raw, mistakes)
        mistakes.check()
        return words, values


def read_words(verb: Verb, given: Sequence[str], mistakes: Mistakes) -> list[str]:
    """Return the positional arguments.

    Args:
        verb: what is called.
        given: words that are no known option, unknown options among them.
        mistakes: collects.
    """
    unknown = [word.partition("=")[0] for word in given if word.startswith("-") and word != "-"]
    words = [word for word in given if not word.startswith("-") or word == "-"]
    mistakes.extend(f"{verb.name} takes UTF-8 text, got {word!a}" for word in words if not is_plain(word))
    known = [each.name for each in verb.listed_options()]
    mistakes.extend(f"{verb.name} has no option {name}{did_you_mean(name, known)}" for name in unknown)
    if len(words) < len(verb.words):
        missing = [word for word in verb.words[len(words) :] if not word.is_optional]
        mistakes.extend(f"{word.name} must be given: {word.help}" for word in missing)
    elif len(words) > len(verb.words) and not unknown and not any(word.is_many for word in verb.words):
        wanted = " ".join(word.name for word in verb.words) or "options only"
        mistakes.add(f"{verb.name} takes {wanted}, got more: {' '.join(words[len(verb.words) :])}")
    return words


def read_options(verb: Verb, raw: Mapping[str, Any], mistakes: Mistakes) -> dict[str, Any]:
    """Return the options that have an effect, by field name, typed; the others are checked alike.

    Args:
        verb: what is called.
        raw: per field the words or the flag; None where not given.
        mistakes: collects.
    """
    values: dict[str, Any] = {}
    for name, option in (verb.options() | verb.ignored_options()).items():
        given = raw.get(name)
        if given is None or given == []:
            if option.is_required:
                mistakes.add(f"{option.name} must be given: {option.field.metadata['help']}")
            continue
        with mistakes.collect():
            values[name] = given if option.is_flag else option.parse(given)
    return {name: value for name, value in values.items() if name in verb.options()}


def check_verb(words: Sequence[str]) -> None:
    """Raise unless the first word is a verb of ours, or the help or version is asked for."""
    if not words:
        raise InputError(f"a verb must be given, one of {', '.join(VERBS)}; cutbert --help says what each does")
    first = words[0]
    if first not in (*VERBS, "--help", "--version"):
        raise InputError(f"verb must be one of {', '.join(VERBS)}, got {first!r}{did_you_mean(first, list(VERBS))}")


def read_call(words: Sequence[str]) -> Call | None:
    """Return what a command line asks for; None where typer printed help or the version.

    Raises:
        InputError: no verb of ours, or a line that cannot be taken apart.
    """
    check_verb(words)
    calls: list[Call] = []
    command = typer.main.get_command(make_app(words[0], calls.append))
    try:
        with command.make_context("cutbert", list(words)) as context:  # its `main` would catch interrupts and exit
            command.invoke(context)
    except typer.Exit:
        pass
    except Exception as error:
        if not hasattr(error, "format_message"):  # the parser's own errors, whatever typer calls them
            raise
        raise InputError(error.format_message()) from None
    return calls[0] if calls else None


def make_app(called: str, take: Callable[[Call], None]) -> typer.Typer:
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

    for verb in TABLE:
        app.command(
            verb.name,
            cls=GroupedCommand,
            help="\n\n".join([verb.summary, *(f"{word.name}: {word.help}" for word in verb.words)]),
            short_help=verb.summary,
            options_metavar=" ".join([*(word.usage for word in verb.words), "[OPTIONS]"]),
            context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
        )(make_callback(verb, take, with_options=verb.name == called))
    return app


class GroupedCommand(TyperCommand):
    """A verb whose help lists its options under headings."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        parameters = {each.name: each for each in self.get_params(ctx)}
        named = [(each.group, parameters.pop(each.field.name)) for each in VERBS[str(self.name)].listed_options()]
        rest = [(REST, each) for each in parameters.values()]
        for group, listed in groupby([*named, *rest], key=lambda pair: pair[0]):
            records = [record for _, each in listed if (record := each.get_help_record(ctx)) is not None]
            with formatter.section(group):
                for line in two_columns(records):
                    formatter.write(f"  {line}\n")


def two_columns(records: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Yield the lines of names and what they mean, wrapped; no option is broken at its hyphens."""
    left = min(NAMES_WIDTH, 2 + max(len(name) for name, _ in records))
    for name, text in records:
        lines = textwrap.wrap(text, HELP_WIDTH - left, break_on_hyphens=False)
        if len(name) > left - 2:
            yield name
            name = ""
        for line in lines:
            yield f"{name:{left}}{line}"
            name = ""


def make_callback(verb: Verb, take: Callable[[Call], None], *, with_options: bool) -> Callable[..., None]:
    """Return a function whose signature holds the verb's options as text, for typer to read.

    Everything else on the line comes in the context. `Call.read` checks it all, so that all mistakes
    come together.
    """

    def callback(context: typer.Context, json_: bool, **raw: Any) -> None:
        take(Call(verb, list(context.args), raw, json_))

    parameters = [parameter("context", typer.Context, inspect.Parameter.empty)]
    if with_options:
        parameters += [option_parameter(each) for each in verb.options().values()]
        parameters += [option_parameter(each, hidden=True) for each in verb.ignored_options().values()]
    as_json = typer.Option(False, "--json", help="Print the result as one JSON object, the last line of output.")
    parameters.append(parameter("json_", bool, as_json))
    callback.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    callback.__annotations__ = {each.name: each.annotation for each in parameters}
    return callback


def option_parameter(option: Option, *, hidden: bool = False) -> inspect.Parameter:
    """Return an option as typer reads it: text, or a switch with its opposite where the default is not off."""
    name: str = option.name
    kind: Any
    if option.is_flag:
        kind = bool | None
        name = f"{name}/--no-{name.removeprefix('--')}" if option.field.default is not False else name
    else:
        kind = list[str] | None  # of one value too, so that a second is seen
    metavar = None if option.is_flag else option.metavar
    default = typer.Option(None, name, help=option.help, metavar=metavar, show_default=False, hidden=hidden)
    return parameter(option.field.name, kind, default)


def parameter(name: str, kind: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
