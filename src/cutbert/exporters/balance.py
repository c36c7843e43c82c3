"""A graph whose products read no outliers: few units with large values move into the weights before int8."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from cutbert.exporters.int8 import Feeds
from cutbert.exporters.session import OnnxRunner
from cutbert.model.task_model import TaskModel

ROWS, LENGTH = 8, 32  # of random tokens; the units with large values are the same in any text
ORDINARY = 0.98  # share of the units of an input that are left as they are
MOST = 100.0  # times an ordinary unit's largest value, that is looked at
STRENGTH = 0.75  # how much of what is above them moves into the weights
LEAST = 1.5  # a largest factor below this is not worth an operator


def balanced(graph: onnx.ModelProto, model: TaskModel) -> onnx.ModelProto:
    """Return a graph that answers as the given one, with inputs of products that int8 rounds finely.

    One scale serves a whole input in int8, and in trained encoders a few units are 10 to 100 times as large as the
    others, so that these keep a few levels of 256. Such units are divided by a factor, in one operator before the
    product, and their rows of its weights multiplied by it.

    Args:
        graph: of `build_graph`, of this model.
        model: says which tokens and lengths there are.

    Source:
        Xiao et al. 2023 (2211.10438), equation 3. Departures: the factor is a power of how far a unit exceeds the
        others rather than of its size beside its weights', most units keep 1, it stays an operator of its own, since a
        LayerNorm after the sum feeds the residual too, and rows are of random tokens, so that no data are needed.
    """
    made = onnx.ModelProto()
    made.CopyFrom(graph)
    weights = {each.name: each for each in made.graph.initializer}
    products = [node for node in made.graph.node if node.op_type == "MatMul" and node.input[1] in weights]
    peaks = largest_values(graph, sorted({node.input[0] for node in products}), random_rows(graph, model))
    nodes = []
    for node in made.graph.node:
        if any(node is each for each in products):
            factors = factors_of(peaks[node.input[0]])
            if factors.max() >= LEAST:
                weight = weights[node.input[1]]
                rows = numpy_helper.to_array(weight) * factors[:, None]
                weight.CopyFrom(numpy_helper.from_array(rows, weight.name))
                scale, x = f"{node.name}_balance", f"{node.name}_balanced"
                made.graph.initializer.append(numpy_helper.from_array(1 / factors, scale))
                nodes.append(helper.make_node("Mul", [node.input[0], scale], [x], name=x))
                node.input[0] = x
        nodes.append(node)
    ordered = [onnx.NodeProto.FromString(each.SerializeToString()) for each in nodes]
    del made.graph.node[:]
    made.graph.node.extend(ordered)
    return made


def factors_of(peaks: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what each unit of an input is divided by, at least 1, from its largest value.

    >>> factors_of(np.float32([1, 1, 1, 1, 16])).tolist()
    [1.0, 1.0, 1.0, 1.0, 8.0]
    """
    ordinary = np.quantile(peaks, ORDINARY, method="lower")
    if not ordinary > 0:
        return np.ones_like(peaks)
    return np.asarray(np.clip(peaks / ordinary, 1, MOST) ** STRENGTH, dtype=np.float32)


def largest_values(graph: onnx.ModelProto, names: list[str], rows: Feeds) -> dict[str, NDArray[np.float32]]:
    """Return the largest value of every unit of some values of a graph, on some rows."""
    if not names:  # for which ONNX Runtime would return all outputs
        return {}
    watched = onnx.ModelProto()
    watched.CopyFrom(graph)
    watched.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    values = OnnxRunner(watched, threads=1).session.run(names, dict(rows))
    return {name: np.abs(x).reshape(-1, x.shape[-1]).max(0) for name, x in zip(names, values, strict=True)}


def random_rows(graph: onnx.ModelProto, model: TaskModel) -> Feeds:
    """Return a batch of random tokens as the inputs of a graph."""
    length = min(LENGTH, model.shape.num_positions - model.style.position_offset)
    ids = np.random.default_rng(0).integers(0, model.shape.vocab_size, (ROWS, length))
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    return {each.name: feeds[each.name] for each in graph.graph.input}
