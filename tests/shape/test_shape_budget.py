"""Limits: what breaks them, and limits that are no numbers."""

from __future__ import annotations

import pytest

from cutbert.errors import BudgetError
from cutbert.shape.budget import Budget, Limits

ENTRY = {"params": 100, "macs": 2000, "latency_ms": 3.5, "score": 0.95, "select_score": 0.9}


def test_no_limits_and_met_limits_break_nothing() -> None:
    assert Limits().violations({}) == []
    met = Limits(max_latency_ms=3.5, max_params=100, max_macs=2000, max_bytes=400, min_score=0.9)
    assert met.violations(ENTRY) == []


def test_each_broken_limit_is_named() -> None:
    tight = Limits(max_latency_ms=3, max_params=99, max_macs=1999, max_bytes=399, min_score=0.91)
    assert tight.violations(ENTRY) == [
        "latency_ms must be at most 3, got 3.5",
        "params must be at most 99, got 100",
        "macs must be at most 1999, got 2000",
        "bytes must be at most 399, got 400",
        "select_score must be at least 0.91, got 0.9",
    ]


def test_a_limit_on_something_not_measured_is_broken() -> None:
    limits = Limits(max_latency_ms=3, max_bytes=4, min_score=0.5)
    assert limits.violations({"score": 1.0}) == [
        "latency_ms must be at most 3, got none measured",
        "bytes must be at most 4, got none measured",
        "select_score must be at least 0.5, got none measured",
    ]


def test_sensible_limits_pass() -> None:
    Limits(max_latency_ms=0.5, max_params=1, max_macs=1, max_bytes=1, min_score=-1).check()


@pytest.mark.parametrize(
    ("text", "uncut", "limit"),
    [
        ("macs=0.5", 1000, 500),
        ("params=2000", 10_000, 2000),
        ("latency_ms=3.5", 8.0, 3.5),
        ("bytes=1", 10, 1),
        ("params=15M", 1, 15_000_000),
        ("macs=1.2G", 1, 1.2e9),
        ("latency_ms=4ms", 9, 4),
        ("bytes=8MB", 1, 8_000_000),
    ],
)
def test_a_budget_below_1_is_a_share(text: str, uncut: float, limit: float) -> None:
    budget = Budget.parse(text)
    assert (budget.name, budget.limit(uncut)) == (text.split("=")[0], limit)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0.5", "--budget must be NAME=X with NAME one of params, params_encoder, macs, bytes, latency_ms, got '0.5'"),
        ("flops=0.5", "--budget must be NAME=X with NAME one of .*, got 'flops=0.5'"),
        ("macs", "--budget macs must be a number above 0, such as 0.5 or 15M, got ''"),
        ("macs=nan", "--budget macs must be a number above 0, such as 0.5 or 15M, got 'nan'"),
        ("macs=inf", "--budget macs must be a number above 0, such as 0.5 or 15M, got 'inf'"),
        ("macs=0", "--budget macs must be a number above 0, such as 0.5 or 15M, got '0'"),
    ],
)
def test_what_is_no_budget(text: str, message: str) -> None:
    with pytest.raises(BudgetError, match=message):
        Budget.parse(text)


def test_a_budget_out_of_reach_names_the_range() -> None:
    Budget("macs", 0.5).check_reachable(400, 1000)
    with pytest.raises(
        BudgetError,
        match=r"--budget latency_ms must be at least 2\.000 and below 8\.000 \(the uncut model\), or as a share",
    ):
        Budget("latency_ms", 1.0).check_reachable(2.0, 8.0)
    with pytest.raises(BudgetError, match=r"--budget macs must be at least 400000 and below 1000000 .* got 2000000"):
        Budget("macs", 2e6).check_reachable(4e5, 1e6)
    with pytest.raises(BudgetError, match="must be at least 400 and below 1000 "):
        Budget("macs", 1000).check_reachable(400, 1000)
    with pytest.raises(BudgetError, match=r"as a share at least 0\.055 and below 1,"):
        Budget("macs", 0.054).check_reachable(1392, 25632)  # a share of 0.0543: what is offered must be accepted
    Budget("macs", 0.055).check_reachable(1392, 25632)
