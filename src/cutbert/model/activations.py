"""Activations by the names that transformers' configs give them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

TANH_GELU = partial(functional.gelu, approximate="tanh")


def linear(x: Tensor) -> Tensor:
    return x


def relu2(x: Tensor) -> Tensor:
    return functional.relu(x).square()


def quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


# Those that ONNX files can have too (`exporters.nodes`). transformers' own table, ACT2FN, loads for a second.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    **dict.fromkeys(("gelu", "gelu_python"), functional.gelu),
    **dict.fromkeys(("gelu_accurate", "gelu_fast", "gelu_new", "gelu_python_tanh", "gelu_pytorch_tanh"), TANH_GELU),
    "hardswish": functional.hardswish,
    "linear": linear,
    "mish": functional.mish,
    "quick_gelu": quick_gelu,
    "relu": functional.relu,
    "relu2": relu2,
    "sigmoid": torch.sigmoid,
    **dict.fromkeys(("silu", "swish"), functional.silu),
    "tanh": torch.tanh,
}
