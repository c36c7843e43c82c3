"""Importance against real gates, plain loops and finite differences; nothing else is touched."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from cutbert.data.batches import Batch, join_blocks
from cutbert.errors import InputError
from cutbert.model import attention as attention_module
from cutbert.model.prefix import accumulate_in_place
from cutbert.model.task_model import TaskModel
from cutbert.shape.blocks import Blocks
from cutbert.shape.head import HeadSpec
from cutbert.shape.shape import EncoderShape
from cutbert.surgery.importance import label_loss, measure_importance
from tiny_models import LAYERS, random_batch, random_model, tiny_shape

ATTENTIONS = [i for i, layer in enumerate(LAYERS) if layer.has_attention]
FEED_FORWARDS = [i for i, layer in enumerate(LAYERS) if layer.has_feed_forward]


def close(got: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(got.double(), wanted.double(), atol=1e-6, rtol=1e-4)


def gate_gradients(
    model: TaskModel, batch: Batch, monkeypatch: pytest.MonkeyPatch, on_probabilities: bool
) -> list[Tensor]:
    """Return dL/dgate of every head by real gates inside the attention."""
    gates = [torch.ones(LAYERS[i].num_heads, requires_grad=True) for i in ATTENTIONS]
    waiting = iter(gates)

    def gated(
        q: Tensor,
        k: Tensor,
        v: Tensor,
        blocks: Blocks,
        biases: Sequence[Tensor],
        *,
        num_heads: int,
        scale: float,
        dropout: float,
        **others: object,
    ) -> Tensor:
        gate = next(waiting)[None, :, None, None]
        q, k, v = (x.unflatten(-1, (num_heads, -1)).transpose(1, 2) for x in (q, k, v))
        probabilities = ((q * scale) @ k.transpose(-1, -2) + biases[0]).softmax(-1)
        context = (probabilities * gate) @ v if on_probabilities else (probabilities @ v) * gate
        return context.transpose(1, 2).flatten(2)

    with monkeypatch.context() as patch:
        patch.setattr(attention_module, "attend", gated)
        return list(torch.autograd.grad(label_loss(model, batch), gates))


@pytest.mark.parametrize("on_probabilities", [False, True])
def test_head_importance_is_the_gradient_of_real_gates(monkeypatch: pytest.MonkeyPatch, on_probabilities: bool) -> None:
    model, batch = random_model(), random_batch()
    importance = measure_importance(model, [batch])
    for i, gradient in zip(ATTENTIONS, gate_gradients(model, batch, monkeypatch, on_probabilities), strict=True):
        close(importance.heads[i], gradient.abs())
        assert (importance.heads[i] > 0).all()


def neuron_parts(model: TaskModel, layer: int, neuron: int) -> tuple[float, float]:
    """Return the sums of weight x gradient of a neuron's weights in (with bias) and out, from `.grad`."""
    up, down = model.encoder.layers[layer].feed_forward.up, model.encoder.layers[layer].feed_forward.down
    into = (up.weight[neuron] * up.weight.grad[neuron]).sum() + up.bias[neuron] * up.bias.grad[neuron]
    return into.item(), (down.weight[:, neuron] * down.weight.grad[:, neuron]).sum().item()


def test_neuron_importance_is_one_absolute_of_all_weights() -> None:
    model, batch = random_model(), random_batch()
    importance = measure_importance(model, [batch])
    label_loss(model, batch).backward()
    for i in FEED_FORWARDS:
        wanted = [abs(sum(neuron_parts(model, i, j))) for j in range(LAYERS[i].intermediate_size)]
        close(importance.neurons[i], torch.tensor(wanted))


def exact_loss(model: TaskModel, batch: Batch) -> Tensor:
    """Return the cross-entropy in the model's own number type."""
    logits = model(batch.input_ids, batch.attention_mask, batch.token_type_ids).logits
    return torch.nn.functional.cross_entropy(logits, batch.labels)


def test_importance_is_the_change_of_the_loss_to_first_order() -> None:
    model, batch, step = random_model().double(), random_batch(), 1e-6
    importance = measure_importance(model, [batch], exact_loss)
    changes = []
    for head in range(LAYERS[0].num_heads):
        shrunk = copy.deepcopy(model)
        with torch.no_grad():
            columns = shrunk.encoder.layers[0].attention.output.weight.unflatten(1, (LAYERS[0].num_heads, -1))
            columns[:, head] *= 1 - step
            changes.append((exact_loss(model, batch) - exact_loss(shrunk, batch)).abs() / step)
    torch.testing.assert_close(importance.heads[0], torch.stack(changes), atol=1e-5, rtol=1e-4)


def test_the_mean_over_batches_weighs_examples() -> None:
    model = random_model()
    batches = [random_batch(rows=2, seed=1), random_batch(rows=6, seed=2)]
    alone = [measure_importance(model, [batch]) for batch in batches]
    both = measure_importance(model, iter(batches))
    close(both.heads[0], (2 * alone[0].heads[0] + 6 * alone[1].heads[0]) / 8)
    close(both.neurons[3], (2 * alone[0].neurons[3] + 6 * alone[1].neurons[3]) / 8)


def test_blocks_give_what_their_texts_give_alone() -> None:
    model, parts = random_model(), [random_batch(rows=2, seed=1), random_batch(rows=6, seed=2)]

    def loss_of_all(model: TaskModel, batch: Batch) -> Tensor:
        assert batch is whole
        return (2 * label_loss(model, parts[0]) + 6 * label_loss(model, parts[1])) / 8

    whole, other = join_blocks(parts, 0), random_batch(rows=3, seed=3)
    got, wanted = measure_importance(model, [whole]), measure_importance(model, [whole], loss_of_all)
    close(got.heads[0], wanted.heads[0])
    close(got.neurons[3], wanted.neurons[3])
    mean = (8 * wanted.heads[0] + 3 * measure_importance(model, [other]).heads[0]) / 11
    close(measure_importance(model, [whole, other]).heads[0], mean)


def test_release_sums_absolutes_of_gradients_never_zeroed(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batches = random_model(), [random_batch(seed=seed) for seed in range(3)]
    importance = measure_importance(model, batches, rule="release")
    neurons = torch.zeros(LAYERS[0].intermediate_size)
    heads, running = torch.zeros(LAYERS[0].num_heads), torch.zeros(LAYERS[0].num_heads)
    for batch in batches:
        label_loss(model, batch).backward()
        neurons += torch.tensor([sum(map(abs, neuron_parts(model, 0, j))) for j in range(len(neurons))])
        running += gate_gradients(model, batch, monkeypatch, on_probabilities=True)[0]
        heads += running.abs()
    close(importance.neurons[0], neurons)
    close(importance.heads[0], heads)


def test_units_without_weights_out_have_no_importance() -> None:
    model = random_model()
    with torch.no_grad():
        model.encoder.layers[0].attention.output.weight[:, 6:12] = 0
        model.encoder.layers[0].feed_forward.down.weight[:, 3] = 0
    importance = measure_importance(model, [random_batch()])
    assert importance.heads[0][1] == 0 and importance.neurons[0][3] == 0
    assert [len(scores) for scores in importance.heads] == [layer.num_heads for layer in LAYERS]
    assert [len(scores) for scores in importance.neurons] == [layer.intermediate_size for layer in LAYERS]


def test_the_model_stays_as_it_was() -> None:
    model = random_model().train()
    frozen = next(model.parameters()).requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    first, second = (measure_importance(model, [random_batch()]).heads[0] for _ in range(2))
    assert torch.equal(first, second), "dropout is off although the model is training"
    assert model.training and all(module.training for module in model.modules())
    assert not frozen.requires_grad and all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_model_marked_for_gradients_in_place_gives_the_same() -> None:
    model, batch = random_model(), random_batch()
    wanted = measure_importance(model, [batch])
    accumulate_in_place(model)
    got = measure_importance(model, [batch])
    assert torch.equal(got.heads[0], wanted.heads[0]) and torch.equal(got.neurons[0], wanted.neurons[0])
    assert all(not parameter.grad.any() for parameter in model.parameters())


def test_another_loss_can_be_given() -> None:
    model, batch = random_model(), random_batch()

    def doubled(model: TaskModel, batch: Batch) -> Tensor:
        return 2 * label_loss(model, batch)

    close(measure_importance(model, [batch], doubled).heads[0], 2 * measure_importance(model, [batch]).heads[0])


def unlabelled(batch: Batch) -> Batch:
    return replace(batch, labels=None)


@pytest.mark.parametrize(
    ("options", "batches", "message"),
    [
        ({}, [], "importance must be measured on at least one row, got none"),
        ({}, [unlabelled(random_batch())], "must be measured on labelled rows, got rows without labels"),
        ({"head": HeadSpec("pooler")}, [random_batch()], "must have a task head, got a head of kind pooler"),
        (
            {"shape": EncoderShape(24, (), 31, 12)},
            [random_batch()],
            "importance must have heads or neurons to measure, got a model without either",
        ),
    ],
)
def test_what_importance_cannot_be_measured_on(options: dict[str, Any], batches: list[Batch], message: str) -> None:
    with pytest.raises(InputError, match=message):
        measure_importance(random_model(**options), batches)


def test_a_loss_must_be_finite() -> None:
    model = random_model(shape=tiny_shape())
    with torch.no_grad():
        model.head.out.bias.fill_(float("inf"))
    with pytest.raises(InputError, match="importance must be measured with a finite loss, got nan"):
        measure_importance(model, [random_batch()])
