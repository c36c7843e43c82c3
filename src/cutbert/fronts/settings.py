"""What looking at a front and picking from it need to know. No torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar

from cutbert.bench.settings import BackendSettings, LatencySettings, QuietSettings
from cutbert.errors import InputError, RunError
from cutbert.options import option
from cutbert.settings import DATA, LIMITS, MEASURING, METHOD, RUN, out_mistakes
from cutbert.shape.budget import Limits


@dataclass(frozen=True, kw_only=True)
class FrontSettings(LatencySettings):
    """Whether to measure a front again, and how."""

    GROUP = MEASURING

    measure: bool = field(
        default=False,
        metadata=option("Measure all latencies again on this machine and store them in the run.", is_common=True),
    )

    def conflicts(self) -> Iterable[str]:
        yield from super().conflicts()
        if not self.measure:
            for name in self.given("length", "rounds", "throughput_batch_size", "require_quiet"):
                yield f"{name} must come with --measure"


@dataclass(frozen=True, kw_only=True)
class PickSettings(Limits, BackendSettings, QuietSettings):
    """The limits a picked subnet must keep to, whether it is repaired, and where it goes."""

    GROUP = LIMITS
    ERROR: ClassVar[type[InputError]] = RunError

    stock: bool = field(
        default=False,
        metadata=option("Only shapes that load in plain transformers, with no cutbert installed.", is_common=True),
    )
    out: str | None = field(
        default=None, metadata=option("New model folder for the picked subnet.", group=RUN, is_common=True)
    )

    repair: bool = field(
        default=False,
        metadata=option(
            "Fit the picked subnet's outgoing weights again by least squares, towards the run's whole network (the "
            "supernet it was cut from), on 256 of the run's training texts; kept where KL on select says so.",
            group=METHOD,
        ),
    )
    data_dir: str | None = field(
        default=None, metadata=option("Where the task's data is now, if it was moved; for --repair.", group=DATA)
    )

    def conflicts(self) -> Iterable[str]:
        if self.backend != "torch" and self.max_latency_ms is None:
            yield "--backend must come with --max-latency-ms"
        if self.require_quiet and self.max_latency_ms is None:
            yield "--require-quiet must come with --max-latency-ms"
        yield from out_mistakes(self.out)
