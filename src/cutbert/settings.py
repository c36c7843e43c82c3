"""What all settings dataclasses share: option names, checks, and the command line they stand for."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from difflib import get_close_matches
from numbers import Integral, Real
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
        may_be_none: whether None stands for "not given".
    """

    field: Field[Any]
    kind: Any
    is_list: bool
    may_be_none: bool

    @property
    def name(self) -> str:
        return option_name(self.field)

    @property
    def is_flag(self) -> bool:
        return self.kind is bool

    @property
    def metavar(self) -> str:
        if get_origin(self.kind) is Literal:
            return "[" + "|".join(map(str, get_args(self.kind))) + "]" + ("..." if self.is_list else "")
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
            return self._take_one(word)
        try:
            return self.kind(word)
        except ValueError:
            raise self._wrong(word) from None

    def take(self, value: Any) -> Any:
        """Return a value given in Python as settings hold it: paths as text, lists as tuples, one value as its list.

        Words in one text with commas are taken apart as on the command line.

        Raises:
            InputError: it is no value of this type; of a list all such together.
        """
        if value is None and self.may_be_none:
            return None
        if not self.is_list:
            return self._take_one(value)
        if isinstance(value, str):
            value = self._split([value])
        values = value if isinstance(value, Iterable) else [value]
        mistakes, taken = Mistakes(), []
        for each in values:
            with mistakes.collect():
                taken.append(self._take_one(each))
        mistakes.check()
        return tuple(taken)

    def _take_one(self, value: Any) -> Any:
        if hasattr(value, "__fspath__"):
            value = str(value)
        is_literal = get_origin(self.kind) is Literal
        if is_literal and not (isinstance(value, str) and value in get_args(self.kind)):
            raise self._wrong(value)
        accepted = {int: Integral, float: Real}.get(self.kind, self.kind)
        if not is_literal and (not isinstance(value, accepted) or (isinstance(value, bool) and self.kind is not bool)):
            raise self._wrong(value)
        return value if isinstance(value, str | bool | int | float) else self.kind(value)  # numpy's numbers as Python's

    def _wrong(self, value: Any) -> InputError:
        if get_origin(self.kind) is Literal:
            wanted = f"one of {', '.join(get_args(self.kind))}"
        else:
            wanted = {int: "an integer", float: "a number", bool: "True or False"}.get(self.kind, "text")
        return InputError(f"{self.name} must be {wanted}, got {value!r}")


def option_of(each: Field[Any], hint: Any) -> Option:
    """Return the option that a settings field of some type makes."""
    may_be_none = get_origin(hint) in (Union, UnionType)
    if may_be_none:
        (hint,) = (part for part in get_args(hint) if part is not NoneType)
    is_list = get_origin(hint) is tuple
    return Option(each, get_args(hint)[0] if is_list else hint, is_list, may_be_none)


def options_of(*kinds: type[Any]) -> dict[str, Option]:
    """Return the options that settings dataclasses make, by field name, each once, in their order."""
    found: dict[str, Option] = {}
    for kind in kinds:
        hints = get_type_hints(kind)
        for each in fields(kind):
            found.setdefault(each.name, option_of(each, hints[each.name]))
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

    A field that several of them have goes to all of them. Ranges are left to each one's `check`.

    Raises:
        InputError: unknown or missing arguments, or values of the wrong type; all mistakes together.
    """
    mistakes = Mistakes()
    known = options_of(*kinds)
    for name in options.keys() - known:
        near = get_close_matches(name, known, n=1)
        mistakes.add(f"unknown argument {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    required = {each.name for kind in kinds for each in fields(kind) if is_required(each)}
    mistakes.extend(f"argument {name!r} must be given" for name in sorted(required - options.keys()))
    values = {}
    for name, option in known.items():
        if name in options:
            with mistakes.collect():
                values[name] = option.take(options[name])
    mistakes.check()
    made = []
    for kind in kinds:
        names = {each.name for each in fields(kind)}
        made.append(kind(**{name: value for name, value in values.items() if name in names}))
    return made


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
