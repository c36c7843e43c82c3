"""A network's ONNX graph answers as the network itself, whatever its shape, head and family."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from random_models import HEADS, own_answer, random_inputs, random_model, random_shape

from cutbert.exporters import int8
from cutbert.exporters.attention import GROUPED_ABOVE
from cutbert.exporters.graph import build_graph, input_names
from cutbert.exporters.int8 import instruction_set, quantize
from cutbert.exporters.nodes import ACTIVATIONS
from cutbert.exporters.session import OnnxRunner
from cutbert.model.style import FAMILIES
from cutbert.model.task_model import TaskModel
from cutbert.shape.head import HEAD_KINDS
from cutbert.shape.ingredients import Ingredients
from cutbert.shape.pooling import Pooling
from cutbert.shape.shape import EncoderShape, LayerShape

MIXED = EncoderShape(
    hidden_size=12,
    layers=(LayerShape(3, 5, 4, 7), LayerShape(0, 0, 0, 6), LayerShape(1, 6, 6, 0), LayerShape(2, 3, 5, 9)),
    vocab_size=23,
    num_positions=16,
)

MEAN = ("Gather", "Cast", "Unsqueeze", "Mul", "ReduceSum", "Div")


def check_same(model: TaskModel) -> None:
    """Compare in batches of several sizes, padded and not; what stands at padding is nobody's business."""
    runner = OnnxRunner(build_graph(model), threads=1)
    for lengths in ((9, 5, 1), (4,), (2, 2)):
        inputs = random_inputs(model.shape, lengths)
        ours, theirs, real = own_answer(model, inputs), runner(*inputs), inputs[1].astype(bool)
        assert theirs.shape == ours.shape
        if ours.ndim == 3:
            ours, theirs = ours[real], theirs[real]
        np.testing.assert_allclose(theirs, ours, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("seed", range(40))
def test_any_shape(seed: int) -> None:
    family, kind = FAMILIES[seed % len(FAMILIES)], HEAD_KINDS[seed % len(HEAD_KINDS)]
    pooling: Pooling = "mean" if seed % 3 else "cls"
    check_same(random_model(random_shape(seed, family), HEADS[kind], family, pooling=pooling, seed=seed))


@pytest.mark.parametrize("family", ("bert", "roberta"))
@pytest.mark.parametrize("kind", HEAD_KINDS)
def test_every_head(family: str, kind: str) -> None:
    check_same(random_model(MIXED, HEADS[kind], family))
    check_same(random_model(MIXED, HEADS[kind], family, pooling="mean"))


@pytest.mark.parametrize("family", ("mpnet", "modernbert", "nomic_bert", "gte", "deberta-v2"))
@pytest.mark.parametrize("kind", HEAD_KINDS)
def test_every_head_of_other_families(family: str, kind: str) -> None:
    for seed in range(3):
        check_same(random_model(random_shape(seed, family), HEADS[kind], family, seed=seed))


def test_any_mixture_of_ingredients() -> None:
    made = Ingredients(
        has_position_table=False,
        rotary_bases=(50.0, 50.0),
        num_bias_heads=3,
        is_gated=True,
        has_attention_bias=False,
        has_feed_forward_bias=False,
        has_norm_bias=False,
    )
    layers = (LayerShape(3, 4, 5, 7), LayerShape(0, 0, 0, 6), LayerShape(2, 2, 3, 0))
    check_same(random_model(replace(MIXED, layers=layers, ingredients=made), HEADS["single_label"]))


@pytest.fixture(scope="module", params=(False, True))
def windowed(request: pytest.FixtureRequest) -> TaskModel:
    """Two local layers around a global one, with biases or without."""
    made = Ingredients(
        norm_first=True,
        has_position_table=False,
        rotary_bases=(1000.0, 100.0),
        window=3,
        local_layers=(True, False, True),
        is_gated=True,
        has_attention_bias=request.param,
    )
    layers = (LayerShape(3, 4, 5, 7), LayerShape(2, 6, 4, 9), LayerShape(1, 4, 6, 5))
    shape = replace(MIXED, layers=layers, num_positions=64, num_token_types=0, ingredients=made)
    return random_model(shape, HEADS["token"], "modernbert")


def test_windows_of_long_texts(windowed: TaskModel) -> None:
    """Lengths around where groups begin and end, below and above where there are any; texts that end anywhere."""
    graph = build_graph(windowed)
    onnx.checker.check_model(graph)
    runner = OnnxRunner(graph, threads=1)
    limit = GROUPED_ABOVE * 3
    for lengths in ((1,), (limit - 1, 2), (limit, 5), (limit + 1, 1), (limit + 2, 9, 7), (limit + 3,) * 2, (64, 30)):
        inputs = random_inputs(windowed.shape, lengths)
        real = inputs[1].astype(bool)
        np.testing.assert_allclose(runner(*inputs)[real], own_answer(windowed, inputs)[real], rtol=1e-4, atol=1e-5)


def test_int8_rounds_the_same_products_around_windows(windowed: TaskModel) -> None:
    graph = build_graph(windowed)
    inputs = random_inputs(windowed.shape, (40, 7))
    products = [node for node in graph.graph.node if node.op_type == "MatMul"]
    for calibration in (None, [dict(zip(("input_ids", "attention_mask"), inputs, strict=False))]):
        made = quantize(graph, instruction_set(), calibration)
        onnx.checker.check_model(made)
        kinds = Counter(node.op_type for node in made.graph.node)
        assert kinds["MatMulInteger"] == (len(products) if calibration is None else 0) and kinds["If"] == 2
        real = inputs[1].astype(bool)
        np.testing.assert_allclose(
            OnnxRunner(made, threads=1)(*inputs)[real], own_answer(windowed, inputs)[real], atol=0.1
        )


@pytest.mark.parametrize("instructions", ["avx512_vnni", "avx2"])
def test_each_output_has_the_scale_of_the_library(instructions: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the bit, and in every node; an output without weights among them."""
    model = random_model(MIXED, HEADS["single_label"])
    with torch.no_grad():
        model.encoder.layers[0].feed_forward.up.weight[1] = 0
    graph = build_graph(model)
    ours = quantize(graph, instructions)
    monkeypatch.setattr(int8, "quantize_dynamic", partial(int8.quantize_dynamic, per_channel=True))
    monkeypatch.setattr(int8, "give_channels_scales", lambda *parts: None)
    theirs = quantize(graph, instructions)
    found, wanted = ({each.name: each for each in made.graph.initializer} for made in (ours, theirs))
    assert found.keys() == wanted.keys() and list(ours.graph.node) == list(theirs.graph.node)
    for name, each in wanted.items():
        assert found[name].data_type == each.data_type
        np.testing.assert_array_equal(numpy_helper.to_array(found[name]), numpy_helper.to_array(each))
    assert any(len(each.dims) == 1 and name.endswith("_scale") for name, each in wanted.items())


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation(activation: str) -> None:
    check_same(random_model(MIXED, HEADS["single_label"], activation=activation))


def test_int8_leaves_the_mean_alone() -> None:
    """Of dynamic and of static ranges: what int8 changes in the graph of a mean is what it changes in that of cls."""
    added = []
    for pooling in ("cls", "mean"):
        graph = build_graph(random_model(MIXED, HEADS["single_label"], pooling=pooling))
        before = Counter(node.op_type for node in graph.graph.node)
        ids, mask, types = random_inputs(MIXED, (4,))
        feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
        for calibration in (None, [feeds]):
            after = Counter(node.op_type for node in quantize(graph, instruction_set(), calibration).graph.node)
            added.append({kind: after[kind] - before[kind] for kind in after | before if kind not in MEAN})
            assert all(after[kind] == before[kind] for kind in ("ReduceSum", "Div", "Unsqueeze"))
    assert added[:2] == added[2:]


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_padding_changes_nothing(pooling: Pooling) -> None:
    model = random_model(MIXED, HEADS["single_label"], pooling=pooling)
    runner = OnnxRunner(build_graph(model), threads=1)
    ids, mask, types = random_inputs(model.shape, (9, 5, 1))
    padded = runner(ids, mask, types)
    for row, length in enumerate((9, 5, 1)):
        alone = runner(*(x[row : row + 1, :length] for x in (ids, mask, types)))
        np.testing.assert_allclose(padded[row : row + 1], alone, atol=1e-5)


def test_attention_norms_and_gelu_are_one_node_each() -> None:
    kinds = Counter(node.op_type for node in build_graph(random_model(MIXED, HEADS["span"])).graph.node)
    assert kinds["MultiHeadAttention"] == 3
    assert kinds["Gelu"] == 3
    assert kinds["LayerNormalization"] == 7 and kinds["Sum"] == 6
    assert not {"Softmax", "Erf", "Sqrt", "ReduceMean", "If"} & kinds.keys()


@pytest.mark.parametrize("family", ("bert", "modernbert"))
@pytest.mark.parametrize("is_int8", (False, True))
def test_onnxruntime_fuses_no_norm_with_its_sum(tmp_path: Path, family: str, is_int8: bool) -> None:
    shape = MIXED if family == "bert" else random_shape(7, family)
    graph = build_graph(random_model(shape, HEADS["single_label"], family))
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized")
    options.log_severity_level = 3
    made = quantize(graph, instruction_set()) if is_int8 else graph
    onnxruntime.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    kinds = Counter(node.op_type for node in onnx.load(tmp_path / "optimized").graph.node)
    assert kinds["LayerNormalization"] and "SkipLayerNormalization" not in kinds


@pytest.mark.parametrize(("num_token_types", "count"), [(0, 2), (1, 2), (2, 3)])
def test_inputs(num_token_types: int, count: int) -> None:
    shape = EncoderShape.uniform(
        hidden_size=8, num_layers=1, num_heads=2, intermediate_size=8, vocab_size=9, num_token_types=num_token_types
    )
    graph = build_graph(random_model(shape, HEADS["token"])).graph
    names = ("input_ids", "attention_mask", "token_type_ids")[:count]
    assert input_names(shape) == names == tuple(each.name for each in graph.input)
    assert [each.name for each in graph.output] == ["logits"]
    for each in graph.input:
        assert [dim.dim_param for dim in each.type.tensor_type.shape.dim] == ["batch", "length"]
