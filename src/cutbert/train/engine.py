"""Where training runs: device, dtype, threads and processes, through accelerate."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor

from cutbert.errors import CutbertError, InputError, MissingError
from cutbert.lacks import naming_lacks
from cutbert.train.machine import usable_cores
from cutbert.train.settings import TrainSettings


@dataclass(frozen=True)
class Engine:
    """The machine as training sees it.

    Gradients are summed over processes once per step by `reduce`; models are not wrapped, because a
    step holds several backward passes.

    Args:
        accelerator: accelerate's view of devices and processes.
        dtype: of the products in training.
    """

    accelerator: Accelerator
    dtype: torch.dtype

    @property
    def device(self) -> torch.device:
        return self.accelerator.device

    @property
    def num_processes(self) -> int:
        return self.accelerator.num_processes

    @property
    def rank(self) -> int:
        return self.accelerator.process_index

    @property
    def is_main(self) -> bool:
        return self.accelerator.is_main_process

    def reduce(self, tensors: list[Tensor]) -> None:
        """Sum tensors over all processes, in place."""
        if self.num_processes == 1:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        flat = self.accelerator.reduce(flat, reduction="sum")
        for tensor, part in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def on_main(self, do: Callable[[], object]) -> None:
        """Run something in the main process, while the others wait.

        Raises:
            CutbertError: the main process raised one; then all processes do.
        """
        error: CutbertError | None = None
        if self.is_main:
            try:
                with naming_lacks():
                    do()
            except CutbertError as raised:
                error = raised
        if self.any(error is not None):
            raise error or InputError("the main process failed; see its error")

    def make_once(self, path: Path, make: Callable[[], object]) -> None:
        """Let the main process make what a file keeps, unless the file is there; then every process can read it.

        Args:
            path: the file.
            make: writes it, whole or not at all.
        """
        self.on_main(lambda: None if path.exists() else make())

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        if self.num_processes == 1:
            return flag
        return bool(self.accelerator.reduce(torch.tensor(float(flag), device=self.device), reduction="sum") > 0)


def make_engine(settings: TrainSettings) -> Engine:
    """Prepare threads, device and dtype.

    Raises:
        MissingError: a CUDA device or bf16 is asked for and not there.
    """
    wants_cuda = settings.device.startswith("cuda")
    if wants_cuda and not torch.cuda.is_available():
        raise MissingError(f"--device {settings.device}: no CUDA device is usable here; use --device cpu")
    number = settings.device.removeprefix("cuda:")
    if number.isdigit() and int(number) >= torch.cuda.device_count():
        raise MissingError(f"--device {settings.device}: there are {torch.cuda.device_count()} CUDA devices here")
    use_cpu = not uses_cuda(settings.device)
    torch.set_num_threads(settings.threads or default_threads())
    if settings.device.startswith("cuda:"):
        torch.cuda.set_device(int(settings.device.removeprefix("cuda:")))
    accelerator = Accelerator(cpu=use_cpu, mixed_precision="no")
    return Engine(accelerator, training_dtype(settings.precision, accelerator.device))


def uses_cuda(device: str) -> bool:
    """Whether a choice of device means CUDA on this machine."""
    return device != "cpu" and torch.cuda.is_available()


def training_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Return the dtype of training: bf16 under `auto` only where it is computed natively."""
    if precision == "float32":
        return torch.float32
    native = torch.cuda.is_bf16_supported() if device.type == "cuda" else cpu_has_bf16()
    return torch.bfloat16 if native or precision == "bf16" else torch.float32


def cpu_has_bf16() -> bool:
    """Whether this processor multiplies bf16 natively (AVX-512 BF16 or AMX; Arm's BF16)."""
    capability = torch.cpu.get_capabilities()
    return any(bool(capability.get(name)) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def default_threads() -> int:
    """Return the cores this process may use, shared among the processes of one launch on this machine."""
    return max(1, usable_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
