"""What searching a supernet needs to know. No torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from cutbert.bench.settings import BackendSettings, LatencySettings
from cutbert.errors import InputError
from cutbert.options import option
from cutbert.settings import DATA, MEASURING, METHOD, TRAINING, MachineSettings, ResumeSettings
from cutbert.shape.budget import Limits
from cutbert.shape.search_space import SpaceName

CostName = Literal["macs", "params", "latency_ms"]


@dataclass(frozen=True, kw_only=True)
class SearchSettings(Limits, BackendSettings, ResumeSettings, MachineSettings):
    """Where to search, for how long, and what to keep of it."""

    GROUP = METHOD
    ERROR: ClassVar[type[InputError]] = InputError

    objective: Literal["task", "embedding"] | None = field(
        default=None,
        metadata=option("What RUN learned, refused where it learned something else. Default: whatever RUN learned."),
    )
    trials: int = field(
        default=400,
        metadata=option("Networks to score; equal ones count once.", least=1, unit="networks", is_common=True),
    )
    space: SpaceName = field(
        default="free",
        metadata=option("free: heads and neurons layer by layer; stock: only shapes that load in plain transformers."),
    )
    cost: CostName | None = field(
        default=None,
        metadata=option("Cost axis of the search; default latency_ms with --max-latency-ms, else macs."),
    )
    sample: int | None = field(
        default=None,
        metadata=option(
            "Rows of select that trials are scored on; those kept are scored on all. Default: all.",
            least=1,
            unit="rows",
        ),
    )
    keep: int = field(
        default=16, metadata=option("Most networks that enter the run's front.", least=1, unit="networks")
    )
    train_steps: int = field(
        default=0,
        metadata=option(
            "Distillation from the supernet for each network kept; 0 for none.", least=0, unit="steps", group=TRAINING
        ),
    )
    learning_rate: float = field(
        default=1e-4, metadata=option("Peak learning rate of --train-steps.", above=0, group=TRAINING)
    )
    batch_size: int = field(
        default=32, metadata=option("Examples per step of --train-steps.", least=1, unit="examples", group=TRAINING)
    )
    repair: bool = field(
        default=False,
        metadata=option(
            "Fit the outgoing weights of each network kept again by least squares, towards the whole supernet, on 256 "
            "of the run's training texts, where that brings it closer by KL on select. Trials are not repaired."
        ),
    )
    data_dir: str | None = field(
        default=None, metadata=option("Where the task's data is now, if it was moved.", group=DATA)
    )
    remeasure: bool = field(
        default=False,
        metadata=option("Make the table of latencies again, though the run has one for the backend.", group=MEASURING),
    )

    @property
    def cost_name(self) -> CostName:
        """Cost axis of the search."""
        return self.cost or ("macs" if self.max_latency_ms is None else "latency_ms")

    @property
    def predicts(self) -> bool:
        """Whether latencies of networks that were not measured are asked for."""
        return self.cost_name == "latency_ms" or self.max_latency_ms is not None

    @property
    def timing(self) -> LatencySettings:
        """How latency is measured."""
        return LatencySettings(backend=self.backend, threads=self.threads, device=self.device, seed=self.seed)

    def conflicts(self) -> Iterable[str]:
        yield from self.timing.conflicts()
        if not self.train_steps:
            for name in self.given("learning_rate", "batch_size"):
                yield f"{name} must come with --train-steps"
        if self.repair and self.train_steps:
            yield "--repair must come without --train-steps"
        if self.remeasure and not self.predicts:
            yield "--remeasure must come with --max-latency-ms or --cost latency_ms"
