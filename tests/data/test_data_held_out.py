"""Held-out sequences: chosen by their hash alone, equal ones together, few held in memory."""

from __future__ import annotations

import numpy as np
import pytest

from cutbert.data.splits import HeldOut


def test_held_out_rows_depend_on_the_rows_alone() -> None:
    stream = np.random.default_rng(0).integers(0, 50, (3000, 4)).astype(np.int32)
    stream[1000:1100] = stream[:100]

    def split(data: np.ndarray, most: int) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
        held = HeldOut(most)
        passed = [row for start in range(0, len(data), 7) for row in held.pass_on(data[start : start + 7])]
        passed += held.cut_down()
        return [tuple(row.tolist()) for row in passed], [tuple(row.tolist()) for row in held.rows()]

    train, dev = split(stream, 1000)
    assert len(train) + len(dev) == 3000 and 28 <= len(dev) <= 30 and not set(train) & set(dev)
    order = np.random.default_rng(1).permutation(3000)
    assert set(split(stream[order], 1000)[1]) == set(dev)
    assert set(split(stream, 10)[1]) < set(dev) and len(split(stream, 10)[1]) in (9, 10)


def test_kept_rows_hold_no_others_in_memory() -> None:
    held = HeldOut(5)
    assert len(list(held.pass_on(np.arange(400).reshape(100, 4)))) == 95
    assert all(row.base is None for row in held.rows())


@pytest.mark.parametrize(
    ("seen", "kept"), [(1, 1), (3, 1), (4, 2), (19, 2), (60, 6), (170, 16), (1600, 16), (2000, 20), (20_000, 200)]
)
def test_how_many_are_held_out(seen: int, kept: int) -> None:
    """Even a small text gives one to choose on and one to report."""
    held = HeldOut()
    passed = [*held.pass_on(np.arange(seen, dtype=np.int32)[:, None]), *held.cut_down()]
    assert len(list(held.rows())) == kept == seen - len(passed)
