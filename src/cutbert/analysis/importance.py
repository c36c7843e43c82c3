"""Importance of whole sub-layers: that of their heads and neurons, added up."""

from __future__ import annotations

from collections.abc import Iterable

from cutbert.data.batches import Batch
from cutbert.model.task_model import TaskModel
from cutbert.surgery.importance import measure_importance


def layer_importance(model: TaskModel, batches: Iterable[Batch]) -> dict[int, dict[str, float]]:
    """Return by layer how much the loss would change without its units, to first order.

    `attention` is the sum over the layer's heads, `feed_forward` over its neurons, `total` over both. Each unit counts
    with the size of its own change (an absolute value), so changes that would cancel in a whole sub-layer do not: read
    it as how much goes on there, in units of the loss. Absent sub-layers have no entry.

    Args:
        model: with a task head for the batches' labels.
        batches: labelled, of training rows, on the model's device.

    Raises:
        InputError: no rows, no labels, no task head, no units at all, or a loss that is not finite.

    Source:
        Hou et al. 2020 (2004.04037) for the units (`surgery.importance`); the sum is ours.
    """
    found = measure_importance(model, batches)
    result = {}
    for i, (layer, heads, neurons) in enumerate(zip(model.shape.layers, found.heads, found.neurons, strict=True)):
        parts = {}
        if layer.has_attention:
            parts["attention"] = float(heads.sum())
        if layer.has_feed_forward:
            parts["feed_forward"] = float(neurons.sum())
        result[i] = {**parts, "total": sum(parts.values())}
    return result
