"""Checks of values that were read from JSON, which anybody may have edited."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeGuard

from cutbert.errors import Mistakes
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


def are_numbers(value: object) -> bool:
    """Return whether a value is a JSON object of numbers only."""
    return isinstance(value, Mapping) and all(is_number(each) for each in value.values())


def list_of(check: Callable[[Any], bool], length: int | None = None) -> Callable[[Any], bool]:
    """Return a check of a list of values, each of which passes a check."""

    def passes(value: Any) -> bool:
        return isinstance(value, list) and (length is None or len(value) == length) and all(map(check, value))

    return passes


NUMBER: Check = (is_number, "a number")
POSITIVE: Check = (is_positive, "a number above 0")
COUNT: Check = (is_count, "a whole number of at least 0")
TEXT: Check = (is_text, "text")
FLAG: Check = (lambda value: isinstance(value, bool), "true or false")
OBJECT: Check = (is_object, "a JSON object")
NUMBERS: Check = (are_numbers, "a JSON object of numbers")


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
            mistakes.add(f"{where}: {name} must be {kind}, got {data[name]!r}")
