"""The nodes and weights of an ONNX graph while it is built, each with a name; and activations as nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper


class Nodes:
    """Nodes in order and the weights they use; every method returns the name of what it added."""

    FUSED = "com.microsoft"  # the domain of ONNX Runtime's own operators

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.initializers: list[TensorProto] = []
        self.numbers = count()

    def add(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Add a node with one output."""
        name = f"{kind}_{next(self.numbers)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, domain=domain, **attributes))
        return name

    def add_fused(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node of ONNX Runtime's own operators."""
        return self.add(kind, *inputs, domain=self.FUSED, **attributes)

    def split(self, x: str, sizes: Sequence[int]) -> list[str]:
        """Split the last axis into parts."""
        name = f"Split_{next(self.numbers)}"
        parts = [f"{name}_{i}" for i in range(len(sizes))]
        self.nodes.append(helper.make_node("Split", [x, self.integers(*sizes)], parts, name=name, axis=-1))
        return parts

    def either(self, condition: str, on_true: Callable[[], str], on_false: Callable[[], str]) -> str:
        """Add what one of two functions adds, whichever a condition chooses when the graph runs.

        Args:
            condition: a single boolean.
            on_true, on_false: add nodes and return the name of one value in float32. No other nodes may use what they
                add; their weights are the whole graph's.
        """
        return self.add("If", condition, then_branch=self.branch(on_true), else_branch=self.branch(on_false))

    def branch(self, make: Callable[[], str]) -> GraphProto:
        """Return the nodes that a function adds as a graph of their own."""
        outer, self.nodes = self.nodes, []
        result = helper.make_tensor_value_info(make(), TensorProto.FLOAT, None)
        inner, self.nodes = self.nodes, outer
        return helper.make_graph(inner, f"branch_{next(self.numbers)}", [], [result])

    def name_output(self, x: str, output: str) -> None:
        """Give a value the name of one of the graph's outputs."""
        self.nodes.append(helper.make_node("Identity", [x], [output], name=output))

    def weight(self, array: ArrayLike, name: str | None = None) -> str:
        """Add a weight with the array's dtype."""
        name = name or f"weight_{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.array(array, order="C"), name))
        return name

    def integers(self, *numbers: int) -> str:
        return self.weight(np.array(numbers, dtype=np.int64))

    def scalar(self, number: int) -> str:
        return self.weight(np.array(number, dtype=np.int64))


ActivationNodes = Callable[[Nodes, str], str]


def plain(kind: str) -> ActivationNodes:
    """Return an activation that is a single ONNX operator."""
    return lambda nodes, x: nodes.add(kind, x)


def fused(kind: str) -> ActivationNodes:
    """Return an activation that is a single operator of ONNX Runtime's own."""
    return lambda nodes, x: nodes.add_fused(kind, x)


def silu(nodes: Nodes, x: str) -> str:
    return nodes.add("Mul", x, nodes.add("Sigmoid", x))


def quick_gelu(nodes: Nodes, x: str) -> str:
    return nodes.add_fused("QuickGelu", x, alpha=1.702)


def relu2(nodes: Nodes, x: str) -> str:
    return nodes.add("Pow", nodes.add("Relu", x), nodes.weight(np.float32(2)))


ACTIVATIONS: dict[str, ActivationNodes] = {
    **dict.fromkeys(("gelu", "gelu_python"), plain("Gelu")),
    **dict.fromkeys(
        ("gelu_new", "gelu_fast", "gelu_pytorch_tanh", "gelu_python_tanh", "gelu_accurate"), fused("FastGelu")
    ),
    **dict.fromkeys(("silu", "swish"), silu),
    "quick_gelu": quick_gelu,
    "relu": plain("Relu"),
    "relu2": relu2,
    "sigmoid": plain("Sigmoid"),
    "tanh": plain("Tanh"),
    "mish": plain("Mish"),
    "hardswish": plain("HardSwish"),
    "linear": plain("Identity"),
}


def apply_activation(nodes: Nodes, name: str, x: str) -> str:
    """Add an activation of x."""
    return ACTIVATIONS[name](nodes, x)


def values(tensor: Any) -> NDArray[np.float32]:
    """Return a parameter as an array in float32."""
    array: NDArray[np.float32] = tensor.detach().float().cpu().numpy()
    return array
