"""A tiny task in own files, and what makes a run on it take a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from cutbert.data.rows import Rows
from tiny_runs import tiny_rows, write_tsv

NUM_TRAIN = 41  # in batches of 8 the last has one row, so that of two processes one has none
QUICK: dict[str, Any] = {"epochs": 1.0, "batch_size": 8, "threads": 1, "max_length": 16, "precision": "float32"}


def tiny_task(folder: Path) -> dict[str, Any]:
    """Write train, select and dev files; return them and the quick settings as options of a verb."""
    train, select, dev = tiny_rows(NUM_TRAIN, 3), tiny_rows(16, 4), tiny_rows(18, 5)
    select = Rows([f"{text} or" for text in select.text], labels=select.labels)  # no text of train
    rows = {"train": train, "select": select, "dev": dev}
    files = {name: str(write_tsv(folder / f"{name}.tsv", each)) for name, each in rows.items()}
    return {**files, "text": "text", "label": "label", **QUICK}


def command_words(options: dict[str, Any]) -> list[str]:
    """Return the same options as words of a command line."""
    words = []
    for name, value in options.items():
        for each in value if isinstance(value, list) else [value]:
            words += ["--" + name.replace("_", "-"), str(each)]
    return words


def measure_quickly(patch: pytest.MonkeyPatch) -> None:
    """Measure latencies at two lengths only."""
    patch.setattr("cutbert.methods.dynabert.sample_lengths", lambda lengths: [4, 6])


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")
