"""A network as an ONNX graph in ONNX Runtime's own fused operators, made directly from shape and weights.

Attention, residual with LayerNorm, and GELU with its bias are one node each. ONNX Runtime's optimiser finds such nodes
by pattern in a traced graph, and misses layers with different numbers of heads, or with value_dim other than key_dim.

Axes: B batch, S sequence, H hidden, N heads, K key_dim, V value_dim, E table width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper
from torch import nn

from cutbert.exporters.nodes import Nodes, apply_activation, check_activation
from cutbert.model.attention import Attention
from cutbert.model.embeddings import Embeddings
from cutbert.model.encoder import EncoderLayer
from cutbert.model.feed_forward import FeedForward
from cutbert.model.heads import MaskedLMHead, Pooler, SequenceHead
from cutbert.model.prefix import PrefixNorm
from cutbert.model.relative import biases_by_distance
from cutbert.model.task_model import TaskModel
from cutbert.shape.shape import EncoderShape
from cutbert.version import __version__

OPSET = 20
IR_VERSION = 10
BATCH, LENGTH = "batch", "length"


def input_names(shape: EncoderShape) -> tuple[str, ...]:
    """Return the inputs of a network's graph, in order; with a single token type there are only two."""
    names = ("input_ids", "attention_mask", "token_type_ids")
    return names if shape.num_token_types > 1 else names[:2]


def build_graph(model: TaskModel) -> onnx.ModelProto:
    """Return a network as an ONNX model.

    Inputs are those of `input_names`, int64 [batch, length], padding anywhere. The output is the logits, shaped as in
    `TaskOutput`; without a head it is the last hidden states, with a pooler these and the pooler's output.

    Raises:
        ModelError: an activation that has no operator in our table.
    """
    check_activation(model)
    nodes = Nodes()
    x = embed(nodes, model.encoder.embeddings, has_types=len(input_names(model.shape)) > 2)
    scores = ScoreInputs(nodes, model)
    for layer in model.encoder.layers:
        assert isinstance(layer, EncoderLayer)
        if layer.attention is not None:
            x = attend(nodes, layer.attention, x, scores)
        if layer.feed_forward is not None:
            x = feed_forward(nodes, layer.feed_forward, x, model.style.activation)
    outputs = finish(nodes, model, x)
    return as_model(nodes, model, outputs)


def embed(nodes: Nodes, embeddings: Embeddings, *, has_types: bool) -> str:
    """Return the embeddings' output; a single token type is added to the position table beforehand."""
    table_PE = values(embeddings.position.weight)
    if embeddings.token_type is not None and not has_types:
        table_PE = table_PE + values(embeddings.token_type.weight)[0]
    x = nodes.add("Gather", nodes.weight(values(embeddings.token.weight), "token_table"), "input_ids")
    x = nodes.add("Add", x, positions(nodes, table_PE, embeddings.position_offset))
    if embeddings.token_type is not None and has_types:
        types = nodes.add("Gather", nodes.weight(values(embeddings.token_type.weight)), "token_type_ids")
        x = nodes.add("Add", x, types)
    x = layer_norm(nodes, embeddings.norm, x)
    return x if embeddings.projection is None else linear(nodes, embeddings.projection, x)


def positions(nodes: Nodes, table_PE: NDArray[np.float32], offset: int) -> str:
    """Return the rows of the position table: in order, or counted over tokens only (RoBERTa, offset above 0)."""
    if not offset:
        length = nodes.add("Shape", "input_ids", start=1, end=2)
        return nodes.add("Slice", nodes.weight(table_PE), nodes.integers(0), length, nodes.integers(0))
    count = nodes.add("CumSum", "attention_mask", nodes.scalar(1))
    place = nodes.add("Max", nodes.add("Sub", count, nodes.integers(1)), nodes.integers(0))
    place = nodes.add("Add", nodes.add("Mul", place, "attention_mask"), nodes.integers(offset))
    return nodes.add("Gather", nodes.weight(table_PE), place)


class ScoreInputs:
    """What is added to the scores of attention: the mask, and relative biases, once for all layers that share them.

    Args:
        nodes: of the graph.
        model: the network.
    """

    def __init__(self, nodes: Nodes, model: TaskModel) -> None:
        self.nodes, self.model = nodes, model
        self.mask = nodes.add("Cast", "attention_mask", to=TensorProto.INT32)
        self.by_columns: dict[tuple[int, ...], str] = {}
        self.distances: str | None = None

    def bias(self, attention: Attention) -> str:
        """Return an attention's relative biases, [1, N, S, S]; an empty name where it has none."""
        if attention.bias_heads is None:
            return ""
        columns = tuple(attention.bias_heads.tolist())
        if columns not in self.by_columns:
            self.by_columns[columns] = self.relative_biases(columns)
        return self.by_columns[columns]

    def relative_biases(self, columns: Sequence[int]) -> str:
        """Return the biases of a layer's heads, looked up by distance.

        GatherND, since int8 would quantise the table of a Gather.
        """
        nodes, relative = self.nodes, self.model.encoder.embeddings.relative
        assert relative is not None
        longest = self.model.shape.num_positions - self.model.style.position_offset
        table_DN = values(biases_by_distance(relative.weight, longest))[:, list(columns)]
        if self.distances is None:
            self.distances = self.distance_rows(longest - 1)
        biases_SSN = nodes.add("GatherND", nodes.weight(table_DN), self.distances)
        return nodes.add("Unsqueeze", nodes.add("Transpose", biases_SSN, perm=[2, 0, 1]), nodes.integers(0))

    def distance_rows(self, first: int) -> str:
        """Return `key - query + first` for every pair of positions, [S, S, 1]."""
        nodes = self.nodes
        length = nodes.add("Squeeze", nodes.add("Shape", "input_ids", start=1, end=2))
        places = nodes.add("Range", nodes.scalar(0), length, nodes.scalar(1))
        keys = nodes.add("Unsqueeze", places, nodes.integers(0))
        queries = nodes.add("Unsqueeze", places, nodes.integers(1))
        rows = nodes.add("Add", nodes.add("Sub", keys, queries), nodes.integers(first))
        return nodes.add("Unsqueeze", rows, nodes.integers(2))


def attend(nodes: Nodes, attention: Attention, x: str, scores: ScoreInputs) -> str:
    """Return the states after attention, residual and LayerNorm; queries, keys and values are one matrix product."""
    parts = (attention.query, attention.key, attention.value)
    joined = nodes.add("MatMul", x, nodes.weight(np.concatenate([values(part.weight) for part in parts]).T))
    q, k, v = nodes.split(joined, [part.out_features for part in parts])
    bias = nodes.weight(np.concatenate([values(part.bias) for part in parts]))
    inputs = [q, k, v, bias, scores.mask, scores.bias(attention)]
    while not inputs[-1]:
        inputs.pop()
    context = nodes.add_fused("MultiHeadAttention", *inputs, num_heads=attention.num_heads)
    return add_and_norm(nodes, attention.output, attention.norm, context, x)


def feed_forward(nodes: Nodes, layer: FeedForward, x: str, activation: str) -> str:
    """Return the states after the feed-forward, residual and LayerNorm."""
    up = nodes.add("MatMul", x, nodes.weight(values(layer.up.weight).T))
    neurons = apply_activation(nodes, activation, up, nodes.weight(values(layer.up.bias)))
    return add_and_norm(nodes, layer.down, layer.norm, neurons, x)


def add_and_norm(nodes: Nodes, layer: nn.Linear, norm: PrefixNorm, x: str, residual: str) -> str:
    """Return LayerNorm(linear(x) + residual)."""
    product = nodes.add("MatMul", x, nodes.weight(values(layer.weight).T))
    # One operator adds bias and residual and normalises. Fused is not always faster: on the CPU, ONNX Runtime's
    # SkipLayerNormalization was measured six times slower than its LayerNormalization.
    weights = [nodes.weight(values(each)) for each in (norm.weight, norm.bias, layer.bias)]
    return nodes.add_fused("SkipLayerNormalization", product, residual, *weights, epsilon=norm.eps)


def layer_norm(nodes: Nodes, norm: PrefixNorm, x: str) -> str:
    weights = [nodes.weight(values(each)) for each in (norm.weight, norm.bias)]
    return nodes.add("LayerNormalization", x, *weights, axis=-1, epsilon=norm.eps)


def linear(nodes: Nodes, layer: nn.Linear, x: str) -> str:
    product = nodes.add("MatMul", x, nodes.weight(values(layer.weight).T))
    return nodes.add("Add", product, nodes.weight(values(layer.bias)))


def finish(nodes: Nodes, model: TaskModel, x: str) -> dict[str, list[Any]]:
    """Add the head; return the shape of each output by name, in order."""
    head, sizes = model.head, [BATCH, LENGTH, model.shape.hidden_size]
    if head is None:
        nodes.name_output(x, "last_hidden_state")
        return {"last_hidden_state": sizes}
    if isinstance(head, Pooler):
        pooled = linear(nodes, head.dense, text_state(nodes, model, x))
        pooled = apply_activation(nodes, model.style.head_activation, pooled)
        if not isinstance(head, SequenceHead):
            nodes.name_output(x, "last_hidden_state")
            nodes.name_output(pooled, "pooler_output")
            return {"last_hidden_state": sizes, "pooler_output": [BATCH, model.shape.hidden_size]}
        nodes.name_output(linear(nodes, head.out, pooled), "logits")
        return {"logits": [BATCH, head.out.out_features]}
    if isinstance(head, MaskedLMHead):
        nodes.name_output(vocabulary_scores(nodes, head, x, model.style.activation), "logits")
        return {"logits": [BATCH, LENGTH, model.shape.vocab_size]}
    assert isinstance(head.out, nn.Linear)
    nodes.name_output(linear(nodes, head.out, x), "logits")
    return {"logits": [BATCH, LENGTH, head.out.out_features]}


def text_state(nodes: Nodes, model: TaskModel, x: str) -> str:
    """Return what the head reads of each text, [B, H].

    The mean is of operators that int8 leaves in float32; a MatMul with the mask would be quantised in static int8.
    """
    if model.pooling == "cls":
        return nodes.add("Gather", x, nodes.scalar(0), axis=1)
    mask = nodes.add("Cast", "attention_mask", to=TensorProto.FLOAT)
    tokens = nodes.add("Mul", x, nodes.add("Unsqueeze", mask, nodes.integers(2)))
    total = nodes.add("ReduceSum", tokens, nodes.integers(1), keepdims=0)
    return nodes.add("Div", total, nodes.add("ReduceSum", mask, nodes.integers(1), keepdims=1))


def vocabulary_scores(nodes: Nodes, head: MaskedLMHead, x: str, activation: str) -> str:
    """Return the logits of the vocabulary, through the token table that the file stores once."""
    hidden = layer_norm(nodes, head.norm, apply_activation(nodes, activation, linear(nodes, head.dense, x)))
    table_EV = nodes.add("Transpose", "token_table", perm=[1, 0])
    return nodes.add("Add", nodes.add("MatMul", hidden, table_EV), nodes.weight(values(head.bias)))


def as_model(nodes: Nodes, model: TaskModel, outputs: dict[str, list[Any]]) -> onnx.ModelProto:
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, [BATCH, LENGTH]) for name in input_names(model.shape)
    ]
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes) for name, sizes in outputs.items()]
    graph = helper.make_graph(nodes.nodes, "cutbert", inputs, results, nodes.initializers)
    return helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(nodes.FUSED, 1)],
        ir_version=IR_VERSION,
        producer_name="cutbert",
        producer_version=__version__,
    )


def values(tensor: Any) -> NDArray[np.float32]:
    """Return a parameter as an array in float32."""
    array: NDArray[np.float32] = tensor.detach().float().cpu().numpy()
    return array
