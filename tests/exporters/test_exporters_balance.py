"""A balanced graph answers as before in float32, and int8 of it is near where a few units are large."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from random_models import HEADS, own_answer, random_inputs, random_model

from cutbert.exporters.balance import balanced
from cutbert.exporters.graph import build_graph
from cutbert.exporters.int8 import instruction_set, quantize
from cutbert.exporters.session import OnnxRunner
from cutbert.model.task_model import TaskModel
from cutbert.shape.shape import EncoderShape

SIZES = {"hidden_size": 48, "num_layers": 2, "num_heads": 4, "intermediate_size": 96, "vocab_size": 60}


@pytest.fixture(scope="module", params=("bert", "mpnet"))
def model(request: pytest.FixtureRequest) -> TaskModel:
    """A network with a hidden unit and a neuron in each layer 60 times as large as the others."""
    shape = EncoderShape.uniform(**SIZES, num_positions=40, num_token_types=0)
    made = random_model(shape, HEADS["none"], request.param)
    with torch.no_grad():
        for layer in made.encoder.layers:
            layer.attention.norm.weight[5] *= 60
            layer.feed_forward.up.weight[:, 5] /= 60
            layer.feed_forward.norm.weight[5] /= 60
            layer.feed_forward.up.weight[7] *= 60
            layer.feed_forward.down.weight[:, 7] /= 60
    return made


def test_outliers_cost_int8_little(model: TaskModel) -> None:
    graph = build_graph(model)
    even = balanced(graph, model)
    inputs = random_inputs(model.shape, (30, 21, 3))
    expected, real = own_answer(model, inputs), inputs[1].astype(bool)

    def error(made: object) -> float:
        return float(np.abs(OnnxRunner(made, 1)(*inputs) - expected)[real].mean() / np.abs(expected[real]).mean())

    assert error(even) < 1e-5
    assert sum(node.name.endswith("_balanced") for node in even.graph.node) >= len(model.encoder.layers)
    assert error(quantize(even, instruction_set())) < 0.4 * error(quantize(graph, instruction_set()))


def test_even_values_stay_as_they_are() -> None:
    made = random_model(EncoderShape.uniform(**SIZES, num_positions=40), HEADS["single_label"])
    graph = build_graph(made)
    factors = [node.name for node in balanced(graph, made).graph.node if node.name.endswith("_balanced")]
    assert len(factors) <= 2 * len(made.encoder.layers)
