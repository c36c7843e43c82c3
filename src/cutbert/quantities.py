"""Numbers as people type them: 15M parameters, 8MB, 20m."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal

COUNTS = {"k": 10**3, "M": 10**6, "G": 10**9, "B": 10**9}
BYTES = {
    "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30,
}  # fmt: skip
SECONDS = {"s": 1, "m": 60, "h": 3600}
MILLISECONDS = {"ms": 1, "s": 1000}
SUFFIXES: Mapping[str, Mapping[str, int]] = {
    "bytes": BYTES,
    "seconds": SECONDS,
    "ms": MILLISECONDS,
    "MACs": COUNTS,
    "parameters": COUNTS,
    "examples": COUNTS,
    "networks": COUNTS,
    "rows": COUNTS,
    "steps": COUNTS,
    "texts": COUNTS,
    "tokens": COUNTS,
}
EXAMPLES = {"bytes": "8MB", "seconds": "20m", "ms": "4ms"}
NUMBER = re.compile(r"(\d+|\d*\.\d+)([A-Za-z]+)")


def parse_number(word: str, unit: str | None) -> float:
    """Return the number that a word stands for: an int where it is whole and was written with a suffix.

    Letter case counts: 15M is millions, and 15m is no count but a time.

    Raises:
        ValueError: no number, or a suffix that is none of the unit's.
    """
    match = NUMBER.fullmatch(word.strip())
    factors = SUFFIXES.get(unit or "", {})
    if match is None or match[2] not in factors:
        return float(word)
    value = Decimal(match[1]) * factors[match[2]]
    whole = int(value)
    return whole if value == whole else float(value)


def parse_count(word: str, unit: str | None) -> int:
    """Return the whole number that a word stands for.

    Raises:
        ValueError: no number, or one with a fraction.
    """
    try:
        return int(word)
    except ValueError:
        value = parse_number(word, unit)
        if isinstance(value, int):
            return value
        raise


def example_of(unit: str | None) -> str:
    """Return a number of a unit as people may type it; empty where there is no short way."""
    return EXAMPLES.get(unit, "15M") if unit is not None and unit in SUFFIXES else ""
