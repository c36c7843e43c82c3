"""Recalibrating LayerNorms for a cut of hidden units: each is scaled and shifted to keep its outputs.

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
from cutbert.model.prefix import PrefixNorm
from cutbert.model.task_model import TaskModel

DISTANCE_NORM = "distance_norm"


@dataclass
class Moments:
    """How the statistics of a LayerNorm over the units that stay differ from those over all units, summed over tokens.

    Args:
        ratio: standard deviation over the units that stay / standard deviation over all.
        shift: mean over the units that stay - mean over all, in standard deviations over all.
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
class MomentsRecorder:
    """Records the moments of the inputs of every LayerNorm over hidden units, by forward hooks."""

    kept: Tensor
    mask: Tensor | None = None
    moments: dict[str, Moments] = field(default_factory=dict)

    def hook(self, name: str) -> Any:
        def on_input(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            x = inputs[0].flatten(0, -2)
            is_of_tokens = self.mask is not None and inputs[0].shape[:-1] == self.mask.shape  # else of texts, distances
            if self.mask is not None and is_of_tokens and not name.endswith(DISTANCE_NORM):
                x = x[self.mask.flatten().bool()]
            self.moments.setdefault(name, Moments()).add(x, self.kept, float(module.eps))  # type: ignore[arg-type]

        return on_input


@torch.no_grad()
def recalibrate_norms(model: TaskModel, kept: Sequence[int], batches: Iterable[Batch]) -> None:
    """Scale and shift every LayerNorm over hidden units, in place, before a cut to the units that stay.

    Over fewer units a LayerNorm has another mean and standard deviation. On a sample of rows the mean ratio of the two
    standard deviations is multiplied into its weight, and the mean difference of the two means added to its bias, so
    that after the cut its outputs at the units that stay are as before, on average over tokens; one without bias
    cannot make up for the means. Until the cut the network computes something else.

    Args:
        model: with its gates folded.
        kept: hidden units that stay.
        batches: a sample of training rows.

    Raises:
        InputError: no rows.

    Source:
        Ours; in the paper (2005.06628) the fine-tuning after each cut makes up for the change.
    """
    recorder = MomentsRecorder(torch.tensor(kept, device=next(model.parameters()).device))
    norms = {
        name: norm for name, norm in model.named_modules() if isinstance(norm, PrefixNorm) and is_hidden(model, name)
    }
    handles = [norm.register_forward_pre_hook(recorder.hook(name)) for name, norm in norms.items()]
    was_training = model.training
    model.eval()
    try:
        for batch in batches:
            recorder.mask = batch.attention_mask
            model(batch.input_ids, batch.attention_mask, batch.token_type_ids, blocks=batch.blocks)
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    for name, norm in norms.items():
        moments = recorder.moments.get(name)
        if moments is None or not moments.num_tokens:
            raise InputError("norms must be recalibrated on at least one row, got none")
        if norm.bias is not None:
            norm.bias.add_(norm.weight, alpha=moments.shift / moments.num_tokens)
        norm.weight.mul_(moments.ratio / moments.num_tokens)


def is_hidden(model: TaskModel, name: str) -> bool:
    """Whether a LayerNorm runs over hidden units, not over the width of separate embedding tables."""
    above = ("encoder.layers.", "encoder.norm", f"encoder.embeddings.{DISTANCE_NORM}")
    return model.shape.embedding_size is None or name.startswith(above)
