"""The units with the smallest scores go until the limit is kept, against trying every length of the queue."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cutbert.errors import BudgetError
from cutbert.shape.cost import cost_of
from cutbert.shape.shape import EncoderShape
from cutbert.shape.units import DIMS, Place, least_sizes, places_of, resized, size_at
from cutbert.surgery.cut import choose_by_limit, cut, removal_order, subnet_of
from tiny_models import random_model

ALL = tuple(DIMS)
SHAPE = random_model().shape


def params(shape: EncoderShape) -> float:
    return cost_of(shape).params_encoder


def random_scores(seed: int) -> dict[Place, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return {place: torch.rand(size_at(SHAPE, place), generator=draw) for place in places_of(SHAPE, ALL)}


@pytest.mark.parametrize("dims", [ALL, ("f",), ("h",), ("a", "k")], ids="".join)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_the_queue_goes_just_as_far_as_the_limit_asks(dims: tuple[str, ...], share: float) -> None:
    scores = random_scores(1)
    least, whole = params(resized(SHAPE, least_sizes(SHAPE, dims))), params(SHAPE)
    limit = least + share * (whole - least)
    kept = choose_by_limit(SHAPE, scores, params, limit, dims=dims)
    shape = subnet_of(SHAPE, kept).shape_in(SHAPE)
    assert params(shape) <= limit
    assert {place for place, units in kept.items() if len(units) < size_at(SHAPE, place)} <= set(places_of(SHAPE, dims))
    queue = [units for units in removal_order(SHAPE, scores, dims, 1)]
    gone = sum(size_at(SHAPE, place) - len(units) for place, units in kept.items())
    place, units = queue[gone - 1]
    one_back = {**{p: len(u) for p, u in kept.items()}, place: len(kept[place]) + len(units)}
    assert params(resized(SHAPE, one_back)) > limit


def test_what_stays_has_the_larger_scores_within_its_place() -> None:
    scores = random_scores(2)
    kept = choose_by_limit(SHAPE, scores, params, 0.5 * params(SHAPE), dims=ALL)
    for place, units in kept.items():
        gone = sorted(set(range(size_at(SHAPE, place))) - set(units))
        if gone:
            assert scores[place][gone].max() < scores[place][units].min()
    assert cut(random_model(), kept).shape == subnet_of(SHAPE, kept).shape_in(SHAPE)


def test_sizes_stay_multiples() -> None:
    kept = choose_by_limit(SHAPE, random_scores(3), params, 0.6 * params(SHAPE), dims=ALL, multiple_of=4)
    for place, units in kept.items():
        assert len(units) % 4 == 0 or len(units) == size_at(SHAPE, place) or place.dim == "a"


def test_something_of_everything_stays() -> None:
    least = params(resized(SHAPE, least_sizes(SHAPE, ALL)))
    kept = choose_by_limit(SHAPE, random_scores(4), params, least, dims=ALL)
    assert all(len(units) == 1 for units in kept.values())
    with pytest.raises(BudgetError, match=r"must be at least [0-9.]+, the cost of the smallest shape"):
        choose_by_limit(SHAPE, random_scores(4), params, least - 1, dims=ALL)


def test_hidden_units_are_never_as_many_as_the_tables_are_wide() -> None:
    shape = EncoderShape(12, SHAPE.layers, 31, 12, embedding_size=10)
    scores = {place: torch.ones(size_at(shape, place)) for place in places_of(shape, ALL)}
    scores[Place("h")] = torch.arange(12.0) / 100
    limit = params(resized(shape, {Place("h"): 10}))
    kept = choose_by_limit(shape, scores, params, limit, dims=ALL)
    assert len(kept[Place("h")]) == 9
