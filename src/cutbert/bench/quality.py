"""How far latencies can be trusted: signs that the machine was not quiet while networks were timed.

Axes: R rounds, L texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cutbert.shape.shape import EncoderShape, LayerShape

# Above what a quiet machine shows, below what it shows beside other work (benchmarks/records/timing_noise.json).
MAX_SPREAD = 1.4
MAX_DRIFT = 1.25
MAX_WAITED = 0.1
MAX_REVERSED = 1.1  # odd sizes alone cost up to 1.03 (benchmarks/records/cut_sizes.json)


class Sized(NamedTuple):
    """What is known of a timed network: its name for people, what runs it, and its sizes."""

    label: str
    backend: str
    shape: EncoderShape


@dataclass(frozen=True, kw_only=True)
class TimingQuality:
    """How equal runs of equal networks were, all timed in turn; 1 is perfect.

    Args:
        spread: third quartile by the first of a network's times, each divided by the median at its text; the widest.
        drift: the slowest round by the fastest, in the median over networks and texts.
        waited: share of the time in which the timing thread had no processor, in 0..1; None where it cannot be known,
            as beside a GPU. Other work that never pauses shows here alone: it makes every run slower by one factor.
        reversed: the largest factor by which a network took longer than one that has all its parts; at least 1.
        repeats: how often all was timed again, for want of quiet; these are the figures of the best time.
        problems: what was out of bounds, for people; empty where the machine was quiet.
    """

    spread: float = 1.0
    drift: float = 1.0
    waited: float | None = None
    reversed: float = 1.0
    repeats: int = 0
    problems: tuple[str, ...] = ()

    @property
    def is_quiet(self) -> bool:
        """Whether nothing was out of bounds."""
        return not self.problems

    @property
    def noise(self) -> float:
        """The largest figure as a share of its bound."""
        return max(
            (self.spread - 1) / (MAX_SPREAD - 1),
            (self.drift - 1) / (MAX_DRIFT - 1),
            (self.waited or 0.0) / MAX_WAITED,
            (self.reversed - 1) / (MAX_REVERSED - 1),
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object; `waited` only where it is known."""
        data = {
            "is_quiet": self.is_quiet,
            "spread": self.spread,
            "drift": self.drift,
            "waited": self.waited,
            "reversed": self.reversed,
            "repeats": self.repeats,
            "problems": list(self.problems),
        }
        return {key: value for key, value in data.items() if value is not None}


def judge(
    times: Mapping[str, NDArray[np.float64]], waited: float | None, sizes: Mapping[str, Sized] | None = None
) -> TimingQuality:
    """Return the quality of times.

    Args:
        times: by network, seconds of each round and text, [R, L].
        waited: as in TimingQuality.
        sizes: by network, what is known of it; others are compared with nothing.
    """
    sizes = sizes or {}
    shares = {name: seconds_RL / np.median(seconds_RL, axis=0) for name, seconds_RL in times.items()}
    spreads = {name: ratio(*np.quantile(share_RL, (0.75, 0.25))) for name, share_RL in shares.items()}
    widest = max(spreads, key=spreads.__getitem__)
    levels_R = np.median(np.concatenate(list(shares.values()), axis=1), axis=1)
    drift = ratio(levels_R.max(), levels_R.min())
    medians = {name: float(np.median(seconds_RL)) for name, seconds_RL in times.items() if name in sizes}
    factors = reversals(medians, sizes)
    problems = []
    if waited is not None and waited > MAX_WAITED:
        problems.append(f"other work had the processor for {100 * waited:.0f} % of the time")
    if spreads[widest] > MAX_SPREAD:
        label = sizes[widest].label if widest in sizes else widest
        problems.append(f"the quartiles of equal runs of {label} are a factor of {spreads[widest]:.2f} apart")
    if drift > MAX_DRIFT:
        problems.append(f"the slowest round took {drift:.2f} times as long as the fastest")
    worst = max(factors, default=None)
    if worst is not None and worst[0] > MAX_REVERSED:
        problems.append(f"{worst[1]} took {worst[0]:.2f} times as long as {worst[2]}, of which it is a part")
    return TimingQuality(
        spread=spreads[widest],
        drift=drift,
        waited=waited,
        reversed=1.0 if worst is None else max(1.0, worst[0]),
        problems=tuple(problems),
    )


def ratio(above: float, below: float) -> float:
    return float(above / below) if below > 0 else 1.0


def reversals(medians: Mapping[str, float], sizes: Mapping[str, Sized]) -> Iterator[tuple[float, str, str]]:
    """Yield for each pair of networks on one backend, one a part of the other, how much longer the part took.

    Args:
        medians: seconds by network.
        sizes: of each.

    Returns:
        The part's time by the whole's, and the names of both.
    """
    for name, seconds in medians.items():
        for other, others in medians.items():
            small, large = sizes[name], sizes[other]
            is_part = small.backend == large.backend and small.shape != large.shape
            if is_part and others > 0 and is_within(small.shape, large.shape):
                yield seconds / others, small.label, large.label


def is_within(small: EncoderShape, large: EncoderShape) -> bool:
    """Return whether a network could be cut out of another one: no size, and no layer, that is not in it.

    >>> whole = EncoderShape.uniform(
    ...     hidden_size=8, num_layers=3, num_heads=2, intermediate_size=16, vocab_size=9, num_positions=9
    ... )
    >>> half = EncoderShape(8, whole.layers[1:], 9, 9, 2)
    >>> is_within(half, whole), is_within(whole, half)
    (True, False)
    """
    if small.hidden_size > large.hidden_size:
        return False
    rest = iter(large.layers)  # a layer goes to the first one that holds it, behind that of the layer before it
    return all(any(fits(layer, each) for each in rest) for layer in small.layers)


def fits(small: LayerShape, large: LayerShape) -> bool:
    """Return whether no size of a layer is above that of another one."""
    sizes = zip(small.to_json().values(), large.to_json().values(), strict=True)
    return all(size <= most for size, most in sizes)
