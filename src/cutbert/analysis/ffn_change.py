"""How much each feed-forward changes the representation, by CKA: a ranking of which to remove first."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from cutbert.analysis.cka import LEAST_ROWS, MinibatchCka
from cutbert.analysis.rows import StatesReader, TextPositions, position_reader, text_reader
from cutbert.analysis.settings import RowKind
from cutbert.data.batches import Batch
from cutbert.errors import InputError
from cutbert.model.sites import walk
from cutbert.model.task_model import TaskModel
from cutbert.shape.subnet import Subnet

MAX_ROWS = 512  # of a minibatch: its Gram matrices are quadratic in the rows


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

    The output is that after residual and LayerNorm, so a feed-forward that writes 0 changes nothing. The CKA is linear,
    unbiased and summed over minibatches: memory does not grow with their number. Removing one feed-forward changes
    what later ones read; to remove several one by one, call again with a subnet without the first.

    Args:
        model: any network; runs in evaluation mode, and its mode is restored.
        batches: each a minibatch of the estimate, on the model's device; 64 texts of mixed lengths or more are
            best. Where a batch has more than 512 tokens, 512 are drawn; batches of fewer than 4 rows are left out.
        subnet: the part of the model that runs; None for all of it.
        rows: what a row is: a token, or a text by its first token or its mean.
        seed: of the tokens drawn.

    Returns:
        By index of each layer with a feed-forward, rising: 0 for no change, near 1 for an unrelated representation
        (the estimate may exceed 1 a little). NaN where all rows are equal.

    Raises:
        InputError: no batch has 4 rows.

    Source:
        Ours. Sridhar and Sarah 2020 (2012.11881) compare whole models by CKA; the estimate is Nguyen et al. 2021
        (2010.15327).
    """
    was_training = model.training
    model.eval()
    random = np.random.default_rng(seed)
    ckas: dict[int, MinibatchCka] = {}
    num_counted = 0
    try:
        for batch in batches:
            read = batch_reader(batch, rows, random)
            if read is None:
                continue
            num_counted += 1
            for layer, (before, after) in ffn_rows(model, batch, subnet, read).items():
                ckas.setdefault(layer, MinibatchCka()).add([before], [after])
    finally:
        model.train(was_training)
    if not num_counted:
        raise InputError(f"changes must be measured on a batch of at least {LEAST_ROWS} rows, got none")
    return {layer: 1.0 - float(minibatch_cka.matrix()[0, 0]) for layer, minibatch_cka in ckas.items()}


def batch_reader(batch: Batch, rows: RowKind, random: np.random.Generator) -> StatesReader | None:
    """Return the function that reads a batch's rows, None where there are too few for the estimate."""
    positions, device = TextPositions.of(batch), batch.input_ids.device
    if rows != "tokens":
        return text_reader(rows, positions, device) if batch.num_rows >= LEAST_ROWS else None
    tokens = positions.tokens()
    drawn = np.sort(random.permutation(len(tokens))[:MAX_ROWS])
    return position_reader(tokens[drawn], device) if len(drawn) >= LEAST_ROWS else None


def ffn_rows(
    model: TaskModel, batch: Batch, subnet: Subnet | None, read: StatesReader
) -> dict[int, tuple[Tensor, Tensor]]:
    """Return for each feed-forward the rows of its input and of the layer's output."""
    pairs: dict[int, tuple[Tensor, Tensor]] = {}
    inputs: dict[int, Tensor] = {}
    steps = walk(
        model.encoder, batch.input_ids, batch.attention_mask, batch.token_type_ids, subnet=subnet, blocks=batch.blocks
    )
    for site, states in steps:
        if site.kind == "between":
            inputs[site.layer] = read(states.flatten(0, -2))
        elif site.kind == "layer" and site.layer in inputs:
            pairs[site.layer] = inputs.pop(site.layer), read(states.flatten(0, -2))
    return pairs
