"""Least-squares repair of a cut: the outgoing matrix of each sub-layer is fitted again, without gradients.

Axes: T real tokens, H hidden units, U units of a sub-layer: values of all heads, or neurons.

Source:
    K-prune (2308.03449), equation 8, ZipLM (2302.04089) and RFP (2204.09656). With x the states that reach a sub-layer
    of the cut network, a(x) the activations of its units that stay, and z the sum of stream and output that the
    LayerNorm of the uncut network reads at the same place,

        min over W, b of  sum over tokens |x + a(x) W + b - z|^2 + ridge |W - W_0|^2

    in order from the first sub-layer to the last, so that each makes up for what was lost before it. Ours: W is drawn
    to the weight W_0 it has, not to 0, and the ridge of each sub-layer is chosen on texts that were not fitted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cutbert.data.batches import Batch
from cutbert.errors import InputError, Mistakes, ShapeError
from cutbert.model.task_model import TaskModel
from cutbert.surgery.norms import Moments
from cutbert.surgery.sub_layers import Stream, SubLayer, sub_layers, texts_of_positions
from cutbert.surgery.unit_choice import factored

RIDGES = (1e-6, 1e-3, 1e-2, 1e-1, 0.3, 1.0, 3.0)
SOLVED_IN_FLOAT32 = 1e-2  # ridges from here on: their systems are conditioned well enough, and take half the time
HELD_OUT = 4  # one text in four chooses the ridge
LEAST_ENERGY = 1e-30  # of units that are always 0


@dataclass(frozen=True)
class RepairedSubLayer:
    """What the repair of one sub-layer did.

    Args:
        layer: index in the cut network.
        kind: attention or feed_forward.
        ridge: chosen, as a share of the units' mean energy; None where nothing helped and nothing was changed.
        error_before, error_after: squared distance to the uncut network's sum on held-out texts, mean over tokens
            and hidden units, without and with a fit to the other texts.
    """

    layer: int
    kind: str
    ridge: float | None
    error_before: float
    error_after: float


class UncutSums:
    """What the LayerNorms of the uncut network read at each sub-layer: the aims of a repair, batch by batch.

    Args:
        uncut: in evaluation mode.
        batches: on its device.
        are_kept: whether all are kept for further repairs, in the network's dtype, [T, H] of each sub-layer and batch;
            else each is asked for once, in order, and one place of each batch is in memory.
    """

    def __init__(self, uncut: TaskModel, batches: Sequence[Batch], *, are_kept: bool = False) -> None:
        self.sub_layers, self.are_kept = sub_layers(uncut.encoder), are_kept
        self.streams = [Stream(uncut, batch) for batch in batches]
        self.are_real = [texts_of_positions(batch) >= 0 for batch in batches]
        self.reached = [0] * len(batches)
        self.kept: dict[tuple[int, int], Tensor] = {}

    def at(self, place: int, batch: int) -> Tensor:
        """Return the sums of one batch's real tokens at a sub-layer, [T, H].

        Args:
            place: of the sub-layer, in the order they run; where sums are not kept, behind the last one asked for.
            batch: its index.
        """
        if (place, batch) in self.kept:
            return self.kept[place, batch]
        for number in range(self.reached[batch], place + 1):
            total = self.streams[batch].advance(self.sub_layers[number])
            if self.are_kept or number == place:
                sums_TH = total.flatten(0, -2)[self.are_real[batch]]
            if self.are_kept:
                self.kept[number, batch] = sums_TH
        self.reached[batch] = place + 1
        return sums_TH


def repair(
    uncut: TaskModel,
    cut: TaskModel,
    batches: Sequence[Batch],
    *,
    layers: Sequence[int],
    hidden: Tensor | None = None,
    across_gaps: bool = False,
    ridges: Sequence[float] = RIDGES,
    sums: UncutSums | None = None,
) -> list[RepairedSubLayer]:
    """Fit the outgoing weights of a cut network again, in place, so that its states come close to the uncut network's.

    The ridge is chosen on every HELD_OUT-th text, then the fit is made again on all of them; a sub-layer that no ridge
    improves on held-out texts stays as it is. Kept in memory are both networks' states of every batch at one place.

    Args:
        uncut: the network that the cut was made from, with its units in any order.
        cut: the network to change. After a cut of hidden units its LayerNorms are those of `surgery.norms`.
        batches: a few hundred texts, no labels needed, on the device of both networks.
        layers: for each layer of the cut network the index of the uncut network's layer it came from, rising.
        hidden: indices of the uncut network's hidden units that stay, in the cut network's order; None for all.
        across_gaps: where sub-layers were dropped, the last one before them aims at the sum behind them, and takes
            the LayerNorm from there, if it comes after the sum, so that the next one reads what it is used to.
        ridges: shares of the mean energy of a sub-layer's units to choose from, above 0.
        sums: of the uncut network and these batches, kept; None to make them, which is half of the work.

    Returns:
        One report for each sub-layer of the cut network, in order.

    Raises:
        ShapeError: layers or hidden units that do not fit the two networks; all mistakes together.
        InputError: fewer than 2 texts.
    """
    check_origin(uncut, cut, layers, hidden)
    if sum(batch.num_rows for batch in batches) < 2:
        raise InputError(f"a cut must be repaired on at least 2 texts, got {sum(each.num_rows for each in batches)}")
    if hidden is not None:
        hidden = hidden.to(batches[0].input_ids.device)
    modes = [(model, model.training) for model in (uncut, cut)]
    try:
        with torch.no_grad():
            uncut.eval(), cut.eval()
            sums = sums or UncutSums(uncut, batches)
            return list(repair_in_order(sums, cut, batches, layers, hidden, across_gaps, ridges))
    finally:
        for model, was_training in modes:
            model.train(was_training)


def check_origin(uncut: TaskModel, cut: TaskModel, layers: Sequence[int], hidden: Tensor | None) -> None:
    """Raise a ShapeError unless a network can have been cut out of another one like this."""
    mistakes = Mistakes()
    shape, whole = cut.shape, uncut.shape
    rises = list(layers) == sorted(set(layers)) and all(0 <= i < whole.num_layers for i in layers)
    if len(layers) != shape.num_layers or not rises:
        mistakes.add(
            f"layers must be {shape.num_layers} rising indices in 0..{whole.num_layers - 1}, got {list(layers)}"
        )
    else:
        for i, (ours, theirs) in enumerate(zip(shape.layers, (whole.layers[j] for j in layers), strict=True)):
            if ours.has_attention > theirs.has_attention or ours.has_feed_forward > theirs.has_feed_forward:
                mistakes.add(f"layer {layers[i]} of the uncut network must have the sub-layers of layer {i} of the cut")
    kept = whole.hidden_size if hidden is None else len(hidden)
    if kept != shape.hidden_size:
        mistakes.add(f"hidden must be {shape.hidden_size} indices, those of the cut's hidden units, got {kept}")
    mistakes.check(ShapeError)


def repair_in_order(
    sums: UncutSums,
    cut: TaskModel,
    batches: Sequence[Batch],
    layers: Sequence[int],
    hidden: Tensor | None,
    across_gaps: bool,
    ridges: Sequence[float],
) -> Iterator[RepairedSubLayer]:
    """Repair the sub-layers of the cut one by one; both networks pass every batch once."""
    whole, ours = sums.sub_layers, sub_layers(cut.encoder)
    flows = flows_of(cut, batches)
    for sub_layer, (own, place) in zip(ours, places_of(whole, ours, layers, across_gaps), strict=True):
        has_bias = sub_layer.outgoing.bias is not None
        fitted, left_out, norm = LeastSquares(has_bias), LeastSquares(has_bias), Moments()
        for i, flow in enumerate(flows):
            target_TH = sums.at(place, i)
            units = flow.stream.units(sub_layer)
            total_TH = flow.stream.sum_after(sub_layer, units).flatten(0, -2)[flow.is_real]
            units_TU = units.flatten(0, -2)[flow.is_real]
            if hidden is not None:
                source = whole[place].module
                if place != own and source.norm is not None and source.norm_place == "after":
                    norm.add(target_TH, hidden, source.norm.eps)
                target_TH = target_TH.index_select(1, hidden)
            missing_TH = target_TH.double() - total_TH.double()
            fitted.add(units_TU[~flow.is_held], missing_TH[~flow.is_held])
            left_out.add(units_TU[flow.is_held], missing_TH[flow.is_held])
        if place != own and sub_layer.module.norm_place == "after":
            take_norm(sub_layer, whole[place], hidden, norm)
        yield refit(sub_layer, fitted, left_out, ridges)
        for flow in flows:
            flow.stream.advance(sub_layer)


@dataclass(frozen=True)
class Flow:
    """A batch on its way through the cut.

    Args:
        stream: its states.
        is_real: [positions], where there is a token.
        is_held: [T], of the tokens those whose text chooses the ridge.
    """

    stream: Stream
    is_real: Tensor
    is_held: Tensor


def flows_of(cut: TaskModel, batches: Sequence[Batch]) -> list[Flow]:
    flows, first = [], 0
    for batch in batches:
        texts = texts_of_positions(batch)
        is_held = (texts[texts >= 0] + first) % HELD_OUT == 1
        flows.append(Flow(Stream(cut, batch), texts >= 0, is_held))
        first += batch.num_rows
    return flows


def places_of(
    whole: Sequence[SubLayer], ours: Sequence[SubLayer], layers: Sequence[int], across_gaps: bool
) -> list[tuple[int, int]]:
    """Return for each sub-layer of the cut where it is in the uncut network, and whose sum there it aims at."""
    numbers = {(each.layer, each.kind): i for i, each in enumerate(whole)}
    own = [numbers[layers[each.layer], each.kind] for each in ours]
    if not across_gaps:
        return [(place, place) for place in own]
    return [(place, after - 1) for place, after in zip(own, [*own[1:], len(whole)], strict=True)]


def take_norm(sub_layer: SubLayer, source: SubLayer, hidden: Tensor | None, moments: Moments) -> None:
    """Copy a LayerNorm of the uncut network, recalibrated where hidden units are gone."""
    own, norm = sub_layer.module.norm, source.module.norm
    assert own is not None and norm is not None
    if hidden is None:
        own.load_state_dict(norm.state_dict())
        return
    weight = norm.weight[hidden]
    own.weight.copy_(weight * (moments.ratio / moments.num_tokens))
    if own.bias is not None:
        own.bias.copy_(norm.bias[hidden] + weight * (moments.shift / moments.num_tokens))


class LeastSquares:
    """Sums over tokens for the least-squares fit of a change of weights and bias.

    A batch's are made in the dtype of its states, several times as quick as in float64; batches are added in float64.
    The constant 1 is the last unit, where the matrix has a bias: its weight is the bias.
    """

    def __init__(self, has_bias: bool) -> None:
        self.has_bias = has_bias
        self.products_UU = self.products_UH = torch.zeros((), dtype=torch.float64)
        self.energy = 0.0
        self.num_tokens = 0

    def add(self, units_TU: Tensor, missing_TH: Tensor) -> None:
        if self.has_bias:
            units_TU = torch.nn.functional.pad(units_TU, (0, 1), value=1.0)
        self.products_UU = self.products_UU.to(units_TU.device) + (units_TU.T @ units_TU).double()
        self.products_UH = self.products_UH.to(units_TU.device) + (units_TU.T @ missing_TH.to(units_TU)).double()
        self.energy += float(missing_TH.square().sum())
        self.num_tokens += len(units_TU)

    def joined(self, other: LeastSquares) -> LeastSquares:
        both = LeastSquares(self.has_bias)
        both.products_UU = self.products_UU + other.products_UU
        both.products_UH = self.products_UH + other.products_UH
        both.energy, both.num_tokens = self.energy + other.energy, self.num_tokens + other.num_tokens
        return both

    def change(self, ridge: float) -> Tensor:
        """Return the best change of weights and bias, [U + 1, H], [U, H] without one; the bias has no ridge."""
        dtype = torch.float32 if ridge >= SOLVED_IN_FLOAT32 else torch.float64
        products_UU, products_UH = self.products_UU.to(dtype), self.products_UH.to(dtype)
        diagonal = products_UU.diagonal()
        own = diagonal[:-1] if self.has_bias else diagonal
        strengths = torch.full_like(diagonal, ridge * max(float(own.mean()), LEAST_ENERGY))
        if self.has_bias:
            strengths[-1] = 0.0
        factor = factored(products_UU + torch.diag(strengths))
        return torch.cholesky_solve(products_UH, factor)

    def error(self, change_UH: Tensor | None = None) -> float:
        """Return the squared error that a change leaves (None: no change), mean over tokens and hidden units."""
        left = self.energy
        if change_UH is not None:
            products_UU, products_UH = self.products_UU.to(change_UH), self.products_UH.to(change_UH)
            left += float((change_UH * (products_UU @ change_UH - 2 * products_UH)).sum(dtype=torch.float64))
        return max(0.0, left) / (self.num_tokens * self.products_UH.shape[1])


def refit(
    sub_layer: SubLayer, fitted: LeastSquares, left_out: LeastSquares, ridges: Sequence[float]
) -> RepairedSubLayer:
    """Change a sub-layer's outgoing weight and bias by the fit whose ridge is best on texts left out, if any helps."""
    before = left_out.error()
    errors = {ridge: left_out.error(fitted.change(ridge)) for ridge in ridges}
    best = min(errors, key=errors.__getitem__)
    if errors[best] >= before:
        return RepairedSubLayer(sub_layer.layer, sub_layer.kind, None, before, before)
    change_UH = fitted.joined(left_out).change(best)
    linear = sub_layer.outgoing
    linear.weight.add_(change_UH[: linear.in_features].T.to(linear.weight))
    if linear.bias is not None:
        linear.bias.add_(change_UH[-1].to(linear.bias))
    return RepairedSubLayer(sub_layer.layer, sub_layer.kind, best, before, errors[best])
