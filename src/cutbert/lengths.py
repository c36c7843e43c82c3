"""How long the longest input may be: one rule for a task's data, for `predict` and for the runtime."""

from __future__ import annotations

from collections.abc import Iterator

MOST_SPECIAL_TOKENS = 4  # of a pair, in RoBERTa's format; the longest input has room for these


def position_mistakes(name: str, length: int, positions: int, model: object) -> Iterator[str]:
    """Yield a mistake where a model has no positions for a number of tokens.

    >>> list(position_mistakes("--max-length", 600, 512, "runs/a"))
    ['--max-length must be at most 512, the positions of runs/a, got 600']

    Args:
        name: of the option or argument.
        length: the most tokens of an input.
        positions: of the model.
        model: as a message names it.
    """
    if length > positions:
        yield f"{name} must be at most {positions}, the positions of {model}, got {length}"
