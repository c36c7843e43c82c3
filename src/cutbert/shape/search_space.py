"""The subnets a search may return: any number of heads and neurons in each layer, any set of layers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal

from cutbert.errors import ShapeError
from cutbert.shape.shape import EncoderShape, LayerShape
from cutbert.shape.subnet import KeptLayer, Subnet

SpaceName = Literal["free", "stock"]
Genes = tuple[int, ...]
NEURON_STEPS = 12  # neurons are chosen in twelfths: quarters, thirds and halves are among them


@dataclass(frozen=True)
class SizeChoice:
    """One size to choose, by its index in `sizes`, which rise."""

    name: str
    sizes: tuple[int, ...]


@dataclass(frozen=True)
class SearchSpace:
    """Subnets as tuples of genes: for each choice the index of its size.

    In the free space every layer chooses its heads and its neurons; 0 drops that sub-layer, and a layer with neither is
    left out. In the stock space every layer is in or out, and all have the same number of neurons.

    Args:
        shape: the supernet.
        choices: all sizes to choose.
        is_stock: whether every subnet has a shape that transformers' own classes can hold.
    """

    shape: EncoderShape
    choices: tuple[SizeChoice, ...]
    is_stock: bool

    @property
    def size(self) -> int:
        """The number of subnets; keeping nothing at all is not a subnet."""
        *layers, last = (len(choice.sizes) for choice in self.choices)
        return (prod(layers) - 1) * last if self.is_stock else prod(layers) * last - 1

    @property
    def smallest(self) -> list[Subnet]:
        """All subnets of a single sub-layer (stock: layer) at its smallest; the cheapest subnet is one of them."""
        subnets = []
        for i, choice in enumerate(self.choices):
            genes = [0] * len(self.choices)
            genes[i] = min(1, len(choice.sizes) - 1)
            subnet = self.subnet(tuple(genes))
            subnets += [] if subnet is None else [subnet]
        return subnets

    def subnet(self, genes: Genes) -> Subnet | None:
        """Return the subnet of these genes, None where they keep nothing."""
        sizes = [choice.sizes[gene] for choice, gene in zip(self.choices, genes, strict=True)]
        pairs: Iterable[tuple[int, int]] = zip(sizes[::2], sizes[1::2], strict=True)
        if self.is_stock:
            heads = self.shape.layers[0].num_heads
            pairs = [(heads, sizes[-1]) if kept else (0, 0) for kept in sizes[:-1]]
        kept = tuple(
            KeptLayer(i, LayerShape(heads, layer.key_dim, layer.value_dim, neurons))
            for i, (layer, (heads, neurons)) in enumerate(zip(self.shape.layers, pairs, strict=True))
            if heads or neurons
        )
        return Subnet(kept, self.shape.hidden_size) if kept else None

    def genes(self, subnet: Subnet) -> Genes | None:
        """Return the genes of a subnet, None where it is outside the space."""
        kept = {each.index: each.shape for each in subnet.layers}
        sizes = []
        for i in range(self.shape.num_layers):
            heads, neurons = (kept[i].num_heads, kept[i].intermediate_size) if i in kept else (0, 0)
            sizes += [int(i in kept)] if self.is_stock else [heads, neurons]
        if self.is_stock:
            sizes.append(max((each.intermediate_size for each in kept.values()), default=0))
        if any(size not in choice.sizes for choice, size in zip(self.choices, sizes, strict=True)):
            return None
        genes = tuple(choice.sizes.index(size) for choice, size in zip(self.choices, sizes, strict=True))
        return genes if self.subnet(genes) == subnet else None


def search_space(shape: EncoderShape, name: SpaceName = "free", known: Sequence[Subnet] = ()) -> SearchSpace:
    """Return the space of a supernet.

    Any number of heads, neurons in twelfths of all, and the sizes of the known subnets.

    Args:
        shape: the supernet.
        name: "free", or "stock" for shapes that transformers' own classes can hold.
        known: subnets whose sizes may be chosen too.

    Raises:
        ShapeError: the stock space of a supernet that is not stock itself, or a supernet without layers.
    """
    if not shape.layers:
        raise ShapeError("a supernet must have layers to search in, got none")
    if name == "stock":
        return stock_space(shape, known)
    choices = []
    for i, layer in enumerate(shape.layers):
        seen = {kept.shape.intermediate_size for each in known for kept in each.layers if kept.index == i}
        choices.append(SizeChoice(f"heads {i}", tuple(range(layer.num_heads + 1))))
        choices.append(SizeChoice(f"neurons {i}", neuron_sizes(layer.intermediate_size, seen | {0})))
    return SearchSpace(shape, tuple(choices), is_stock=False)


def stock_space(shape: EncoderShape, known: Sequence[Subnet]) -> SearchSpace:
    """Return the space of subnets that transformers' own classes can hold."""
    if not shape.is_stock:
        raise ShapeError("--space stock must have a supernet of a stock shape, and this one is free; use --space free")
    stock = [each for each in known if each.shape_in(shape).is_stock]
    seen = {kept.shape.intermediate_size for each in stock for kept in each.layers}
    layers = [SizeChoice(f"layer {i}", (0, 1)) for i in range(shape.num_layers)]
    neurons = SizeChoice("neurons", neuron_sizes(shape.layers[0].intermediate_size, seen))
    return SearchSpace(shape, (*layers, neurons), is_stock=True)


def neuron_sizes(whole: int, seen: Iterable[int]) -> tuple[int, ...]:
    """Return the numbers of neurons to choose from, rising."""
    steps = {whole * step // NEURON_STEPS for step in range(1, NEURON_STEPS + 1)} - {0}
    return tuple(sorted(steps | {size for size in seen if size <= whole}))
