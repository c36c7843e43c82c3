"""Limits: what breaks them, and limits that are no numbers."""

from __future__ import annotations

import pytest

from cutbert.errors import BudgetError
from cutbert.shape.budget import Limits

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


def test_all_limits_that_are_no_numbers_are_shown_together() -> None:
    wrong = Limits(max_latency_ms=float("nan"), max_params=0, max_macs=1.5, max_bytes=True, min_score=90)  # type: ignore[arg-type]
    with pytest.raises(BudgetError) as caught:
        wrong.check()
    assert caught.value.mistakes == (
        "max_params must be an integer of at least 1, got 0",
        "max_macs must be an integer of at least 1, got 1.5",
        "max_bytes must be an integer of at least 1, got True",
        "max_latency_ms must be a number above 0, got nan",
        "min_score must be a fraction of 1, in -1..1, got 90",
    )
