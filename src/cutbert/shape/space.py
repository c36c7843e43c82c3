"""The subnets a supernet is trained on: a grid of width and depth multipliers, each subnet with a name."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from typing import Literal

from cutbert.errors import Mistakes, ShapeError
from cutbert.shape.cost import layer_params
from cutbert.shape.shape import EncoderShape, LayerShape
from cutbert.shape.subnet import KeptLayer, Subnet

Rule = Literal["paper", "release"]
RULES: tuple[Rule, ...] = ("paper", "release")


@dataclass(frozen=True)
class GridPoint:
    """One subnet of a grid, with its multipliers.

    Args:
        name: short and unique within the grid, such as w0.5-d0.5 or h1.0-f0.5-d0.5.
        head_mult: share of heads kept, in (0, 1].
        ffn_mult: share of neurons kept, in (0, 1].
        width_mult: head_mult where ffn_mult is the same, else None.
        depth_mult: share of layers kept, in (0, 1].
        subnet: what is kept.
    """

    name: str
    head_mult: float
    ffn_mult: float
    width_mult: float | None
    depth_mult: float
    subnet: Subnet


def grid(
    shape: EncoderShape,
    *,
    width_mults: Sequence[float] = (),
    head_mults: Sequence[float] | None = None,
    ffn_mults: Sequence[float] | None = None,
    depth_mults: Sequence[float] = (),
    depths: Sequence[int] | None = None,
    rule: Rule = "paper",
    stock: bool = True,
) -> tuple[GridPoint, ...]:
    """Return the subnets of all widths at all depths, largest first, each subnet once.

    Where two points give the same subnet, the first one's name stays. Where only one of head_mults and
    ffn_mults is given, width_mults are taken for the other.

    Args:
        shape: the supernet.
        width_mults: shares of heads and neurons kept, the same for both.
        head_mults: shares of heads kept; with it all pairs of head and neuron shares are made.
        ffn_mults: shares of neurons kept, likewise.
        depth_mults: shares of layers kept.
        depths: numbers of layers kept, beside depth_mults if both are given (the command line's --depths instead gives
            no depth_mults).
        rule: how sizes are rounded and layers chosen, "paper" or "release" (the released code).
        stock: add all heads with each share of neurons, where that gives a stock shape.

    Raises:
        ShapeError: a multiplier outside (0, 1], a depth outside 1..num_layers, nothing to make a grid
            of, or two subnets with one name; all mistakes together.

    >>> shape = EncoderShape.uniform(hidden_size=48, num_layers=4, num_heads=4, intermediate_size=96, vocab_size=100)
    >>> for point in grid(shape, width_mults=(1.0, 0.5), depth_mults=(1.0, 0.5), stock=False):
    ...     first = point.subnet.layers[0].shape
    ...     indices = [kept.index for kept in point.subnet.layers]
    ...     print(point.name, "layers", indices, "heads", first.num_heads, "neurons", first.intermediate_size)
    w1.0-d1.0 layers [0, 1, 2, 3] heads 4 neurons 96
    w0.5-d1.0 layers [0, 1, 2, 3] heads 2 neurons 48
    w1.0-d0.5 layers [1, 3] heads 4 neurons 96
    w0.5-d0.5 layers [1, 3] heads 2 neurons 48
    """
    check_grid(shape, width_mults, head_mults, ffn_mults, depth_mults, depths, rule)
    shares = [*depth_mults, *(count / shape.num_layers for count in depths or ())]
    if head_mults or ffn_mults:
        widths = list(product(head_mults or width_mults, ffn_mults or width_mults))
    else:
        widths = [(mult, mult) for mult in width_mults]
    points = [grid_point(shape, head, ffn, depth, rule) for (head, ffn), depth in product(widths, shares)]
    if stock:
        extra = (grid_point(shape, 1.0, ffn, depth, rule) for ffn, depth in product(ffn_mults or width_mults, shares))
        points += [point for point in extra if point.subnet.shape_in(shape).is_stock]
    return largest_first(points)


def kept_layers(num_layers: int, depth_mult: float, rule: Rule = "paper") -> tuple[int, ...]:
    """Return the 0-based indices of the layers kept at a depth multiplier.

    Under "paper" the last layer is always kept, and depth_mult = k / num_layers gives exactly k layers;
    between two such shares the number may round up. Under "release" the last layer is dropped below 1.0.

    Source:
        Hou et al. 2020 (2004.04037): with d in 1..L, drop layer d where mod(d + 1, 1 / (1 - m)) = 0; at
        m = 0.75 and 0.5 of 12 layers our layers are the paper's. Ours: multiples of 1 / (1 - m) are rounded
        down where they are not integers; below 0.5 the multiples of 1 / m, rounded up, are kept; the last
        layer is never dropped. Release: keep floor(i / m) for i below round(m * L), 0-based.

    >>> kept_layers(12, 0.75)
    (0, 1, 3, 4, 5, 7, 8, 9, 11)
    >>> kept_layers(12, 0.75, "release")
    (0, 1, 2, 4, 5, 6, 8, 9, 10)
    """
    share = as_fraction(depth_mult)
    if rule == "release":
        count = max(1, round(share * num_layers))
        return tuple(math.floor(i / share) for i in range(count))
    count = math.ceil(share * num_layers)
    if 2 * share < 1:
        return tuple(sorted({min(num_layers, math.ceil(j / share)) - 1 for j in range(1, count + 1)}))
    dropped = {math.floor(j / (1 - share)) - 2 for j in range(1, num_layers - count + 1)}
    return tuple(i for i in range(num_layers) if i not in dropped)


def kept_sizes(layer: LayerShape, head_mult: float, ffn_mult: float, rule: Rule = "paper") -> LayerShape:
    """Return the sizes kept of a layer, rounded by the rule; at least 1 of what is present.

    Source:
        Hou et al. 2020: floor(m * num_heads) and floor(m * intermediate_size). The release rounds
        heads half to even, and neurons to whole steps of 1 / num_heads.
    """
    heads, neurons = layer.num_heads, layer.intermediate_size
    if rule == "release" and layer.has_attention:
        # Banker's rounding, as in the released Python: 0.5 of 5 heads is 2, of 7 heads is 4.
        kept_heads = round(heads * as_fraction(head_mult))
        kept_neurons = round(heads * as_fraction(ffn_mult)) * neurons // heads
    else:
        kept_heads = math.floor(heads * as_fraction(head_mult))
        kept_neurons = math.floor(neurons * as_fraction(ffn_mult))
    return LayerShape(
        num_heads=max(1, kept_heads) if heads else 0,
        key_dim=layer.key_dim,
        value_dim=layer.value_dim,
        intermediate_size=max(1, kept_neurons) if neurons else 0,
    )


def grid_point(shape: EncoderShape, head_mult: float, ffn_mult: float, depth_mult: float, rule: Rule) -> GridPoint:
    """Return the subnet of one triple of multipliers, with its name."""
    kept = tuple(
        KeptLayer(i, kept_sizes(shape.layers[i], head_mult, ffn_mult, rule))
        for i in kept_layers(shape.num_layers, depth_mult, rule)
    )
    head_mult, ffn_mult, depth_mult = float(head_mult), float(ffn_mult), float(depth_mult)
    width_mult = head_mult if head_mult == ffn_mult else None
    width = f"h{in_name(head_mult)}-f{in_name(ffn_mult)}" if width_mult is None else f"w{in_name(width_mult)}"
    name = f"{width}-d{in_name(depth_mult)}"
    return GridPoint(name, head_mult, ffn_mult, width_mult, depth_mult, Subnet(kept, shape.hidden_size))


def largest_first(points: Iterable[GridPoint]) -> tuple[GridPoint, ...]:
    """Drop repeated subnets and sort by parameters of the layers, then by depth."""
    first: dict[Subnet, GridPoint] = {}
    for point in points:
        first.setdefault(point.subnet, point)
    names = [point.name for point in first.values()]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ShapeError(f"multipliers must differ within 4 decimals, got two subnets named {', '.join(twice)}")
    return tuple(sorted(first.values(), key=lambda point: (-num_params(point.subnet), -point.subnet.num_layers)))


def check_grid(
    shape: EncoderShape,
    width_mults: Sequence[float],
    head_mults: Sequence[float] | None,
    ffn_mults: Sequence[float] | None,
    depth_mults: Sequence[float],
    depths: Sequence[int] | None,
    rule: str,
) -> None:
    """Raise a ShapeError that lists everything no grid can be made of."""
    mistakes = Mistakes()
    mults = {"width_mult": width_mults, "head_mult": head_mults, "ffn_mult": ffn_mults, "depth_mult": depth_mults}
    for name, values in mults.items():
        mistakes.extend(f"{name} must lie in (0, 1], got {mult!r}" for mult in values or () if not is_mult(mult))
    for depth in depths or ():
        if isinstance(depth, bool) or not isinstance(depth, int) or not 1 <= depth <= shape.num_layers:
            mistakes.add(f"depth must be an integer in 1..{shape.num_layers}, got {depth!r}")
    if not shape.layers:
        mistakes.add("a grid must have layers to choose from, got a shape without layers")
    if not width_mults and not (head_mults and ffn_mults):
        mistakes.add("a grid must have width_mults, or head_mults and ffn_mults; got neither")
    if not depth_mults and not depths:
        mistakes.add("a grid must have depth_mults or depths, got neither")
    if rule not in RULES:
        mistakes.add(f"rule must be one of {', '.join(RULES)}, got {rule!r}")
    mistakes.check(ShapeError)


def is_mult(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1


def as_fraction(mult: float) -> Fraction:
    """Return the simple fraction a float stands for: 0.29 is 29/100, 5 / 6 is 5/6.

    In floats floor(100 * 0.29) is 28, so sizes are rounded from exact fractions.
    """
    return Fraction(mult).limit_denominator(10**9)


def in_name(mult: float) -> str:
    return repr(round(mult, 4))


def num_params(subnet: Subnet) -> int:
    return sum(layer_params(kept.shape, subnet.hidden_size) for kept in subnet.layers)
