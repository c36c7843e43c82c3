"""Attention in an ONNX graph: one fused operator, and with a window only the scores around it in a long text.

Axes: B batch, S sequence, N heads, K key_dim, V value_dim; W positions of a window to one side, G groups of W queries.
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from cutbert.exporters.nodes import Nodes
from cutbert.exporters.scores import distances
from cutbert.model.attention import Attention

OUT_OF_WINDOW = -1e9
TO_THE_END = np.iinfo(np.int64).max
GROUPED_ABOVE = 6  # windows: of shorter texts all scores take less time than the copies of keys and values for groups


class Windows:
    """Attention of the layers with a window, and what all of them share.

    Args:
        nodes: of the graph.
    """

    def __init__(self, nodes: Nodes) -> None:
        self.nodes = nodes
        self.shared: dict[int, tuple[str, str, str]] = {}

    def context(self, attention: Attention, window: int, q: str, k: str, v: str, bias: str, mask: str) -> str:
        """Return what the heads read, [B, S, N V]: all scores of a short text, those around the windows of a long one.

        Args:
            attention: the layer.
            window: W.
            q, k, v: [B, S, N K] twice and [B, S, N V].
            bias: of the three, one after the other; an empty name for none.
            mask: 1 at tokens and 0 at padding, [B, S].
        """
        nodes = self.nodes
        if window not in self.shared:
            self.shared[window] = self.shared_inputs(window)
        is_long, far, far_in_group = self.shared[window]
        return nodes.either(
            is_long,
            lambda: self.in_groups(attention, window, q, k, v, bias, mask, far_in_group),
            lambda: fused_attention(nodes, attention, q, k, v, bias, mask, far),
        )

    def shared_inputs(self, window: int) -> tuple[str, str, str]:
        """Return whether the text is long, what is added to the scores of a short one, and to those of a group.

        They are [], [1, 1, S, S] and [1, 1, W, 3 W]: 0 in a query's window, and a very negative number out of it.
        """
        nodes, limit = self.nodes, GROUPED_ABOVE * window
        length = nodes.add("Shape", "input_ids", start=1, end=2)
        is_long = nodes.add("Squeeze", nodes.add("Greater", length, nodes.integers(limit)))
        short = nodes.add("Min", length, nodes.integers(limit))
        is_far = nodes.add("Greater", nodes.add("Abs", distances(nodes, short)), nodes.integers(window))
        far = nodes.add("Mul", nodes.add("Cast", is_far, to=TensorProto.FLOAT), nodes.weight(np.float32(OUT_OF_WINDOW)))
        apart = np.arange(3 * window) - window - np.arange(window)[:, None]
        far_in_group = np.where(np.abs(apart) > window, np.float32(OUT_OF_WINDOW), np.float32(0))
        return is_long, nodes.add("Unsqueeze", far, nodes.integers(0, 1)), nodes.weight(far_in_group[None, None])

    def in_groups(
        self, attention: Attention, window: int, q: str, k: str, v: str, bias: str, mask: str, far_in_group: str
    ) -> str:
        """Return the context of groups of W queries, each a text of its own with the keys of itself and its neighbours.

        The last group is filled up with padding, and the first and the last group have a neighbour of padding.
        """
        nodes = self.nodes
        keys_width, values_width = attention.num_heads * attention.key_dim, attention.num_heads * attention.value_dim
        batch, length = (nodes.add("Shape", "input_ids", start=axis, end=axis + 1) for axis in (0, 1))
        missing = nodes.add("Mod", nodes.add("Neg", length), nodes.integers(window))
        queries = nodes.add("Reshape", self.padded(q, 0, missing, 3), nodes.integers(-1, window, keys_width))
        keys = self.neighbours(k, window, missing, keys_width)
        values = self.neighbours(v, window, missing, values_width)
        own_mask = self.neighbours(mask, window, missing)
        context = fused_attention(nodes, attention, queries, keys, values, bias, own_mask, far_in_group)
        size = nodes.add("Concat", batch, nodes.integers(-1, values_width), axis=0)
        whole = nodes.add("Reshape", context, size)
        return nodes.add("Slice", whole, nodes.integers(0), length, nodes.integers(1))

    def neighbours(self, x: str, window: int, missing: str, *width: int) -> str:
        """Return for each group what it and its two neighbours hold, [B G, 3 W, ...] of [B, S, ...]."""
        nodes = self.nodes
        padded = self.padded(x, window, nodes.add("Add", missing, nodes.integers(window)), 2 + len(width))
        groups = nodes.add("Reshape", padded, nodes.integers(0, -1, window, *width))
        ends = ((0, -2), (1, -1), (2, TO_THE_END))
        parts = [
            nodes.add("Slice", groups, nodes.integers(first), nodes.integers(end), nodes.integers(1))
            for first, end in ends
        ]
        return nodes.add("Reshape", nodes.add("Concat", *parts, axis=2), nodes.integers(-1, 3 * window, *width))

    def padded(self, x: str, before: int, after: str, num_axes: int) -> str:
        """Return x with more positions, all 0; after is [1]."""
        zeros = [0] * (num_axes - 2)
        first = self.nodes.integers(0, before, *zeros, 0)
        pads = self.nodes.add("Concat", first, after, *([self.nodes.integers(*zeros)] if zeros else []), axis=0)
        return self.nodes.add("Pad", x, pads)


def fused_attention(
    nodes: Nodes, attention: Attention, q: str, k: str, v: str, bias: str, mask: str, added_scores: str
) -> str:
    """Return what the heads read, [B, S, N V], in one operator; an empty name stands for what there is not."""
    inputs = [q, k, v, bias, mask, added_scores]
    while not inputs[-1]:
        inputs.pop()
    scale = {"scale": attention.scale} if attention.has_distances else {}  # else the operator's own, by key_dim
    return nodes.add_fused("MultiHeadAttention", *inputs, num_heads=attention.num_heads, **scale)
