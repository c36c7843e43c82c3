"""What all settings dataclasses share: option names, checks, and the command line they stand for."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from cutbert.errors import InputError, Mistakes

Verb = TypeVar("Verb", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class CommonSettings:
    """What every verb takes, so that scripts may pass the same options to all; some have no use for some."""

    seed: int = field(default=0, metadata={"help": "Taken by every verb; without effect here."})
    device: str = field(default="auto", metadata={"help": "Taken by every verb; without effect here."})
    precision: Literal["auto", "float32", "bf16"] = field(
        default="auto", metadata={"help": "Taken by every verb; without effect here, where all is float32."}
    )
    threads: int | None = field(default=None, metadata={"help": "Taken by every verb; without effect here."})


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Where a run lives."""

    out: str = field(metadata={"help": "Run folder: absent, empty, or this command's own run, which then goes on."})
    allow_changed: bool = field(
        default=False,
        metadata={"help": "Resume although machine, threads or versions changed; not to the bit then."},
    )


def option_name(each: Field[Any]) -> str:
    """Return how a settings field is written on the command line."""
    return str(each.metadata.get("flag", "--" + each.name.replace("_", "-")))


def is_required(each: Field[Any]) -> bool:
    """Return whether a settings field has no default."""
    return each.default is MISSING and each.default_factory is MISSING


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
                raise InputError(unknown_word(self, word))
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


def options_of(*kinds: type[Any]) -> dict[str, Option]:
    """Return the options that settings dataclasses make, by field name, each once, in their order."""
    found: dict[str, Option] = {}
    for kind in kinds:
        hints = get_type_hints(kind)
        for each in fields(kind):
            found.setdefault(each.name, Option(each, *bare_type(hints[each.name])))
    return found


def takes(*kinds: type[Any]) -> Callable[[Verb], Verb]:
    """Return a decorator that shows the fields of settings as keyword arguments, for help() and editors.

    The function keeps the dataclasses as `kinds`.
    """

    def decorate(function: Verb) -> Verb:
        own = inspect.signature(function).parameters.values()
        shown = {each.name: each for each in own if each.kind is not inspect.Parameter.VAR_KEYWORD}
        for kind in kinds:
            for each in fields(kind):
                default = inspect.Parameter.empty if is_required(each) else each.default
                option = inspect.Parameter(
                    each.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=each.type
                )
                shown.setdefault(each.name, option)
        function.__signature__ = inspect.Signature(list(shown.values()))  # type: ignore[attr-defined]
        function.kinds = kinds  # type: ignore[attr-defined]
        return function

    return decorate


def build_settings(options: Mapping[str, Any], *kinds: type[Any]) -> list[Any]:
    """Return one instance of each settings dataclass, made of keyword arguments.

    A field that several of them have goes to all of them. Lists become tuples. Ranges, and the words of lists, are
    left to each one's `check`.

    Raises:
        InputError: unknown or missing arguments, and words that a field does not know; all mistakes together.
    """
    mistakes = Mistakes()
    known = {each.name for kind in kinds for each in fields(kind)}
    for name in options.keys() - known:
        near = get_close_matches(name, known, n=1)
        mistakes.add(f"unknown argument {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    required = {each.name for kind in kinds for each in fields(kind) if is_required(each)}
    mistakes.extend(f"argument {name!r} must be given" for name in sorted(required - options.keys()))
    mistakes.extend(unknown_words(options, options_of(*kinds)))
    mistakes.check()
    made = []
    for kind in kinds:
        names = {each.name for each in fields(kind)}
        made.append(kind(**{name: plain(value) for name, value in options.items() if name in names}))
    return made


def unknown_word(option: Option, word: object) -> str:
    return f"{option.name} must be one of {', '.join(get_args(option.kind))}, got {word!r}"


def unknown_words(given: Mapping[str, Any], known: Mapping[str, Option]) -> list[str]:
    """Return a mistake for each value that is not among the words its field takes; None stands for a default."""
    return [
        unknown_word(option, given[name])
        for name, option in known.items()
        if get_origin(option.kind) is Literal and not option.is_list
        if given.get(name) is not None and given[name] not in get_args(option.kind)
    ]


def plain(value: Any) -> Any:
    """Return lists as tuples and paths as text, as settings hold them."""
    if isinstance(value, list | tuple):
        return tuple(plain(each) for each in value)
    return str(value) if hasattr(value, "__fspath__") else value


def command_line(verb: str, words: Sequence[str], *settings: Any) -> str:
    """Return the command that stands for words and settings, defaults left out."""
    parts = ["cutbert", verb, *words]
    for each in settings:
        defaults = {item.name: item.default for item in fields(each)}
        for item in fields(each):
            value = asdict(each)[item.name]
            if value != defaults[item.name] and value is not None:
                parts += option_words(option_name(item), value)
    return shlex.join(parts)


def option_words(name: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [name if value else "--no-" + name.removeprefix("--")]
    if isinstance(value, tuple | list):
        return [word for each in value for word in (name, str(each))]
    return [name, str(value)]


def check_device(device: str) -> None:
    """Raise an InputError unless a device is one that torch can run us on."""
    kind, colon, number = device.partition(":")
    if device not in ("auto", "cpu", "cuda") and not (kind == "cuda" and colon and number.isdigit()):
        raise InputError(f"--device must be auto, cpu, cuda or cuda:N, got {device!r}")
