"""JSON and TOML that anybody may have written, as plain data: finite, of bounded depth, text as UTF-8 holds it."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Iterator
from typing import Any

MOST_DEPTH = 100
MOST_SHOWN = 60


def parse_json(text: str, *, any_value: bool = False) -> Any:
    """Return parsed JSON.

    Args:
        text: the JSON.
        any_value: whether NaN and lone surrogates may be in it, for a reader that checks the little it takes.

    Raises:
        ValueError: not JSON; NaN, Infinity or a number beyond float64; nested deeper than MOST_DEPTH; or a lone
            surrogate, which no file can hold.

    >>> parse_json("[1, Infinity]")
    Traceback (most recent call last):
    ValueError: numbers must be finite, got inf
    """
    try:
        data = json.loads(text)
    except RecursionError:
        raise too_deep() from None
    check_plain(data, any_value=any_value)
    return data


def parse_toml(text: str) -> dict[str, Any]:
    """Return parsed TOML.

    Raises:
        ValueError: not TOML, nested deeper than MOST_DEPTH, or a number beyond float64.
    """
    try:
        data = tomllib.loads(text)
    except RecursionError:
        raise too_deep() from None
    check_plain(data)
    return data


def check_plain(data: Any, *, any_value: bool = False) -> None:
    """Raise a ValueError as `parse_json` does, of data that is parsed already."""
    level = [data]
    for _ in range(MOST_DEPTH):
        below: list[Any] = []
        for value in level:
            if isinstance(value, dict | list):
                below.extend(parts_of(value))
            elif any_value:
                continue
            elif isinstance(value, str):
                if not is_encodable(value):
                    raise ValueError(f"text must be UTF-8, got {ascii(value)[:MOST_SHOWN]}")
            elif isinstance(value, int | float) and not is_finite(value):
                raise ValueError(f"numbers must be finite, got {str(value)[:MOST_SHOWN]}")
        if not below:
            return
        level = below
    raise too_deep()


def parts_of(value: dict[str, Any] | list[Any]) -> Iterator[Any]:
    yield from value
    if isinstance(value, dict):
        yield from value.values()


def is_encodable(text: str) -> bool:
    """Return whether a string has no lone surrogates, which come from bytes that are not UTF-8 or from JSON escapes."""
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def is_plain(text: str) -> bool:
    """Return whether a string can be a file's name and a word of a stored command: UTF-8 without NUL."""
    return "\0" not in text and is_encodable(text)


def is_finite(value: float) -> bool:
    """Return whether a number is finite and no integer beyond float64."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def too_deep() -> ValueError:
    return ValueError(f"must be nested at most {MOST_DEPTH} deep")
