"""Centered kernel alignment (CKA): how alike two representations of the same rows are, between 0 and 1.

Axes: N rows, H features; P, Q sites of two lists.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cutbert.analysis.settings import BANDWIDTH, SAME, Kernel
from cutbert.errors import InputError

LEAST_ROWS = 4  # below, the unbiased estimate divides by 0


def cka(
    x_NH: Tensor, y_NH: Tensor, *, kernel: Kernel = "linear", biased: bool = False, bandwidth: float = BANDWIDTH
) -> float:
    """Return the CKA of two representations of the same rows, all rows at once.

    1 for equal ones; rotating, shifting or scaling either of them does not change it. The unbiased estimate is near 0
    for independent ones, and may be negative; the biased one is too large where there are few rows.

    Args:
        x_NH, y_NH: [rows, features]; the same number of rows, any number of features.
        kernel: linear, or rbf: a Gaussian of distances.
        biased: Kornblith's own estimate instead of the unbiased one.
        bandwidth: of rbf, as a fraction of the median distance.

    Returns:
        A float; NaN where a representation is the same for all rows.

    Source:
        Kornblith et al. 2019 (1905.00414), equations 2 and 3 and section 3 for the two kernels; the unbiased HSIC is
        Song et al. 2012 (JMLR 13), equation 5. The median is over all pairs, as in Kornblith's released code.
    """
    minibatch_cka = MinibatchCka(kernel=kernel, biased=biased, bandwidth=bandwidth)
    minibatch_cka.add([x_NH], [y_NH])
    return float(minibatch_cka.matrix()[0, 0])


class MinibatchCka:
    """CKA of every site of one list with every site of another, summed over minibatches of rows.

    Memory does not grow with the number of minibatches. Each gives an unbiased HSIC of its rows, and CKA is the
    quotient of their means: its error falls roughly as 1 / sqrt(all rows), however small the minibatches. With biased
    HSICs a bias would remain that depends on the minibatch size. One minibatch of all rows gives the exact value.

    Args:
        kernel: linear or rbf.
        biased: Kornblith's estimate of a minibatch instead of the unbiased one.
        bandwidth: of rbf, as a fraction of the median distance; the first minibatch's median is used for
            all, so that they have one kernel (our choice; the papers' minibatches are linear).

    Source:
        Nguyen, Raghu and Kornblith 2021 (2010.15327), equations 2 and 3, with HSIC_1 of Song et al. 2012. Ours:
        minibatches are weighted by their rows, which gives the paper's mean where all have the same size.
    """

    def __init__(self, *, kernel: Kernel = "linear", biased: bool = False, bandwidth: float = BANDWIDTH) -> None:
        self.kernel, self.biased, self.bandwidth = kernel, biased, bandwidth
        self.num_rows = 0
        self._scales: dict[tuple[int, int], Tensor] = {}
        self._cross = self._own = self._other = torch.zeros((), dtype=torch.float64)

    def add(self, ours: Sequence[Tensor], theirs: Sequence[Tensor] | None = None) -> None:
        """Add a minibatch.

        Args:
            ours: per site [N, H]; always the same sites in the same order.
            theirs: sites of another network on the same rows; None for ours again.

        Raises:
            InputError: fewer than 4 rows, or sites with different numbers of rows.
        """
        rows = {len(x) for x in (*ours, *(theirs or ()))}
        if len(rows) != 1 or min(rows) < LEAST_ROWS:
            raise InputError(f"CKA must have at least {LEAST_ROWS} rows, the same of each site, got {sorted(rows)}")
        (count,) = rows
        p = self._centered(0, ours)
        q = p if theirs is None else self._centered(1, theirs)
        weight = 1 / (count if self.biased else count - 3)  # HSIC's own, times the rows
        self._cross = self._cross + weight * (p @ q.T).cpu()
        self._own = self._own + weight * p.square().sum(1).cpu()
        self._other = self._other + weight * q.square().sum(1).cpu()
        self.num_rows += count

    def matrix(self) -> Tensor:
        """Return [P, Q] in float64: rows ours, columns theirs; NaN where a site is the same for all rows."""
        return self._cross / (self._own[:, None] * self._other).sqrt()

    def _centered(self, side: int, sites: Sequence[Tensor]) -> Tensor:
        """Return the centered Gram matrix of each site in a row, [P, N N]."""
        grams = []
        for i, x in enumerate(sites):
            x = spread(x)
            if self.kernel == "linear":
                gram = x @ x.T
            else:
                squares = torch.cdist(x, x).square()
                scale = self._scales.setdefault((side, i), squares.median())
                gram = torch.exp(-squares / (2 * self.bandwidth**2 * scale)) if scale > 0 else torch.zeros_like(squares)
            grams.append((center(gram) if self.biased else center_unbiased(gram)).flatten())
        return torch.stack(grams)


def spread(x_NH: Tensor) -> Tensor:
    """Return the features minus their means, in float64; 0 where all rows are equal up to rounding."""
    x = x_NH.to(torch.float64)
    largest = x.abs().max()
    x = x - x.mean(0)
    return x if x.abs().max() > SAME * largest else torch.zeros_like(x)


def center(gram_NN: Tensor) -> Tensor:
    """Return a Gram matrix with rows and columns of mean 0: H K H of Kornblith et al. 2019, equation 2."""
    return gram_NN - gram_NN.mean(0) - gram_NN.mean(1, keepdim=True) + gram_NN.mean()


def center_unbiased(gram_NN: Tensor) -> Tensor:
    """Return a Gram matrix centered so that the sum of products of two is N (N - 3) times the unbiased HSIC.

    Source:
        Szekely and Rizzo 2014 (1310.2926), definition 2 and proposition 1: their U-centering. It equals the sum of
        three terms in Song et al. 2012, equation 5, which cancel and lose digits.
    """
    count = len(gram_NN)
    gram = gram_NN.clone().fill_diagonal_(0)
    sums = gram.sum(0)
    gram = gram - (sums + sums[:, None]) / (count - 2) + sums.sum() / ((count - 1) * (count - 2))
    return gram.fill_diagonal_(0)
