"""How much each feed-forward changes the representation: what it would cost the states to be without it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from cutbert.analysis.cka import LEAST_ROWS, CkaMeter
from cutbert.analysis.rows import Places, Reader, at, first_tokens, means
from cutbert.analysis.settings import RowKind
from cutbert.data.batches import Batch
from cutbert.errors import InputError
from cutbert.model.sites import walk
from cutbert.model.task_model import TaskModel
from cutbert.shape.subnet import Subnet

MAX_ROWS = 512  # of a minibatch


@torch.inference_mode()
def ffn_changes(
    model: TaskModel,
    batches: Iterable[Batch],
    *,
    subnet: Subnet | None = None,
    rows: RowKind = "tokens",
    seed: int = 0,
) -> dict[int, float]:
    """Return for each feed-forward how much it changes the representation: 1 - CKA(its input, the layer's output).

    The output is taken with residual and LayerNorm, so a feed-forward that writes nothing changes nothing. The
    CKA is linear, unbiased and streaming: memory does not grow with the batches. Removing one feed-forward changes what
    later ones read; for "the least first, one after the other" call again with a subnet that lacks it.

    Args:
        model: any; runs in evaluation mode, its own mode stays as it is.
        batches: each a minibatch of the estimate, on the model's device; at least 64 texts of mixed lengths are
            best. Of more than 512 tokens so many are drawn; batches of fewer than 4 rows are left out.
        subnet: the part of the model that runs; None for all of it.
        rows: what a row is: a token, or a text by its first token or its mean.
        seed: of the tokens drawn.

    Returns:
        By index of the layer, those with a feed-forward only, rising: a number that is 0 for no change, and near 1
        for a new representation (a little above where the two are independent). NaN where all rows are equal.

    Raises:
        InputError: no batch has 4 rows.

    Source:
        Ours. Sridhar and Sarah 2020 (2012.11881) compare whole models by CKA; the estimate is Nguyen et al. 2021
        (2010.15327).
    """
    was_training = model.training
    model.eval()
    random = np.random.default_rng(seed)
    meters: dict[int, CkaMeter] = {}
    num_counted = 0
    try:
        for batch in batches:
            read = batch_reader(batch, rows, random)
            if read is None:
                continue
            num_counted += 1
            for layer, (before, after) in ffn_rows(model, batch, subnet, read).items():
                meters.setdefault(layer, CkaMeter()).add([before], [after])
    finally:
        model.train(was_training)
    if not num_counted:
        raise InputError(f"changes must be measured on a batch of at least {LEAST_ROWS} rows, got none")
    return {layer: 1.0 - float(meter.matrix()[0, 0]) for layer, meter in meters.items()}


def batch_reader(batch: Batch, rows: RowKind, random: np.random.Generator) -> Reader | None:
    """Return what reads a batch's rows, None where there are too few for the estimate."""
    places, device = Places.of(batch), batch.input_ids.device
    if rows != "tokens":
        make = first_tokens if rows == "cls" else means
        return make(places, device) if batch.num_rows >= LEAST_ROWS else None
    positions = places.tokens()
    drawn = np.sort(random.permutation(len(positions))[:MAX_ROWS])
    return at(positions[drawn], device) if len(drawn) >= LEAST_ROWS else None


def ffn_rows(model: TaskModel, batch: Batch, subnet: Subnet | None, read: Reader) -> dict[int, tuple[Tensor, Tensor]]:
    """Return for each feed-forward the rows it reads, and those the layer puts out after it."""
    found: dict[int, tuple[Tensor, Tensor]] = {}
    between: dict[int, Tensor] = {}
    steps = walk(
        model.encoder, batch.input_ids, batch.attention_mask, batch.token_type_ids, subnet=subnet, blocks=batch.blocks
    )
    for site, states in steps:
        if site.kind == "between":
            between[site.layer] = read(states.flatten(0, -2))
        elif site.kind == "layer" and site.layer in between:
            found[site.layer] = between.pop(site.layer), read(states.flatten(0, -2))
    return found
