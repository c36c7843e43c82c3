"""Checks of values that were read from JSON, which anybody may have edited."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeGuard

from cutbert.errors import InputError, Mistakes
from cutbert.parsing import is_finite

MOST_COUNT = 2**63 - 1  # what an array of integers can hold
Check = tuple[Callable[[Any], bool], str]  # whether a value is right, and what it must be


def is_number(value: object) -> TypeGuard[float]:
    """Return whether a value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and is_finite(value)


def is_positive(value: object) -> bool:
    return is_number(value) and value > 0


def is_count(value: object) -> bool:
    """Return whether a value is an integer in 0..MOST_COUNT."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_COUNT


def is_text(value: object) -> bool:
    return isinstance(value, str)


def is_object(value: object) -> bool:
    return isinstance(value, Mapping)


def has(required: Mapping[str, Check], optional: Mapping[str, Check] = MappingProxyType({})) -> Check:
    """Return the check of a JSON object with these keys, and maybe others, of which nothing is known."""

    def passes(value: object) -> bool:
        return (
            isinstance(value, Mapping)
            and required.keys() <= value.keys()
            and all(check(value[key]) for key, (check, _) in {**required, **optional}.items() if key in value)
        )

    return passes, f"a JSON object with {', '.join(required)} as cutbert writes them"


def or_null(check: Check) -> Check:
    """Return the check that null passes, too."""
    passes, kind = check
    return (lambda value: value is None or passes(value)), f"{kind} or null"


def are(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Return a check of a JSON object whose values all pass a check."""
    return lambda value: isinstance(value, Mapping) and all(map(check, value.values()))


def list_of(check: Callable[[Any], bool], length: int | None = None) -> Callable[[Any], bool]:
    """Return a check of a list of values, each of which passes a check."""

    def passes(value: Any) -> bool:
        return isinstance(value, list) and (length is None or len(value) == length) and all(map(check, value))

    return passes


def is_plain_name(name: object) -> bool:
    """Return whether a text is a name, which cannot lead out of the folder that it is looked for in."""
    return isinstance(name, str) and name not in ("", ".", "..") and not {"/", "\0", os.sep} & set(name)


def is_inside(name: object) -> bool:
    """Return whether a text is a relative path of plain names, such as searches/1a2b3c4d."""
    return isinstance(name, str) and all(map(is_plain_name, name.split("/")))


NUMBER: Check = (is_number, "a number")
POSITIVE: Check = (is_positive, "a number above 0")
COUNT: Check = (is_count, "a whole number of at least 0")
TEXT: Check = (is_text, "text")
NAME: Check = (is_plain_name, "text without /")
PLACE: Check = (is_inside, "a path inside the run")
FLAG: Check = (lambda value: isinstance(value, bool), "true or false")
OBJECT: Check = (is_object, "a JSON object")
NUMBERS: Check = (are(is_number), "a JSON object of numbers")
TEXTS: Check = (list_of(is_text), "a list of texts")
PAIR: Check = (list_of(is_number, 2), "a list of two numbers")
LENGTHS: Check = (lambda value: bool(value) and list_of(is_count)(value), "a list of lengths")
MEASURED = has(  # the conditions of latencies, as bench.latency.conditions returns them
    {
        "backend": TEXT,
        "device": TEXT,
        "threads": COUNT,
        "lengths": LENGTHS,
        "throughput_batch_size": COUNT,
        "throughput_length": COUNT,
        "machine": has({"processor": TEXT}),
    }
)


def mistakes_of(
    data: Any, where: str, kind: type[InputError], *, required: Mapping[str, Check], optional: Mapping[str, Check]
) -> Mistakes:
    """Return what is wrong with the keys and values of parsed JSON, to which a reader adds what it finds itself.

    Args:
        data: should be a JSON object.
        where, required, optional: as in `check_values`.
        kind: of the error.

    Raises:
        InputError: of the given kind, where it is no JSON object.
    """
    if not isinstance(data, dict):
        raise kind(f"{where}: must be a JSON object, got {type(data).__name__}")
    mistakes = Mistakes()
    check_values(mistakes, where, data, required=required, optional=optional)
    return mistakes


def check_values(
    mistakes: Mistakes,
    where: str,
    data: Mapping[str, Any],
    *,
    required: Mapping[str, Check],
    optional: Mapping[str, Check],
) -> None:
    """Collect every key that is missing or unknown and every value that is not what it must be.

    Args:
        mistakes: to add to.
        where: begins each message.
        data: keys and values.
        required, optional: what the value of each key must be.
    """
    missing, unknown = required.keys() - data.keys(), data.keys() - required.keys() - optional.keys()
    if missing:
        mistakes.add(f"{where}: must have {', '.join(sorted(missing))}")
    if unknown:
        mistakes.add(f"{where}: must have no other keys than cutbert writes, got {', '.join(sorted(unknown))}")
    for name, (passes, kind) in {**required, **optional}.items():
        if name in data and not passes(data[name]):
            mistakes.add(f"{where}: {name} must be {kind}, got {data[name]!r:.200}")
