"""Which layers have a feed-forward, as a string: A for a layer's attention, F for its feed-forward.

>>> parse_pattern("AFAAF")  # three layers; the second has no feed-forward
(True, False, True)
>>> bert_base = EncoderShape.uniform(
...     hidden_size=768, num_layers=12, num_heads=12, intermediate_size=3072, vocab_size=30522
... )
>>> pattern_of(with_feed_forwards(bert_base, every_nth(bert_base, 3)))  # every third layer keeps its feed-forward
'AAAFAAAFAAAFAAAF'
>>> pattern_of(with_feed_forwards(bert_base, even_layers(bert_base, 5)))  # five feed-forwards, evenly spaced
'AAAFAAFAAAFAAFAAF'
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import replace

from cutbert.errors import ShapeError
from cutbert.shape.cost import cost_of, layer_params
from cutbert.shape.ingredients import BERT
from cutbert.shape.shape import EncoderShape, LayerShape


def pattern_of(shape: EncoderShape) -> str:
    """Return the sub-layers of a shape in order, such as AFAAF; a layer without attention is an F alone."""
    return "".join("A" * layer.has_attention + "F" * layer.has_feed_forward for layer in shape.layers)


def parse_pattern(text: str) -> tuple[bool, ...]:
    """Return for each A of a pattern, in order, whether an F follows it directly.

    Raises:
        ShapeError: other letters, no A, or an F that does not follow an A.

    Source:
        Our notation; Sridhar and Sarah 2020 (2012.11881) have none.
    """
    if not text or set(text) - {"A", "F"}:
        raise ShapeError(f"--pattern must be a string of A and F, got {text!r}")
    if not re.fullmatch("(AF?)+", text):
        raise ShapeError(f"--pattern must have every F directly after the A of its layer, got {text!r}")
    return tuple(bool(feed_forward) for feed_forward in re.findall("A(F?)", text))


def feed_forward_layers(shape: EncoderShape) -> tuple[int, ...]:
    """Return the layers, counted from 0, that have a feed-forward."""
    return tuple(i for i, layer in enumerate(shape.layers) if layer.has_feed_forward)


def layers_of_pattern(shape: EncoderShape, text: str) -> tuple[int, ...]:
    """Return the layers of a network that keep their feed-forward under a pattern.

    Raises:
        ShapeError: not a pattern, a number of A other than the network's number of attention layers, or a network
            with a layer without attention, which a pattern cannot express.
    """
    has_feed_forward = parse_pattern(text)
    if not all(layer.has_attention for layer in shape.layers):
        raise ShapeError("--pattern needs a model with attention in every layer; use --ffn-keep instead")
    if len(has_feed_forward) != shape.num_layers:
        raise ShapeError(
            f"--pattern must have one A for each attention layer of the model, {shape.num_layers}, "
            f"got {len(has_feed_forward)} in {text!r}"
        )
    return tuple(i for i, is_kept in enumerate(has_feed_forward) if is_kept)


def every_nth(shape: EncoderShape, n: int) -> tuple[int, ...]:
    """Return the last layer of every group of n layers; layers after the last complete group are left out.

    Raises:
        ShapeError: n exceeds the number of layers.

    Source:
        Our reading of Sridhar and Sarah 2020 (2012.11881): several attention layers to one "intermediate" layer.
    """
    if not 1 <= n <= shape.num_layers:
        raise ShapeError(f"--ffn-every must lie in 1..{shape.num_layers}, the model's layers, got {n}")
    return tuple(range(n - 1, shape.num_layers, n))


def even_layers(shape: EncoderShape, count: int) -> tuple[int, ...]:
    """Return `count` of the layers that have a feed-forward, evenly spaced, the last one always included.

    Where the count divides the number of layers, this equals `every_nth`.

    Raises:
        ShapeError: the network has fewer feed-forwards.
    """
    layers = feed_forward_layers(shape)
    check_count(shape, count)
    return tuple(layers[-(-j * len(layers) // count) - 1] for j in range(1, count + 1))


def check_count(shape: EncoderShape, count: int) -> None:
    """Raise a ShapeError unless a network has at least `count` feed-forwards."""
    most = len(feed_forward_layers(shape))
    if not 0 <= count <= most:
        raise ShapeError(f"--num-ffn must lie in 0..{most}, the model's feed-forwards, got {count}")


def check_layers(shape: EncoderShape, kept: Collection[int]) -> None:
    """Raise a ShapeError unless every layer named has a feed-forward to keep."""
    layers = feed_forward_layers(shape)
    missing = sorted(set(kept) - set(layers))
    if missing:
        raise ShapeError(
            f"feed-forwards to keep must be of layers {', '.join(map(str, layers)) or '(none)'}, "
            f"got {', '.join(map(str, missing))}"
        )


def with_feed_forwards(shape: EncoderShape, kept: Collection[int]) -> EncoderShape:
    """Return the shape without the feed-forwards of all layers but the kept ones.

    Raises:
        ShapeError: a layer to keep has no feed-forward.
    """
    check_layers(shape, kept)
    layers = (layer if i in kept else replace(layer, intermediate_size=0) for i, layer in enumerate(shape.layers))
    return replace(shape, layers=tuple(layers))


def shape_of_pattern(shape: EncoderShape, text: str) -> EncoderShape:
    """Return the shape with the sub-layers of a pattern, which may have more A than the shape has layers.

    Raises:
        ShapeError: not a pattern, fewer A than layers, or more A where the layers are not all alike.

    Source:
        Sridhar and Sarah 2020 (2012.11881): "a modified architecture"; that added attention layers have the sizes of
        the others is our choice.
    """
    has_feed_forward = parse_pattern(text)
    count = len(has_feed_forward)
    if count == shape.num_layers:
        return with_feed_forwards(shape, layers_of_pattern(shape, text))
    if count < shape.num_layers:
        raise ShapeError(f"--pattern must have at least {shape.num_layers} A, the shape's layers, got {count}")
    layer = common_layer(shape, "--pattern with more A than layers")
    bare = replace(layer, intermediate_size=0)
    layers = tuple(layer if is_whole else bare for is_whole in has_feed_forward)
    return replace(shape, layers=layers, ingredients=BERT).made_as(shape)


def common_layer(shape: EncoderShape, option: str) -> LayerShape:
    """Return the sizes that all layers of a shape have.

    Args:
        shape: of an encoder.
        option: what asks for it, for the message.

    Raises:
        ShapeError: they differ, or one lacks a sub-layer.
    """
    kinds = set(shape.layers)
    if len(kinds) != 1 or not all(each.has_attention and each.has_feed_forward for each in kinds):
        raise ShapeError(f"{option} must have a shape whose layers are all alike, with both sub-layers")
    return shape.layers[0]


def with_equal_params(shape: EncoderShape, pattern: str) -> EncoderShape:
    """Return the shape of a pattern plus attention layers, until it has the parameters of the whole shape.

    The number of feed-forwards stays. Attention layers are added one by one to the shortest run of A between two F
    (the last of the shortest), so that even runs stay even. The result may be smaller by less than one attention layer.

    Args:
        shape: the original shape, every layer with its feed-forward, all alike; the limit on parameters.
        pattern: with one A for each of the shape's layers.

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
    for _ in range(room // layer_params(bare, shape.hidden_size, shape.ingredients)):
        shortest = min(range(len(runs)), key=lambda i: (len(runs[i]), -i))
        runs[shortest] += "A"
    return shape_of_pattern(shape, "F".join(runs) + "F" * ends_with_f)
