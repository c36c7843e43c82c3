"""A verb of the command line as data: its words, its settings, what it runs and how its result looks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Any, Literal, Protocol, Union, get_args, get_origin, get_type_hints

from rich.console import RenderableType

from cutbert.errors import InputError, Mistakes
from cutbert.settings import CommonSettings, is_required, option_name


class Result(Protocol):
    """What every verb returns."""

    def to_json(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Word:
    """A positional argument; `is_many` takes all that are left, at least one."""

    name: str
    help: str
    is_many: bool = False

    @property
    def usage(self) -> str:
        return self.name + ("..." if self.is_many else "")


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
    """

    name: str
    summary: str
    words: tuple[Word, ...]
    settings: tuple[type[Any], ...]
    run: Callable[[Sequence[str], Mapping[str, Any]], Result]
    show: Callable[[dict[str, Any]], RenderableType]
    hidden: tuple[str, ...] = ()
    resumes: bool = False

    def options(self) -> list[Option]:
        """Return the options, each name once, in the order of the settings."""
        found: dict[str, Option] = {}
        for kind in (*self.settings, CommonSettings):
            hints = get_type_hints(kind)
            for each in fields(kind):
                if each.name not in self.hidden:
                    found.setdefault(each.name, Option(each, *bare_type(hints[each.name])))
        return list(found.values())

    def uses(self, name: str) -> bool:
        """Return whether an option has an effect, not only a place."""
        return any(each.name == name for kind in self.settings for each in fields(kind))


@dataclass(frozen=True)
class Option:
    """An option made of a settings field.

    Args:
        field: where it comes from.
        kind: type of one value, or a Literal.
        is_list: whether it may repeat.
    """

    field: Field[Any]
    kind: Any
    is_list: bool

    @property
    def name(self) -> str:
        return option_name(self.field)

    @property
    def is_flag(self) -> bool:
        return self.kind is bool

    @property
    def metavar(self) -> str:
        if get_origin(self.kind) is Literal:
            return "[" + "|".join(map(str, get_args(self.kind))) + "]"
        return {int: "INTEGER", float: "NUMBER"}.get(self.kind, "TEXT") + ("..." if self.is_list else "")

    @property
    def help(self) -> str:
        text = str(self.field.metadata.get("help", ""))
        default = self.field.default
        if is_required(self.field):
            return f"{text} Required."
        if default in (MISSING, None, (), False) or self.is_flag:
            return text
        shown = ",".join(map(str, default)) if self.is_list else default
        return f"{text} Default: {shown}."

    def parse(self, raw: Sequence[str]) -> Any:
        """Return the value of the words given for this option.

        Raises:
            InputError: a word is no value of this type; all such together.
        """
        mistakes = Mistakes()
        values = []
        for word in self._split(raw):
            with mistakes.collect():
                values.append(self._parse_one(word))
        mistakes.check()
        return tuple(values) if self.is_list else values[-1]

    def _split(self, raw: Sequence[str]) -> list[str]:
        """Take comma lists of numbers apart; globs in file names are the data reader's."""
        if not self.is_list or self.kind is str:
            return list(raw)
        return [part.strip() for word in raw for part in word.split(",") if part.strip()]

    def _parse_one(self, word: str) -> Any:
        if get_origin(self.kind) is Literal:
            if word not in get_args(self.kind):
                raise InputError(f"{self.name} must be one of {', '.join(get_args(self.kind))}, got {word!r}")
            return word
        try:
            return self.kind(word)
        except ValueError:
            wanted = "an integer" if self.kind is int else "a number"
            raise InputError(f"{self.name} must be {wanted}, got {word!r}") from None


def bare_type(hint: Any) -> tuple[Any, bool]:
    """Return the type of one value of a field, and whether it holds many."""
    if get_origin(hint) in (Union, UnionType):
        (hint,) = (each for each in get_args(hint) if each is not NoneType)
    if get_origin(hint) is tuple:
        return get_args(hint)[0], True
    return hint, False


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
        mistakes.extend(f"{word.name} must be given: {word.help}" for word in verb.words[len(words) :])
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
