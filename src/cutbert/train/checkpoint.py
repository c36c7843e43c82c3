"""Everything a stopped training stage needs to go on to the same bits: safetensors and JSON."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from cutbert.errors import RunError
from cutbert.files import read_json, replacing_file, replacing_folder
from cutbert.folders.weights import write_weights


@dataclass(frozen=True)
class Position:
    """How far a stage has come.

    Args:
        step: optimizer steps done.
        tokens: real tokens trained on, over all epochs.
        seconds: time spent in training steps.
    """

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0


class Stateful(Protocol):
    """An optimizer, for its moments and step counts."""

    def state(self) -> dict[str, Tensor]: ...

    def load_state(self, tensors: dict[str, Tensor]) -> None: ...


def save_checkpoint(folder: Path, model: nn.Module, optimizer: Stateful, position: Position) -> None:
    """Write the state of a stage as `folder/STEP`; a kill at any moment leaves the old state or the new one.

    The old state goes only when the new one has its name.
    """
    new = folder / f"{position.step:09d}"
    with replacing_folder(new) as aside:
        write_weights(aside / "model.safetensors", named_weights(model))
        state = {name: tensor.contiguous() for name, tensor in optimizer.state().items()}
        write_weights(aside / "optimizer.safetensors", {**state, "random": torch.get_rng_state()})
        (aside / "position.json").write_text(json.dumps(vars(position)), encoding="utf-8")
    for old in folder.iterdir():
        if old != new:
            shutil.rmtree(old, ignore_errors=True)


def latest_checkpoint(folder: Path) -> Path | None:
    """Return the newest complete state of a stage, or None."""
    complete = [path for path in folder.glob("*") if path.name.isdigit() and (path / "position.json").is_file()]
    return max(complete, key=lambda path: path.name, default=None)


def load_checkpoint(saved: Path, model: nn.Module, optimizer: Stateful) -> Position:
    """Restore a state that `latest_checkpoint` returned, torch's random state included."""
    load_weights(saved / "model.safetensors", model)
    state = load_file(saved / "optimizer.safetensors")
    torch.set_rng_state(state.pop("random"))
    try:
        optimizer.load_state(state)
    except RunError as error:
        raise RunError(*(f"{saved}: {mistake}" for mistake in error.mistakes)) from None
    return read_position(saved / "position.json")


def read_position(path: Path) -> Position:
    """Read how far a stage has come."""
    position: Position = read_json(path, RunError, lambda data: Position(**data))
    return position


def save_weights(path: Path, model: nn.Module) -> None:
    """Write a network's weights under our own names, whole or not at all."""
    with replacing_file(path) as aside:
        write_weights(aside, named_weights(model))


def load_weights(path: Path, model: nn.Module) -> None:
    """Read weights that `save_weights` wrote into a network of the same shape."""
    model.load_state_dict(load_file(path))


def named_weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}
