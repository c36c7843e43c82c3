"""A table of measured sub-layer times that predicts the latency of any cut of a network on this machine."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from sklearn.isotonic import isotonic_regression

from cutbert.bench.latency import conditions, settings_lengths, time_networks
from cutbert.bench.settings import LatencySettings
from cutbert.checks import (
    COUNT,
    MEASURED,
    NUMBER,
    POSITIVE,
    Check,
    check_values,
    has,
    is_number,
    list_of,
    or_null,
)  # fmt: skip
from cutbert.errors import Mistakes, RunError
from cutbert.model.reorder import attentions
from cutbert.model.task_model import TaskModel
from cutbert.shape.shape import EncoderShape, LayerShape
from cutbert.train.machine import num_threads

SHARES = (0.25, 0.5, 0.75, 1.0)
SHARES_OF_HIDDEN = (0.25, 0.5, 1.0)
SHARES_OF_DIMS = (0.25, 0.5, 1.0)
LEAST_SLOPE = 0.1  # share of the mean slope: noise must not make a unit look free
NUM_CHECKED = 6
TABLE_ROWS = 2048  # of the timed networks' token tables: more rows cost no time, but memory


@dataclass(frozen=True)
class Curve:
    """Milliseconds of one sub-layer by size: rising, linear between measured sizes and beyond them.

    Args:
        sizes: measured sizes, rising.
        ms: the time at each.
    """

    sizes: tuple[float, ...]
    ms: tuple[float, ...]

    @classmethod
    def rising(cls, sizes: Sequence[float], ms: Sequence[float]) -> Curve:
        """Return the nearest curve that rises everywhere (isotonic regression)."""
        if len(set(sizes)) < len(sizes):  # a small dimension has fewer sizes than shares
            merged = {size: float(np.mean([t for s, t in zip(sizes, ms, strict=True) if s == size])) for size in sizes}
            sizes, ms = tuple(merged), tuple(merged.values())
        smooth = np.maximum(isotonic_regression(np.asarray(ms, dtype=np.float64)), 0.0)
        if len(sizes) > 1:
            chord = smooth[0] + (smooth[-1] - smooth[0]) * (np.array(sizes) - sizes[0]) / (sizes[-1] - sizes[0])
            smooth = (1 - LEAST_SLOPE) * smooth + LEAST_SLOPE * chord
        return cls(tuple(map(float, sizes)), tuple(map(float, smooth)))

    def __call__(self, size: float) -> float:
        return interpolated(self.sizes, self.ms, size)

    @property
    def at_none(self) -> float:
        """The fixed time of a sub-layer, apart from that of its units."""
        return max(0.0, self(0.0))


@dataclass(frozen=True)
class Plane:
    """The times of the parts of a network with one hidden size.

    Args:
        hidden_size: of the network.
        base_ms: embeddings and task head.
        attention: an attention by its heads x (key_dim + value_dim), where heads are cut.
        feed_forward: a feed-forward by its neurons.
    """

    hidden_size: int
    base_ms: float
    attention: Curve
    feed_forward: Curve


@dataclass(frozen=True, eq=False)
class LatencyTable:
    """Milliseconds of a shape as a sum over sub-layers, each interpolated between times measured on this machine.

    Medians over texts of several lengths can be added like times of one length, since every part takes longer on a
    longer text; so the table holds for the mix of lengths it was measured at.

    Args:
        planes: one for each measured hidden size, rising.
        dims: an attention by its heads x (key_dim + value_dim), where keys and values are cut and all heads kept;
            None where they are never cut.
        most_heads, most_dims: num_heads and key_dim + value_dim of a layer of the uncut network.
        uncut_ms: the whole network, measured with the parts.
        factor: on the sum, so that the uncut network gets its measured time.
        error: median relative error on random cuts, which are measured too but are not in the table.
        measured: the conditions, as in a front.

    Source:
        Our choice. So is the rule for layers that lost both heads and dimensions: of an attention's time beyond its
        fixed part, the shares that the two cuts leave are multiplied.
    """

    planes: tuple[Plane, ...]
    dims: Curve | None
    most_heads: int
    most_dims: int
    uncut_ms: float
    factor: float
    error: float
    measured: dict[str, Any]

    def __call__(self, shape: EncoderShape) -> float:
        sizes = [plane.hidden_size for plane in self.planes]
        ms = interpolated(sizes, [self.at(plane, shape) for plane in self.planes], shape.hidden_size)
        return self.factor * max(0.0, ms)

    def at(self, plane: Plane, shape: EncoderShape) -> float:
        """Return the milliseconds of a shape as if it had the plane's hidden size."""
        total = plane.base_ms
        for layer in shape.layers:
            total += self.attention_ms(plane, layer) if layer.has_attention else 0.0
            total += max(0.0, plane.feed_forward(layer.intermediate_size)) if layer.has_feed_forward else 0.0
        return total

    def attention_ms(self, plane: Plane, layer: LayerShape) -> float:
        """Return the milliseconds of a layer's attention, at least 0.

        What was measured by heads, at full key and value dimensions, is scaled by what fewer dimensions save at all
        heads.
        """
        dims = layer.key_dim + layer.value_dim
        if self.dims is None or dims == self.most_dims:
            return max(0.0, plane.attention(layer.num_heads * dims))
        fixed = plane.attention.at_none
        by_heads = plane.attention(layer.num_heads * self.most_dims) - fixed
        by_dims = self.dims(self.most_heads * dims) - self.dims.at_none
        whole = self.dims(self.most_heads * self.most_dims) - self.dims.at_none
        return fixed + max(0.0, by_heads) * max(0.0, by_dims) / (whole or 1.0)

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object, lists in the place of tuples."""
        return dict(json.loads(json.dumps(asdict(self))))

    @classmethod
    def from_json(cls, data: Any) -> LatencyTable:
        """Read a table from parsed JSON.

        Raises:
            RunError: keys are missing or unknown, or values are not what they must be.
        """
        if not isinstance(data, dict):
            raise RunError(f"a latency table must be a JSON object, got {type(data).__name__}")
        mistakes = Mistakes()
        check_values(mistakes, "latency table", data, required=TABLE_CHECKS, optional={})
        mistakes.check(RunError)
        planes = tuple(
            Plane(each["hidden_size"], each["base_ms"], curve_of(each["attention"]), curve_of(each["feed_forward"]))
            for each in data["planes"]
        )
        dims = None if data["dims"] is None else curve_of(data["dims"])
        return cls(**{**data, "planes": planes, "dims": dims})


def is_curve(data: Any) -> bool:
    """Return whether a value is a curve as JSON: sizes that rise, and a time for each."""
    return (
        isinstance(data, dict)
        and data.keys() == {"sizes", "ms"}
        and all(list_of(is_number)(each) for each in data.values())
        and 0 < len(data["sizes"]) == len(data["ms"])
        and all(one < other for one, other in pairwise(data["sizes"]))
    )


IS_PLANE, _ = has(
    {
        "hidden_size": COUNT,
        "base_ms": NUMBER,
        "attention": (is_curve, "a curve"),
        "feed_forward": (is_curve, "a curve"),
    }
)
TABLE_CHECKS: dict[str, Check] = {
    "planes": (
        lambda value: (
            bool(value)
            and list_of(IS_PLANE)(value)
            and all(one["hidden_size"] < other["hidden_size"] for one, other in pairwise(value))
        ),
        "a list of planes, their hidden sizes rising",
    ),
    "dims": or_null((is_curve, "a curve")),
    "most_heads": COUNT,
    "most_dims": COUNT,
    "uncut_ms": POSITIVE,
    "factor": POSITIVE,
    "error": NUMBER,
    "measured": MEASURED,
}


def measure_table(
    model: TaskModel,
    dims: Sequence[str],
    lengths: Sequence[int],
    settings: LatencySettings,
    *,
    on_round: Callable[[], None] | None = None,
) -> LatencyTable:
    """Time stacks of attentions and of feed-forwards of several sizes, interleaved, and make a table of them.

    The timed networks have new weights: one without layers; for each size one with attentions alone, and one with
    feed-forwards alone, the network's number of each; the uncut network; and random cuts that check the table. Where
    hidden units may be cut, all this is done at several hidden sizes.

    Args:
        model: the uncut network.
        dims: dimensions that may be cut, of `shape.units.DIMS`.
        lengths: tokens per text (`sample_lengths`).
        settings: backend, threads, rounds.
        on_round: called after each round.
    """
    lengths = settings_lengths(settings, lengths)
    shape = model.shape
    parts = part_shapes(shape, dims)
    checked = {f"cut {i}": random_cut(shape, dims, seed=i) for i in range(NUM_CHECKED)}
    networks = {part_name(*key): new_network(model, each) for key, each in parts.items()}
    networks |= {name: new_network(model, each) for name, each in checked.items()}
    networks["uncut"] = new_network(model, shape)
    with num_threads(settings.threads) as threads:
        timed = time_networks(networks, lengths, replace(settings, throughput_batch_size=1), on_round=on_round)
    times = {name: each.latency_ms for name, each in timed.items()}
    measured = conditions(settings, lengths, threads, next(model.parameters()).device.type, timed.quality)
    table = table_of(shape, {key: times[part_name(*key)] for key in parts}, times["uncut"], measured)
    errors = [abs(table(each) / times[name] - 1) for name, each in checked.items()]
    return replace(table, error=float(np.median(errors)))


def part_name(kind: str, hidden: int, size: float) -> str:
    """Return what a timed part is called.

    >>> part_name("feed_forward", 384, 1536.0), part_name("base", 96, 0.0)
    ('feed forward of size 1536 at hidden size 384', 'base at hidden size 96')
    """
    words = kind.replace("_", " ") + (f" of size {size:g}" if size else "")
    return f"{words} at hidden size {hidden}"


def part_shapes(shape: EncoderShape, dims: Sequence[str]) -> dict[tuple[str, int, float], EncoderShape]:
    """Return the shapes to time, by kind, hidden size and size of the sub-layer."""
    widest = widest_layer(shape)
    none = shape.with_layers((), ())
    parts = {}
    for hidden in hidden_sizes(shape) if "h" in dims else [shape.hidden_size]:
        parts["base", hidden, 0.0] = replace(none, hidden_size=hidden)
        for layer in cuts(widest, "num_heads", SHARES):
            parts["attention", hidden, attention_size(layer)] = stack(shape, hidden, layer, "attention")
        for layer in cuts(widest, "intermediate_size", SHARES):
            parts["feed_forward", hidden, float(layer.intermediate_size)] = stack(shape, hidden, layer, "feed_forward")
    if widest.has_attention and ("k" in dims or "v" in dims):
        for share in SHARES_OF_DIMS:
            layer = replace(
                widest, key_dim=max(1, round(share * widest.key_dim)), value_dim=max(1, round(share * widest.value_dim))
            )
            parts["dims", shape.hidden_size, attention_size(layer)] = stack(
                shape, shape.hidden_size, layer, "attention"
            )
    return parts


def table_of(
    shape: EncoderShape, times: Mapping[tuple[str, int, float], float], uncut_ms: float, measured: dict[str, Any]
) -> LatencyTable:
    """Return the table made of the times of `part_shapes`."""

    def curve(kind: str, hidden: int) -> Curve:
        sizes = sorted(size for each, at, size in times if (each, at) == (kind, hidden))
        base = times["base", hidden, 0.0]
        ms = [(times[kind, hidden, size] - base) / shape.num_layers for size in sizes]
        return Curve.rising(sizes, ms) if sizes else Curve((0.0,), (0.0,))

    widest = widest_layer(shape)
    planes = tuple(
        Plane(hidden, times["base", hidden, 0.0], curve("attention", hidden), curve("feed_forward", hidden))
        for hidden in sorted({hidden for kind, hidden, _ in times if kind == "base"})
    )
    dims = curve("dims", shape.hidden_size) if any(kind == "dims" for kind, *_ in times) else None
    table = LatencyTable(
        planes, dims, widest.num_heads, widest.key_dim + widest.value_dim, uncut_ms, 1.0, 0.0, measured
    )
    return replace(table, factor=uncut_ms / (table(shape) or uncut_ms))


def interpolated(sizes: Sequence[float], values: Sequence[float], at: float) -> float:
    """Return the value at a size by linear interpolation, and by linear extrapolation beyond the known sizes."""
    if len(sizes) == 1:
        return values[0]
    i = int(np.clip(np.searchsorted(sizes, at), 1, len(sizes) - 1))
    slope = (values[i] - values[i - 1]) / (sizes[i] - sizes[i - 1])
    return float(values[i - 1] + slope * (at - sizes[i - 1]))


def widest_layer(shape: EncoderShape) -> LayerShape:
    """Return a layer with the largest of each size over all layers."""
    most = (max(each) for each in zip(*(layer.to_json().values() for layer in shape.layers), strict=True))
    return LayerShape(*most)


def cuts(layer: LayerShape, name: str, shares: Sequence[float]) -> list[LayerShape]:
    """Return the layer with one of its sizes at each share, at least 1; an empty list where that size is 0."""
    whole = getattr(layer, name)
    return (
        [replace(layer, **{name: size}) for size in sorted({max(1, round(s * whole)) for s in shares})] if whole else []
    )


def stack(shape: EncoderShape, hidden_size: int, layer: LayerShape, kind: str) -> EncoderShape:
    """Return the shape with every layer replaced by one sub-layer of the given layer."""
    part = replace(layer, intermediate_size=0) if kind == "attention" else replace(layer, num_heads=0)
    return replace(shape, hidden_size=hidden_size, layers=(part,) * shape.num_layers)


def attention_size(layer: LayerShape) -> float:
    return float(layer.num_heads * (layer.key_dim + layer.value_dim))


def hidden_sizes(shape: EncoderShape) -> list[int]:
    """Return the hidden sizes to time at; never the width of separate tables, which would need no projection."""
    sizes = (max(1, round(share * shape.hidden_size)) for share in SHARES_OF_HIDDEN)
    return sorted({size - 1 if size == shape.embedding_size and size > 1 else size for size in sizes})


def random_cut(shape: EncoderShape, dims: Sequence[str], seed: int) -> EncoderShape:
    """Return the shape with random sizes in the dimensions that may be cut."""
    draw = np.random.default_rng(seed)

    def some(size: int, dim: str) -> int:
        return int(draw.integers(1, size + 1)) if size and dim in dims else size

    layers = tuple(
        LayerShape(
            some(layer.num_heads, "a"),
            some(layer.key_dim, "k"),
            some(layer.value_dim, "v"),
            some(layer.intermediate_size, "f"),
        )
        for layer in shape.layers
    )
    hidden = int(draw.choice(hidden_sizes(shape))) if "h" in dims else shape.hidden_size
    return replace(shape, hidden_size=hidden, layers=layers)


def curve_of(data: Mapping[str, Any]) -> Curve:
    return Curve(tuple(data["sizes"]), tuple(data["ms"]))


def new_network(model: TaskModel, shape: EncoderShape) -> TaskModel:
    """Return a network of another shape with random weights, for timing alone.

    Where no output runs over the vocabulary, the token table is cut short.
    """
    if model.head_spec.kind != "masked_lm":
        shape = replace(shape, vocab_size=min(shape.vocab_size, TABLE_ROWS))
    with torch.device("meta"):
        network = TaskModel(shape, model.style, model.head_spec)
    network.to_empty(device=next(model.parameters()).device)
    with torch.no_grad():
        for weight in network.parameters():
            weight.normal_(std=model.style.initializer_range)
        for attention in attentions(network):
            if attention.bias_heads is not None:
                attention.bias_heads.zero_()
    return network.eval()
