"""Collects the nodes and weights of an ONNX graph, naming each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from onnx import NodeProto, TensorProto, helper, numpy_helper


class Nodes:
    """Nodes in order and the weights they use; every method returns the name of what it added."""

    FUSED = "com.microsoft"  # the domain of ONNX Runtime's own operators

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.initializers: list[TensorProto] = []

    def add(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Add a node of one output."""
        name = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, domain=domain, **attributes))
        return name

    def add_fused(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node of ONNX Runtime's own."""
        return self.add(kind, *inputs, domain=self.FUSED, **attributes)

    def split(self, x: str, sizes: Sequence[int]) -> list[str]:
        """Cut the last axis into parts."""
        name = f"Split_{len(self.nodes)}"
        parts = [f"{name}_{i}" for i in range(len(sizes))]
        self.nodes.append(helper.make_node("Split", [x, self.integers(*sizes)], parts, name=name, axis=-1))
        return parts

    def name_output(self, x: str, output: str) -> None:
        """Give a value the name of one of the graph's outputs."""
        self.nodes.append(helper.make_node("Identity", [x], [output], name=output))

    def weight(self, array: ArrayLike, name: str | None = None) -> str:
        """Add a weight; its number type is the array's."""
        name = name or f"weight_{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.array(array, order="C"), name))
        return name

    def integers(self, *numbers: int) -> str:
        return self.weight(np.array(numbers, dtype=np.int64))

    def scalar(self, number: int) -> str:
        return self.weight(np.array(number, dtype=np.int64))
