"""Moves a progress bar on, for work that only says how much more is done."""

from __future__ import annotations

from typing import Protocol

from cutbert.train.progress import Bar


class Advance(Protocol):
    """Takes the units done since the last call."""

    def __call__(self, count: int = 1) -> None: ...


def counter(bar: Bar) -> Advance:
    """Return a function that moves a bar on by one, or by the given number of units."""
    done = 0

    def advance(count: int = 1) -> None:
        nonlocal done
        done += count
        bar(done)

    return advance
