"""How many steps a stage takes where its time is limited: planned from the speed seen, corrected while it runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cutbert.errors import RunError
from cutbert.files import read_json, write_json
from cutbert.train.checkpoint import Position

CHECK_EVERY = 20  # steps
TOLERANCE = 0.03  # smaller corrections are not worth a change of the learning rate
LAST_LONGER = 0.7  # share of the steps after which a stage may only become shorter

Changes = list[tuple[int, int]]
"""Pairs of a step and the number of steps of the stage as decided there, the first at step 0."""


class Pace(Protocol):
    """Decides a stage's number of steps, again before each step."""

    @property
    def changes(self) -> Sequence[tuple[int, int]]:
        """The number of steps at first, and what it was changed to on the way, each with the step it was decided at."""
        ...

    def num_steps(self, position: Position) -> int:
        """Return the number of steps the whole stage is to have, at least those done."""
        ...


@dataclass(frozen=True)
class FixedPace:
    """The number of steps, and its changes, that an earlier run decided on; the same steps are taken again.

    >>> FixedPace([(0, 100), (40, 80)]).num_steps(Position(step=39))
    100
    >>> FixedPace([(0, 100), (40, 80)]).num_steps(Position(step=40))
    80
    """

    changes: Sequence[tuple[int, int]]

    def num_steps(self, position: Position) -> int:
        return [count for step, count in self.changes if step <= position.step][-1]


class DeadlinePace:
    """Plans the steps that fit into the time left, and plans again while the machine turns out slower or faster.

    The speed is that of the second half of the steps done by now: what is computed once makes the first ones slower.
    The learning rate follows the share of the steps done, so a change of their number moves it a little; with the same
    changes, which are kept in a file, the same steps give the same weights.

    Args:
        kept: file of the changes; a resumed stage goes on with them.
        planned: steps at first.
        seconds_left: until the stage must end.
    """

    def __init__(self, kept: Path, planned: int, seconds_left: Callable[[], float]) -> None:
        self.kept, self.seconds_left = kept, seconds_left
        self.changes: Changes = [(0, max(1, planned))]
        if kept.is_file():
            self.changes = read_json(kept, RunError, lambda data: [(step, count) for step, count in data])
        else:
            write_json(kept, self.changes)
        self.seen: list[Position] = []

    def num_steps(self, position: Position) -> int:
        count = FixedPace(self.changes).num_steps(position)
        is_due = position.step % CHECK_EVERY == 0
        if not self.seen or (is_due and position.step > self.seen[-1].step):
            self.seen.append(position)
        is_decided = position.step <= self.changes[-1][0]
        if not is_due or is_decided or position.step == self.seen[0].step or position.step >= count:
            return count
        since = self.seen[(len(self.seen) - 1) // 2]
        speed = (position.seconds - since.seconds) / (position.step - since.step)
        possible = max(position.step + 1, position.step + int(self.seconds_left() / speed))
        if possible > count and position.step > LAST_LONGER * count:
            return count
        if abs(possible / count - 1) > TOLERANCE:
            self.changes.append((position.step, possible))
            write_json(self.kept, self.changes)
            return possible
        return count
