"""Every error cutbert raises on purpose, as one tree.

CutbertError
├── InputError            the user's input; exit code 2; may hold several mistakes
│   ├── ShapeError        sizes that cannot be a network, or a subnet that is no part of one
│   ├── DataError         a data file, column, label or row
│   ├── ModelError        a model folder or hub id that cannot be read as an encoder we know
│   ├── BudgetError       a limit that nothing meets, or a limit that is no number
│   └── RunError          a run folder: occupied, locked, of another command or version
├── MissingError          something the machine lacks (a package, a device); exit code 2
└── InterruptedRun        stopped by the user; state saved; exit code 130
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager


class CutbertError(Exception):
    """Root of all errors raised on purpose."""


class InputError(CutbertError):
    """One or several mistakes in what the user gave.

    Args:
        mistakes: one message per mistake; each says what must hold, then what was got.
    """

    def __init__(self, *mistakes: str) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes: tuple[str, ...] = mistakes


class ShapeError(InputError):
    """Sizes that cannot be a network."""


class DataError(InputError):
    """A mistake in a data file."""


class ModelError(InputError):
    """A model that cannot be read."""


class BudgetError(InputError):
    """A limit that nothing meets."""


class RunError(InputError):
    """A run folder that cannot be used."""


class MissingError(CutbertError):
    """Something this machine lacks."""


class InterruptedRun(CutbertError):
    """The user stopped a run; its state is saved."""


class Mistakes:
    """Collects the user's mistakes so that they are shown together."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def add(self, message: str) -> None:
        self.found.append(message)

    def extend(self, messages: Iterable[str]) -> None:
        self.found.extend(messages)

    @contextmanager
    def collect(self) -> Iterator[None]:
        """Turn an InputError raised inside into collected mistakes."""
        try:
            yield
        except InputError as error:
            self.found.extend(error.mistakes)

    def passes(self, check: Callable[[], object]) -> bool:
        """Collect what a check raises, and return whether that was nothing."""
        before = len(self.found)
        with self.collect():
            check()
        return len(self.found) == before

    def check(self, kind: type[InputError] = InputError) -> None:
        """Raise all collected mistakes as one error, or do nothing."""
        if self.found:
            raise kind(*self.found)
