"""What measuring needs to know, as settings without torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, get_args

from cutbert.options import option
from cutbert.settings import MEASURING, DeviceSettings, SeedSettings, Settings

BackendName = Literal["torch", "torch-bf16", "onnx", "onnx-int8"]
DEFAULT_LENGTH = 128


@dataclass(frozen=True, kw_only=True)
class QuietSettings(Settings):
    """What is done with latencies of a machine that was not quiet."""

    GROUP = MEASURING

    require_quiet: bool = field(
        default=False,
        metadata=option("Refuse latencies that were measured while other work ran; without it they are marked."),
    )


@dataclass(frozen=True, kw_only=True)
class TimingSettings(DeviceSettings, SeedSettings, QuietSettings):
    """How latency is measured, whatever runs the model."""

    GROUP = MEASURING

    length: int | None = field(
        default=None,
        metadata=option(
            "Length of a text; default: lengths of the dev texts, 128 where there is no task.", least=1, unit="tokens"
        ),
    )
    rounds: int = field(
        default=8,
        metadata=option(
            "How often each length is measured, all models in turn.",
            least=1,
            ceiling=10_000,
        ),
    )
    throughput_batch_size: int = field(
        default=32, metadata=option("Texts per batch when measuring throughput.", least=1, ceiling=2**16, unit="texts")
    )

    @property
    def backends(self) -> tuple[str, ...]:
        """What runs the models, each once."""
        raise NotImplementedError

    @property
    def is_on_cpu(self) -> bool:
        """Whether a backend is among them that runs on the CPU only; all are measured there then."""
        return any(name.startswith("onnx") for name in self.backends)

    @property
    def engine_device(self) -> str:
        """Where torch is to run."""
        return "cpu" if self.is_on_cpu else self.device

    def conflicts(self) -> Iterable[str]:
        if not self.backends:
            yield f"--backend must name at least one of {', '.join(get_args(BackendName))}, got none"
        if self.is_on_cpu and self.device.startswith("cuda"):
            yield f"--device must be auto or cpu with ONNX, which runs on the CPU, got {self.device}"


@dataclass(frozen=True, kw_only=True)
class BackendSettings(Settings):
    """What runs a model."""

    GROUP = MEASURING

    backend: BackendName = field(
        default="torch",
        metadata=option("What runs the model: float32 unless the name says otherwise; onnx is ONNX Runtime."),
    )


@dataclass(frozen=True, kw_only=True)
class LatencySettings(TimingSettings, BackendSettings):
    """How latency is measured on one backend."""

    GROUP = MEASURING

    @property
    def backends(self) -> tuple[str, ...]:
        return (self.backend,)


@dataclass(frozen=True, kw_only=True)
class MeasureSettings(TimingSettings):
    """How models are measured side by side, on one backend or several."""

    GROUP = MEASURING

    backend: tuple[BackendName, ...] = field(
        default=("torch",),
        metadata=option(
            "What runs the models: float32 unless the name says otherwise; onnx is ONNX Runtime.", is_common=True
        ),
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "backend", tuple(dict.fromkeys(self.backend)))

    @property
    def backends(self) -> tuple[str, ...]:
        return self.backend
