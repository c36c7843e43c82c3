"""An option is a settings field: what is said of it once, and how its values are read and checked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields
from difflib import get_close_matches
from inspect import get_annotations
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from cutbert.errors import InputError, Mistakes
from cutbert.parsing import is_finite, is_plain
from cutbert.quantities import example_of, parse_count, parse_number

# Where an option has no upper end of its own, the largest number of each unit that a machine could serve.
CEILINGS: Mapping[str | None, int] = {
    None: 10**6,
    "bytes": 10**15,
    "examples": 2**16,
    "MACs": 10**18,
    "ms": 10**9,
    "networks": 10**6,
    "parameters": 10**12,
    "rows": 10**9,
    "seconds": 10**8,
    "steps": 10**9,
    "texts": 10**9,
    "tokens": 2**20,
}


@dataclass(frozen=True)
class Range:
    """Which numbers are accepted; None is no end.

    Args:
        least, most: the ends, included.
        above, below: the ends, not included.
        ceiling: an upper end, included, that is there only because no machine serves more: help does not list it.
    """

    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None
    ceiling: float | None = None

    def __contains__(self, value: float) -> bool:
        return (
            is_finite(value)
            and (self.ceiling is None or value <= self.ceiling)
            and (self.least is None or value >= self.least)
            and (self.above is None or value > self.above)
            and (self.most is None or value <= self.most)
            and (self.below is None or value < self.below)
        )

    @property
    def has_top(self) -> bool:
        return self.most is not None or self.below is not None

    def text(self, kind: type) -> str:
        """Return the range in words: `at least 1`, `above 0`, `1..12` for integers, `(0, 1]` for numbers."""
        if not self.has_top:
            low = "" if self.least is None else f"at least {self.least}"
            return low if self.above is None else f"above {self.above}"
        if kind is int:
            return f"{self.least}..{self.most}"
        low = f"({self.above}" if self.least is None else f"[{self.least}"
        return f"{low}, {self.below})" if self.most is None else f"{low}, {self.most}]"

    def mistake(self, name: str, value: float, kind: type, unit: str) -> str:
        """Return what must hold, then what was got."""
        if self.ceiling is not None and is_finite(value) and value > self.ceiling:
            return f"{name} must be at most {self.ceiling:,}{unit}, got {value}"
        if self.has_top:
            return f"{name} must lie in {self.text(kind)}{unit}, got {value}"
        return f"{name} must be {self.text(kind)}{'' if is_finite(value) else ' and finite'}, got {value}"


def option(
    help: str,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
    ceiling: float | None = None,
    unit: str | None = None,
    choices: Iterable[str] = (),
    form: tuple[str, str] | None = None,
    flag: str | None = None,
    group: str | None = None,
    is_common: bool = False,
    default_text: str | None = None,
) -> dict[str, Any]:
    """Return the metadata of a settings field.

    Args:
        help: what it does, in a line or two; range, choices and default are added to it.
        least, above, most, below: range of a number, or of each number of a list.
        ceiling: as in `Range`; None for that of the unit, in CEILINGS.
        unit: what a number counts; decides which short forms the command line reads, such as 15M or 8MB.
        choices: the words accepted, where no Literal can list them.
        form: regular expression of the words accepted, and how a message names them.
        flag: its name on the command line, where that is not made of the field's name.
        group: its heading in the help, where that is not its class's GROUP.
        is_common: among the first of its heading in the help.
        default_text: what a default of None stands for.
    """
    if ceiling is None and most is None and below is None:
        ceiling = CEILINGS[unit]
    return {
        "help": help,
        "range": Range(least, above, most, below, ceiling),
        "unit": unit,
        "choices": tuple(choices),
        "form": form,
        "flag": flag,
        "group": group,
        "is_common": is_common,
        "default_text": default_text,
    }


def option_name(field_name: str) -> str:
    """Return how a field is written on the command line."""
    return "--" + field_name.replace("_", "-")


@dataclass(frozen=True)
class Option:
    """An option made of a settings field.

    Args:
        field: where it comes from.
        kind: type of one value, or a Literal.
        is_list: whether it may repeat.
        may_be_none: whether None stands for "not given".
        group: heading it is listed under in the help.
    """

    field: Field[Any]
    kind: Any
    is_list: bool
    may_be_none: bool
    group: str

    @property
    def name(self) -> str:
        return self.field.metadata.get("flag") or option_name(self.field.name)

    @property
    def is_flag(self) -> bool:
        return self.kind is bool

    @property
    def is_required(self) -> bool:
        return self.field.default is MISSING and self.field.default_factory is MISSING

    @property
    def is_common(self) -> bool:
        return self.is_required or bool(self.field.metadata.get("is_common"))

    @property
    def range(self) -> Range:
        return self.field.metadata.get("range", Range())

    @property
    def unit(self) -> str | None:
        return self.field.metadata.get("unit")

    @property
    def choices(self) -> tuple[str, ...]:
        """The words accepted; empty where any is."""
        named: tuple[str, ...] = self.field.metadata.get("choices", ())
        return get_args(self.kind) if get_origin(self.kind) is Literal else named

    @property
    def metavar(self) -> str:
        kind = "CHOICE" if self.choices else {int: "INTEGER", float: "NUMBER"}.get(self.kind, "TEXT")
        return kind if self.unit is None else self.unit.upper()

    @property
    def help(self) -> str:
        """What it does, then its choices, range and default, each said here only."""
        facts = [f"one of {', '.join(self.choices)}"] if self.choices else []
        if self.kind in (int, float) and (allowed := self.range.text(self.kind)):
            facts.append(f"in {allowed}" if self.range.has_top else allowed)
        if self.is_list:
            facts.append("repeatable")
        if self.is_required:
            facts.append("required")
        elif not self.is_flag and self.field.default not in (None, ()):
            facts.append(f"default {shown(self.field.default)}")
        elif self.field.default is None and self.field.metadata.get("default_text") is not None:
            facts.append(f"default: {self.field.metadata['default_text']}")
        text, extra = str(self.field.metadata["help"]), "; ".join(facts)
        return f"{text} {extra[0].upper()}{extra[1:]}." if extra else text

    def parse(self, raw: Sequence[str]) -> Any:
        """Return the value of the words given for this option.

        Raises:
            InputError: a word is no value of this type, all such together; or several words for one value.
        """
        if not self.is_list and len(raw) > 1:
            raise InputError(f"{self.name} must be given once, got {' and '.join(raw)}")
        values = collected(self._parse_one, self._split(raw))
        return values if self.is_list else values[-1]

    def _split(self, raw: Sequence[str]) -> list[str]:
        """Take comma lists of numbers apart; globs in file names are the data reader's."""
        if not self.is_list or self.kind is str:
            return list(raw)
        return [part.strip() for word in raw for part in word.split(",") if part.strip()]

    def _parse_one(self, word: str) -> Any:
        if self.kind not in (int, float):
            return self._take_one(word)
        try:
            return parse_count(word, self.unit) if self.kind is int else float(parse_number(word, self.unit))
        except (ValueError, OverflowError):
            example = example_of(self.unit)
            raise self._wrong(word, f", such as {example}" if example else "") from None

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
        return collected(self._take_one, value if isinstance(value, Iterable) else [value])

    def _take_one(self, value: Any) -> Any:
        if hasattr(value, "__fspath__"):
            value = str(value)
        if get_origin(self.kind) is Literal:
            if isinstance(value, str) and value in self.choices:
                return value
            raise self._wrong(value)
        if isinstance(value, str) and not is_plain(value):
            raise InputError(f"{self.name} must be UTF-8 text without NUL, got {value!a}")
        accepted = {int: Integral, float: Real}.get(self.kind, self.kind)
        if not isinstance(value, accepted) or (isinstance(value, bool) and self.kind is not bool):
            raise self._wrong(value)
        return value if isinstance(value, str | bool | int | float) else self.kind(value)  # numpy's numbers as Python's

    def _wrong(self, value: Any, example: str = "") -> InputError:
        if get_origin(self.kind) is Literal:
            wanted = f"one of {', '.join(self.choices)}"
        else:
            wanted = {int: "an integer", float: "a number", bool: "True or False"}.get(self.kind, "text")
        return InputError(f"{self.name} must be {wanted}{example}, got {value!r}")

    def mistakes(self, value: Any) -> Iterator[str]:
        """Yield what is wrong with a value that settings hold: its type, or else its range, choices or form."""
        try:
            taken = self.take(value)
        except InputError as error:
            yield from error.mistakes
            return
        for each in taken if self.is_list else () if taken is None else (taken,):
            yield from self._out_of_bounds(each)

    def _out_of_bounds(self, value: Any) -> Iterator[str]:
        form = self.field.metadata.get("form")
        if self.kind in (int, float):
            if value not in self.range:
                yield self.range.mistake(self.name, value, self.kind, "" if self.unit is None else f" {self.unit}")
        elif self.choices and value not in self.choices:
            yield f"{self.name} must be one of {', '.join(self.choices)}, got {value!r}"
        elif form is not None and not re.fullmatch(form[0], value):
            yield f"{self.name} must be {form[1]}, got {value!r}"


def shown(value: Any) -> str:
    """Return a default as it may be typed."""
    if isinstance(value, tuple):
        return ",".join(map(shown, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def collected(take: Any, values: Iterable[Any]) -> tuple[Any, ...]:
    """Return what a function makes of each value.

    Raises:
        InputError: what it raised, together.
    """
    mistakes, taken = Mistakes(), []
    for each in values:
        with mistakes.collect():
            taken.append(take(each))
    mistakes.check()
    return tuple(taken)


def options_of(*kinds: type[Any]) -> dict[str, Option]:
    """Return the options that settings dataclasses make, by field name, each once, in their order.

    Of several with a field of one name the first says what is known of it, or the one that takes more words.
    """
    options: dict[str, Option] = {}
    for kind in kinds:
        hints = get_type_hints(kind)
        for each in fields(kind):
            made, known = option_of(each, hints[each.name], group_of(kind, each)), options.get(each.name)
            if known is None or (known.choices and set(known.choices) < set(made.choices)):
                options[each.name] = made
    return options


def option_of(each: Field[Any], hint: Any, group: str) -> Option:
    """Return the option that a settings field of some type makes."""
    may_be_none = get_origin(hint) in (Union, UnionType)
    if may_be_none:
        (hint,) = (part for part in get_args(hint) if part is not NoneType)
    is_list = get_origin(hint) is tuple
    return Option(each, get_args(hint)[0] if is_list else hint, is_list, may_be_none, group)


def group_of(kind: type[Any], each: Field[Any]) -> str:
    """Return the heading of a field: its own, or that of the class that defines it, the kind itself or one above."""
    owner = next(above for above in kind.__mro__ if each.name in get_annotations(above))
    return str(each.metadata.get("group") or vars(owner)["GROUP"])  # not inherited: a class says what it adds


def given_words(name: str, value: Any) -> list[str]:
    """Return the words of a command line that give an option a value."""
    if isinstance(value, bool):
        return [name if value else "--no-" + name.removeprefix("--")]
    if isinstance(value, tuple | list):
        return [word for each in value for word in (name, str(each))]
    return [name, str(value)]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the end of a message that suggests the nearest known name, empty where none is near.

    >>> did_you_mean("--tine", ["--time", "--plan"])
    '; did you mean --time?'
    """
    near = get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""
