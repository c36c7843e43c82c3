"""The space of a search holds every cut of heads and neurons once, and stock shapes alone where these are asked for."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from cutbert.errors import ShapeError
from cutbert.shape.cost import cost_of
from cutbert.shape.search_space import SearchSpace, neuron_sizes, search_space
from cutbert.shape.shape import EncoderShape, LayerShape
from cutbert.shape.space import grid
from cutbert.shape.subnet import Subnet

SHAPE = EncoderShape.uniform(hidden_size=8, num_layers=2, num_heads=2, intermediate_size=3, vocab_size=9)


def every_subnet(space: SearchSpace) -> list[Subnet]:
    genes = product(*(range(len(choice.sizes)) for choice in space.choices))
    return [subnet for each in genes if (subnet := space.subnet(each)) is not None]


@pytest.mark.parametrize("name", ["free", "stock"])
def test_size_counts_and_genes_are_the_way_back(name: str) -> None:
    space = search_space(SHAPE, name)  # type: ignore[arg-type]
    found = every_subnet(space)
    assert len(found) == len(set(found)) == space.size == (143 if name == "free" else 9)
    for subnet in found:
        subnet.check_fits(SHAPE)
        genes = space.genes(subnet)
        assert genes is not None and space.subnet(genes) == subnet
        assert name == "free" or subnet.shape_in(SHAPE).is_stock
    least = min(cost_of(each.shape_in(SHAPE)).macs for each in found)
    assert min(cost_of(each.shape_in(SHAPE)).macs for each in space.smallest) == least


def test_sizes_of_the_grid_are_in_it_whatever_they_are() -> None:
    shape = replace(SHAPE, hidden_size=16, layers=(LayerShape(4, 4, 4, 100),) * 3)
    points = [point.subnet for point in grid(shape, width_mults=(1.0, 0.37), depths=(3, 1), stock=True)]
    assert all(search_space(shape, "free", points).genes(each) is not None for each in points)
    stock = search_space(shape, "stock", points)
    assert [stock.genes(each) is not None for each in points] == [each.shape_in(shape).is_stock for each in points]
    assert search_space(shape).genes(points[-1]) is None, "37 neurons are no twelfth of 100"


def test_what_is_outside_has_no_genes() -> None:
    space = search_space(SHAPE)
    narrow = replace(Subnet.full(SHAPE), hidden_size=4)
    keys = Subnet((replace(narrow.layers[0], shape=LayerShape(2, 2, 4, 3)),), 8)
    assert space.genes(narrow) is None and space.genes(keys) is None


def test_absent_sub_layers_stay_absent() -> None:
    shape = replace(SHAPE, layers=(LayerShape(2, 4, 4, 0), LayerShape(0, 0, 0, 3)))
    space = search_space(shape)
    assert space.size == 3 * 4 - 1 and len(every_subnet(space)) == space.size


def test_neurons_go_in_twelfths() -> None:
    assert neuron_sizes(1536, {0, 5}) == (0, 5, *range(128, 1537, 128))
    assert neuron_sizes(3, ()) == (1, 2, 3) and neuron_sizes(0, {0}) == (0,)


def test_refused() -> None:
    with pytest.raises(ShapeError, match="--space stock must have a supernet of a stock shape, and this one is free"):
        search_space(replace(SHAPE, layers=(LayerShape(1, 4, 4, 3),)), "stock")
    with pytest.raises(ShapeError, match="a supernet must have layers to search in, got none"):
        search_space(replace(SHAPE, layers=()))
