"""What attention adds to its scores in an ONNX graph, and how it turns queries and keys: all that positions bring.

Axes: B batch, S sequence, H hidden, N heads, K key_dim; D distances, R rows of a table of distances; C heads x key_dim.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from onnx import TensorProto

from cutbert.exporters.nodes import Nodes, values
from cutbert.model.attention import Attention
from cutbert.model.distances import table_rows
from cutbert.model.layout import Layout
from cutbert.model.relative import biases_by_distance
from cutbert.model.task_model import TaskModel


class ScoreInputs:
    """What attention adds to its scores and how it turns queries and keys, once for all layers that share it.

    Args:
        nodes: of the graph.
        model: the network.
    """

    def __init__(self, nodes: Nodes, model: TaskModel) -> None:
        self.nodes, self.model = nodes, model
        self.mask = nodes.add("Cast", "attention_mask", to=TensorProto.INT32)
        self.longest = model.shape.num_positions - model.style.position_offset
        self.made: dict[Any, Any] = {}

    def bias(self, attention: Attention) -> str:
        """Return an attention's relative biases, [1, N, S, S]; an empty name where it has none."""
        if attention.bias_heads is None:
            return ""
        columns = tuple(attention.bias_heads.tolist())
        return self.once(columns, lambda: self.relative_biases(columns))

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        """Return what was made under a key, and make it where it was not."""
        if key not in self.made:
            self.made[key] = make()
        return self.made[key]

    def distance_scores(self, q: str, k: str, attention: Attention) -> str:
        """Return the scaled scores of contents with distances, [B, N, S, S].

        Queries and keys of all distances are weights, as no text changes them. Int8 leaves an Einsum alone.
        """
        nodes, encoder = self.nodes, self.model.encoder
        states_RH = encoder.embeddings.distance_states(self.model.shape.hidden_size)
        first, last, index = self.once("distances", self.distance_index)
        sums = []
        for contents, linear, is_key in ((q, attention.key, False), (k, attention.query, True)):
            table_RC = torch.nn.functional.linear(states_RH, linear.weight, linear.bias) * attention.scale
            table_RNK = nodes.weight(values(table_RC.unflatten(-1, (attention.num_heads, -1))))
            rows = nodes.add("Slice", table_RNK, first, last, nodes.integers(0))
            size = nodes.integers(0, 0, attention.num_heads, attention.key_dim)
            heads_BSNK = nodes.add("Reshape", contents, size)
            scores_BNSR = nodes.add("Einsum", heads_BSNK, rows, equation="bsnk,rnk->bnsr")
            own = nodes.add("Transpose", index, perm=[1, 0]) if is_key else index
            shape = nodes.add("Shape", scores_BNSR, start=0, end=3)
            whole = nodes.add("Concat", shape, nodes.add("Shape", "input_ids", start=1, end=2), axis=0)
            picked = nodes.add("GatherElements", scores_BNSR, nodes.add("Expand", own, whole), axis=3)
            sums.append(nodes.add("Transpose", picked, perm=[0, 1, 3, 2]) if is_key else picked)
        return nodes.add("Add", *sums)

    def distance_index(self) -> tuple[str, str, str]:
        """Return the first row of the table that a text reads, the one after its last, and each pair's row, [S, S]."""
        nodes, made = self.nodes, self.model.shape.ingredients
        ranges = [made.distance_rows(max(1, length)) for length in range(self.longest + 1)]
        length = nodes.add("Shape", "input_ids", start=1, end=2)
        first, last = (
            nodes.add("GatherND", nodes.integers(*ends), nodes.add("Unsqueeze", length, nodes.integers(0)))
            for ends in ([each.start for each in ranges], [each.stop for each in ranges])
        )
        by_distance = nodes.integers(*reversed(table_rows(self.longest, made, torch.device("cpu")).tolist()))
        rows_SS = nodes.add("GatherND", by_distance, self.once("rows", self.distance_rows))
        return first, last, nodes.add("Sub", rows_SS, first)

    def rotated(self, x: str, attention: Attention) -> str:
        """Return queries or keys turned by rotary positions."""
        base, half = attention.rotary_base, attention.key_dim // 2
        assert base is not None
        cos, sin = self.once((base, half), lambda: self.angles(base, 2 * half))
        first = self.once("first", lambda: self.nodes.integers(0))
        return self.nodes.add_fused("RotaryEmbedding", x, first, cos, sin)

    def angles(self, base: float, key_dim: int) -> tuple[str, str]:
        """Return the names of cosine and sine at every position, [positions, key_dim / 2]."""
        layout = Layout((), (), (), torch.arange(self.longest))
        cos, sin = (self.nodes.weight(values(each[:, 0])) for each in layout.rotation(base, key_dim))
        return cos, sin

    def relative_biases(self, columns: Sequence[int]) -> str:
        """Return the biases of a layer's heads, looked up by distance.

        GatherND, since int8 would quantise the table of a Gather.
        """
        nodes, relative = self.nodes, self.model.encoder.embeddings.relative
        assert relative is not None
        table_DN = values(biases_by_distance(relative.weight, self.longest))[:, list(columns)]
        rows = self.once("rows", self.distance_rows)
        biases_SSN = nodes.add("GatherND", nodes.weight(table_DN), rows)
        return nodes.add("Unsqueeze", nodes.add("Transpose", biases_SSN, perm=[2, 0, 1]), nodes.integers(0))

    def distance_rows(self) -> str:
        """Return for every pair of positions the row of the table of biases by distance, [S, S, 1]."""
        length = self.nodes.add("Shape", "input_ids", start=1, end=2)
        rows = self.nodes.add("Add", distances(self.nodes, length), self.nodes.integers(self.longest - 1))
        return self.nodes.add("Unsqueeze", rows, self.nodes.integers(2))


def distances(nodes: Nodes, length: str) -> str:
    """Return `key - query` for every pair of the first positions, [S, S]; length is [1]."""
    places = nodes.add("Range", nodes.scalar(0), nodes.add("Squeeze", length), nodes.scalar(1))
    keys = nodes.add("Unsqueeze", places, nodes.integers(0))
    queries = nodes.add("Unsqueeze", places, nodes.integers(1))
    return nodes.add("Sub", keys, queries)
