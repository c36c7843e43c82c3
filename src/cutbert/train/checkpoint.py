"""Everything a stopped training stage needs to go on to the same bits: safetensors and JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from cutbert.files import replacing_file, replacing_folder
from cutbert.model.task_model import TaskModel
from cutbert.train.optimizer import Optimizer


@dataclass(frozen=True)
class Position:
    """Where a stage stands.

    Args:
        step: optimizer steps done.
        tokens: real tokens trained on, over all epochs.
        seconds: time spent in training steps.
    """

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0


def save_checkpoint(folder: Path, model: TaskModel, optimizer: Optimizer, position: Position) -> None:
    """Write the state of a stage; a kill at any moment leaves the old state or the new one."""
    with replacing_folder(folder) as aside:
        save_file(named_weights(model), aside / "model.safetensors")
        state = {name: tensor.contiguous() for name, tensor in optimizer.state().items()}
        save_file({**state, "random": torch.get_rng_state()}, aside / "optimizer.safetensors")
        (aside / "position.json").write_text(json.dumps(vars(position)), encoding="utf-8")


def load_checkpoint(folder: Path, model: TaskModel, optimizer: Optimizer) -> Position:
    """Restore what `save_checkpoint` wrote, torch's random state included."""
    load_weights(folder / "model.safetensors", model)
    state = load_file(folder / "optimizer.safetensors")
    torch.set_rng_state(state.pop("random"))
    optimizer.load_state(state)
    return Position(**json.loads((folder / "position.json").read_text(encoding="utf-8")))


def save_weights(path: Path, model: TaskModel) -> None:
    """Write a network's weights under our own names, whole or not at all."""
    with replacing_file(path) as aside:
        save_file(named_weights(model), aside)


def load_weights(path: Path, model: TaskModel) -> None:
    """Read weights that `save_weights` wrote into a network of the same shape."""
    model.load_state_dict(load_file(path))


def named_weights(model: TaskModel) -> dict[str, Tensor]:
    return {name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}
