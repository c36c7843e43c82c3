"""The grid: which layers and sizes each rule keeps, names, order, mistakes."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_shapes import BERT_BASE

from cutbert.errors import ShapeError
from cutbert.shape.cost import cost_of
from cutbert.shape.shape import EncoderShape, LayerShape
from cutbert.shape.space import grid, kept_layers, kept_sizes
from cutbert.shape.subnet import Subnet

MINILM = EncoderShape.uniform(hidden_size=384, num_layers=6, num_heads=12, intermediate_size=1536, vocab_size=30522)


def one_based(num_layers: int, mult: float, rule: Any = "paper") -> list[int]:
    return [i + 1 for i in kept_layers(num_layers, mult, rule)]


def test_layers_of_the_papers_table() -> None:
    # PAPERS 1.4
    assert one_based(12, 0.75) == [1, 2, 4, 5, 6, 8, 9, 10, 12]
    assert one_based(12, 0.5) == [2, 4, 6, 8, 10, 12]
    assert one_based(12, 0.75, "release") == [1, 2, 3, 5, 6, 7, 9, 10, 11]
    assert one_based(12, 0.5, "release") == [1, 3, 5, 7, 9, 11]


def test_layers_of_six() -> None:
    assert one_based(6, 0.75) == [1, 2, 4, 5, 6]
    assert one_based(6, 0.5) == [2, 4, 6]
    assert one_based(6, 1 / 3) == [3, 6]
    assert one_based(6, 1 / 6) == [6]
    assert one_based(6, 0.1) == [6]
    assert one_based(7, 0.3125) == [4, 7]
    assert one_based(6, 5 / 6) == [1, 2, 3, 4, 6]
    assert one_based(7, 0.75) == [1, 2, 4, 5, 6, 7], "a drop that would reach the last layer is left out"


@given(st.integers(1, 48), st.data())
def test_a_count_of_layers_is_met_exactly_and_the_last_stays(num_layers: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, num_layers))
    kept = kept_layers(num_layers, count / num_layers)
    assert len(kept) == len(set(kept)) == count
    assert kept[-1] == num_layers - 1 and list(kept) == sorted(kept) and kept[0] >= 0


@given(st.integers(1, 48), st.floats(0.001, 1.0), st.sampled_from(["paper", "release"]))
def test_any_multiplier_keeps_layers_that_exist(num_layers: int, mult: float, rule: Any) -> None:
    kept = kept_layers(num_layers, mult, rule)
    assert list(kept) == sorted(set(kept)) and kept[0] >= 0 and kept[-1] < num_layers
    assert rule == "release" or kept[-1] == num_layers - 1
    assert abs(len(kept) - mult * num_layers) <= 1


def test_sizes_round_down_under_paper_and_to_steps_of_heads_under_release() -> None:
    layer = LayerShape(12, 64, 64, 3072)
    assert kept_sizes(layer, 0.29, 0.29) == LayerShape(3, 64, 64, 890)
    assert kept_sizes(layer, 0.29, 0.29, "release") == LayerShape(3, 64, 64, 768)
    assert kept_sizes(layer, 0.3, 0.3, "release") == LayerShape(4, 64, 64, 1024)
    assert kept_sizes(layer, 2.5 / 12, 3.5 / 12, "release") == LayerShape(2, 64, 64, 1024), "halves go to even"
    assert kept_sizes(layer, 0.01, 0.0001) == LayerShape(1, 64, 64, 1)
    assert kept_sizes(layer, 0.01, 0.01, "release") == LayerShape(1, 64, 64, 1)
    assert kept_sizes(LayerShape(100, 1, 1, 100), 0.29, 0.57) == LayerShape(29, 1, 1, 57), "as 0.29 reads"


@pytest.mark.parametrize("rule", ["paper", "release"])
def test_absent_sub_layers_stay_absent(rule: Any) -> None:
    assert kept_sizes(LayerShape(0, 0, 0, 8), 0.5, 0.5, rule) == LayerShape(0, 0, 0, 4)
    assert kept_sizes(LayerShape(2, 4, 4, 0), 0.5, 0.5, rule) == LayerShape(1, 4, 4, 0)


def test_both_rules_agree_on_the_published_widths() -> None:
    for mult in (1.0, 0.75, 0.5, 0.25):
        layer = BERT_BASE.layers[0]
        assert kept_sizes(layer, mult, mult) == kept_sizes(layer, mult, mult, "release")


def test_the_papers_grid_with_stock_shapes() -> None:
    points = grid(MINILM, width_mults=(1.0, 0.75, 0.5, 0.25), depth_mults=(1.0, 0.75, 0.5))
    names = [point.name for point in points]
    assert len(points) == 12 + 9 and names[0] == "w1.0-d1.0" and names[-1] == "w0.25-d0.5"
    assert points[0].subnet == Subnet.full(MINILM)
    by_name = {point.name: point for point in points}
    narrow = by_name["w0.25-d0.5"]
    assert (narrow.head_mult, narrow.ffn_mult, narrow.width_mult, narrow.depth_mult) == (0.25, 0.25, 0.25, 0.5)
    thin = by_name["h1.0-f0.5-d0.75"]
    assert thin.width_mult is None and (thin.head_mult, thin.ffn_mult) == (1.0, 0.5)
    stock = {point.name for point in points if point.subnet.shape_in(MINILM).is_stock}
    assert stock == {name for name in names if name.startswith(("h1.0", "w1.0"))}


def test_no_stock_shapes_of_a_supernet_that_has_none() -> None:
    free = dataclasses.replace(MINILM, layers=tuple(LayerShape(12, 32, 32, 100 + i) for i in range(6)))
    names = {point.name for point in grid(free, width_mults=(1.0, 0.5), depth_mults=(1.0,))}
    assert names == {"w1.0-d1.0", "w0.5-d1.0"}


def test_heads_and_neurons_apart_make_all_pairs() -> None:
    points = grid(MINILM, head_mults=(1.0, 0.5), ffn_mults=(1.0, 0.5, 0.25), depth_mults=(1.0,), stock=False)
    assert {point.name for point in points} == {
        "w1.0-d1.0", "h1.0-f0.5-d1.0", "h1.0-f0.25-d1.0", "h0.5-f1.0-d1.0", "w0.5-d1.0", "h0.5-f0.25-d1.0",
    }  # fmt: skip
    one_given = grid(MINILM, width_mults=(1.0,), ffn_mults=(0.5,), depth_mults=(1.0,), stock=False)
    assert [point.name for point in one_given] == ["h1.0-f0.5-d1.0"]


def test_depths_as_counts() -> None:
    points = grid(MINILM, width_mults=(1,), depths=(6, 5, 3, 1))
    assert [point.name for point in points] == ["w1.0-d1.0", "w1.0-d0.8333", "w1.0-d0.5", "w1.0-d0.1667"]
    assert [point.subnet.num_layers for point in points] == [6, 5, 3, 1]
    assert points[1].depth_mult == 5 / 6


def test_each_subnet_comes_once_under_its_first_name() -> None:
    points = grid(MINILM, width_mults=(0.26, 0.2501), ffn_mults=(0.25,), depth_mults=(0.5,), depths=(3,), stock=False)
    assert [point.name for point in points] == ["h0.26-f0.25-d0.5"]


def test_largest_first() -> None:
    points = grid(MINILM, width_mults=(0.25, 1.0, 0.125), depth_mults=(0.5, 1.0))
    params = [cost_of(point.subnet.shape_in(MINILM)).params for point in points]
    assert params == sorted(params, reverse=True)


def test_all_mistakes_are_shown_together() -> None:
    with pytest.raises(ShapeError) as caught:
        grid(
            MINILM,
            width_mults=(0.0, 1.5),
            head_mults=(-1,),
            ffn_mults=(float("nan"),),
            depth_mults=("half",),  # type: ignore[arg-type]
            depths=(0, 7, 2.5),  # type: ignore[arg-type]
            rule="code",  # type: ignore[arg-type]
        )
    assert caught.value.mistakes == (
        "width_mult must lie in (0, 1], got 0.0",
        "width_mult must lie in (0, 1], got 1.5",
        "head_mult must lie in (0, 1], got -1",
        "ffn_mult must lie in (0, 1], got nan",
        "depth_mult must lie in (0, 1], got 'half'",
        "depth must be an integer in 1..6, got 0",
        "depth must be an integer in 1..6, got 7",
        "depth must be an integer in 1..6, got 2.5",
        "rule must be one of paper, release, got 'code'",
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth_mults": (1.0,)}, "a grid must have width_mults, or head_mults and ffn_mults; got neither"),
        ({"ffn_mults": (1.0,), "depth_mults": (1.0,)}, "a grid must have width_mults, or head_mults and ffn_mults"),
        ({"width_mults": (1.0,)}, "a grid must have depth_mults or depths, got neither"),
        (
            {"width_mults": (0.50001, 0.50002), "depth_mults": (1.0,), "stock": False},
            "multipliers must differ within 4 decimals, got two subnets named w0.5-d1.0",
        ),
    ],
)
def test_grids_that_cannot_be(options: dict[str, Any], message: str) -> None:
    many = dataclasses.replace(MINILM, layers=(LayerShape(12, 32, 32, 10**6),))
    with pytest.raises(ShapeError, match=message):
        grid(many, **options)


def test_a_shape_without_layers_has_no_grid() -> None:
    with pytest.raises(ShapeError, match="a grid must have layers to choose from"):
        grid(EncoderShape(8, (), 11, 16), width_mults=(1.0,), depth_mults=(1.0,))
