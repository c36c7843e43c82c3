"""The price of open gates: how much of it may be left after each step, and which gates give way to keep to that."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from cutbert.shape.units import Place

CLOSING_SHARE = 0.7  # of a stage's steps; in the others the price that is left stays
BEND = 0.1  # gates far below this cost about as much as they are open, gates far above it hardly more than each other
LEAST_NOISE = 1e-6  # of the noisiest gate's gradient
BISECTIONS = 100  # at most
EXACT = 1e-9  # of the strength of a pull


@dataclass(frozen=True, eq=False)
class Price:
    """What the gates of some places cost together, and how much of it may be left as a stage goes on.

    Args:
        units: price of one unit at each place, at least 0.
        aim: share of the whole price that is left in the end, in [0, 1].
    """

    units: Mapping[Place, float]
    aim: float

    def share_left(self, done: float) -> float:
        """Return the share of the whole price that may be left when a share of the steps is done."""
        return 1.0 - (1.0 - self.aim) * min(1.0, done / CLOSING_SHARE)


def priced_share(gates: Tensor, prices: Tensor) -> Tensor:
    """Return what gates cost, as a share of what they cost when all are 1.

    Args:
        gates: at least 0, [G].
        prices: of one unit each, [G].

    Source:
        Khetan and Karnin 2020 (2005.06628), equation 2, has the L1 norm of the gates. Ours is the logarithmic one
        of Candes, Wakin and Boyd 2008 (0711.1612): under L1 all gates shrink together and the cut then takes
        half-open ones; under the logarithm those that give way close, and the others stay near 1.
    """
    costs = torch.log1p(gates / BEND) / math.log1p(1.0 / BEND)
    return (prices * costs).sum() / prices.sum()


def give_way(gates: Tensor, prices: Tensor, noise: Tensor, allowed: float) -> Tensor:
    """Return gates pulled down by the slope of their price, as little as it takes to cost no more than is allowed.

    Args:
        gates: any numbers, [G]; what lies below 0 becomes 0.
        prices: of one unit each, [G]; gates without one (0) stay as they are.
        noise: root mean square of each gate's gradient, [G], on any scale; Adam divides its steps by it, and so is
            the pull divided.
        allowed: share of the whole price, at least 0.

    Source:
        Ours. The paper adds the price times a constant gamma to the loss, and gamma is unknown. The strength of the
        pull is the gamma of this step that keeps to the schedule.
    """
    gates, is_priced = gates.clamp(min=0.0), prices > 0
    if not bool(is_priced.any()) or float(priced_share(gates, prices)) <= allowed:
        return gates
    largest = noise.max()
    spread = (noise / largest).clamp(min=LEAST_NOISE) if largest > 0 else torch.ones_like(noise)
    pull = prices / ((gates + BEND) * spread)
    low, high = 0.0, float((gates / pull)[is_priced].max())
    for _ in range(BISECTIONS):
        if high - low <= EXACT * high:
            break
        middle = (low + high) / 2
        is_enough = float(priced_share((gates - middle * pull).clamp(min=0.0), prices)) <= allowed
        low, high = (low, middle) if is_enough else (middle, high)
    return (gates - high * pull).clamp(min=0.0)
