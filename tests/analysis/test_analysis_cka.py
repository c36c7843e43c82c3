"""CKA against its formulas written out, a public implementation, and what must hold of any such measure."""

from __future__ import annotations

import math
from typing import Any

import ckatorch
import pytest
import torch
from torch import Tensor

from cutbert.analysis.cka import MinibatchCka, cka
from cutbert.errors import InputError


def features(rows: int = 60, width: int = 8, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(rows, width, generator=generator, dtype=torch.float64)
        @ torch.diag(torch.arange(1.0, width + 1)).double()
    )


def related(rows: int = 60, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return two representations of other widths of which one partly follows from the other."""
    x = features(rows, 8, seed)
    mix = torch.randn(8, 5, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    return x, torch.tanh(x @ mix / 10) + 0.3 * features(rows, 5, seed + 100) + 2.0


def hsic_of_song(k: Tensor, q: Tensor) -> float:
    """Song et al. 2012, equation 5, term by term."""
    n = len(k)
    k, q = k.clone().fill_diagonal_(0), q.clone().fill_diagonal_(0)
    one = torch.ones(n, 1, dtype=k.dtype)
    trace = torch.trace(k @ q)
    middle = (one.T @ k @ one) * (one.T @ q @ one) / ((n - 1) * (n - 2))
    last = 2 / (n - 2) * (one.T @ k @ q @ one)
    return float(trace + middle - last) / (n * (n - 3))


def plain_cka(x: Tensor, y: Tensor) -> float:
    k, q = x @ x.T, y @ y.T
    return hsic_of_song(k, q) / math.sqrt(hsic_of_song(k, k) * hsic_of_song(q, q))


def feature_cka(x: Tensor, y: Tensor) -> float:
    """Kornblith et al. 2019, the linear CKA from features alone."""
    x, y = x - x.mean(0), y - y.mean(0)
    return float((y.T @ x).norm() ** 2 / ((x.T @ x).norm() * (y.T @ y).norm()))


OPTIONS: list[dict[str, Any]] = [
    {"kernel": kernel, "biased": biased} for kernel in ("linear", "rbf") for biased in (False, True)
]


@pytest.mark.parametrize("options", OPTIONS)
def test_one_with_itself_and_symmetric(options: dict[str, Any]) -> None:
    x, y = related()
    assert cka(x, x, **options) == pytest.approx(1.0, abs=1e-12)
    assert cka(x, y, **options) == pytest.approx(cka(y, x, **options), abs=1e-12)
    assert 0.05 < cka(x, y, **options) < 0.95


@pytest.mark.parametrize("options", OPTIONS)
def test_unchanged_by_rotation_scale_and_shift(options: dict[str, Any]) -> None:
    x, y = related()
    rotation, _ = torch.linalg.qr(features(8, 8, 3))
    assert cka(3.7 * x @ rotation - 5.0, y, **options) == pytest.approx(cka(x, y, **options), abs=1e-9)
    stretched = x @ torch.diag(torch.tensor([30.0, *[1.0] * 7])).double()
    assert abs(cka(stretched, y, **options) - cka(x, y, **options)) > 0.01


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_near_zero_for_independent_rows_only_without_bias(kernel: Any) -> None:
    values = {biased: [] for biased in (False, True)}
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        x, y = (torch.randn(40, 100, generator=generator) for _ in range(2))
        for biased, found in values.items():
            found.append(cka(x, y, kernel=kernel, biased=biased))
    mean = {biased: sum(found) / len(found) for biased, found in values.items()}
    assert abs(mean[False]) < 0.02
    assert mean[True] > 0.5


def test_equals_the_formulas_written_out() -> None:
    x, y = related()
    assert cka(x, y) == pytest.approx(plain_cka(x, y), abs=1e-12)
    assert cka(x, y, biased=True) == pytest.approx(feature_cka(x, y), abs=1e-12)


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
@pytest.mark.parametrize("biased", [False, True])
def test_agrees_with_a_public_implementation(kernel: Any, biased: bool) -> None:
    x, y = related(rows=61)  # an odd number of pairs has one median
    theirs = ckatorch.cka_base(x, y, kernel, unbiased=not biased, threshold=0.8)
    assert cka(x, y, kernel=kernel, biased=biased, bandwidth=0.8) == pytest.approx(float(theirs), abs=1e-9)


def test_minibatches_agree_with_a_public_implementation() -> None:
    x, y = related(rows=240)
    summed = MinibatchCka()
    for a, b in zip(x.split(40), y.split(40), strict=True):
        summed.add([a], [b])
    theirs = ckatorch.cka_batch(x.view(6, 40, -1), y.view(6, 40, -1))
    assert float(summed.matrix()) == pytest.approx(float(theirs), abs=1e-9)


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_minibatches_equal_the_exact_value_within_their_error(kernel: Any) -> None:
    """The error over many rows: 3 / sqrt(rows) covers minibatches of 32, and those of 8 are not worse by much."""
    rows = 1600
    x, y = related(rows=rows)
    exact = cka(x, y, kernel=kernel)
    for size in (8, 32, 128):
        summed, biased = MinibatchCka(kernel=kernel), MinibatchCka(kernel=kernel, biased=True)
        for a, b in zip(x.split(size), y.split(size), strict=True):
            summed.add([a], [b])
            biased.add([a], [b])
        assert summed.num_rows == rows
        assert float(summed.matrix()) == pytest.approx(exact, abs=3 / math.sqrt(rows))
        if size == 8:
            assert abs(float(biased.matrix()) - exact) > 3 / math.sqrt(rows)


def test_all_pairs_at_once_and_two_networks() -> None:
    x, y = related()
    sites = [x, y, x[:, :3]]
    summed, between = MinibatchCka(), MinibatchCka()
    summed.add(sites)
    between.add(sites, [y, x])
    for i, a in enumerate(sites):
        for j, b in enumerate(sites):
            assert float(summed.matrix()[i, j]) == pytest.approx(cka(a, b), abs=1e-12)
        for j, b in enumerate([y, x]):
            assert float(between.matrix()[i, j]) == pytest.approx(cka(a, b), abs=1e-12)


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_what_is_the_same_for_all_rows_has_no_cka(kernel: Any) -> None:
    same = torch.full((50, 6), 0.1) + 1e-9 * torch.randn(50, 6)
    assert math.isnan(cka(same, features(50), kernel=kernel))


def test_too_few_or_unequal_rows_are_refused() -> None:
    with pytest.raises(InputError, match=r"CKA must have at least 4 rows, the same of each site, got \[3\]"):
        cka(features(3), features(3))
    with pytest.raises(InputError, match=r"the same of each site, got \[5, 6\]"):
        cka(features(5), features(6))
