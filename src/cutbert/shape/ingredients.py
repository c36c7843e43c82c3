"""What an encoder is made of, apart from sizes, as far as its weights depend on it. No torch.

The activation, epsilon and dropouts, which change no weight's shape, are in `model.style`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from cutbert.errors import Mistakes, ShapeError

NUM_BUCKETS = 32  # of relative positions, fixed in MPNet's code


@dataclass(frozen=True, kw_only=True)
class Ingredients:
    """What an encoder is made of; the defaults are BERT's.

    Args:
        norm_first: a sub-layer's LayerNorm stands before it, and one more after the last layer; else after its sum.
        has_position_table: whether learned positions are added to the tokens.
        num_bias_heads: columns of the one table of relative position biases that all layers share, 0 for no table:
            attention head j of a layer adds the column that its layer names for it to its scores (MPNet).
        num_distance_buckets: buckets of distances to one side, 0 for none: a table of twice that many states, which
            queries and keys of every layer read, so that scores also compare contents with distances (DeBERTa).
        max_distance: distance that the last of these buckets holds.
        has_distance_norm: whether a LayerNorm comes after that table.
        rotary_bases: bases of rotary positions, of global and of local layers; empty for none.
        window: how far from itself a position of a local layer reads, in positions.
        local_layers: which layers are local; empty for none.
        bare_layers: which layers have no LayerNorm before their attention; empty for none.
        is_gated: a neuron is a pair of rows, the activation of the one times the other.
        has_attention_bias, has_feed_forward_bias, has_norm_bias: whether such layers have biases.
        has_neuron_bias: whether the maps into neurons have biases too, where feed-forwards have any.
        has_prediction_head: every head begins with a dense layer, an activation and a LayerNorm.
        has_head_bias: whether that dense layer has a bias.

    Raises:
        ShapeError: a value out of range; all mistakes together.
    """

    norm_first: bool = False
    has_position_table: bool = True
    num_bias_heads: int = 0
    num_distance_buckets: int = 0
    max_distance: int = 0
    has_distance_norm: bool = False
    rotary_bases: tuple[float, ...] = ()
    window: int = 0
    local_layers: tuple[bool, ...] = ()
    bare_layers: tuple[bool, ...] = ()
    is_gated: bool = False
    has_attention_bias: bool = True
    has_feed_forward_bias: bool = True
    has_neuron_bias: bool = True
    has_norm_bias: bool = True
    has_prediction_head: bool = False
    has_head_bias: bool = True

    def __post_init__(self) -> None:
        mistakes = Mistakes()
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(each.default, tuple):
                value = tuple(value) if isinstance(value, list | tuple) else value
                object.__setattr__(self, each.name, value)
            if not is_like(value, each.default):
                mistakes.add(f"{each.name} must be {WANTED[type(each.default)]}, got {value!r}")
        mistakes.check(ShapeError)
        if self.rotary_bases and (len(self.rotary_bases) != 2 or not all(is_base(base) for base in self.rotary_bases)):
            mistakes.add(f"rotary_bases must be none or two numbers above 0, got {list(self.rotary_bases)}")
        for name in BY_LAYER:
            if not any(getattr(self, name)):
                object.__setattr__(self, name, ())
            elif not all(isinstance(each, bool) for each in getattr(self, name)):
                mistakes.add(f"{name} must be true or false for each layer, got {list(getattr(self, name))}")
        if self.local_layers and not self.window:
            mistakes.add("window must be at least 1 where there are local layers, got 0")
        if self.num_distance_buckets and self.max_distance <= self.num_distance_buckets // 2 + 1:
            least = self.num_distance_buckets // 2 + 2
            mistakes.add(f"max_distance must be at least {least} with these buckets, got {self.max_distance}")
        if self.bare_layers and not self.norm_first:
            mistakes.add("bare_layers must come with norm_first")
        if not (self.has_neuron_bias or self.has_feed_forward_bias):
            mistakes.add("has_neuron_bias must be true without has_feed_forward_bias, which says that of all")
        mistakes.check(ShapeError)

    def distance_rows(self, length: int) -> range:
        """Return the rows of the table of distances that a text of some length reads."""
        last = distance_bucket(length - 1, self.num_distance_buckets, self.max_distance)
        middle = self.num_distance_buckets
        return range(max(0, middle - last), min(2 * middle, middle + last + 1))

    def is_local(self, layer: int) -> bool:
        return bool(self.local_layers) and self.local_layers[layer]

    def is_bare(self, layer: int) -> bool:
        return bool(self.bare_layers) and self.bare_layers[layer]

    def window_of(self, layer: int) -> int | None:
        """Return how far a layer's positions read; None for any distance."""
        return self.window if self.is_local(layer) else None

    def rotary_base_of(self, layer: int) -> float | None:
        return self.rotary_bases[self.is_local(layer)] if self.rotary_bases else None

    def check_layers(self, num_layers: int) -> None:
        """Raise a ShapeError unless what is said layer by layer is said of this number of layers."""
        mistakes = Mistakes()
        for name in BY_LAYER:
            count = len(getattr(self, name))
            if count not in (0, num_layers):
                mistakes.add(f"{name} must be of {num_layers} layers, got {count}")
        mistakes.check(ShapeError)

    def of_layers(self, layers: Sequence[int]) -> Ingredients:
        """Return the ingredients of some layers of this encoder: what a layer is, it stays."""
        if not self.local_layers and not self.bare_layers:
            return self
        kinds = [(self.is_local(i), self.is_bare(i)) for i in layers]
        return replace(
            self, local_layers=tuple(local for local, _ in kinds), bare_layers=tuple(bare for _, bare in kinds)
        )

    def to_json(self) -> dict[str, Any]:
        """Return what differs from BERT."""
        pairs = ((each.name, getattr(self, each.name)) for each in fields(self))
        data = {name: value for name, value in pairs if value != getattr(BERT, name)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in data.items()}

    @classmethod
    def from_json(cls, data: Any) -> Ingredients:
        """Read ingredients from parsed JSON.

        Raises:
            ShapeError: an unknown key or a value out of range.
        """
        if not isinstance(data, dict):
            raise ShapeError(f"ingredients must be a JSON object, got {type(data).__name__}")
        known = sorted(each.name for each in fields(cls))
        unknown = sorted(set(data) - set(known))
        if unknown:
            raise ShapeError(f"ingredients must have keys of {', '.join(known)}, got {', '.join(unknown)}")
        return cls(**data)


BY_LAYER = ("local_layers", "bare_layers")
WANTED = {bool: "true or false", int: "an integer of at least 0", tuple: "a list"}


def is_like(value: object, default: object) -> bool:
    """Whether a value can stand in the place of a default."""
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(value, bool) and isinstance(default, bool)
    if isinstance(default, int):
        return isinstance(value, int) and value >= 0
    return isinstance(value, tuple)


def is_base(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


def distance_bucket(distance: int, buckets: int, max_distance: int) -> int:
    """Return the bucket of a distance of at least 0, as `model.distances` does for many.

    >>> [distance_bucket(each, 256, 512) for each in (0, 1, 128, 129, 511)]
    [0, 1, 128, 129, 255]
    """
    exact = buckets // 2
    if distance <= exact:
        return distance
    share = math.log(distance / exact) / math.log((max_distance - 1) / exact)
    return math.ceil(share * (exact - 1)) + exact


BERT = Ingredients()


def spans(length: int, window: int | None) -> Iterator[tuple[range, range]]:
    """Yield ranges of positions whose scores are computed together: queries, and the keys that they may read.

    A text that is no longer than three windows is one range. Of a longer one each range of queries is as long as the
    window, so that scores cost three windows a position.

    >>> list(spans(10, None))
    [(range(0, 10), range(0, 10))]
    >>> list(spans(10, 3))
    [(range(0, 3), range(0, 6)), (range(3, 6), range(0, 9)), (range(6, 9), range(3, 10)), (range(9, 10), range(6, 10))]
    """
    if window is None or length <= 3 * window:
        yield range(length), range(length)
        return
    for start in range(0, length, window):
        stop = min(length, start + window)
        yield range(start, stop), range(max(0, start - window), min(length, stop + window))


def num_scores(length: int, window: int | None) -> int:
    """Return how many scores one head computes for a text."""
    return sum(len(queries) * len(keys) for queries, keys in spans(length, window))
