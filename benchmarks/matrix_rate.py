"""The fastest matrix products of this machine: what the speed of a training step or a forward pass is a share of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F

from cutbert.shape.shape import EncoderShape
from recording import spread

DTYPES = {"bf16": torch.bfloat16, "float32": torch.float32}
SQUARE = 2048
REPEATS = 3  # of a product each time; the fastest counts


class MatrixRates:
    """Rates of torch's matrix products, at a large square and at a model's own sizes.

    Args:
        shape: of the model.
        num_tokens: in a batch.
        square: size of the large square.
        clock: seconds.
    """

    def __init__(self, shape: EncoderShape, num_tokens: int, square: int, clock: Callable[[], float]) -> None:
        self.clock = clock
        hidden, inner = shape.hidden_size, max(layer.intermediate_size for layer in shape.layers)
        self.sizes = {
            "square": (square, square, square),
            "attention": (num_tokens, hidden, hidden),
            "up": (num_tokens, hidden, inner),
            "down": (num_tokens, inner, hidden),
        }
        self.products = {
            (dtype, name): product_of(*size, DTYPES[dtype]) for dtype in DTYPES for name, size in self.sizes.items()
        }
        self.rates: dict[tuple[str, str], list[float]] = {key: [] for key in self.products}

    def measure(self) -> None:
        """Time every product a few times and keep each one's best."""
        for key, product in self.products.items():
            self.rates[key].append(rate_of(product, self.sizes[key[1]], self.clock))

    def best(self, dtype: str, *, own_sizes_only: bool = False) -> float:
        """Return the highest rate seen in a dtype, in multiply-adds per second."""
        kept = [key for key in self.rates if key[0] == dtype and not (own_sizes_only and key[1] == "square")]
        return max(max(self.rates[key]) for key in kept)

    def to_json(self) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for dtype in DTYPES:
            by_size = {
                name: {"rows_inner_columns": list(size), **spread(self.rates[dtype, name], "macs_per_s")}
                for name, size in self.sizes.items()
            }
            data[dtype] = {"best_macs_per_s": self.best(dtype), **by_size}
        return data


def product_of(rows: int, inner: int, columns: int, dtype: torch.dtype) -> Callable[[], torch.Tensor]:
    """Return a linear layer's product, ready to run."""
    x, weight = torch.randn(rows, inner).to(dtype), torch.randn(columns, inner).to(dtype)
    return lambda: F.linear(x, weight)


def rate_of(product: Callable[[], Any], size: tuple[int, int, int], clock: Callable[[], float]) -> float:
    """Return the best rate of a product of (rows, inner, columns), warmed up, in multiply-adds per second."""
    product()
    rows, inner, columns = size
    return rows * inner * columns / min(timed(product, clock) for _ in range(REPEATS))


def timed(action: Callable[[], Any], clock: Callable[[], float]) -> float:
    """Return the seconds that one call takes."""
    begun = clock()
    action()
    return clock() - begun
