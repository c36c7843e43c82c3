"""The select split: its size, its independence of order, texts on one side."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from cutbert.data.rows import Rows, text_key
from cutbert.data.splits import held_out_mask, outside, sample


def keys_of(count: int, repeats: int = 1) -> list[bytes]:
    return [text_key(f"text {i}") for i in range(count) for _ in range(repeats)]


@pytest.mark.parametrize(
    ("count", "selected"), [(2, 1), (9, 1), (10, 1), (25, 2), (1000, 100), (9999, 999), (10_000, 1000), (20_000, 1000)]
)
def test_select_is_a_tenth_and_at_most_a_thousand(count: int, selected: int) -> None:
    assert held_out_mask(keys_of(count)).sum() == selected


def test_select_depends_on_the_texts_only() -> None:
    keys = keys_of(500) + keys_of(50)
    order = np.random.default_rng(0).permutation(len(keys))
    mask = held_out_mask(keys)
    assert mask.sum() == 55
    assert (held_out_mask([keys[i] for i in order]) == mask[order]).all()


def test_equal_texts_lie_on_one_side() -> None:
    keys = keys_of(100, repeats=3) + keys_of(7, repeats=9)
    mask = held_out_mask(keys)
    sides = Counter(zip(keys, mask.tolist(), strict=True))
    assert not any((key, True) in sides and (key, False) in sides for key in keys)
    assert 0.08 * len(keys) <= mask.sum() <= 0.1 * len(keys)


def test_texts_repeated_too_often_for_a_tenth_give_the_least_repeated() -> None:
    keys = keys_of(2, repeats=8)[3:]
    assert [key == keys[0] for key in keys] == held_out_mask(keys).tolist()
    assert not held_out_mask(keys_of(1, repeats=30)).any()
    assert not held_out_mask([]).any()


def test_select_is_drawn_evenly() -> None:
    mask = held_out_mask(keys_of(10_000))
    assert 400 < mask[:5000].sum() < 600


def test_keys_ignore_spaces_and_know_sides() -> None:
    assert text_key("a  b ") == text_key("a b")
    assert text_key("a b") != text_key("A b")
    assert text_key("a", "b") != text_key("a b") != text_key("b", "a") != text_key("a", "b")
    assert Rows(["x", "y"], ["1", "2"]).text_keys() == [text_key("x", "1"), text_key("y", "2")]


def test_outside_and_sample() -> None:
    keys = keys_of(5)
    assert outside(keys, [keys[1:2], keys[3:]]).tolist() == [0, 2]
    assert outside(keys, [keys]).tolist() == []
    assert sample(5, None).tolist() == sample(5, 9).tolist() == [0, 1, 2, 3, 4]
    few = sample(1000, 10)
    assert few.tolist() == sorted(set(few.tolist())) == sample(1000, 10).tolist()
    assert len(few) == 10 and few[-1] > 500


def test_rows_are_taken_in_order() -> None:
    rows = Rows(["a", "b", "c"], ["x", "y", "z"], np.array([5, 6, 7])).take(np.array([2, 0]))
    assert (rows.text, rows.text_pair, len(rows)) == (["c", "a"], ["z", "x"], 2)
    assert rows.labels is not None and rows.labels.tolist() == [7, 5]
