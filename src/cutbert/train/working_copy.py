"""The network as a training step sees it: layers in the training dtype, gradients added in place."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from cutbert.model.attention import Attention
from cutbert.model.prefix import accumulate_by_autograd, accumulate_in_place, forget_gradients, settle_gradients
from cutbert.model.task_model import TaskModel
from cutbert.train.optimizer import Casts


class WorkingCopy:
    """A copy of a float32 network whose layers and head compute in another dtype.

    The embeddings are the float32 network's own: they run once a step, on few rows. In float32 training
    the copy is the network itself. Every backward adds to the copy's gradients; the optimizer updates the
    float32 weights by them and casts these again. Nothing else may change these while the copy is in use.

    Args:
        master: the float32 network the optimizer updates.
        dtype: of layers and head.
        dropout: probability of every dropout, hidden and attention.
    """

    def __init__(self, master: TaskModel, dtype: torch.dtype, dropout: float) -> None:
        self.master = master
        self.is_cast = dtype != torch.float32
        self.model = cast_copy(master, dtype) if self.is_cast else master
        self.pairs = [
            (weight, cast)
            for weight, cast in zip(master.parameters(), self.model.parameters(), strict=True)
            if weight is not cast
        ]
        self.dtype = dtype
        self._cast_table: Tensor | None = None
        set_dropout(self.model, dropout)
        for module in upper_modules(self.model):
            accumulate_in_place(module)
        self.upper_weights = [p for module in upper_modules(self.model) for p in module.parameters()]
        self.model.train()

    def refresh(self) -> None:
        """Clear the gradients of layers and head."""
        forget_gradients(self.upper_weights)
        self._cast_table = None

    @torch.no_grad()
    def token_table(self) -> Tensor:
        """Return the token table in the layers' dtype, for a tied output; without gradient.

        Cast at a step's first use: most heads have no use for it.
        """
        table = self.model.encoder.embeddings.token.weight
        if not self.is_cast:
            return table.detach()
        if self._cast_table is None:
            self._cast_table = table.detach().to(self.dtype)
        return self._cast_table

    def collect(self) -> Casts:
        """Return the float32 weights that have a copy, with it and the sum of a step's gradients on it."""
        settle_gradients(self.upper_weights)
        return self.pairs

    def close(self) -> None:
        """Set the float32 network to evaluation mode, and drop what training left on it."""
        self.master.eval()
        self.master.requires_grad_(True)
        accumulate_by_autograd(self.master)
        self.master.encoder.embeddings.token.sparse = False


def cast_copy(model: TaskModel, dtype: torch.dtype) -> TaskModel:
    """Return a copy with layers and head in another dtype; the embeddings are shared, not copied."""
    shared = {id(parameter): parameter for parameter in model.encoder.embeddings.parameters()}
    twin = copy.deepcopy(model, memo={**shared, id(model.encoder.embeddings): model.encoder.embeddings})
    cast_layers(twin, dtype)
    return twin


def frozen_copy(model: TaskModel, dtype: torch.dtype) -> TaskModel:
    """Return a copy that is never updated: layers and head in the given dtype, in evaluation mode."""
    twin = copy.deepcopy(model)
    cast_layers(twin, dtype)
    return twin.eval().requires_grad_(False)


def cast_layers(model: TaskModel, dtype: torch.dtype) -> None:
    """Cast layers and head, in place; the embeddings stay as they are."""
    for module in upper_modules(model):
        module.to(dtype)


def upper_modules(model: TaskModel) -> list[nn.Module]:
    """Return what follows the embeddings: layers, the LayerNorm after them and the head, where they are there."""
    return model.encoder.upper + ([] if model.head is None else [model.head])


def set_dropout(model: nn.Module, dropout: float) -> None:
    """Set the probability of every dropout of a network, hidden and attention."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = dropout
        if isinstance(module, Attention):
            module.attention_dropout = dropout
