"""A table of measured sub-layer times that predicts the latency of any cut of a network on this machine.

How it is measured is in `measure_table`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

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
from cutbert.shape.shape import EncoderShape, LayerShape

MOST_PARTIAL = 0.15  # of a sub-layer's time, that being cut in part may add or take off
SETS_IN = 0.25  # of its time, whose loss brings all of that
LEAST_SLOPE = 0.1  # share of the mean slope: noise must not make a unit look free


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
        from scipy.optimize import isotonic_regression  # which loads slowly

        if len(set(sizes)) < len(sizes):  # a small dimension has fewer sizes than shares
            merged = {size: float(np.mean([t for s, t in zip(sizes, ms, strict=True) if s == size])) for size in sizes}
            sizes, ms = tuple(merged), tuple(merged.values())
        smooth = np.maximum(isotonic_regression(np.asarray(ms, dtype=np.float64)).x, 0.0)
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
        partial: what a sub-layer that is cut in part takes beyond its curve, as a share of it: odd sizes run slower,
            and in int8 fewer operators are needed beside the products. Learned from random cuts.
        error: median relative error on these cuts, each foretold from the others.
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
    partial: float
    error: float
    measured: dict[str, Any]

    def __call__(self, shape: EncoderShape) -> float:
        sizes = [plane.hidden_size for plane in self.planes]
        ms = interpolated(sizes, [self.at(plane, shape) for plane in self.planes], shape.hidden_size)
        return self.factor * max(0.0, ms)

    def at(self, plane: Plane, shape: EncoderShape) -> float:
        """Return the milliseconds of a shape as if it had the plane's hidden size."""
        return plane.base_ms + sum(self.layer_ms(plane, layer) for layer in shape.layers)

    def layer_ms(self, plane: Plane, layer: LayerShape) -> float:
        """Return the milliseconds of one layer; a knapsack asks for the same few sizes thousands of times."""
        key = plane.hidden_size, layer
        if key not in self._layers:
            attention = self.attention_ms(plane, layer) if layer.has_attention else 0.0
            feed_forward = max(0.0, plane.feed_forward(layer.intermediate_size)) if layer.has_feed_forward else 0.0
            whole = plane.attention.ms[-1], plane.feed_forward.ms[-1]
            self._layers[key] = self.as_part(attention, whole[0]) + self.as_part(feed_forward, whole[1])
        return self._layers[key]

    def as_part(self, ms: float, whole_ms: float) -> float:
        """Return the milliseconds of a sub-layer by its curve with what it takes beyond where it is cut in part.

        That sets in gradually, so that a cut is never dearer than the whole.
        """
        is_cut = min(1.0, max(0.0, 1 - ms / whole_ms) / SETS_IN) if whole_ms > 0 else 0.0
        return ms * (1 + self.partial * is_cut)

    @cached_property
    def _layers(self) -> dict[tuple[int, LayerShape], float]:
        return {}

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


def interpolated(sizes: Sequence[float], values: Sequence[float], at: float) -> float:
    """Return the value at a size by linear interpolation, and by linear extrapolation beyond the known sizes."""
    if len(sizes) == 1:
        return values[0]
    i = int(np.clip(np.searchsorted(sizes, at), 1, len(sizes) - 1))
    slope = (values[i] - values[i - 1]) / (sizes[i] - sizes[i - 1])
    return float(values[i - 1] + slope * (at - sizes[i - 1]))


def is_curve(data: Any) -> bool:
    """Return whether a value is a curve as JSON: sizes that rise, and a time for each."""
    return (
        isinstance(data, dict)
        and data.keys() == {"sizes", "ms"}
        and all(list_of(is_number)(each) for each in data.values())
        and 0 < len(data["sizes"]) == len(data["ms"])
        and all(one < other for one, other in pairwise(data["sizes"]))
    )


def curve_of(data: Mapping[str, Any]) -> Curve:
    return Curve(tuple(data["sizes"]), tuple(data["ms"]))


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
    "partial": (lambda value: is_number(value) and abs(value) <= MOST_PARTIAL, f"a number of at most {MOST_PARTIAL}"),
    "error": NUMBER,
    "measured": MEASURED,
}
