"""Dropout's masks on CPU: their share, their scale, their gradients."""

from __future__ import annotations

import pytest
import torch

from cutbert.model.dropout import Dropout, draw_kept, kept_share


@pytest.mark.parametrize("dropout", [0.1, 0.5, 0.9, 1e-9, 1 - 1e-9])
@pytest.mark.parametrize("dtype", [torch.int8, torch.bfloat16, torch.float32], ids=str)
def test_masks_keep_the_share_they_say(dropout: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    kept, share = draw_kept(torch.Size([500, 401]), dropout, dtype), kept_share(dropout)
    assert kept.dtype == dtype and kept.shape == (500, 401) and set(kept.unique().tolist()) <= {0.0, 1.0}
    assert 0 < share < 1 and share == pytest.approx(1 - dropout, abs=2**-15)
    spread = (share * (1 - share) / kept.numel()) ** 0.5
    assert float(kept.double().mean()) == pytest.approx(share, abs=5 * spread)
    by_place = kept.flatten()[:200_000].view(-1, 4).double().mean(0)  # four elements share a random number
    assert torch.allclose(by_place, torch.full((4,), share, dtype=torch.float64), atol=10 * spread)


def test_neighbours_are_independent() -> None:
    torch.manual_seed(0)
    kept = draw_kept(torch.Size([40_000, 4]), 0.5, torch.float32).double()
    correlations = torch.corrcoef(torch.cat([kept[:-1], kept[1:]], dim=1).T) - torch.eye(8)
    assert float(correlations.abs().max()) < 0.025


def test_masks_are_seeded() -> None:
    def drawn(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return draw_kept(torch.Size([1000]), 0.3, torch.int8)

    assert torch.equal(drawn(3), drawn(3)) and not torch.equal(drawn(3), drawn(4))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_what_is_kept_is_scaled_and_only_it_has_gradients(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.ones(300, 50, dtype=dtype, requires_grad=True)
    y = Dropout(0.2)(x)
    y.sum().backward()
    assert x.grad is not None and torch.equal(x.grad, y.detach()) and y.dtype == dtype
    assert set(y.detach().unique().tolist()) == {0.0, torch.tensor(1 / kept_share(0.2)).to(dtype).item()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_an_added_dropout_equals_a_sum_with_one(dtype: torch.dtype) -> None:
    x, y, weights = (torch.randn(30, 50, dtype=dtype) for _ in range(3))
    x.requires_grad_()
    y.requires_grad_()
    dropout = Dropout(0.2)
    totals, gradients = [], []
    for add in (dropout.added, lambda x, y: x.double() + dropout(y.double())):
        torch.manual_seed(0)
        total = add(x, y)
        gradients.append(torch.autograd.grad(total, (x, y), weights.to(total.dtype)))
        totals.append(total.to(dtype))
    torch.testing.assert_close(*totals)
    torch.testing.assert_close(*gradients)
    assert torch.equal(dropout.eval().added(x, y), x + y)


@pytest.mark.parametrize(("p", "training"), [(0.0, True), (0.5, False)])
def test_idle_dropout_gives_its_input(p: float, training: bool) -> None:
    x = torch.randn(5, 3)
    assert torch.equal(Dropout(p).train(training)(x), x)


def test_all_may_be_dropped() -> None:
    assert not Dropout(1.0)(torch.ones(4)).any()
