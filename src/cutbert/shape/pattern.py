"""Which attention layers have a feed-forward, as a string: A attention, F the same layer's feed-forward."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import replace

from cutbert.errors import ShapeError
from cutbert.shape.cost import cost_of, layer_params
from cutbert.shape.shape import EncoderShape, LayerShape


def pattern_of(shape: EncoderShape) -> str:
    """Return the sub-layers of a shape in order, such as AFAAF; a layer without attention gives an F alone."""
    return "".join("A" * layer.has_attention + "F" * layer.has_feed_forward for layer in shape.layers)


def parse_pattern(text: str) -> tuple[bool, ...]:
    """Return for each A of a pattern, in order, whether an F stands directly behind it.

    Raises:
        ShapeError: other letters, no A, or an F that stands behind no A.

    Source:
        Our choice; Sridhar and Sarah 2020 (2012.11881) write their networks in no such way.
    """
    if not text or set(text) - {"A", "F"}:
        raise ShapeError(f"--pattern must be a string of A and F, got {text!r}")
    if not re.fullmatch("(AF?)+", text):
        raise ShapeError(f"--pattern must have every F directly behind the A of its layer, got {text!r}")
    return tuple(bool(behind) for behind in re.findall("A(F?)", text))


def feed_forward_layers(shape: EncoderShape) -> tuple[int, ...]:
    """Return the layers, counted from 0, that have a feed-forward."""
    return tuple(i for i, layer in enumerate(shape.layers) if layer.has_feed_forward)


def layers_of_pattern(shape: EncoderShape, text: str) -> tuple[int, ...]:
    """Return the layers of a network that keep their feed-forward under a pattern.

    Raises:
        ShapeError: no pattern, another number of A than the network has attention layers, or a layer without
            attention, for which a pattern has no place.
    """
    found = parse_pattern(text)
    if not all(layer.has_attention for layer in shape.layers):
        raise ShapeError("--pattern must be of a model with attention in every layer; --ffn-keep names layers of any")
    if len(found) != shape.num_layers:
        raise ShapeError(
            f"--pattern must have as many A as the model has attention layers, {shape.num_layers}, got {len(found)} "
            f"in {text!r}"
        )
    return tuple(i for i, is_kept in enumerate(found) if is_kept)


def every_nth(shape: EncoderShape, n: int) -> tuple[int, ...]:
    """Return the last of every n layers; layers behind the last whole n keep none.

    Raises:
        ShapeError: n exceeds the number of layers.

    Source:
        Our reading of Sridhar and Sarah 2020 (2012.11881): several attention layers to one "intermediate" layer.
    """
    if not 1 <= n <= shape.num_layers:
        raise ShapeError(f"--ffn-every must lie in 1..{shape.num_layers}, the model's layers, got {n}")
    return tuple(range(n - 1, shape.num_layers, n))


def even_layers(shape: EncoderShape, count: int) -> tuple[int, ...]:
    """Return `count` of the layers that have a feed-forward, evenly spaced, the last one among them.

    Where the count divides the layers, this is the last of every n.

    Raises:
        ShapeError: the network has fewer.
    """
    there = feed_forward_layers(shape)
    check_count(shape, count)
    return tuple(there[-(-j * len(there) // count) - 1] for j in range(1, count + 1))


def check_count(shape: EncoderShape, count: int) -> None:
    """Raise a ShapeError unless a network has so many feed-forwards."""
    there = len(feed_forward_layers(shape))
    if not 0 <= count <= there:
        raise ShapeError(f"--num-ffn must lie in 0..{there}, the model's feed-forwards, got {count}")


def check_layers(shape: EncoderShape, kept: Collection[int]) -> None:
    """Raise a ShapeError unless every layer named has a feed-forward to keep."""
    there = feed_forward_layers(shape)
    missing = sorted(set(kept) - set(there))
    if missing:
        raise ShapeError(
            f"feed-forwards to keep must be of layers {', '.join(map(str, there)) or '(none)'}, "
            f"got {', '.join(map(str, missing))}"
        )


def with_feed_forwards(shape: EncoderShape, kept: Collection[int]) -> EncoderShape:
    """Return a shape whose layers have their feed-forward only where it is kept.

    Raises:
        ShapeError: a layer named has none.
    """
    check_layers(shape, kept)
    layers = (layer if i in kept else replace(layer, intermediate_size=0) for i, layer in enumerate(shape.layers))
    return replace(shape, layers=tuple(layers))


def shape_of_pattern(shape: EncoderShape, text: str) -> EncoderShape:
    """Return a shape of the sub-layers of a pattern, which may have more A than the shape has layers.

    Raises:
        ShapeError: no pattern, fewer A than layers, or more where the layers are not all alike.

    Source:
        Sridhar and Sarah 2020 (2012.11881): "a modified architecture"; that its attention layers are the others'
        twins is our choice.
    """
    found = parse_pattern(text)
    if len(found) == shape.num_layers:
        return with_feed_forwards(shape, layers_of_pattern(shape, text))
    if len(found) < shape.num_layers:
        raise ShapeError(f"--pattern must have at least {shape.num_layers} A, the shape's layers, got {len(found)}")
    layer = common_layer(shape, "--pattern with more A than layers")
    bare = replace(layer, intermediate_size=0)
    return replace(shape, layers=tuple(layer if has_one else bare for has_one in found))


def common_layer(shape: EncoderShape, asker: str) -> LayerShape:
    """Return the layer that all layers of a shape are like.

    Raises:
        ShapeError: they differ, or one lacks a sub-layer.
    """
    kinds = set(shape.layers)
    if len(kinds) != 1 or not all(each.has_attention and each.has_feed_forward for each in kinds):
        raise ShapeError(f"{asker} must have a shape whose layers are all alike, with both sub-layers")
    return shape.layers[0]


def with_equal_params(shape: EncoderShape, pattern: str) -> EncoderShape:
    """Return a shape of a pattern with attention layers added, as many as the parameters of the whole shape allow.

    The number of feed-forwards stays. Attention layers go one by one to the shortest run of A between two F, the last
    of the shortest, so that even runs stay even. What is left over is less than one attention layer.

    Args:
        shape: the undivided shape, every layer with its feed-forward, all alike; the limit on parameters.
        pattern: of the shape's layers.

    Raises:
        ShapeError: the layers are not all alike, or the pattern has more parameters than the shape.

    Source:
        Sridhar and Sarah 2020 (2012.11881) name no such network; adding attention layers is our choice.
    """
    bare = replace(common_layer(shape, "--equal-params"), intermediate_size=0)
    room = cost_of(shape).params - cost_of(shape_of_pattern(shape, pattern)).params
    if room < 0:
        raise ShapeError(f"--equal-params must have a pattern of at most the shape's parameters, got {-room:,} more")
    runs = pattern.split("F")
    ends_with_f = pattern.endswith("F")
    runs = runs[:-1] if ends_with_f else runs
    for _ in range(room // layer_params(bare, shape.hidden_size)):
        shortest = min(range(len(runs)), key=lambda i: (len(runs[i]), -i))
        runs[shortest] += "A"
    return shape_of_pattern(shape, "F".join(runs) + "F" * ends_with_f)
