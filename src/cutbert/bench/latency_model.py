"""A model of latency fitted to this machine: milliseconds of any cut of a network, from a few that were timed.

Axes: N timed networks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import nnls

from cutbert.bench.latency import settings_lengths, time_networks
from cutbert.bench.settings import LatencySettings
from cutbert.model.task_model import TaskModel
from cutbert.shape.shape import EncoderShape
from cutbert.shape.units import in_groups, places_of, resized, size_at

SHARES = (0.5, 0.25)


@dataclass(frozen=True, eq=False)
class LatencyModel:
    """Milliseconds as a sum of work, each kind at its own fitted rate; no rate is negative, so cuts never cost.

    Args:
        rates: milliseconds per unit of each of `work`'s numbers.
        lengths: tokens per text.
        error: largest relative error on the timed networks.

    Source:
        Our choice. A sum over units' prices alone would be wrong in large cuts: half of the hidden units and half
        of the neurons leave a quarter of the products, not none.
    """

    rates: NDArray[np.float64]
    lengths: tuple[int, ...]
    error: float

    def __call__(self, shape: EncoderShape) -> float:
        return float(work(shape, self.lengths) @ self.rates)

    def to_json(self) -> dict[str, Any]:
        return {"rates": self.rates.tolist(), "lengths": list(self.lengths), "error": self.error}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> LatencyModel:
        return cls(np.array(data["rates"]), tuple(data["lengths"]), data["error"])


def work(shape: EncoderShape, lengths: Sequence[int]) -> NDArray[np.float64]:
    """Return how much of each kind of work one text takes, the mean over lengths.

    Returns:
        1; sub-layers; macs of feed-forwards, of attention's projections and of its products; values of hidden states,
        of neurons and of attention weights.
    """
    S, S2 = float(np.mean(lengths)), float(np.mean(np.square(lengths)))
    H = shape.hidden_size
    heads = [(layer.num_heads, layer.key_dim + layer.value_dim) for layer in shape.layers]
    F = sum(layer.intermediate_size for layer in shape.layers)
    parts = sum(layer.has_attention + layer.has_feed_forward for layer in shape.layers)
    return np.array(
        [
            1.0,
            parts,
            2 * S * H * F,
            2 * S * H * sum(count * dims for count, dims in heads),
            S2 * sum(count * dims for count, dims in heads),
            S * H * (1 + parts),
            S * F,
            S2 * sum(count for count, _ in heads),
        ]
    )


def fit_latency(
    model: TaskModel,
    dims: Sequence[str],
    lengths: Sequence[int],
    settings: LatencySettings,
    *,
    multiple_of: int = 1,
    on_round: Callable[[], None] | None = None,
) -> LatencyModel:
    """Time cuts of a network side by side and fit a model to them.

    Timed are the network itself and, with new weights, each dimension alone and all together at SHARES.

    Args:
        model: the uncut network.
        dims: dimensions that may be cut, of `shape.units.DIMS`.
        lengths: tokens per text (`sample_lengths`).
        settings: backend, threads, rounds.
        multiple_of: sizes stay multiples of this, as in the cut.
        on_round: called after each round.
    """
    lengths = settings_lengths(settings, lengths)
    shapes = {"uncut": model.shape}
    for share in SHARES:
        for group in [*((dim,) for dim in dims), tuple(dims)]:
            shapes[f"{''.join(group)} {share}"] = shrunk(model.shape, group, share, multiple_of)
    networks = {name: model if name == "uncut" else new_network(model, shape) for name, shape in shapes.items()}
    times = time_networks(networks, lengths, settings, on_round=on_round)
    work_N8 = np.stack([work(shape, lengths) for shape in shapes.values()])
    measured_N = np.array([times[name].latency_ms for name in shapes])
    scale = work_N8.max(0)
    rates, _ = nnls(work_N8 / scale / measured_N[:, None], np.ones_like(measured_N))  # relative errors count
    rates = rates / scale
    error = float(np.abs(work_N8 @ rates / measured_N - 1).max())
    return LatencyModel(rates, tuple(lengths), error)


def shrunk(shape: EncoderShape, dims: Sequence[str], share: float, multiple_of: int) -> EncoderShape:
    """Return a shape with some dimensions at a share of their sizes, in whole groups, at least one."""
    sizes = {p: in_groups(shape, p, share * size_at(shape, p), multiple_of) for p in places_of(shape, dims)}
    return resized(shape, sizes)


def new_network(model: TaskModel, shape: EncoderShape) -> TaskModel:
    """Return a network of another shape with new weights, as its timing alone matters.

    The embeddings are the model's own where they have the same width, so that many networks fit in memory.
    """
    with torch.device("meta"):
        network = TaskModel(shape, model.style, model.head_spec)
    if shape.hidden_size == model.shape.hidden_size:
        network.encoder.embeddings = model.encoder.embeddings
    device = next(model.parameters()).device
    for module in (network.encoder.embeddings, network.encoder.layers, network.head):
        if module is not None and any(weight.is_meta for weight in module.parameters()):
            module.to_empty(device=device)
            for weight in module.parameters():
                torch.nn.init.normal_(weight, std=model.style.initializer_range)
    return network.eval()
