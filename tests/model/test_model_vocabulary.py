"""Losses over the vocabulary: logits of some positions equal the full ones, gradients equal plain autograd's."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional as F

from cutbert.model import vocabulary
from cutbert.model.heads import MaskedLMHead
from cutbert.model.style import EncoderStyle
from cutbert.model.task_model import TaskModel
from cutbert.model.vocabulary import cross_entropy_of, vocabulary_loss
from cutbert.shape.head import HeadSpec
from cutbert.shape.shape import EncoderShape
from cutbert.shape.subnet import Subnet

SIZES = {"num_layers": 2, "num_heads": 4, "intermediate_size": 20, "vocab_size": 37, "num_positions": 16}
IDS = torch.tensor([[2, 5, 30, 7, 3], [2, 9, 36, 5, 3]])
POSITIONS = torch.tensor([1, 2, 8])


def masked_lm(embedding_size: int | None = None, seed: int = 0) -> TaskModel:
    torch.manual_seed(seed)
    shape = EncoderShape.uniform(hidden_size=24, embedding_size=embedding_size, **SIZES)
    model = TaskModel(shape, EncoderStyle(family="electra" if embedding_size else "bert"), HeadSpec("masked_lm"))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.3)
    return model.eval()


def narrow(model: TaskModel) -> Subnet:
    full = Subnet.full(model.shape)
    return Subnet(full.layers, 12)


@pytest.mark.parametrize("embedding_size", [None, 10])
@pytest.mark.parametrize("is_narrow", [False, True])
def test_logits_of_some_positions_equal_the_full_ones(embedding_size: int | None, is_narrow: bool) -> None:
    model = masked_lm(embedding_size)
    subnet = narrow(model) if is_narrow else None
    full = model(IDS, subnet=subnet).logits
    states = model.encoder(IDS, subnet=subnet)
    some = model.apply_head(states, None, positions=POSITIONS).logits
    torch.testing.assert_close(some, full.flatten(0, 1)[POSITIONS])
    assert some.shape == (3, 37)


@pytest.mark.parametrize("embedding_size", [None, 10])
@pytest.mark.parametrize("is_narrow", [False, True])
@pytest.mark.parametrize("at_once", [1, 80, 1 << 20])
def test_gradients_equal_plain_autograds(
    embedding_size: int | None, is_narrow: bool, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vocabulary, "LOGITS_AT_ONCE", at_once)
    model, targets = masked_lm(embedding_size), torch.tensor([4, 36, 0])
    twin = copy.deepcopy(model)
    subnet = narrow(model) if is_narrow else None
    plain = F.cross_entropy(twin(IDS, subnet=subnet).logits.flatten(0, 1)[POSITIONS], targets, reduction="sum")
    (plain * 0.25).backward()
    head = model.head
    assert isinstance(head, MaskedLMHead)
    table = model.encoder.embeddings.token.weight
    x = head.transform(model.encoder(IDS, subnet=subnet)[-1].flatten(0, 1)[POSITIONS])
    loss = vocabulary_loss(x, table, table.detach(), head.bias, cross_entropy_of(targets))
    (loss * 0.25).backward()
    torch.testing.assert_close(loss, plain)
    for (name, weight), other in zip(model.named_parameters(), twin.named_parameters(), strict=True):
        torch.testing.assert_close(weight.grad, other[1].grad, msg=lambda text, name=name: f"{name}: {text}")
    assert table.grad is not None and bool(table.grad.any(1).all())  # rows that no input has learn too


def test_any_loss_of_logits_goes() -> None:
    torch.manual_seed(0)
    x, table, bias = (torch.randn(size, requires_grad=True) for size in ((50, 6), (11, 6), (11,)))
    teacher = torch.randn(50, 11)

    def far(logits: torch.Tensor, part: slice) -> torch.Tensor:
        return F.kl_div(logits.log_softmax(-1), teacher[part].log_softmax(-1), reduction="sum", log_target=True)

    wanted = torch.autograd.grad(far(F.linear(x, table, bias), slice(None)), (x, table, bias))
    got = torch.autograd.grad(vocabulary_loss(x, table, table.detach(), bias, far), (x, table, bias))
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one, other)


def test_no_positions_and_a_frozen_table() -> None:
    x, table, bias = torch.zeros(0, 6, requires_grad=True), torch.randn(11, 6), torch.zeros(11, requires_grad=True)
    loss = vocabulary_loss(x, table, table, bias, cross_entropy_of(torch.zeros(0, dtype=torch.long)))
    loss.backward()
    assert float(loss.detach()) == 0 and x.grad is not None and not bias.grad.any() and table.grad is None


def test_logits_held_at_once_do_not_grow_with_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary, "LOGITS_AT_ONCE", 1000)
    seen: list[int] = []

    def watched(logits: torch.Tensor, part: slice) -> torch.Tensor:
        seen.append(logits.numel())
        return logits.sum()

    table = torch.randn(100, 6)
    for count in (25, 400):
        x = torch.randn(count, 6, requires_grad=True)
        vocabulary_loss(x, table, table, torch.zeros(100), watched).backward()
    assert max(seen) == 1000 and sum(seen) == 42_500
