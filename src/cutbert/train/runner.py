"""What runs a network on a batch, whatever backend that is, and the answers of all rows by it.

Axes: B batch, S sequence, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from cutbert.data.batches import Batch, plan_eval_batches
from cutbert.data.tokens import Tokens
from cutbert.model.task_model import TaskModel
from cutbert.shape.subnet import Subnet
from cutbert.train.collating import HasShape, padded_batch
from cutbert.train.machine import without_onednn


class Runner(Protocol):
    """Runs one batch, blocks until its logits are computed, and returns them; last hidden states without a head.

    Takes int64 [B, S]; without a mask nothing is padded, without token types all are 0.
    """

    def __call__(
        self,
        input_ids: NDArray[np.int64],
        attention_mask: NDArray[np.int64] | None = None,
        token_type_ids: NDArray[np.int64] | None = None,
    ) -> NDArray[np.float32]: ...


class TorchRunner:
    """A network in torch, in its own dtype on its own device; call it in evaluation mode."""

    def __init__(self, model: TaskModel, subnet: Subnet | None = None) -> None:
        self.model, self.subnet = model, subnet
        self.device = next(model.parameters()).device

    @torch.inference_mode()
    def __call__(
        self,
        input_ids: NDArray[np.int64],
        attention_mask: NDArray[np.int64] | None = None,
        token_type_ids: NDArray[np.int64] | None = None,
    ) -> NDArray[np.float32]:
        inputs = (input_ids, attention_mask, token_type_ids)
        tensors = [None if each is None else torch.from_numpy(each).to(self.device) for each in inputs]
        assert tensors[0] is not None
        with torch.autocast(device_type=self.device.type, enabled=False):
            output = self.model(tensors[0], *tensors[1:], subnet=self.subnet)
        answer = output.hidden_states[-1] if output.logits is None else output.logits
        logits: NDArray[np.float32] = answer.float().cpu().numpy()
        return logits


def products_for(model: TaskModel) -> AbstractContextManager[object]:
    """Return the context in which a network's products take the better library, where batches have many sizes.

    In bf16 oneDNN is the faster one; in float32 it gains nothing, and keeps memory for every size of a batch.
    """
    is_on_cpu = next(model.parameters()).device.type == "cpu"
    return without_onednn if is_on_cpu and model.encoder.layers_dtype == torch.float32 else nullcontext()


def run_rows(
    runner: Runner,
    model: HasShape,
    tokens: Tokens,
    *,
    max_tokens: int = 1,
    on_batch: Callable[[int], None] | None = None,
) -> NDArray[np.float32]:
    """Return a runner's answers for every row, in the rows' own order.

    Args:
        runner: runs the batches.
        model: what the batches are for.
        tokens: the rows.
        max_tokens: tokens per batch at most, padding included; by default each row runs alone, as with int8 the
            ranges of a batch depend on all its rows.
        on_batch: called after each batch with its number of rows.

    Returns:
        [N, C]; of answers per token [N, S, C], 0 after a row's own tokens.
    """
    batches = []
    for rows in plan_eval_batches(tokens.lengths, max_tokens):
        batch = padded_batch(model, tokens, rows)
        inputs = (batch.input_ids, batch.attention_mask, batch.token_type_ids)
        answer = runner(*(None if each is None else each.numpy() for each in inputs))  # type: ignore[arg-type]
        batches.append((rows, without_padding(answer, batch)))
        if on_batch is not None:
            on_batch(len(rows))
    return in_order(batches, len(tokens.lengths))


def without_padding(answer: NDArray[np.float32], batch: Batch) -> NDArray[np.float32]:
    """Return a batch's answers, of answers per token with 0 after a row's own tokens."""
    if answer.ndim < 3 or batch.attention_mask is None:
        return answer
    return answer * batch.attention_mask.cpu().numpy()[..., None].astype(answer.dtype)


def in_order(batches: list[tuple[NDArray[Any], NDArray[np.float32]]], num_rows: int) -> NDArray[np.float32]:
    """Put the batches' answers back into the order of rows."""
    if not batches:
        return np.zeros((num_rows, 0), dtype=np.float32)
    inner = np.max([logits.shape[1:] for _, logits in batches], axis=0)
    result = np.zeros((num_rows, *inner), dtype=np.float32)
    for rows, logits in batches:
        place: Any = (rows, *(slice(0, size) for size in logits.shape[1:]))
        result[place] = logits
    return result
