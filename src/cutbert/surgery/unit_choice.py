"""Which heads and neurons a sub-layer can do without once its outgoing matrix is fitted again, and the error left.

Axes: T real tokens, U units of a sub-layer: values of all heads, or neurons; G units of a group; H hidden units.

Source:
    ZipLM (2302.04089), equations 2 to 4. With C the covariance of a sub-layer's activations and W its outgoing matrix,
    removing the units S and fitting the others again leaves the squared error

        tr( W_S' ((C^-1)_SS)^-1 W_S )        and        W <- W - (C^-1)_:S ((C^-1)_SS)^-1 W_S

    makes the fit. Heads go one by one, each as a group of its values. Neurons go in groups of those that are cheapest
    one by one, with an exact downdate of C^-1 after each group (ours; the paper removes single columns); errors are
    exact for each number of units all the same. C is centred, since the bias is fitted again too, where there is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cutbert.data.batches import Batch
from cutbert.errors import InputError
from cutbert.model.attention import Attention
from cutbert.model.task_model import TaskModel
from cutbert.surgery.importance import Importance
from cutbert.surgery.sub_layers import Stream, SubLayer, sub_layers, texts_of_positions

RIDGE = 1e-4  # share of the mean variance of a sub-layer's units
GROUPS = 24  # downdates while a sub-layer loses all of its neurons, where it has many
LEAST_GROUP = 64  # neurons removed between two downdates, at least
LEAST_JITTER = 1e-12  # share of the mean diagonal
LEAST_VARIANCE = 1e-30  # of units that never change


@dataclass(frozen=True, eq=False)
class SubLayerErrors:
    """What a sub-layer can lose.

    Args:
        order: its heads or neurons, the one that stays longest first, [units].
        errors: for each number of units kept, the first ones of the order, the squared error that is left when the
            outgoing matrix is fitted again, as a share of the variance of the sub-layer's output, [units + 1]: 1 with
            none, 0 with all.
        share: variance of the sub-layer's output as a share of that of the sum its LayerNorm reads: errors times
            share compare between sub-layers.
    """

    order: Tensor
    errors: Tensor
    share: float


@dataclass(frozen=True, eq=False)
class UnitChoice:
    """What the sub-layers of a network can lose, by layer; None where a sub-layer is absent."""

    heads: list[SubLayerErrors | None]
    neurons: list[SubLayerErrors | None]

    @property
    def importance(self) -> Importance:
        """The orders as scores, for `surgery.rewire` and `surgery.cut`: n for the first of n units, 1 for the last."""
        return Importance([ranks(each) for each in self.heads], [ranks(each) for each in self.neurons])


def ranks(errors: SubLayerErrors | None) -> Tensor:
    if errors is None:
        return torch.zeros(0)
    return (len(errors.order) - torch.argsort(errors.order)).float()


@torch.no_grad()
def choose_units(
    model: TaskModel, batches: Sequence[Batch], *, ridge: float = RIDGE, group: int | None = None
) -> UnitChoice:
    """Return for each sub-layer the order in which it can lose heads or neurons, and the error that leaves.

    Each sub-layer is looked at alone, in the uncut network. One covariance is in memory at a time.

    Args:
        model: the uncut network.
        batches: a few hundred texts, no labels needed, on the model's device.
        ridge: added to the covariance, as a share of its mean diagonal; above 0.
        group: neurons removed between two downdates, at least 1; 1 is exact greedy removal, and slow. None for a number
            that grows with the sub-layer.

    Raises:
        InputError: no texts.
    """
    if not any(batch.num_tokens for batch in batches):
        raise InputError("units must be chosen on at least one text, got none")
    choice = UnitChoice([None] * model.shape.num_layers, [None] * model.shape.num_layers)
    was_training = model.training
    model.eval()
    try:
        streams = [(Stream(model, batch), texts_of_positions(batch) >= 0) for batch in batches]
        for sub_layer in sub_layers(model.encoder):
            by_layer = choice.heads if sub_layer.kind == "attention" else choice.neurons
            by_layer[sub_layer.layer] = errors_of(sub_layer, streams, ridge, group)
    finally:
        model.train(was_training)
    return choice


def errors_of(
    sub_layer: SubLayer, streams: Sequence[tuple[Stream, Tensor]], ridge: float, group: int | None
) -> SubLayerErrors:
    """Return what a sub-layer can lose, and move the streams behind it."""
    of_units, of_sum = Covariance(is_centred=sub_layer.outgoing.bias is not None), Variance()
    for stream, is_real in streams:
        of_units.add(stream.units(sub_layer).flatten(0, -2)[is_real])
        of_sum.add(stream.advance(sub_layer).flatten(0, -2)[is_real])
    C_UU = of_units.matrix
    W_UH = sub_layer.outgoing.weight.T.double()
    energy = float((W_UH * (C_UU @ W_UH)).sum())
    ridged = C_UU + torch.eye(len(C_UU), dtype=C_UU.dtype, device=C_UU.device) * ridge * max(
        float(C_UU.diagonal().mean()), LEAST_VARIANCE
    )
    is_attention = isinstance(sub_layer.module, Attention)
    width = sub_layer.shape.value_dim if is_attention else 1
    if is_attention:
        group = 1
    order, errors = removal(ridged, W_UH, width, group or max(LEAST_GROUP, len(C_UU) // GROUPS))
    return SubLayerErrors(
        order, errors / max(float(errors[0]), LEAST_VARIANCE), energy / max(of_sum.value, LEAST_VARIANCE)
    )


class Covariance:
    """The covariance of states over tokens; not centred, their mean products.

    A batch's products are summed in the dtype of the states, several times as quick as in float64; batches, in float64.
    """

    def __init__(self, is_centred: bool) -> None:
        self.is_centred = is_centred
        self.sum_U = self.products_UU = torch.zeros((), dtype=torch.float64)
        self.num_tokens = 0

    def add(self, states_TU: Tensor) -> None:
        self.sum_U = self.sum_U.to(states_TU.device) + states_TU.sum(0, dtype=torch.float64)
        self.products_UU = self.products_UU.to(states_TU.device) + (states_TU.T @ states_TU).double()
        self.num_tokens += len(states_TU)

    @property
    def matrix(self) -> Tensor:
        if not self.is_centred:
            return self.products_UU / self.num_tokens
        mean_U = self.sum_U / self.num_tokens
        return self.products_UU / self.num_tokens - torch.outer(mean_U, mean_U)


class Variance:
    """The variance of states over tokens, summed over units, in float64."""

    def __init__(self) -> None:
        self.sum_H = torch.zeros((), dtype=torch.float64)
        self.squares = 0.0
        self.num_tokens = 0

    def add(self, states_TH: Tensor) -> None:
        states_TH = states_TH.double()
        self.sum_H = self.sum_H.to(states_TH.device) + states_TH.sum(0)
        self.squares += float(states_TH.square().sum())
        self.num_tokens += len(states_TH)

    @property
    def value(self) -> float:
        return self.squares / self.num_tokens - float((self.sum_H / self.num_tokens).square().sum())


def removal(covariance_UU: Tensor, weight_UH: Tensor, width: int, group: int) -> tuple[Tensor, Tensor]:
    """Return the order of units, the last one removed first, and the error left with each number of them kept.

    Args:
        covariance_UU: of the activations, with its ridge.
        weight_UH: the outgoing matrix.
        width: columns of a unit: 1 for a neuron, value_dim for a head.
        group: units removed between two downdates.
    """
    inverse = torch.cholesky_inverse(factored(covariance_UU))
    weight, left = weight_UH, torch.arange(len(inverse) // width, device=inverse.device)
    removed: list[int] = []
    errors = [0.0]
    while len(left):
        losses = unit_losses(inverse, weight, width)
        chosen = torch.argsort(losses, stable=True)[:group]
        columns = (chosen[:, None] * width + torch.arange(width, device=chosen.device)).flatten()
        stays = torch.ones(len(inverse), dtype=torch.bool, device=inverse.device)
        stays[columns] = False
        factor = factored(inverse[columns][:, columns])
        # Row i of `steps` is what its column adds to the error when it is removed after those before it.
        steps = torch.linalg.solve_triangular(factor, weight[columns], upper=False).square().sum(1)
        for step in steps.view(-1, width).sum(1).tolist():
            errors.append(errors[-1] + step)
        kept = stays.nonzero().flatten()
        between = inverse[columns].index_select(1, kept)
        across = torch.cholesky_solve(between, factor)
        weight = weight.index_select(0, kept).addmm_(across.T, weight[columns], alpha=-1)
        inverse = inverse.index_select(0, kept).index_select(1, kept).addmm_(between.T, across, alpha=-1)
        removed += left[chosen].tolist()
        left = left[stays.view(-1, width)[:, 0]]
    return torch.tensor(removed[::-1], dtype=torch.long), torch.tensor(errors[::-1], dtype=torch.float64)


def factored(matrices: Tensor) -> Tensor:
    """Return the Cholesky factors of symmetric matrices that are positive definite but for rounding, [..., U, U].

    Where there are fewer tokens than units, downdates leave eigenvalues of the size of the rounding: as much is added
    to the diagonal as makes the factor exist.

    Raises:
        InputError: the matrices are not finite.
    """
    diagonal = matrices.diagonal(dim1=-2, dim2=-1)
    if not bool(torch.isfinite(diagonal).all()):
        raise InputError("the states of the model must be finite on the texts it is looked at on, and are not")
    added = torch.zeros((), dtype=matrices.dtype)
    step = LEAST_JITTER * diagonal.abs().mean().clamp(min=LEAST_VARIANCE)
    while True:
        factors, failed = torch.linalg.cholesky_ex(matrices + added * torch.eye(matrices.shape[-1]).to(matrices))
        if not bool(failed.any()):
            return factors
        added, step = added + step, step * 10


def unit_losses(inverse_UU: Tensor, weight_UH: Tensor, width: int) -> Tensor:
    """Return the error that each unit's removal alone would add, [units]."""
    blocks = inverse_UU.unflatten(0, (-1, width)).unflatten(2, (-1, width)).diagonal(dim1=0, dim2=2).permute(2, 0, 1)
    factors = factored(blocks)
    steps = torch.linalg.solve_triangular(factors, weight_UH.unflatten(0, (-1, width)), upper=False)
    return steps.square().sum((1, 2))
