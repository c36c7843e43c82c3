"""Choosing the units to cut by their scores until a limit is met, and cutting them out.

Algorithm 1 of schuBERT (2005.06628): step 3 is `choose_by_limit`, step 5 is `cut`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from cutbert.errors import BudgetError
from cutbert.model.task_model import TaskModel
from cutbert.shape.shape import EncoderShape, LayerShape
from cutbert.shape.subnet import KeptLayer, Subnet
from cutbert.shape.units import (
    DIMS,
    CostFn,
    Place,
    Sizes,
    check_reachable,
    group_size,
    places_of,
    resized,
    size_at,
)
from cutbert.surgery.extract import extract
from cutbert.surgery.rewire import permuted

Kept = dict[Place, list[int]]


def choose_by_limit(
    shape: EncoderShape,
    scores: Mapping[Place, Tensor],
    cost: CostFn,
    limit: float,
    *,
    dims: Sequence[str],
    multiple_of: int = 1,
) -> Kept:
    """Return the units that stay when those with the smallest scores are removed, over all dimensions together.

    Units are removed in groups of `multiple_of`, so that sizes stay multiples; the units of a place are grouped in
    order of their scores, and groups compare by their mean score. Heads are removed one by one. The last group of a
    place always stays.

    Args:
        shape: the network.
        scores: for every place, [units]; larger is kept.
        cost: returns the cost of a shape; must fall with every unit.
        limit: largest cost allowed.
        dims: of DIMS; the other dimensions keep all units.
        multiple_of: what sizes are to be multiples of.

    Returns:
        For every place of the network the indices of the units that stay, rising.

    Raises:
        BudgetError: no choice is cheap enough.

    Source:
        Khetan and Karnin 2020 (2005.06628), algorithm 1, step 3: "set the smallest alphas, over all kinds together, to
        zero until the objective falls by eta / T". The score is |alpha|. Groups are our choice.
    """
    queue = removal_order(shape, scores, dims, multiple_of)

    def sizes_after(count: int) -> dict[Place, int]:
        sizes = {place: size_at(shape, place) for place in places_of(shape, dims)}
        for place, units in queue[:count]:
            sizes[place] -= len(units)
        return sizes

    def cost_after(count: int) -> float:
        return cost(resized(shape, sizes_after(count)))

    check_reachable(cost_after(len(queue)), limit)
    low, high = -1, len(queue)  # bisection: cost falls with every group, so the first count that fits is the answer
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if cost_after(middle) <= limit else (middle, high)
    while not can_be_cut_to(shape, sizes_after(high).get(Place("h"), shape.hidden_size)):
        high += 1
        if high > len(queue):
            raise BudgetError(f"a budget must be reachable with other than {shape.embedding_size} hidden units")
    removed: dict[Place, set[int]] = {}
    for place, units in queue[:high]:
        removed.setdefault(place, set()).update(units)
    everywhere = places_of(shape, tuple(DIMS))
    return {place: [i for i in range(size_at(shape, place)) if i not in removed.get(place, ())] for place in everywhere}


def removal_order(
    shape: EncoderShape, scores: Mapping[Place, Tensor], dims: Sequence[str], multiple_of: int
) -> list[tuple[Place, list[int]]]:
    """Return the groups of units in the order they are removed; the best group of each place is not among them."""
    ranked: list[tuple[float, Place, list[int]]] = []
    for place in places_of(shape, dims):
        order = torch.argsort(scores[place], stable=True).tolist()
        group = group_size(place, multiple_of)
        first = len(order) % group  # a smaller first group makes the size a multiple
        starts = [0, *range(first, len(order), group)] if first else list(range(0, len(order), group))
        for start, stop in zip(starts, [*starts[1:], len(order)], strict=True):
            if stop < len(order):
                units = order[start:stop]
                ranked.append((float(scores[place][units].mean()), place, units))
    ranked.sort(key=lambda each: each[0])
    return [(place, units) for _, place, units in ranked]


def can_be_cut_to(shape: EncoderShape, hidden_size: int) -> bool:
    """Whether hidden units can be cut to this number: as wide as separate tables they would need no projection."""
    return hidden_size != shape.embedding_size


def choose_by_sizes(shape: EncoderShape, scores: Mapping[Place, Tensor], sizes: Sizes) -> Kept:
    """Return the units with the largest scores at each place, `sizes` of them; all where no size is given."""
    kept = {}
    for place in places_of(shape, tuple(DIMS)):
        size = sizes.get(place, size_at(shape, place))
        best = torch.argsort(scores[place], descending=True, stable=True)[:size]
        kept[place] = sorted(best.tolist())
    return kept


def cut(model: TaskModel, kept: Kept) -> TaskModel:
    """Return a small network with the kept units, in their order; the model itself is not changed.

    Cutting heads, neurons, keys and values whose gates were folded to 0 does not change the function. Cutting hidden
    units does: LayerNorm's mean and variance then run over fewer units (`surgery.norms` makes up for it).
    """
    shape = model.shape
    orders = {place: kept_first(units, size_at(shape, place)) for place, units in kept.items()}
    return extract(permuted(model, orders), subnet_of(shape, kept))


def kept_first(units: Sequence[int], size: int) -> Tensor:
    """Return a permutation of `size` units that puts the kept ones first."""
    rest = sorted(set(range(size)) - set(units))
    return torch.tensor([*units, *rest], dtype=torch.long)


def subnet_of(shape: EncoderShape, kept: Kept) -> Subnet:
    """Return the subnet of the kept units, once these are permuted to come first."""
    layers = []
    for i in range(shape.num_layers):
        sizes = {name: len(kept.get(Place(dim, i), ())) for dim, name in DIMS.items() if dim != "h"}
        layers.append(KeptLayer(i, LayerShape(**sizes)))
    return Subnet(tuple(layers), len(kept[Place("h")]))
