"""Measures a latency table: stacks of sub-layers of several sizes, and random cuts to learn from, timed in turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from cutbert.bench.latency import conditions, settings_lengths, time_networks
from cutbert.bench.latency_table import MOST_PARTIAL, Curve, LatencyTable, Plane
from cutbert.bench.settings import LatencySettings
from cutbert.model.reorder import attentions
from cutbert.model.task_model import TaskModel
from cutbert.shape.shape import EncoderShape, LayerShape
from cutbert.train.machine import num_threads

SHARES = (0.25, 0.5, 0.75, 1.0)
SHARES_OF_HIDDEN = (0.25, 0.5, 1.0)
SHARES_OF_DIMS = (0.25, 0.5, 1.0)
NUM_CHECKED = 6
TABLE_ROWS = 2048  # of the timed networks' token tables: more rows cost no time, but memory
TOKEN_TABLE = "encoder.embeddings.token.weight"


def measure_table(
    model: TaskModel,
    dims: Sequence[str],
    lengths: Sequence[int],
    settings: LatencySettings,
    *,
    on_round: Callable[[], None] | None = None,
    clock: Callable[[], float] | None = None,
) -> LatencyTable:
    """Time stacks of attentions and of feed-forwards of several sizes, interleaved, and make a table of them.

    Timed is the uncut network, and beside it networks with new weights: one without layers; for each size one with
    attentions alone, and one with feed-forwards alone, the network's number of each; and random cuts, which tell what
    these sums miss. Where hidden units may be cut, all this is done at several hidden sizes.

    Args:
        model: the uncut network.
        dims: dimensions that may be cut, of `shape.units.DIMS`.
        lengths: tokens per text (`sample_lengths`).
        settings: backend, threads, rounds.
        on_round: called after each round.
        clock: as in `time_networks`.
    """
    lengths = settings_lengths(settings, lengths)
    shape = model.shape
    parts = part_shapes(shape, dims)
    checked = {f"cut {i}": random_cut(shape, dims, seed=i) for i in range(NUM_CHECKED)}
    networks = {part_name(*key): new_network(model, each) for key, each in parts.items()}
    networks |= {name: new_network(model, each) for name, each in checked.items()}
    uncut = {"uncut": (settings.backend, timed_copy(model))}
    with num_threads(settings.threads) as threads:
        singly = replace(settings, throughput_batch_size=1)
        timed = time_networks(networks, lengths, singly, also=uncut, are_new=True, on_round=on_round, clock=clock)
    times = {name: each.latency_ms for name, each in timed.items()}
    measured = conditions(settings, lengths, threads, next(model.parameters()).device.type, timed.quality)
    table = table_of(shape, {key: times[part_name(*key)] for key in parts}, times["uncut"], measured)
    table = learned(table, [(each, times[name]) for name, each in checked.items()])
    return replace(table, factor=table.factor * table.uncut_ms / (table(shape) or table.uncut_ms))  # layers may differ


def learned(table: LatencyTable, cuts: Sequence[tuple[EncoderShape, float]]) -> LatencyTable:
    """Return a table that knows what being cut in part adds, and its error, from shapes with their milliseconds."""
    foretold = np.array([table(shape) for shape, _ in cuts])
    in_part = np.array([replace(table, partial=1.0)(shape) for shape, _ in cuts]) - foretold
    found = np.array([ms for _, ms in cuts])
    shares = np.divide(found - foretold, in_part, out=np.zeros_like(found), where=in_part > 0)
    shares = np.clip(shares, -MOST_PARTIAL, MOST_PARTIAL)
    from_others = np.array([np.median(np.delete(shares, i)) for i in range(len(cuts))])
    errors = np.abs((foretold + from_others * in_part) / found - 1)
    return replace(table, partial=float(np.median(shares)), error=float(np.median(errors)))


def part_name(kind: str, hidden: int, size: float) -> str:
    """Return what a timed part is called.

    >>> part_name("feed_forward", 384, 1536.0), part_name("base", 96, 0.0)
    ('feed forward of size 1536 at hidden size 384', 'base at hidden size 96')
    """
    words = kind.replace("_", " ") + (f" of size {size:g}" if size else "")
    return f"{words} at hidden size {hidden}"


def part_shapes(shape: EncoderShape, dims: Sequence[str]) -> dict[tuple[str, int, float], EncoderShape]:
    """Return the shapes to time, by kind, hidden size and size of the sub-layer."""
    widest = widest_layer(shape)
    none = shape.with_layers((), ())
    parts = {}
    for hidden in hidden_sizes(shape) if "h" in dims else [shape.hidden_size]:
        parts["base", hidden, 0.0] = replace(none, hidden_size=hidden)
        for layer in cuts(widest, "num_heads", SHARES):
            parts["attention", hidden, attention_size(layer)] = stack(shape, hidden, layer, "attention")
        for layer in cuts(widest, "intermediate_size", SHARES):
            parts["feed_forward", hidden, float(layer.intermediate_size)] = stack(shape, hidden, layer, "feed_forward")
    if widest.has_attention and ("k" in dims or "v" in dims):
        for share in SHARES_OF_DIMS:
            layer = replace(
                widest, key_dim=max(1, round(share * widest.key_dim)), value_dim=max(1, round(share * widest.value_dim))
            )
            parts["dims", shape.hidden_size, attention_size(layer)] = stack(
                shape, shape.hidden_size, layer, "attention"
            )
    return parts


def table_of(
    shape: EncoderShape, times: Mapping[tuple[str, int, float], float], uncut_ms: float, measured: dict[str, Any]
) -> LatencyTable:
    """Return the table made of the times of `part_shapes`."""

    def curve(kind: str, hidden: int) -> Curve:
        sizes = sorted(size for each, at, size in times if (each, at) == (kind, hidden))
        base = times["base", hidden, 0.0]
        ms = [(times[kind, hidden, size] - base) / shape.num_layers for size in sizes]
        return Curve.rising(sizes, ms) if sizes else Curve((0.0,), (0.0,))

    widest = widest_layer(shape)
    planes = tuple(
        Plane(hidden, times["base", hidden, 0.0], curve("attention", hidden), curve("feed_forward", hidden))
        for hidden in sorted({hidden for kind, hidden, _ in times if kind == "base"})
    )
    dims = curve("dims", shape.hidden_size) if any(kind == "dims" for kind, *_ in times) else None
    table = LatencyTable(
        planes, dims, widest.num_heads, widest.key_dim + widest.value_dim, uncut_ms, 1.0, 0.0, 0.0, measured
    )
    return replace(table, factor=uncut_ms / (table(shape) or uncut_ms))


def widest_layer(shape: EncoderShape) -> LayerShape:
    """Return a layer with the largest of each size over all layers."""
    most = (max(each) for each in zip(*(layer.to_json().values() for layer in shape.layers), strict=True))
    return LayerShape(*most)


def cuts(layer: LayerShape, name: str, shares: Sequence[float]) -> list[LayerShape]:
    """Return the layer with one of its sizes at each share, at least 1; an empty list where that size is 0."""
    whole = getattr(layer, name)
    return (
        [replace(layer, **{name: size}) for size in sorted({max(1, round(s * whole)) for s in shares})] if whole else []
    )


def stack(shape: EncoderShape, hidden_size: int, layer: LayerShape, kind: str) -> EncoderShape:
    """Return the shape with every layer replaced by one sub-layer of the given layer."""
    part = replace(layer, intermediate_size=0) if kind == "attention" else replace(layer, num_heads=0)
    return replace(shape, hidden_size=hidden_size, layers=(part,) * shape.num_layers)


def attention_size(layer: LayerShape) -> float:
    return float(layer.num_heads * (layer.key_dim + layer.value_dim))


def hidden_sizes(shape: EncoderShape) -> list[int]:
    """Return the hidden sizes to time at; never the width of separate tables, which would need no projection."""
    sizes = (max(1, round(share * shape.hidden_size)) for share in SHARES_OF_HIDDEN)
    return sorted({size - 1 if size == shape.embedding_size and size > 1 else size for size in sizes})


def random_cut(shape: EncoderShape, dims: Sequence[str], seed: int) -> EncoderShape:
    """Return the shape with random sizes in the dimensions that may be cut."""
    draw = np.random.default_rng(seed)

    def some(size: int, dim: str) -> int:
        return int(draw.integers(1, size + 1)) if size and dim in dims else size

    layers = tuple(
        LayerShape(
            some(layer.num_heads, "a"),
            some(layer.key_dim, "k"),
            some(layer.value_dim, "v"),
            some(layer.intermediate_size, "f"),
        )
        for layer in shape.layers
    )
    hidden = int(draw.choice(hidden_sizes(shape))) if "h" in dims else shape.hidden_size
    return replace(shape, hidden_size=hidden, layers=layers)


def new_network(model: TaskModel, shape: EncoderShape) -> TaskModel:
    """Return a network of another shape with random weights, for timing alone.

    Where no output runs over the vocabulary, the token table is cut short.
    """
    network = on_meta(model, with_few_tokens(model, shape))
    network.to_empty(device=next(model.parameters()).device)
    with torch.no_grad():
        for weight in network.parameters():
            weight.normal_(std=model.style.initializer_range)
        for attention in attentions(network):
            if attention.bias_heads is not None:
                attention.bias_heads.zero_()
    return network.eval()


def timed_copy(model: TaskModel) -> TaskModel:
    """Return a network for timing alone, with the same weights, not copied, but for a token table that is cut short."""
    network = on_meta(model, with_few_tokens(model, model.shape))
    weights = model.state_dict()
    weights[TOKEN_TABLE] = weights[TOKEN_TABLE][: network.shape.vocab_size]
    network.load_state_dict(weights, assign=True)
    return network.eval()


def with_few_tokens(model: TaskModel, shape: EncoderShape) -> EncoderShape:
    """Return a shape with few rows in its token table, where no output of the model runs over the vocabulary."""
    if model.head_spec.kind == "masked_lm":
        return shape
    return replace(shape, vocab_size=min(shape.vocab_size, TABLE_ROWS))


def on_meta(model: TaskModel, shape: EncoderShape) -> TaskModel:
    """Return a network of another shape without memory for its weights."""
    with torch.device("meta"):
        return TaskModel(shape, model.style, model.head_spec)
