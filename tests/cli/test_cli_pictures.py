"""The picture of a shape: a row a layer, a bar that is full where nothing was cut."""

from __future__ import annotations

from dataclasses import replace

from cutbert.api.views import bar, shape_picture
from cutbert.shape.shape import LayerShape
from cutbert.table import as_text
from tiny_runs import SHAPE


def test_bars() -> None:
    assert bar(10, 10) == "##########"
    assert bar(1, 1000) == "#........."
    assert bar(0, 4) == ".........." == bar(0, 0)
    assert bar(5, 10) == "#####....."


def test_a_cut_shape_is_shown_beside_the_uncut_one() -> None:
    layers = (LayerShape(2, 6, 3, 8), LayerShape(0, 0, 0, 32), SHAPE.layers[2])
    cut = replace(SHAPE, hidden_size=12, layers=layers)
    lines = as_text(shape_picture(cut.to_json(), SHAPE.to_json()), 120).splitlines()
    assert lines[0] == "hidden size 12 of 24 #####....."
    first, second, third = (line.split() for line in lines[-3:])
    assert first == ["0", "2", "#####.....", "6", "##########", "3", "#####.....", "8", "##........"]
    assert second == ["1", "0", "..........", "0", "..........", "0", "..........", "32", "##########"]
    assert third[1::2] == [str(size) for size in (4, 6, 6, 32)]
