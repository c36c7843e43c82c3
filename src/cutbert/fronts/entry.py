"""One scored network of a front: its sizes, costs, scores and latencies, and which of these a stored one must have."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from cutbert.checks import (
    COUNT,
    FLAG,
    NAME,
    NUMBER,
    NUMBERS,
    OBJECT,
    PLACE,
    POSITIVE,
    Check,
    is_text,
    mistakes_of,
)  # fmt: skip
from cutbert.errors import RunError
from cutbert.fronts.view import front_table
from cutbert.shape.cost import BYTES_PER_PARAM
from cutbert.shape.pooling import POOLINGS, fits_stock
from cutbert.shape.shape import EncoderShape
from cutbert.shape.subnet import Subnet
from cutbert.table import Shown, View

MULTS = ("head_mult", "ffn_mult", "width_mult", "depth_mult")
LATENCIES = (
    "latency_ms", "latency_q1_ms", "latency_q3_ms", "latency_p95_ms", "throughput_per_s",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, repr=False)
class Entry(Shown):
    """One scored network: a subnet, or the uncut model, whose entry is named "teacher" even with --teacher OTHER.

    Args:
        name: short and unique in its front.
        shape: its sizes when cut out.
        subnet: the part of the supernet it keeps; for the uncut model, all of it.
        folder: the folder in the run with the supernet's weights; None for `model`.
        search: the folder in the run of the search that found it; None for subnets of the run itself.
        head_mult, ffn_mult, width_mult, depth_mult: its multipliers; None where it has no such number.
        params, macs: cost with its task head, macs at 128 tokens.
        score, metrics: on dev, fractions of 1.
        select_score: the same metric on the select split, or one of its own; all choices use this one.
        latency_ms, latency_q1_ms, latency_q3_ms, latency_p95_ms: median, quartiles and 95th percentile at
            batch 1; None until measured.
        throughput_per_s: texts per second at the measured batch size.
        pooling: what its head of whole texts reads, cls or mean; None for another head.
        on_front: no other entry has at least its select_score for at most its macs, one of the two better.
    """

    name: str
    shape: EncoderShape
    subnet: Subnet
    params: int
    macs: int
    score: float
    select_score: float
    metrics: dict[str, float]
    head_mult: float | None = None
    ffn_mult: float | None = None
    width_mult: float | None = None
    depth_mult: float | None = None
    latency_ms: float | None = None
    latency_q1_ms: float | None = None
    latency_q3_ms: float | None = None
    latency_p95_ms: float | None = None
    throughput_per_s: float | None = None
    on_front: bool = False
    folder: str | None = None
    search: str | None = None
    pooling: str | None = None

    @property
    def is_stock(self) -> bool:
        """Whether transformers' own classes can hold it: their heads of whole texts read the first token."""
        return fits_stock(self.shape, self.pooling)

    @property
    def bytes(self) -> int:
        """Size of the weights in float32."""
        return BYTES_PER_PARAM * self.params

    def off_grid(self) -> Entry:
        """Return it as that of a network which is no point of a grid: without multipliers."""
        return replace(self, head_mult=None, ffn_mult=None, width_mult=None, depth_mult=None)

    def to_json(self) -> dict[str, Any]:
        data: dict[str, Any] = {"name": self.name}
        data |= {key: getattr(self, key) for key in MULTS}
        data |= {"shape": self.shape.to_json(), "subnet": self.subnet.to_json()}
        data |= {key: getattr(self, key) for key in ("params", "macs", "score", "select_score", "metrics")}
        data |= {key: getattr(self, key) for key in LATENCIES}
        data |= {"on_front": self.on_front, "folder": self.folder, "search": self.search, "pooling": self.pooling}
        return {key: value for key, value in data.items() if value is not None}

    def view(self) -> View:
        return (front_table([self.to_json()]),)

    @classmethod
    def from_json(cls, data: Any, where: str = "entry") -> Entry:
        """Read an entry from parsed JSON.

        Args:
            data: as to_json writes it.
            where: begins each message.

        Raises:
            RunError: keys are missing or unknown, or values are not what they must be; all mistakes together.
        """
        mistakes = mistakes_of(data, where, RunError, required=REQUIRED, optional=OPTIONAL)
        mistakes.check(RunError)
        with mistakes.collect(f"{where}: "):
            shape = EncoderShape.from_json(data["shape"])
        with mistakes.collect(f"{where}: "):
            subnet = Subnet.from_json(data["subnet"])
        mistakes.check(RunError)
        if len(subnet.layers) != shape.num_layers:
            raise RunError(
                f"{where}: subnet must have one entry for each of the shape's {shape.num_layers} layers, "
                f"got {len(subnet.layers)}"
            )
        return cls(**{**data, "shape": shape, "subnet": subnet})


LATENCY_CHECKS: dict[str, Check] = {name: POSITIVE if name == "latency_ms" else NUMBER for name in LATENCIES}
REQUIRED: dict[str, Check] = {
    "name": NAME,
    "shape": OBJECT,
    "subnet": OBJECT,
    "params": COUNT,
    "macs": COUNT,
    "score": NUMBER,
    "select_score": NUMBER,
    "metrics": NUMBERS,
}
OPTIONAL: dict[str, Check] = {
    **dict.fromkeys(MULTS, NUMBER),
    **LATENCY_CHECKS,
    "on_front": FLAG,
    "folder": PLACE,
    "search": PLACE,
    "pooling": (lambda value: is_text(value) and value in POOLINGS, f"one of {', '.join(POOLINGS)}"),
}
