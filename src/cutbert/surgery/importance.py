"""The importance of each head and neuron: how much the loss would change without it, to first order.

Axes: H hidden, N heads, V value_dim, F neurons; a trailing L: of all layers, concatenated.

Source:
    Hou et al. 2020 (2004.04037), section 2.1, network rewiring. By a Taylor expansion to first order, with h the output
    of a head and w_1 .. w_2d the weights into and out of a neuron:

        I_head = |dL/dh * h|        I_neuron = |sum_{i=1..2d} dL/dw_i * w_i|
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from cutbert.data.batches import Batch
from cutbert.errors import InputError
from cutbert.model.losses import task_loss
from cutbert.model.task_model import TaskModel
from cutbert.shape.space import Rule

INTO_NEURONS = ("up.weight", "up.bias", "gate.weight", "gate.bias")  # of a feed-forward; not every family has all

LossFn = Callable[[TaskModel, Batch], Tensor]


@dataclass(frozen=True, eq=False)
class Importance:
    """Scores of all units; larger is kept, and only the order within a layer is used.

    Args:
        heads: per layer [num_heads]; empty where attention is absent.
        neurons: per layer [intermediate_size]; empty where the feed-forward is absent.
    """

    heads: list[Tensor]
    neurons: list[Tensor]


def label_loss(model: TaskModel, batch: Batch) -> Tensor:
    """Return the mean task loss of a batch against its labels.

    Raises:
        InputError: the batch has no labels, or the model no output layer.
    """
    if batch.labels is None:
        raise InputError("importance by labels must be measured on labelled rows, got rows without labels")
    logits = model(batch.input_ids, batch.attention_mask, batch.token_type_ids, blocks=batch.blocks).logits
    if logits is None:
        raise InputError(f"importance by labels must have a task head, got a head of kind {model.head_spec.kind}")
    return task_loss(model.head_spec, logits, batch.labels, attention_mask=batch.attention_mask, blocks=batch.blocks)


def vector_change(model: TaskModel, batch: Batch) -> Tensor:
    """Return a random direction's share of the vectors of a batch, the mean over texts.

    At the teacher itself the distance to its vectors is 0, and so is the gradient. Along a random direction the
    change to first order is that of the vector, up to a factor that is the same for all units (our choice).
    """
    vectors_BH = model(batch.input_ids, batch.attention_mask, batch.token_type_ids, blocks=batch.blocks).logits
    assert vectors_BH is not None
    draw = torch.Generator().manual_seed(vectors_BH.shape[0])
    directions_BH = torch.randn(vectors_BH.shape, generator=draw).to(vectors_BH)
    return (vectors_BH * directions_BH).sum() / len(vectors_BH)


def measure_importance(
    model: TaskModel, batches: Iterable[Batch], loss_fn: LossFn | None = None, *, rule: Rule = "paper"
) -> Importance:
    """Return the first-order importance of every head and neuron.

    Measured on a copy without dropout: the model, its mode and its gradients are not changed. Weight gradients are
    all it needs: for a gate g on a head's output, dL/dg at g = 1 (the paper's dL/dh * h) is exactly the sum of
    weight x gradient over that head's columns of the output projection, and the release's gate on attention
    probabilities has the same derivative.

    Args:
        model: fine-tuned, with the task head of the loss.
        batches: a sample of training rows, never of select or dev, on the model's device.
        loss_fn: mean loss of a batch, differentiable in the model's weights; None for that against labels, of an
            embedding model for `vector_change`.
        rule: "paper", or "release" for what the released code computes.

    Returns:
        float64 on the CPU. "paper": |change of the loss| of each batch, mean over examples (labelled tokens,
        where labels are per token). "release": a sum over batches.

    Raises:
        InputError: no batches, no units to measure, no labels or no task head, or a loss that is not
            finite.

    Source:
        Hou et al. 2020 (2004.04037): the equations at the top of this file; a neuron's input bias counts among its
        weights, as in the release. Ours: the mean over batches of the absolute values, weighted by examples. Release:
        absolute values of running sums, since its gradients are never zeroed between batches, and two absolute values
        for a neuron, of its weights in and of its weights out.
    """
    twin = copy.deepcopy(model).eval().requires_grad_(False)
    weights = {name: weight.requires_grad_() for name, weight in twin.named_parameters() if needs_gradient(name)}
    if not weights:
        raise InputError("importance must have heads or neurons to measure, got a model without either")
    if loss_fn is None:
        loss_fn = vector_change if model.head_spec.kind == "embedding" else label_loss
    total = ImportanceSum(rule)
    for batch in batches:
        products = weights_times_gradients(weights, loss_fn(twin, batch))
        total.add(unit_changes(twin, products), batch.num_labels)
    if not total.num_examples:
        raise InputError("importance must be measured on at least one row, got none")
    return by_layer(twin, total)


class UnitChanges(NamedTuple):
    """First-order change of one batch's loss for each unit, signed, all layers concatenated."""

    heads_NL: Tensor
    neurons_in_FL: Tensor
    neurons_out_FL: Tensor


class ImportanceSum:
    """Sums the changes of the loss over batches, by the paper's or the release's rule."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.num_examples = 0
        self.heads_NL = self.neurons_FL = torch.zeros(())
        self.running = UnitChanges(*[torch.zeros(())] * 3)

    def add(self, changes: UnitChanges, num_examples: int) -> None:
        self.num_examples += num_examples
        if self.rule == "release":
            self.running = UnitChanges(*map(torch.add, self.running, changes))
            heads, ins, outs = self.running
            self.heads_NL = self.heads_NL + heads.abs()
            self.neurons_FL = self.neurons_FL + ins.abs() + outs.abs()
        else:
            heads, ins, outs = changes
            self.heads_NL = self.heads_NL + heads.abs() * num_examples
            self.neurons_FL = self.neurons_FL + (ins + outs).abs() * num_examples

    def scale(self) -> float:
        return 1.0 if self.rule == "release" else 1 / self.num_examples


def needs_gradient(name: str) -> bool:
    """Whether importance needs a parameter's gradient."""
    _, _, part = name.partition("feed_forward.")
    return name.endswith("attention.output.weight") or part in (*INTO_NEURONS, "down.weight")


def weights_times_gradients(weights: dict[str, Tensor], loss: Tensor) -> dict[str, Tensor]:
    """Return weight x gradient of each weight, in float32."""
    if not torch.isfinite(loss):
        raise InputError(f"importance must be measured with a finite loss, got {loss.item()}")
    gradients = torch.autograd.grad(loss, list(weights.values()))
    pairs = zip(weights.items(), gradients, strict=True)
    return {name: weight.detach().float() * gradient.float() for (name, weight), gradient in pairs}


def unit_changes(model: TaskModel, products: dict[str, Tensor]) -> UnitChanges:
    """Sum weight x gradient over each unit's weights, in float64 on the CPU."""
    heads, ins, outs = [torch.zeros(0)], [torch.zeros(0)], [torch.zeros(0)]
    for i, layer in enumerate(model.shape.layers):
        where = f"encoder.layers.{i}."
        if layer.has_attention:
            output_HNV = products[where + "attention.output.weight"].unflatten(1, (layer.num_heads, layer.value_dim))
            heads.append(output_HNV.sum((0, 2), dtype=torch.float64).cpu())
        if layer.has_feed_forward:
            into_F = torch.zeros((), dtype=torch.float64)
            for part in INTO_NEURONS:
                product = products.get(f"{where}feed_forward.{part}")
                if product is not None:
                    into_F = into_F.to(product.device) + product.view(len(product), -1).sum(1, dtype=torch.float64)
            ins.append(into_F.cpu())
            outs.append(products[where + "feed_forward.down.weight"].sum(0, dtype=torch.float64).cpu())
    return UnitChanges(torch.cat(heads), torch.cat(ins), torch.cat(outs))


def by_layer(model: TaskModel, total: ImportanceSum) -> Importance:
    """Split the sums of all layers by layer."""
    layers = model.shape.layers
    heads = (total.heads_NL * total.scale()).split([layer.num_heads for layer in layers])
    neurons = (total.neurons_FL * total.scale()).split([layer.intermediate_size for layer in layers])
    return Importance(list(heads), list(neurons))
