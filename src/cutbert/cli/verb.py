"""A verb of the command line as data: its words, its settings, what it runs and how its result looks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any, Protocol

from rich.console import RenderableType

from cutbert.errors import Mistakes
from cutbert.settings import CommonSettings, Option, is_required, options_of


class Result(Protocol):
    """What every verb returns."""

    def to_json(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Word:
    """A positional argument; `is_many` takes all that are left, at least one, `is_optional` may be left out."""

    name: str
    help: str
    is_many: bool = False
    is_optional: bool = False

    @property
    def usage(self) -> str:
        name = self.name + ("..." if self.is_many else "")
        return f"[{name}]" if self.is_optional else name


@dataclass(frozen=True)
class Verb:
    """One verb.

    Args:
        name: as typed.
        summary: one sentence for the help.
        words: positional arguments, in order; only the last may be many.
        settings: dataclasses whose fields are the options.
        run: takes the words and the options given, by field name.
        show: turns the --json object into something rich prints.
        hidden: fields that are no options of this verb.
        resumes: whether an interrupted call goes on when it is given again.
        failures: returns what of a result's work failed, a line each; told after the result, with exit code 2.
    """

    name: str
    summary: str
    words: tuple[Word, ...]
    settings: tuple[type[Any], ...]
    run: Callable[[Sequence[str], Mapping[str, Any]], Result]
    show: Callable[[dict[str, Any]], RenderableType]
    hidden: tuple[str, ...] = ()
    resumes: bool = False
    failures: Callable[[dict[str, Any]], Sequence[str]] = lambda data: ()

    def options(self) -> list[Option]:
        """Return the options, each name once, in the order of the settings."""
        found = options_of(*self.settings, CommonSettings)
        return [option for name, option in found.items() if name not in self.hidden]

    def uses(self, name: str) -> bool:
        """Return whether an option has an effect, not only a place."""
        return any(each.name == name for kind in self.settings for each in fields(kind))


def read_words(verb: Verb, given: Sequence[str], raw: Mapping[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """Return the words and the options of a command line, typed.

    Args:
        verb: what is called.
        given: words that are no known option, unknown options among them.
        raw: per field the word, the list of words or the flag; None where not given.

    Raises:
        InputError: unknown options, missing or surplus words, values of the wrong type; all together.
    """
    mistakes = Mistakes()
    options = verb.options()
    unknown = [word.partition("=")[0] for word in given if word.startswith("-") and word != "-"]
    words = [word for word in given if not word.startswith("-") or word == "-"]
    mistakes.extend(unknown_option(verb, name, [option.name for option in options]) for name in unknown)
    if len(words) < len(verb.words):
        missing = [word for word in verb.words[len(words) :] if not word.is_optional]
        mistakes.extend(f"{word.name} must be given: {word.help}" for word in missing)
    elif len(words) > len(verb.words) and not unknown and not any(word.is_many for word in verb.words):
        wanted = " ".join(word.name for word in verb.words) or "options only"
        mistakes.add(f"{verb.name} takes {wanted}, got more: {' '.join(words[len(verb.words) :])}")
    values: dict[str, Any] = {}
    for option in options:
        word = raw.get(option.field.name)
        if word is None or word == []:
            if is_required(option.field):
                mistakes.add(f"{option.name} must be given: {option.help.removesuffix(' Required.')}")
            continue
        with mistakes.collect():
            values[option.field.name] = word if option.is_flag else option.parse(as_list(word))
    mistakes.check()
    return words, {name: value for name, value in values.items() if verb.uses(name)}


def unknown_option(verb: Verb, name: str, known: Sequence[str]) -> str:
    near = get_close_matches(name, known, n=1)
    return f"{verb.name} has no option {name}" + (f"; did you mean {near[0]}?" if near else "")


def as_list(word: str | Sequence[str]) -> list[str]:
    return [word] if isinstance(word, str) else list(word)
