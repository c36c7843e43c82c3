"""What measuring needs to know, as settings without torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from cutbert.errors import InputError, Mistakes
from cutbert.settings import check_device

BackendName = Literal["torch", "torch-bf16", "onnx", "onnx-int8"]
BACKEND_NAMES: tuple[BackendName, ...] = get_args(BackendName)
BACKENDS_HELP = "torch (float32), torch-bf16, onnx (ONNX Runtime, float32) or onnx-int8"
DEFAULT_LENGTH = 128


@dataclass(frozen=True, kw_only=True)
class TimingSettings:
    """How latency is measured, whatever runs the model."""

    length: int | None = field(
        default=None,
        metadata={"help": "Tokens per text; default: lengths of the dev texts, 128 where there is no task."},
    )
    threads: int | None = field(default=None, metadata={"help": "CPU threads; default all cores."})
    device: str = field(
        default="auto",
        metadata={"help": "Where to run: auto (CUDA where there is one, but ONNX on the CPU), cpu, cuda or cuda:N."},
    )
    rounds: int = field(default=8, metadata={"help": "How often each length is measured, all models in turn."})
    throughput_batch_size: int = field(default=32, metadata={"help": "Texts per batch when measuring throughput."})
    seed: int = field(default=0, metadata={"help": "Seed of the order of measuring and of the texts' tokens."})

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

    def check(self) -> None:
        """Raise unless every number is in its range and every backend is one of ours.

        Raises:
            InputError: all mistakes together.
        """
        mistakes = Mistakes()
        if not self.backends:
            mistakes.add(f"--backend must name at least one of {', '.join(BACKEND_NAMES)}")
        for name in self.backends:
            if name not in BACKEND_NAMES:
                mistakes.add(f"--backend must be one of {', '.join(BACKEND_NAMES)}, got {name!r}")
        for name in ("length", "threads", "rounds", "throughput_batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                mistakes.add(f"--{name.replace('_', '-')} must be at least 1, got {value}")
        if self.seed < 0:
            mistakes.add(f"--seed must be at least 0, got {self.seed}")
        with mistakes.collect():
            check_device(self.device)
        if self.is_on_cpu and self.device.startswith("cuda"):
            mistakes.add(f"--device must be auto or cpu with ONNX, which runs on the CPU, got {self.device}")
        mistakes.check(InputError)


@dataclass(frozen=True, kw_only=True)
class LatencySettings(TimingSettings):
    """How latency is measured on one backend."""

    backend: str = field(default="torch", metadata={"help": f"What runs the model: {BACKENDS_HELP}."})

    @property
    def backends(self) -> tuple[str, ...]:
        return (self.backend,)


@dataclass(frozen=True, kw_only=True)
class MeasureSettings(TimingSettings):
    """How models are measured side by side, on one backend or several."""

    backend: tuple[BackendName, ...] = field(
        default=("torch",), metadata={"help": f"What runs the models, one or several: {BACKENDS_HELP}; repeatable."}
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "backend", tuple(dict.fromkeys(self.backend)))

    @property
    def backends(self) -> tuple[str, ...]:
        return self.backend
