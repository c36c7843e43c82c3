"""Settings of `fit`. No torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, get_args

from cutbert.bench.settings import BackendName, LatencySettings, QuietSettings
from cutbert.options import option
from cutbert.settings import LIMITS, MACHINE, MEASURING, METHOD, MODEL, RUN, EngineName

# Training flags of other verbs, in whose place fit has plans of its own.
PLANNED = (
    "epochs", "batch_size", "learning_rate", "warmup_ratio", "weight_decay", "schedule", "dropout", "token_table",
)  # fmt: skip
KindName = Literal["layers", "sizes", "undivided", "gates", "student"]


@dataclass(frozen=True, kw_only=True)
class FitSettings(QuietSettings):
    """The limit, the time, and what is tried."""

    GROUP = LIMITS

    max_latency_ms: tuple[float, ...] = field(
        default=(),
        metadata=option(
            "Largest median latency of the exported file at batch 1; several (4,2,1) make a model each.",
            above=0,
            unit="ms",
            is_common=True,
        ),
    )
    max_latency_share: tuple[float, ...] = field(
        default=(),
        metadata=option(
            "The same as a share of what the uncut model takes on --backend, such as 0.5.",
            above=0,
            most=1,
            is_common=True,
        ),
    )
    max_params: int | None = field(
        default=None, metadata=option("Largest network.", least=1, unit="parameters", is_common=True)
    )
    max_macs: int | None = field(
        default=None, metadata=option("Most multiply-adds at 128 tokens.", least=1, unit="MACs", is_common=True)
    )
    max_bytes: int | None = field(
        default=None, metadata=option("Largest exported file.", least=1, unit="bytes", is_common=True)
    )
    max_drop: float | None = field(
        default=None,
        metadata=option(
            "The fastest network is taken that loses at most this on select, against the teacher.",
            least=0,
            most=100,
            unit="points",
            is_common=True,
        ),
    )
    time: float | None = field(
        default=None,
        metadata=option(
            "Time for everything, such as 90s, 20m or 2h.",
            above=0,
            unit="seconds",
            group=RUN,
            is_common=True,
            default_text="about six fine-tunings, at least 5 minutes",
        ),
    )
    plan: str | None = field(
        default=None,
        metadata=option("Another run of fit, whose plan (times, steps, --time) is taken.", group=RUN),
    )
    teacher: str | None = field(
        default=None,
        metadata=option(
            "Another model with the same labels to imitate; MODEL imitates it first where its head is new.", group=MODEL
        ),
    )
    student: tuple[str, ...] = field(
        default=(),
        metadata=option("A smaller model to try in the place of a cut of MODEL.", group=MODEL, is_common=True),
    )
    kinds: tuple[KindName, ...] = field(
        default=get_args(KindName),
        metadata=option(
            "What is tried: whole layers, other sizes, fewer feed-forwards, learned gates, students.", group=METHOD
        ),
    )
    candidates: int | None = field(
        default=None,
        metadata=option(
            "Networks that are trained at first, for each limit.",
            least=1,
            most=64,
            group=METHOD,
            default_text="3, from 160 s of --time for a limit on 4, from 640 s on 8",
        ),
    )
    backend: BackendName = field(
        default="onnx-int8",
        metadata=option("What serves the model: the file that is written, and timed.", group=MEASURING, is_common=True),
    )
    rounds: int = field(
        default=8,
        metadata=option(
            "How often each length is timed, all models in turn.", least=1, ceiling=10_000, group=MEASURING
        ),
    )

    trim_vocab: bool = field(
        default=False,
        metadata=option(
            "Leave tokens that the training texts and common text do not use out of what is served.", group=METHOD
        ),
    )
    engine: EngineName = field(
        default="local",
        metadata=option("local: candidates train one after the other; ray: at once, on a Ray cluster.", group=MACHINE),
    )
    ray_address: str | None = field(
        default=None,
        metadata=option(
            "Ray cluster to train on; default: one of this machine alone, started and stopped.", group=MACHINE
        ),
    )

    def missing(self) -> Iterable[str]:
        if not self.has_limit:
            yield (
                "fit must have a limit: one of --max-latency-ms, --max-latency-share, --max-params, --max-macs, "
                "--max-bytes and --max-drop, got none"
            )

    def conflicts(self) -> Iterable[str]:
        for name, given, digits in (("ms", self.max_latency_ms, 6), ("share", self.max_latency_share, 5)):
            if len({f"{each:.{digits}g}" for each in given}) < len(given):  # a limit's name has six digits
                yield f"--max-latency-{name} must differ, got {', '.join(f'{each:g}' for each in given)}"
        if self.max_latency_ms and self.max_latency_share:
            yield "--max-latency-share must not be given with --max-latency-ms"
        if self.plan is not None and self.time is not None:
            yield "--time must not be given with --plan, which has its own"
        if not self.kinds:
            yield f"--kinds must name at least one of {', '.join(get_args(KindName))}, got none"
        if set(self.kinds) == {"student"} and not self.student:
            yield "--kinds student must come with --student"
        if self.is_given("kinds") and self.student and "student" not in self.kinds:
            yield "--student must come with student among --kinds"
        if self.engine == "local" and self.ray_address is not None:
            yield "--ray-address must come with --engine ray"

    @property
    def has_limit(self) -> bool:
        """Whether anything is limited."""
        others = (self.max_params, self.max_macs, self.max_bytes, self.max_drop)
        return bool(self.max_latency_ms or self.max_latency_share) or any(each is not None for each in others)

    def timing(self, threads: int | None, seed: int) -> LatencySettings:
        """Return how networks are timed."""
        return LatencySettings(
            backend=self.backend, rounds=self.rounds, threads=threads, seed=seed, require_quiet=self.require_quiet
        )
