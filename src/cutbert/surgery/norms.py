"""LayerNorms that hardly notice a cut of hidden units: each is scaled and shifted to give what it gave before.

Axes: T real tokens, H hidden units, J hidden units that stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from cutbert.data.batches import Batch
from cutbert.errors import InputError
from cutbert.model.norm import PrefixNorm
from cutbert.model.task_model import TaskModel


@dataclass
class Moments:
    """Sums over tokens of how a norm over some hidden units differs from the norm over all.

    Args:
        ratio: standard deviation over the units that stay, by that over all.
        shift: mean over the units that stay less that over all, in standard deviations over all.
        num_tokens: tokens summed over.
    """

    ratio: float = 0.0
    shift: float = 0.0
    num_tokens: int = 0

    def add(self, x_TH: Tensor, kept_J: Tensor, eps: float) -> None:
        x_TH = x_TH.double()
        x_TJ = x_TH.index_select(-1, kept_J)
        spread_T, kept_spread_T = ((x.var(-1, unbiased=False) + eps).sqrt() for x in (x_TH, x_TJ))
        self.ratio += float((kept_spread_T / spread_T).sum())
        self.shift += float(((x_TJ.mean(-1) - x_TH.mean(-1)) / spread_T).sum())
        self.num_tokens += len(x_TH)


@dataclass
class Listener:
    """Hears what every hidden norm of a network is given."""

    kept: Tensor
    mask: Tensor | None = None
    moments: dict[str, Moments] = field(default_factory=dict)

    def hook(self, name: str) -> Any:
        def hear(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            x = inputs[0].flatten(0, -2)
            if self.mask is not None:
                x = x[self.mask.flatten().bool()]
            self.moments.setdefault(name, Moments()).add(x, self.kept, float(module.eps))  # type: ignore[arg-type]

        return hear


@torch.no_grad()
def settle_norms(model: TaskModel, kept: Sequence[int], batches: Iterable[Batch]) -> None:
    """Scale and shift every LayerNorm over hidden units, in place, for a cut to the units that stay.

    Over fewer units a norm has another mean and standard deviation. On a sample of rows the mean ratio of the two
    standard deviations goes into the norm's weight, and the mean distance of the two means into its bias, so that
    after the cut each norm gives the units that stay what it gave them before, on the average over tokens. The
    uncut function changes: cut next.

    Args:
        model: with its gates folded.
        kept: hidden units that stay.
        batches: a sample of training rows.

    Raises:
        InputError: no rows.

    Source:
        Our choice; the paper leaves the jump to the healing.
    """
    listener = Listener(torch.tensor(kept, device=next(model.parameters()).device))
    norms = {
        name: norm for name, norm in model.named_modules() if isinstance(norm, PrefixNorm) and is_hidden(model, name)
    }
    handles = [norm.register_forward_pre_hook(listener.hook(name)) for name, norm in norms.items()]
    was_training = model.training
    model.eval()
    try:
        for batch in batches:
            listener.mask = batch.attention_mask
            model(batch.input_ids, batch.attention_mask, batch.token_type_ids, blocks=batch.blocks)
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    for name, norm in norms.items():
        found = listener.moments.get(name)
        if found is None or not found.num_tokens:
            raise InputError("norms must be settled on at least one row, got none")
        norm.bias.add_(norm.weight, alpha=found.shift / found.num_tokens)
        norm.weight.mul_(found.ratio / found.num_tokens)


def is_hidden(model: TaskModel, name: str) -> bool:
    """Whether a norm runs over hidden units, not over the tables' own width."""
    return model.shape.embedding_size is None or name.startswith("encoder.layers.")
