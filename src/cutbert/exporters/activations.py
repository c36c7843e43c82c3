"""The activations an ONNX graph can hold, by their names in transformers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cutbert.errors import ModelError
from cutbert.exporters.nodes import Nodes
from cutbert.model.task_model import TaskModel

Activation = Callable[[Nodes, str], str]


def plain(kind: str) -> Activation:
    """Return an activation that is one operator."""
    return lambda nodes, x: nodes.add(kind, x)


def fused(kind: str) -> Activation:
    return lambda nodes, x: nodes.add_fused(kind, x)


def silu(nodes: Nodes, x: str) -> str:
    return nodes.add("Mul", x, nodes.add("Sigmoid", x))


def quick_gelu(nodes: Nodes, x: str) -> str:
    return nodes.add_fused("QuickGelu", x, alpha=1.702)


def relu2(nodes: Nodes, x: str) -> str:
    return nodes.add("Pow", nodes.add("Relu", x), nodes.weight(np.float32(2)))


ACTIVATIONS: dict[str, Activation] = {
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
# Activations with an operator that adds the bias too.
WITH_BIAS = {id(ACTIVATIONS["gelu"]): "BiasGelu", id(ACTIVATIONS["gelu_new"]): "FastGelu"}


def apply_activation(nodes: Nodes, name: str, x: str, bias: str | None = None) -> str:
    """Add an activation of x, or of x plus a bias."""
    activation = ACTIVATIONS[name]
    if bias is not None and id(activation) in WITH_BIAS:
        return nodes.add_fused(WITH_BIAS[id(activation)], x, bias)
    return activation(nodes, x if bias is None else nodes.add("Add", x, bias))


def check_activation(model: TaskModel) -> None:
    """Raise a ModelError where a network's activation is not in the table."""
    wanted = {model.style.activation, model.style.head_activation} - ACTIVATIONS.keys()
    if wanted:
        raise ModelError(
            f"activation must be one of {', '.join(ACTIVATIONS)} to be written as ONNX, got {', '.join(sorted(wanted))}"
        )
