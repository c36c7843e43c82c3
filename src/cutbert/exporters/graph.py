"""A network as an ONNX graph in ONNX Runtime's own fused operators, made directly from shape and weights.

Attention is one node, which ONNX Runtime's optimiser finds by pattern in a traced graph, and misses in layers with
different numbers of heads, or with value_dim other than key_dim. `benchmarks/measure_operators.py` chose the operators.

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

from cutbert.exporters.attention import Windows, fused_attention
from cutbert.exporters.nodes import Nodes, apply_activation, values
from cutbert.exporters.scores import ScoreInputs
from cutbert.model.attention import Attention
from cutbert.model.embeddings import Embeddings
from cutbert.model.encoder import EncoderLayer
from cutbert.model.feed_forward import FeedForward
from cutbert.model.heads import MaskedLMHead, Pooler, PredictionTokenHead, SequenceHead, masked_lm_activation
from cutbert.model.prefix import PrefixNorm
from cutbert.model.residual import Residual
from cutbert.model.task_model import TaskModel
from cutbert.shape.shape import EncoderShape
from cutbert.version import __version__

OPSET = 20
IR_VERSION = 10
BATCH, LENGTH = "batch", "length"
VECTOR_OUTPUT = "sentence_embedding"  # as sentence-transformers and optimum call it
SPAN_OUTPUTS = ("start_logits", "end_logits")


def input_names(shape: EncoderShape) -> tuple[str, ...]:
    """Return the inputs of a network's graph, in order; with a single token type there are only two."""
    names = ("input_ids", "attention_mask", "token_type_ids")
    return names if shape.num_token_types > 1 else names[:2]


def build_graph(model: TaskModel) -> onnx.ModelProto:
    """Return a network as an ONNX model.

    Inputs are those of `input_names`, int64 [batch, length], padding anywhere. The output is the logits, shaped as in
    `TaskOutput`; without a head it is the last hidden states, with a pooler these and the pooler's output. Those of
    spans come a second time as `start_logits` and `end_logits`, [batch, length] each, by which loaders know them. An
    embedding's are its vectors, then the last hidden states, which loaders that pool by themselves ask for.

    Raises:
        ModelError: an activation that has no operator in our table.
    """
    nodes = Nodes()
    x = embed(nodes, model.encoder.embeddings, has_types=len(input_names(model.shape)) > 2)
    scores, windows = ScoreInputs(nodes, model), Windows(nodes)
    for layer in model.encoder.layers:
        assert isinstance(layer, EncoderLayer)
        if layer.attention is not None:
            x = attend(nodes, layer.attention, x, scores, windows)
        if layer.feed_forward is not None:
            x = feed_forward(nodes, layer.feed_forward, x, model.style.activation)
    if model.encoder.norm is not None:
        x = layer_norm(nodes, model.encoder.norm, x)
    outputs = finish(nodes, model, x)
    return as_model(nodes, model, outputs)


def embed(nodes: Nodes, embeddings: Embeddings, *, has_types: bool) -> str:
    """Return the embeddings' output; a single token type is added to the position table beforehand."""
    x = nodes.add("Gather", nodes.weight(values(embeddings.token.weight), "token_table"), "input_ids")
    one_type = None
    if embeddings.token_type is not None and not has_types:
        one_type = values(embeddings.token_type.weight)[0]
    if embeddings.position is not None:
        table_PE = values(embeddings.position.weight)
        table_PE = table_PE if one_type is None else table_PE + one_type
        x = nodes.add("Add", x, positions(nodes, table_PE, embeddings.position_offset))
    elif one_type is not None:
        x = nodes.add("Add", x, nodes.weight(one_type))
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


def attend(nodes: Nodes, attention: Attention, x: str, scores: ScoreInputs, windows: Windows) -> str:
    """Return the stream after attention; queries, keys and values are one matrix product."""
    parts = (attention.query, attention.key, attention.value)
    read = read_by(nodes, attention, x)
    joined = nodes.add("MatMul", read, nodes.weight(np.concatenate([values(part.weight) for part in parts]).T))
    bias, has_bias = "", attention.query.bias is not None
    is_read_before = attention.rotary_base is not None or attention.has_distances  # what is read has its bias already
    if has_bias and is_read_before:
        joined = nodes.add("Add", joined, joined_bias(nodes, parts))
    q, k, v = nodes.split(joined, [part.out_features for part in parts])
    if has_bias and not is_read_before:
        bias = joined_bias(nodes, parts)
    if attention.rotary_base is not None:
        q, k = scores.rotated(q, attention), scores.rotated(k, attention)
    if attention.window is not None:
        context = windows.context(attention, attention.window, q, k, v, bias, scores.mask)
    else:
        added_scores = scores.distance_scores(q, k, attention) if attention.has_distances else scores.bias(attention)
        context = fused_attention(nodes, attention, q, k, v, bias, scores.mask, added_scores)
    return added(nodes, attention, attention.output, context, x)


def joined_bias(nodes: Nodes, parts: Sequence[nn.Linear]) -> str:
    """Return the biases of several linear layers, one after the other."""
    return nodes.weight(np.concatenate([values(part.bias) for part in parts]))


def feed_forward(nodes: Nodes, layer: FeedForward, x: str, activation: str) -> str:
    """Return the stream after the feed-forward; both rows of gated neurons are one matrix product."""
    read = read_by(nodes, layer, x)
    if layer.gate is None:
        # In int8 at batch 32 the bias costs less in the product than in an operator that adds it before GELU; for
        # single texts the two are equally fast.
        return added(nodes, layer, layer.down, apply_activation(nodes, activation, linear(nodes, layer.up, read)), x)
    parts = (layer.up, layer.gate)
    joined = nodes.add("MatMul", read, nodes.weight(np.concatenate([values(part.weight) for part in parts]).T))
    if layer.up.bias is not None:
        joined = nodes.add("Add", joined, joined_bias(nodes, parts))
    up, gate = nodes.split(joined, [part.out_features for part in parts])
    return added(nodes, layer, layer.down, nodes.add("Mul", apply_activation(nodes, activation, up), gate), x)


def read_by(nodes: Nodes, layer: Residual, x: str) -> str:
    """Return what a sub-layer's matrices read of the stream."""
    return layer_norm(nodes, layer.norm, x) if layer.norm is not None and layer.norm_place == "before" else x


def added(nodes: Nodes, owner: Residual, layer: nn.Linear, x: str, residual: str) -> str:
    """Return linear(x) + residual, through the sub-layer's LayerNorm where that comes after the sum."""
    # ONNX Runtime's SkipLayerNormalization is bias, sum and norm in one; a block is slower with it on the CPU than with
    # LayerNormalization. Its optimizer makes one of Add and LayerNormalization, and not of Sum.
    total = nodes.add("Sum", linear(nodes, layer, x), residual)
    return total if owner.norm is None or owner.norm_place == "before" else layer_norm(nodes, owner.norm, total)


def layer_norm(nodes: Nodes, norm: PrefixNorm, x: str) -> str:
    weights = [nodes.weight(values(each)) for each in (norm.weight, norm.bias) if each is not None]
    return nodes.add("LayerNormalization", x, *weights, axis=-1, epsilon=norm.eps)


def linear(nodes: Nodes, layer: nn.Linear, x: str) -> str:
    product = nodes.add("MatMul", x, nodes.weight(values(layer.weight).T))
    return product if layer.bias is None else nodes.add("Add", product, nodes.weight(values(layer.bias)))


def finish(nodes: Nodes, model: TaskModel, x: str) -> dict[str, list[Any]]:
    """Add the head; return the shape of each output by name, in order."""
    head, sizes = model.head, [BATCH, LENGTH, model.shape.hidden_size]
    if model.head_spec.kind == "embedding":
        vectors = text_state(nodes, model, x)
        if model.head_spec.normalizes:
            squares = nodes.add("ReduceSum", nodes.add("Mul", vectors, vectors), nodes.integers(1), keepdims=1)
            norms = nodes.add("Max", nodes.add("Sqrt", squares), nodes.weight(np.float32(1e-12)))
            vectors = nodes.add("Div", vectors, norms)
        nodes.name_output(vectors, VECTOR_OUTPUT)
        nodes.name_output(x, "last_hidden_state")
        return {VECTOR_OUTPUT: [BATCH, model.shape.hidden_size], "last_hidden_state": sizes}
    if head is None:
        nodes.name_output(x, "last_hidden_state")
        return {"last_hidden_state": sizes}
    if isinstance(head, Pooler):
        pooled = transformed(nodes, head, text_state(nodes, model, x), model.style.head_activation)
        if not isinstance(head, SequenceHead):
            nodes.name_output(x, "last_hidden_state")
            nodes.name_output(pooled, "pooler_output")
            return {"last_hidden_state": sizes, "pooler_output": [BATCH, model.shape.hidden_size]}
        nodes.name_output(linear(nodes, head.out, pooled), "logits")
        return {"logits": [BATCH, head.out.out_features]}
    if isinstance(head, MaskedLMHead):
        nodes.name_output(vocabulary_scores(nodes, head, x, masked_lm_activation(model.shape, model.style)), "logits")
        return {"logits": [BATCH, LENGTH, model.shape.vocab_size]}
    if isinstance(head, PredictionTokenHead):
        x = transformed(nodes, head, x, model.style.head_activation)
    assert isinstance(head.out, nn.Linear)
    logits = linear(nodes, head.out, x)
    nodes.name_output(logits, "logits")
    outputs: dict[str, list[Any]] = {"logits": [BATCH, LENGTH, head.out.out_features]}
    if model.head_spec.kind == "span":
        for name, each in zip(SPAN_OUTPUTS, nodes.split(logits, [1, 1]), strict=True):
            nodes.name_output(nodes.add("Squeeze", each, nodes.integers(-1)), name)
            outputs[name] = [BATCH, LENGTH]
    return outputs


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


def transformed(nodes: Nodes, head: Pooler | PredictionTokenHead | MaskedLMHead, x: str, activation: str) -> str:
    """Return dense layer, activation and, where there is one, LayerNorm of what a head reads."""
    y = apply_activation(nodes, activation, linear(nodes, head.dense, x))
    return y if head.norm is None else layer_norm(nodes, head.norm, y)


def vocabulary_scores(nodes: Nodes, head: MaskedLMHead, x: str, activation: str) -> str:
    """Return the logits of the vocabulary, through the token table that the file stores once."""
    hidden = transformed(nodes, head, x, activation)
    table_EV = nodes.add("Transpose", "token_table", perm=[1, 0])
    return nodes.add("Add", nodes.add("MatMul", hidden, table_EV), nodes.weight(values(head.bias)))


def as_model(nodes: Nodes, model: TaskModel, outputs: dict[str, list[Any]]) -> onnx.ModelProto:
    """Return nodes and weights as a whole ONNX model.

    Args:
        nodes: of the graph, in order.
        model: the network, whose inputs it takes.
        outputs: sizes of each output by name; a text for one that is open.
    """
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
