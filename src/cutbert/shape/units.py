"""The units a network can lose, in the five dimensions of schuBERT: their number, their cost, sizes under a limit.

The dimensions: h hidden units of the whole network; in each layer f neurons, a heads, k and v the key and value units,
which are the same for all heads of the layer. A `Place` is a dimension in a layer, and `Sizes` give units by place.

>>> shape = EncoderShape.uniform(hidden_size=48, num_layers=2, num_heads=4, intermediate_size=96, vocab_size=100)
>>> {place: size_at(shape, place) for place in places_of(shape, "ha")}
{Place(dim='h', layer=None): 48, Place(dim='a', layer=0): 4, Place(dim='a', layer=1): 4}
>>> resized(shape, {Place("a", 1): 3, Place("h"): 40}).layers[1]
LayerShape(num_heads=3, key_dim=12, value_dim=12, intermediate_size=96)

One neuron of 48 weights in, 48 weights out and a bias costs 97 parameters:

>>> from cutbert.shape.cost import cost_of
>>> marginal_costs(shape, lambda shape: cost_of(shape).params, "f")[Place("f", 0)]
97
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from cutbert.errors import BudgetError, Mistakes, ShapeError
from cutbert.shape.budget import rounded_up
from cutbert.shape.shape import EncoderShape
from cutbert.shape.subnet import rotary_misfit

DIMS = {"h": "hidden_size", "f": "intermediate_size", "a": "num_heads", "k": "key_dim", "v": "value_dim"}
UNGROUPED = ("a",)  # multiple_of does not apply to heads: one head is already key_dim or value_dim columns wide
CostFn = Callable[[EncoderShape], float]


class Place(NamedTuple):
    """A group of units that are cut by number: a dimension of DIMS, in a layer (None for hidden units)."""

    dim: str
    layer: int | None = None


Sizes = Mapping[Place, int]


def places_of(shape: EncoderShape, dims: Sequence[str]) -> list[Place]:
    """Return the places of a network that have units of the given dimensions."""
    places = [Place("h")] if "h" in dims else []
    for i, layer in enumerate(shape.layers):
        places += [Place(dim, i) for dim in DIMS if dim != "h" and dim in dims and getattr(layer, DIMS[dim])]
    return places


def size_at(shape: EncoderShape, place: Place) -> int:
    """Return the number of units at a place."""
    owner = shape if place.layer is None else shape.layers[place.layer]
    return int(getattr(owner, DIMS[place.dim]))


def resized(shape: EncoderShape, sizes: Sizes) -> EncoderShape:
    """Return the shape with other numbers of units at some places."""
    layers = list(shape.layers)
    for place, size in sizes.items():
        if place.layer is not None:
            layers[place.layer] = replace(layers[place.layer], **{DIMS[place.dim]: size})
    return replace(shape, hidden_size=sizes.get(Place("h"), shape.hidden_size), layers=tuple(layers))


def marginal_costs(shape: EncoderShape, cost: CostFn, dims: Sequence[str] = tuple(DIMS)) -> dict[Place, float]:
    """Return the cost of one more unit at each place, in the cost's own unit, at least 0.

    Where one more hidden unit would make hidden states as wide as separate embedding tables, which then need no
    projection (a jump in cost), the cost of the last unit is taken instead.
    """

    def costs(place: Place) -> float:
        size = size_at(shape, place)
        more = 0 if place.dim == "h" and size + 1 == shape.embedding_size else 1
        return max(0.0, cost(resized(shape, {place: size + more})) - cost(resized(shape, {place: size + more - 1})))

    return {place: costs(place) for place in places_of(shape, dims)}


def unit_prices(shape: EncoderShape, cost: CostFn, dims: Sequence[str] = tuple(DIMS)) -> dict[Place, float]:
    """Return the cost of one more unit at each place relative to the cost of one head (mean over layers).

    Where heads cost nothing, prices are in the cost's own unit.

    Args:
        shape: the network as it is.
        cost: returns the cost of a shape: parameters, multiply-adds or milliseconds.
        dims: of DIMS.

    Source:
        Khetan and Karnin 2020 (2005.06628), the betas of equation 2: the marginal cost of a unit.
    """
    heads = list(marginal_costs(shape, cost, "a").values())
    one_head = (sum(heads) / len(heads) if heads else 0.0) or 1.0
    return {place: price / one_head for place, price in marginal_costs(shape, cost, dims).items()}


def least_sizes(shape: EncoderShape, dims: Sequence[str], multiple_of: int = 1) -> dict[Place, int]:
    """Return the smallest size of each place: one head, one group of other units. No place is cut to 0."""
    return {place: in_groups(shape, place, 0, multiple_of) for place in places_of(shape, dims)}


def in_groups(shape: EncoderShape, place: Place, wanted: float, multiple_of: int) -> int:
    """Return the size nearest to a wanted one that a place can be cut to: whole groups, at least one, or all units.

    Hidden states as wide as separate embedding tables (ELECTRA) would need no projection: one group less is taken
    instead, or one more where that would leave none.
    """
    whole, group = size_at(shape, place), group_size(place, multiple_of)
    if wanted >= whole:
        return whole
    size = min(whole, max(group, round(wanted / group) * group))
    if place.dim == "h" and size == shape.embedding_size:
        return size - group if size > group else min(whole, size + group)
    return size


def group_size(place: Place, multiple_of: int) -> int:
    """Return how many units of a place are cut together."""
    return 1 if place.dim in UNGROUPED else multiple_of


def uniform_sizes(
    shape: EncoderShape, dims: Sequence[str], cost: CostFn, limit: float, multiple_of: int = 1
) -> dict[Place, int]:
    """Return the sizes when every dimension keeps the same share, the largest whose cost is within a limit.

    Sizes are rounded to whole groups, at least one.

    Raises:
        BudgetError: even the smallest sizes cost more.
    """

    def sizes(share: float) -> dict[Place, int]:
        return {p: in_groups(shape, p, share * size_at(shape, p), multiple_of) for p in places_of(shape, dims)}

    low, high = 0.0, 1.0
    if cost(resized(shape, sizes(high))) <= limit:
        return sizes(high)  # shares just below 1 may round to less
    check_reachable(cost(resized(shape, sizes(low))), limit)
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if cost(resized(shape, sizes(middle))) <= limit else (low, middle)
    return sizes(low)


def check_reachable(least: float, limit: float) -> None:
    """Raise a BudgetError unless a limit is at least the cost of the smallest shape."""
    if least > limit:
        lowest = rounded_up(least)
        raise BudgetError(f"a budget must be at least {lowest:.15g}, the cost of the smallest shape, got {limit:.15g}")


def sizes_of(shape: EncoderShape, target: EncoderShape, name: str) -> dict[Place, int]:
    """Return the sizes of a target shape by place, as the cut of a network; embedding tables are not compared.

    Args:
        shape: the network.
        target: the shape to cut it to.
        name: of the target, for messages.

    Raises:
        ShapeError: another number of layers, or a size above the network's; all mistakes together.
    """
    if shape.num_layers != target.num_layers:
        raise ShapeError(f"num_layers must be {target.num_layers} for {name}, got {shape.num_layers}")
    mistakes = Mistakes()
    places = places_of(shape, tuple(DIMS))
    for place in places:
        if not 0 < size_at(target, place) <= size_at(shape, place):
            where = "" if place.layer is None else f" of layer {place.layer}"
            mistakes.add(
                f"{DIMS[place.dim]}{where} must be at least {size_at(target, place)} for {name}, "
                f"got {size_at(shape, place)}"
            )
        elif place.dim == "k" and shape.ingredients.rotary_bases and size_at(target, place) != size_at(shape, place):
            mistakes.add(rotary_misfit(size_at(shape, place), size_at(target, place), f" of layer {place.layer}"))
    mistakes.check(ShapeError)
    return {place: size_at(target, place) for place in places}
