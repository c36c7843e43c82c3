"""Gates keep to the price that is allowed: as little as it takes, the least needed first, the closed ones closed."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cutbert.methods.schubert_gates import CLOSING_SHARE, Price, l1_gradient, priced_share, pulled_down
from cutbert.shape.units import Place


def test_the_price_of_gates_at_1_is_whole_and_of_closed_ones_nothing() -> None:
    prices = torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64)
    assert float(priced_share(torch.ones(3, dtype=torch.float64), prices)) == pytest.approx(1.0)
    assert float(priced_share(torch.zeros(3, dtype=torch.float64), prices)) == 0.0
    assert float(priced_share(torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64), prices)) == pytest.approx(3 / 8)


def test_a_gate_half_open_costs_more_than_half() -> None:
    half = priced_share(torch.tensor([0.5], dtype=torch.float64), torch.ones(1, dtype=torch.float64))
    assert 0.7 < float(half) < 0.8  # so closing one of two is cheaper than halving both


@given(
    st.lists(st.tuples(st.floats(-1, 3), st.floats(0.001, 10), st.floats(0, 5)), min_size=1, max_size=30),
    st.floats(0.0, 1.0),
)
def test_gates_cost_what_is_allowed_and_no_gate_rises(gates: list[tuple[float, float, float]], allowed: float) -> None:
    values, prices, noise = torch.tensor(gates, dtype=torch.float64).unbind(1)
    found = pulled_down(values, prices, noise, allowed)
    before = float(priced_share(values.clamp(min=0), prices))
    assert (found >= 0).all() and (found <= values.clamp(min=0) + 1e-12).all()
    assert float(priced_share(found, prices)) <= max(allowed, 0.0) + 1e-9
    assert float(priced_share(found, prices)) == pytest.approx(min(before, allowed), abs=1e-6)


def test_noisy_and_cheap_and_open_gates_hold_out() -> None:
    values = torch.tensor([1.0, 1.0, 1.0, 0.2], dtype=torch.float64)
    prices = torch.tensor([1.0, 1.0, 3.0, 1.0], dtype=torch.float64)
    noise = torch.tensor([4.0, 1.0, 1.0, 1.0], dtype=torch.float64)
    fell = values - pulled_down(values, prices, noise, 0.9)
    assert fell[0] == pytest.approx(fell[1] / 4) and fell[2] == pytest.approx(3 * fell[1])
    assert fell[3] == pytest.approx(fell[1] * 1.1 / 0.3)


def test_gates_without_a_price_stay() -> None:
    values, noise = torch.tensor([1.0, 0.5, -0.5], dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    prices = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    assert pulled_down(values, prices, noise, 0.0).tolist() == [0.0, 0.5, 0.0]
    assert pulled_down(values, torch.zeros(3, dtype=torch.float64), noise, 0.0).tolist() == [1.0, 0.5, 0.0]


def test_what_is_left_falls_to_the_aim_and_stays() -> None:
    price = Price({Place("f", 0): 1.0}, aim=0.6)
    assert price.share_left(0.0) == 1.0
    assert price.share_left(CLOSING_SHARE / 2) == pytest.approx(0.8)
    assert price.share_left(CLOSING_SHARE) == pytest.approx(0.6) and price.share_left(1.0) == pytest.approx(0.6)


def test_the_papers_price_is_the_slope_of_its_l1_norm() -> None:
    gates = torch.tensor([1.0, 0.5, -0.25, 2.0], requires_grad=True)
    betas, gamma = torch.tensor([1.0, 0.0078, 0.093, 0.73]), 0.3
    (gamma * (betas * gates.abs()).sum()).backward()
    assert torch.equal(l1_gradient(gates.detach(), betas, gamma), gates.grad)
    assert float(l1_gradient(torch.zeros(1), betas[:1], gamma)) == 0.0
