"""Every error cutbert raises on purpose, as one tree.

CutbertError
├── InputError            a mistake in the user's input, or several; exit code 2
│   ├── ShapeError        sizes that cannot be a network, or a subnet that is not a part of one
│   ├── DataError         a data file, column, label or row
│   ├── ModelError        a model folder or hub id that cannot be read as an encoder we know
│   ├── BudgetError       a limit that nothing meets, or that is not a number
│   └── RunError          a run folder: occupied, locked, or of another command or version
│       └── DivergedError training that ran into infinity or NaN
├── MissingError          something the machine lacks (a package, a device, room on a disk); exit code 2
└── InterruptedRun        stopped by the user, state saved; exit code 130

Messages hold names that strangers wrote (of tensors, labels, files); what a terminal would act on is escaped in all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from cutbert.printable import printable


class CutbertError(Exception):
    """Root of all errors raised on purpose.

    Args:
        messages: a line each; what is not printable in them is escaped.
    """

    def __init__(self, *messages: str) -> None:
        super().__init__(*map(printable, messages))

    def __str__(self) -> str:
        return "\n".join(self.args)


class InputError(CutbertError):
    """One or several mistakes in the user's input.

    Args:
        mistakes: one message per mistake; each says what must hold, then what was given.
    """

    def __init__(self, *mistakes: str) -> None:
        super().__init__(*mistakes)
        self.mistakes: tuple[str, ...] = self.args


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


class DivergedError(RunError):
    """A training that ran into infinity or NaN."""


class MissingError(CutbertError):
    """Something this machine lacks."""


class InterruptedRun(CutbertError):
    """The user stopped a run; its state is saved."""


class Mistakes:
    """Collects the user's mistakes, to raise them together.

    >>> mistakes = Mistakes()
    >>> mistakes.add("--seed must be at least 0, got -1")
    >>> with mistakes.collect():
    ...     raise DataError("no.tsv: cannot be read")
    >>> mistakes.messages
    ['--seed must be at least 0, got -1', 'no.tsv: cannot be read']
    """

    def __init__(self) -> None:
        self.messages: list[str] = []

    def add(self, message: str) -> None:
        self.messages.append(message)

    def extend(self, messages: Iterable[str]) -> None:
        self.messages.extend(messages)

    @contextmanager
    def collect(self, prefix: str = "") -> Iterator[None]:
        """Collect the mistakes of an InputError raised in the with block, which ends there; each begins with prefix."""
        try:
            yield
        except InputError as error:
            self.messages.extend(prefix + mistake for mistake in error.mistakes)

    def passes(self, check: Callable[[], object]) -> bool:
        """Collect the mistakes a check raises; return whether it raised none."""
        before = len(self.messages)
        with self.collect():
            check()
        return len(self.messages) == before

    def check(self, kind: type[InputError] = InputError) -> None:
        """Raise all collected mistakes as one error, or do nothing."""
        if self.messages:
            raise kind(*self.messages)
