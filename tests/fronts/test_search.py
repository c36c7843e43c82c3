"""A search finds what scoring everything finds, keeps its limits and its budget, and is the same again."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutbert.fronts.search import Problem, ScoreCache, Trial, front_of, hypervolume, search, widest
from cutbert.shape.cost import cost_of
from cutbert.shape.search_space import search_space
from cutbert.shape.shape import EncoderShape
from cutbert.shape.subnet import Subnet

SHAPE = EncoderShape.uniform(hidden_size=8, num_layers=3, num_heads=2, intermediate_size=4, vocab_size=9)
SPACE = search_space(SHAPE)
WHOLE = cost_of(SHAPE).macs


def macs(subnet: Subnet) -> float:
    return cost_of(subnet.shape_in(SHAPE)).macs / WHOLE


def made_up(seed: int) -> dict[int, np.ndarray]:
    draw = np.random.default_rng(seed)
    return {i: draw.dirichlet(np.ones(6)).reshape(3, 2)[i] for i in range(3)}


def score(subnet: Subnet, seed: int = 0) -> float:
    """Return a score that rises with every unit, more slowly with each, and falls where layers differ."""
    weights, total, before = made_up(seed), 0.0, 0.0
    for kept in subnet.layers:
        heads, neurons = kept.shape.num_heads / 2, kept.shape.intermediate_size / 4
        total += float(weights[kept.index] @ np.sqrt([heads, neurons])) - 0.02 * abs(heads - before)
        before = heads
    return round(total, 3)


def area(trials: list[Trial]) -> float:
    return hypervolume([(each.score, each.cost) for each in trials], 0.0, 1.01)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_front_of_a_small_space_is_the_exhaustive_one(seed: int) -> None:
    """3,374 subnets; the search may score 700."""
    problem = Problem(SPACE, lambda subnet: score(subnet, seed), macs)
    exhaustive = search(problem, [], trials=SPACE.size, seed=0)
    assert len(exhaustive) == SPACE.size == 3374
    found = search(problem, [Subnet.full(SHAPE)], trials=700, seed=seed)
    assert len(found) == len({each.subnet for each in found}) == 700
    assert area(found) == pytest.approx(area(exhaustive), rel=1e-3) and area(found) <= area(exhaustive)


def test_a_stock_space_is_searched_whole() -> None:
    problem = Problem(search_space(SHAPE, "stock"), score, macs)
    assert len(search(problem, [], trials=400, seed=0)) == problem.space.size == 7 * 4


def test_limits_are_kept_and_nothing_beyond_them_is_scored() -> None:
    seen: list[Subnet] = []

    def watched(subnet: Subnet) -> float:
        seen.append(subnet)
        return score(subnet)

    problem = Problem(SPACE, watched, macs, lambda subnet: max(0.0, macs(subnet) - 0.2), least_score=0.2)
    found = search(problem, [Subnet.full(SHAPE)], trials=60, seed=1)
    assert len(found) == len(seen) == 60 and all(each.cost <= 0.2 for each in found)
    assert all(each.score >= 0.2 for each in problem.fitting(found)) and len(problem.fitting(found)) < 60
    every = map(SPACE.subnet, np.ndindex(*(len(choice.sizes) for choice in SPACE.choices)))
    best = max(score(each) for each in every if each is not None and macs(each) <= 0.2)
    assert max(each.score for each in search(problem, [], trials=300, seed=0)) == best


def test_nothing_fits() -> None:
    problem = Problem(SPACE, score, macs, lambda subnet: 1.0)
    assert search(problem, [Subnet.full(SHAPE)], trials=5, seed=0) == []


def test_killed_and_begun_again_it_is_the_same(tmp_path: Path) -> None:
    calls: list[Subnet] = []

    def dear(subnet: Subnet) -> float:
        calls.append(subnet)
        if len(calls) == 17:
            raise KeyboardInterrupt
        return score(subnet)

    straight = search(Problem(SPACE, score, macs), [Subnet.full(SHAPE)], trials=40, seed=3)
    path = tmp_path / "scores.jsonl"
    with pytest.raises(KeyboardInterrupt):
        search(Problem(SPACE, ScoreCache(path, dear), macs), [Subnet.full(SHAPE)], trials=40, seed=3)
    with path.open("a") as file:
        file.write('{"subnet": {"hid')  # a kill in the middle of a line
    told: list[Trial] = []
    book = ScoreCache(path, dear)
    again = search(Problem(SPACE, book, macs), [Subnet.full(SHAPE)], trials=40, seed=3, on_trial=told.append)
    assert again == straight == told and len(calls) == 1 + 40
    assert len(path.read_text().splitlines()) == 40 == len(ScoreCache(path, dear).scores)
    assert search(Problem(SPACE, book, macs), [Subnet.full(SHAPE)], trials=40, seed=4) != straight


points = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=8)


@given(points)
def test_hypervolume_against_counted_squares(found: list[tuple[int, int]]) -> None:
    squares = sum(any(s > i and c <= j for s, c in found) for i in range(6) for j in range(6))
    assert hypervolume([(float(s), float(c)) for s, c in found], 0.0, 6.0) == squares


@given(points, st.integers(1, 4))
def test_a_front_keeps_its_ends_and_most_of_its_area(found: list[tuple[int, int]], count: int) -> None:
    front = front_of([Trial(Subnet((), i + 1), float(s), float(c)) for i, (s, c) in enumerate(found)])
    assert all(a.cost < b.cost and a.score < b.score for a, b in pairwise(front))
    left = widest(front, count)
    assert len(left) == min(count, len(front)) and set(left) <= set(front)
    assert not front or left[-1] == front[-1]
    assert count < 2 or not front or left[0] == front[0]
