"""Which feed-forwards go, and in which order: by their place, by importance, or by CKA on the training rows.

All of it is our choice: Sridhar and Sarah 2020 (2012.11881) train such networks from scratch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cutbert.analysis.ffn_change import ffn_changes
from cutbert.data.batches import Batch
from cutbert.errors import InputError, RunError
from cutbert.files import read_json, write_json
from cutbert.methods.undivided_settings import UndividedSettings
from cutbert.model.task_model import TaskModel
from cutbert.shape.pattern import (
    check_count,
    check_layers,
    even_layers,
    every_nth,
    feed_forward_layers,
    layers_of_pattern,
    with_feed_forwards,
)
from cutbert.shape.shape import EncoderShape
from cutbert.shape.subnet import Subnet
from cutbert.surgery.importance import measure_importance
from cutbert.train.progress import say
from cutbert.train.run_folder import RunFolder
from cutbert.work.objective import Objective


@dataclass(frozen=True)
class Removal:
    """The feed-forwards that go.

    Args:
        order: their layers, the first to go first.
        scores: what was measured, by layer; empty where nothing was. For cka the change at the moment each went.
    """

    order: tuple[int, ...]
    scores: dict[int, float]


def layers_with_ffn(settings: UndividedSettings, shape: EncoderShape) -> tuple[int, ...]:
    """Return the layers that keep their feed-forward by their place alone.

    Raises:
        ShapeError: the shape has no such layers or feed-forwards.
    """
    if settings.pattern is not None:
        kept = layers_of_pattern(shape, settings.pattern)
    elif settings.ffn_every is not None:
        kept = every_nth(shape, settings.ffn_every)
    elif settings.num_ffn is not None:
        kept = even_layers(shape, settings.num_ffn)
    else:
        kept = tuple(sorted(settings.ffn_keep))
    check_layers(shape, kept)
    return kept


def check_removal(settings: UndividedSettings, shape: EncoderShape) -> None:
    """Raise a ShapeError unless a model has the feed-forwards that are to stay."""
    if settings.measures:
        assert settings.num_ffn is not None
        check_count(shape, settings.num_ffn)
    else:
        layers_with_ffn(settings, shape)


def choose_removal(objective: Objective, settings: UndividedSettings, seed: int, run: RunFolder) -> Removal:
    """Return what goes, measured once by the main process on training rows and kept for a resumed run.

    Where nothing is measured, feed-forwards go from the input side up.

    Source:
        Lower feed-forwards first: they are the least needed in Khetan and Karnin 2020 (2005.06628).
    """
    model = objective.loaded.model
    if not settings.measures:
        kept = layers_with_ffn(settings, model.shape)
        return Removal(tuple(i for i in feed_forward_layers(model.shape) if i not in kept), {})
    path = run.path / "checkpoint" / "removal.json"

    def choose() -> None:
        say(f"choosing by {settings.chosen_by}: looking at up to {settings.choose_samples} training rows")
        batches = objective.sample(model, settings.choose_samples, seed)
        assert settings.num_ffn is not None
        if settings.chosen_by == "importance":
            removal = by_importance(model, batches, settings.num_ffn)
        else:
            removal = by_cka(model, batches, settings.num_ffn, seed)
        write_json(path, asdict(removal))

    objective.engine.make_once(path, choose)
    removal: Removal = read_json(path, RunError, read_removal)
    return removal


def read_removal(data: Any) -> Removal:
    return Removal(tuple(data["order"]), {int(layer): score for layer, score in data["scores"].items()})


def by_importance(model: TaskModel, batches: Sequence[Batch], count: int) -> Removal:
    """Return the feed-forwards least important to the loss, all but `count`, the least first.

    Source:
        A neuron's importance is that of Hou et al. 2020 (2004.04037). That a feed-forward's is the sum over its
        neurons (an L1 norm: they are absolute values) is our choice.
    """
    neurons = measure_importance(model, batches).neurons
    scores = {i: float(neurons[i].sum()) for i in feed_forward_layers(model.shape)}
    order = sorted(scores, key=lambda i: scores[i])
    return Removal(tuple(order[: len(order) - count]), scores)


def by_cka(model: TaskModel, batches: Sequence[Batch], count: int, seed: int) -> Removal:
    """Return the feed-forwards that change the representation least, all but `count`, in the order they go.

    One goes at a time, and the others are measured again without it.

    Source:
        Ours. Sridhar and Sarah 2020 (2012.11881) use CKA to compare whole networks after the fact.
    """
    present = feed_forward_layers(model.shape)
    gone: list[int] = []
    scores: dict[int, float] = {}
    while len(present) - len(gone) > count:
        changes = ffn_changes(model, batches, subnet=without(model.shape, gone), seed=seed)
        check_changes(changes)
        least = min(changes, key=lambda layer: changes[layer])
        gone.append(least)
        scores[least] = changes[least]
    return Removal(tuple(gone), scores)


def check_changes(changes: Mapping[int, float]) -> None:
    """Raise an InputError where states are the same for all rows, which leaves no CKA."""
    same = [str(layer) for layer, change in changes.items() if math.isnan(change)]
    if same:
        raise InputError(
            f"--choose cka must have states that differ from token to token, got none in {', '.join(same)}"
        )


def without(shape: EncoderShape, gone: Sequence[int]) -> Subnet:
    """Return the subnet of all layers in which some have lost their feed-forward."""
    return Subnet.full(with_feed_forwards(shape, [i for i in feed_forward_layers(shape) if i not in gone]))
