"""What the user sees while work goes on: lines, and a live progress bar with the time left."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from cutbert.printable import printable

LOGGER = logging.getLogger("cutbert")


class Bar(Protocol):
    """Takes the progress of long work, and its length where that has changed."""

    def __call__(self, done: int, note: str = "", total: int | None = None) -> None: ...


@contextmanager
def progress_bar(title: str, total: int, *, shown: bool = True) -> Iterator[Bar]:
    """Yield a function that takes the units done so far and a short note; a line each 10 % off a terminal."""
    console = Console(stderr=True)
    if not shown:
        yield lambda done, note="", total=None: None
        return
    if is_logged() or not console.is_terminal:
        yield _line_printer(title, total)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, refresh_per_second=4) as progress:
        task = progress.add_task(printable(title), total=total, note="")

        def advance(done: int, note: str = "", total: int | None = None) -> None:
            progress.update(task, completed=done, note=printable(note), total=total)

        yield advance


def _line_printer(title: str, first_total: int) -> Bar:
    shown, length = -1, first_total

    def advance(done: int, note: str = "", total: int | None = None) -> None:
        nonlocal shown, length
        length = length if total is None else total
        tenth = 10 * done // max(length, 1)
        if tenth > shown:
            shown = tenth
            say(f"{title}: {done}/{length} {note}".rstrip())

    return advance


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


def say(text: str, *, shown: bool = True) -> None:
    """Print a message: through the logger "cutbert" where the program asks for it, else on standard error.

    Names in it that strangers wrote are made fit for a terminal. Where standard error takes nothing more (a closed
    pipe, a full disk), work goes on in silence.
    """
    if not shown:
        return
    if is_logged():
        LOGGER.info(printable(text))
    elif sys.stderr is not None:
        with suppress(OSError):
            print(printable(text), file=sys.stderr, flush=True)


def is_logged() -> bool:
    """Return whether the program takes our messages: it has set our logger's level, or listens to INFO anyhow."""
    return LOGGER.level != logging.NOTSET or (LOGGER.hasHandlers() and LOGGER.isEnabledFor(logging.INFO))
