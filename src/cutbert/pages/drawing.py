"""Draws a shape to scale as paths of an SVG: a row for each layer, bars for keys, values and neurons.

All drawings of a page have the same scale. The uncut model is drawn behind as an outline, so that what was cut, even
whole sub-layers and layers, stays visible.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from cutbert.pages.points import Point
from cutbert.shape.shape import EncoderShape, LayerShape

WIDTH, LEFT, GAP, ROW = 320.0, 22.0, 6.0, 15.0
BAR, LOW_BAR = 11.0, 5.0  # height of a feed-forward's bar, and of the keys' or the values'


@dataclass(frozen=True)
class Scale:
    """The scale of all drawings of a page.

    Args:
        unit: width of one key, value, neuron or hidden unit.
        attention: width reserved for the attentions.
    """

    unit: float
    attention: float


@dataclass(frozen=True)
class Row:
    """One layer of a drawing: its index in the uncut model, its sizes now, and its uncut sizes; None where absent."""

    index: int
    layer: LayerShape | None
    uncut: LayerShape | None


@dataclass(frozen=True)
class Drawing:
    """An SVG as data.

    Args:
        height: in the unit of WIDTH.
        paths: by CSS class, the `d` attribute of a path.
        texts: x, y and text.
        words: the shape as text, for screen readers.
    """

    height: float
    paths: dict[str, str]
    texts: tuple[tuple[float, float, str], ...]
    words: str


def scale_of(shapes: Sequence[EncoderShape]) -> Scale:
    """Return the scale at which the largest of some shapes fills the width."""
    layers = [layer for shape in shapes for layer in shape.layers]
    attention = max([1, *(max(keys_of(layer), values_of(layer)) for layer in layers)])
    neurons = max([1, *(layer.intermediate_size for layer in layers)])
    hidden = max([1, *(shape.hidden_size for shape in shapes)])
    unit = min((WIDTH - LEFT - GAP - 1) / (attention + neurons), (WIDTH - LEFT - 1) / hidden)
    return Scale(unit, unit * attention)


def draw(point: Point, uncut: EncoderShape | None, scale: Scale) -> Drawing:
    """Return the drawing of a point's shape, in front of the uncut shape where there is one."""
    shape = point.shape
    assert shape is not None
    paths: dict[str, list[str]] = {}
    texts = [(0.0, 8.0, "hid.")]
    if uncut is not None:
        paths["ghost"] = [box(LEFT, 2, uncut.hidden_size * scale.unit, LOW_BAR + 2)]
    paths["hidden"] = [box(LEFT, 2, shape.hidden_size * scale.unit, LOW_BAR + 2)]
    rows = rows_of(shape, point.kept, uncut)
    for i, row in enumerate(rows):
        top = (i + 1) * ROW
        texts.append((0.0, top + 9, str(row.index)))
        for name, each in row_paths(row, top, scale):
            paths.setdefault(name, []).append(each)
        if row.layer is None:
            texts.append((LEFT + 4, top + 9, "left out"))
    return Drawing(
        (len(rows) + 1) * ROW, {name: "".join(each) for name, each in paths.items()}, tuple(texts), describe(shape)
    )


def rows_of(shape: EncoderShape, kept: Sequence[int] | None, uncut: EncoderShape | None) -> list[Row]:
    """Return the layers of the uncut model with what is left of each; without an uncut model the shape's own layers."""
    if uncut is None or kept is None or any(index >= uncut.num_layers for index in kept):
        return [Row(i, layer, None) for i, layer in enumerate(shape.layers)]
    left = dict(zip(kept, shape.layers, strict=True))
    return [Row(i, left.get(i), layer) for i, layer in enumerate(uncut.layers)]


def row_paths(row: Row, top: float, scale: Scale) -> list[tuple[str, str]]:
    """Return class and path of every box of a row."""
    paths = []
    right = LEFT + scale.attention + GAP
    if row.uncut is not None:
        paths += [("ghost", each) for each in outlines(row.uncut, top, right, scale)]
    if row.layer is None:
        return paths
    paths += list(boxes(row.layer, top, right, scale).items())
    if row.layer.has_attention:
        paths.append(("ticks", head_ticks(row.layer, top, scale)))
    else:
        paths.append(("absent", f"M{LEFT:.1f} {top + BAR / 2:.1f}h{scale.attention:.1f}"))
    if not row.layer.has_feed_forward:
        width = WIDTH - 1 - right
        paths.append(("absent", f"M{right:.1f} {top + BAR / 2:.1f}h{width:.1f}"))
    return paths


def boxes(layer: LayerShape, top: float, right: float, scale: Scale) -> dict[str, str]:
    """Return the bars of the layer's sub-layers: keys above values, neurons to the right."""
    bars = {}
    if layer.has_attention:
        bars["keys"] = box(LEFT, top, keys_of(layer) * scale.unit, LOW_BAR)
        bars["values"] = box(LEFT, top + BAR - LOW_BAR, values_of(layer) * scale.unit, LOW_BAR)
    if layer.has_feed_forward:
        bars["neurons"] = box(right, top, layer.intermediate_size * scale.unit, BAR)
    return bars


def outlines(layer: LayerShape, top: float, right: float, scale: Scale) -> list[str]:
    """Return a box around each of the layer's sub-layers."""
    sizes = ((LEFT, max(keys_of(layer), values_of(layer))), (right, layer.intermediate_size))
    return [box(left, top, size * scale.unit, BAR) for left, size in sizes if size]


def head_ticks(layer: LayerShape, top: float, scale: Scale) -> str:
    """Return the lines between heads."""
    lines = []
    for i in range(1, layer.num_heads):
        for shift, size in ((0.0, layer.key_dim), (BAR - LOW_BAR, layer.value_dim)):
            lines.append(f"M{LEFT + i * size * scale.unit:.1f} {top + shift:.1f}v{LOW_BAR}")
    return "".join(lines)


def box(left: float, top: float, width: float, height: float) -> str:
    return f"M{left:.1f} {top:.1f}h{width:.1f}v{height:.1f}h{-width:.1f}z"


def keys_of(layer: LayerShape) -> int:
    return layer.num_heads * layer.key_dim


def values_of(layer: LayerShape) -> int:
    return layer.num_heads * layer.value_dim


def describe(shape: EncoderShape) -> str:
    """Return a shape as text, equal neighbouring layers together."""
    parts = [f"hidden size {shape.hidden_size}, {shape.num_layers} layers"]
    done = 0
    for layer, same in groupby(shape.layers):
        count = len(list(same))
        which = f"layer {done}" if count == 1 else f"layers {done} to {done + count - 1}"
        parts.append(f"{which}: {describe_layer(layer)}")
        done += count
    return "; ".join(parts)


def describe_layer(layer: LayerShape) -> str:
    attention = f"{layer.num_heads} heads (key {layer.key_dim}, value {layer.value_dim})"
    neurons = f"{layer.intermediate_size} neurons"
    parts = (
        attention if layer.has_attention else "no attention",
        neurons if layer.has_feed_forward else "no feed-forward",
    )
    return ", ".join(parts)
