"""Other operators for the same function: each variant takes an exported graph of plain BERT layers and rewrites it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

FUSED = "com.microsoft"
Variant = Callable[[onnx.ModelProto], onnx.ModelProto]


class Rewriter:
    """A copy of a graph in which groups of nodes are replaced; `model` returns it.

    Args:
        source: the graph, which is not changed.
    """

    def __init__(self, source: onnx.ModelProto) -> None:
        self.result = onnx.ModelProto()
        self.result.CopyFrom(source)
        self.nodes = list(self.result.graph.node)
        self.weights = {each.name: each for each in self.result.graph.initializer}

    def of(self, kind: str) -> list[NodeProto]:
        return [node for node in self.nodes if node.op_type == kind]

    def maker(self, name: str) -> NodeProto | None:
        """Return the node that makes a value; None for inputs and weights."""
        return next((node for node in self.nodes if name in node.output), None)

    def made_by(self, name: str, kind: str) -> NodeProto:
        node = self.maker(name)
        assert node is not None and node.op_type == kind, f"{name} must be made by {kind}"
        return node

    def array(self, name: str) -> NDArray[Any]:
        return numpy_helper.to_array(self.weights[name])

    def weight(self, array: ArrayLike) -> str:
        name = f"variant_weight_{len(self.weights)}"
        self.weights[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def replace(self, old: Sequence[NodeProto], new: Sequence[NodeProto]) -> None:
        """Put new nodes where the last of the old ones was."""
        places = [i for i, node in enumerate(self.nodes) if any(node is each for each in old)]
        self.nodes[places[-1] + 1 : places[-1] + 1] = new
        self.nodes = [node for i, node in enumerate(self.nodes) if i not in places]

    def model(self) -> onnx.ModelProto:
        used = {name for node in self.nodes for name in node.input}
        graph = self.result.graph
        del graph.node[:], graph.initializer[:]
        graph.node.extend(self.nodes)
        graph.initializer.extend(each for name, each in self.weights.items() if name in used)
        return self.result


def attribute(node: NodeProto, name: str) -> Any:
    return next(helper.get_attribute_value(each) for each in node.attribute if each.name == name)


def one_norm_operator(model: onnx.ModelProto) -> onnx.ModelProto:
    """Bias, sum and LayerNorm behind a sub-layer as one SkipLayerNormalization."""
    graph = Rewriter(model)
    for norm in graph.of("LayerNormalization"):
        total = graph.maker(norm.input[0])
        if total is None or total.op_type != "Sum":
            continue
        product = graph.made_by(total.input[0], "Add")
        inputs = [product.input[0], total.input[1], norm.input[1], norm.input[2], product.input[1]]
        epsilon = attribute(norm, "epsilon")
        new = helper.make_node("SkipLayerNormalization", inputs, norm.output, domain=FUSED, epsilon=epsilon)
        graph.replace([product, total, norm], [new])
    return graph.model()


def activation(kind: str, domain: str, *, has_bias: bool) -> Variant:
    """Return the variant with another operator for GELU, behind a product with its bias or with the bias itself."""

    def rewrite(model: onnx.ModelProto) -> onnx.ModelProto:
        graph = Rewriter(model)
        for gelu in graph.of("Gelu"):
            added = graph.made_by(gelu.input[0], "Add")
            inputs, old = (added.input, [added, gelu]) if has_bias else (gelu.input, [gelu])
            graph.replace(old, [helper.make_node(kind, inputs, gelu.output, domain=domain)])
        return graph.model()

    return rewrite


def three_products(model: onnx.ModelProto) -> onnx.ModelProto:
    """Queries, keys and values as a product each, of one input that int8 rounds once."""
    graph = Rewriter(model)
    for attention in graph.of("MultiHeadAttention"):
        parts = graph.made_by(attention.input[0], "Split")
        joined = graph.made_by(parts.input[0], "MatMul")
        each = np.split(graph.array(joined.input[1]), 3, axis=1)
        new = [
            helper.make_node("MatMul", [joined.input[0], graph.weight(one)], [name])
            for one, name in zip(each, parts.output, strict=True)
        ]
        graph.replace([joined, parts], new)
    return graph.model()


def written_attention(model: onnx.ModelProto) -> onnx.ModelProto:
    """Attention as products, softmax and transposes."""
    graph = Rewriter(model)
    mask = [
        helper.make_node("Cast", ["attention_mask"], ["mask_float"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["mask_float", graph.weight(np.float32(1))], ["mask_below"]),
        helper.make_node("Mul", ["mask_below", graph.weight(np.float32(1e9))], ["mask_scores"]),
        helper.make_node("Unsqueeze", ["mask_scores", graph.weight(np.array([1, 2]))], ["mask_bias"]),
    ]
    graph.nodes[:0] = mask
    for attention in graph.of("MultiHeadAttention"):
        parts, num_heads = graph.made_by(attention.input[0], "Split"), attribute(attention, "num_heads")
        hidden = len(graph.array(attention.input[3])) // 3
        key_dim, at = hidden // num_heads, f"{attention.name}_"
        steps: list[tuple[str, list[str], list[str], dict[str, Any]]] = [
            ("Add", [parts.input[0], attention.input[3]], ["sum"], {}),
            ("Reshape", ["sum", graph.weight(np.array([0, 0, 3 * num_heads, key_dim]))], ["heads"], {}),
            ("Split", ["heads", graph.weight(np.full(3, num_heads))], ["q", "k", "v"], {"axis": 2}),
            ("Transpose", ["q"], ["q_BNSK"], {"perm": [0, 2, 1, 3]}),
            ("Transpose", ["k"], ["k_BNKS"], {"perm": [0, 2, 3, 1]}),
            ("Transpose", ["v"], ["v_BNSV"], {"perm": [0, 2, 1, 3]}),
            ("MatMul", ["q_BNSK", "k_BNKS"], ["products"], {}),
            ("Mul", ["products", graph.weight(np.float32(key_dim**-0.5))], ["scores"], {}),
            ("Add", ["scores", "mask_bias"], ["masked"], {}),
            ("Softmax", ["masked"], ["probs"], {"axis": -1}),
            ("MatMul", ["probs", "v_BNSV"], ["context"], {}),
            ("Transpose", ["context"], ["context_BSNV"], {"perm": [0, 2, 1, 3]}),
            ("Reshape", ["context_BSNV", graph.weight(np.array([0, 0, hidden]))], ["out"], {}),
        ]
        own = {name: at + name for _, _, outputs, _ in steps for name in outputs} | {"out": attention.output[0]}
        new = [
            helper.make_node(kind, [own.get(one, one) for one in inputs], [own[one] for one in outputs], **attributes)
            for kind, inputs, outputs, attributes in steps
        ]
        graph.replace([parts, attention], new)
    return graph.model()


def one_attention_operator(model: onnx.ModelProto) -> onnx.ModelProto:
    """Product and attention as one operator of ONNX Runtime's: Attention."""
    graph = Rewriter(model)
    for attention in graph.of("MultiHeadAttention"):
        parts = graph.made_by(attention.input[0], "Split")
        joined = graph.made_by(parts.input[0], "MatMul")
        inputs = [*joined.input, attention.input[3], attention.input[4]]
        heads = attribute(attention, "num_heads")
        new = helper.make_node("Attention", inputs, attention.output, domain=FUSED, num_heads=heads)
        graph.replace([joined, parts, attention], [new])
    return graph.model()


def one_int8_attention_operator(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same of a graph in int8: QAttention."""
    graph = Rewriter(model)
    for attention in graph.of("MultiHeadAttention"):
        parts = graph.made_by(attention.input[0], "Split")
        scaled = graph.made_by(parts.input[0], "Mul")
        cast, scale = graph.made_by(scaled.input[0], "Cast"), graph.made_by(scaled.input[1], "Mul")
        product = graph.made_by(cast.input[0], "MatMulInteger")
        x, weight, x_zero, weight_zero = product.input
        inputs = [x, weight, attention.input[3], *scale.input, attention.input[4], x_zero, weight_zero]
        heads = attribute(attention, "num_heads")
        new = helper.make_node("QAttention", inputs, attention.output, domain=FUSED, num_heads=heads)
        graph.replace([product, cast, scale, scaled, parts, attention], [new])
    return graph.model()


def no_mask(model: onnx.ModelProto) -> onnx.ModelProto:
    """Attention that reads padding too, where ONNX Runtime takes its flash attention: what a mask costs."""
    graph = Rewriter(model)
    for attention in graph.of("MultiHeadAttention"):
        del attention.input[4:]
    return graph.model()


def no_gelu(model: onnx.ModelProto) -> onnx.ModelProto:
    """Relu in place of GELU: what GELU costs."""
    return activation("Relu", "", has_bias=False)(model)


# By name: what rewrites the graph in float32, before it is quantised where that is.
VARIANTS: dict[str, Variant] = {
    "SkipLayerNormalization": one_norm_operator,
    "BiasGelu": activation("BiasGelu", FUSED, has_bias=True),
    "FastGelu": activation("FastGelu", FUSED, has_bias=False),
    "three products": three_products,
    "attention written out": written_attention,
    "no mask (another function)": no_mask,
    "Relu (another function)": no_gelu,
}
