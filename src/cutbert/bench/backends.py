"""What can run a network for measuring: one function per backend, in a table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from cutbert.model.task_model import TaskModel


class Runner(Protocol):
    """Runs one batch of token ids [B, S] without padding and returns when the answer is there."""

    def __call__(self, input_ids: NDArray[np.int64]) -> None: ...


def torch_runner(model: TaskModel) -> Runner:
    """Return a runner of the network itself, in torch float32 on the device it lies on."""
    model = model.eval().float()
    device = next(model.parameters()).device

    @torch.inference_mode()
    def run(input_ids: NDArray[np.int64]) -> None:
        model(torch.from_numpy(input_ids).to(device))
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return run


BACKENDS: dict[str, Callable[[TaskModel], Runner]] = {"torch": torch_runner}
