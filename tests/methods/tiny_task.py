"""A tiny task in own files, and what makes a run on it take a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from cutbert.data.rows import Rows
from cutbert.shape.cost import cost_of
from known_times import take_known_times, take_times_of_thread
from tiny_runs import WORDS, tiny_rows, write_tsv

NUM_TRAIN = 41  # in batches of 8 the last has one row, so that of two processes one has none
QUICK: dict[str, Any] = {"epochs": 1.0, "batch_size": 8, "threads": 1, "max_length": 16, "precision": "float32"}


def tiny_task(folder: Path) -> dict[str, Any]:
    """Write train, select and dev files; return them and the quick settings as options of a verb."""
    train, select, dev = tiny_rows(NUM_TRAIN, 3), tiny_rows(16, 4), tiny_rows(18, 5)
    select = Rows([f"{text} or" for text in select.text], labels=select.labels)  # no text of train
    rows = {"train": train, "select": select, "dev": dev}
    files = {name: str(write_tsv(folder / f"{name}.tsv", each)) for name, each in rows.items()}
    return {**files, "text": "text", "label": "label", **QUICK}


def tiny_text(folder: Path) -> dict[str, Any]:
    """Write text of 41 sequences and a held-out file; return them as options of `pretrain`, without dropout."""
    files = {}
    for seed, (name, lines) in enumerate((("train", 66), ("dev", 12))):
        random = np.random.default_rng(seed)
        text = [" ".join(random.choice(WORDS, 9)) + "\n" * (1 + i % 2) for i in range(lines)]
        path = folder / f"{name}.txt"
        path.write_text("".join(text), encoding="utf-8")
        files[name] = str(path)
    return {
        **files,
        "sequence_length": 17,
        "batch_size": 8,
        "threads": 1,
        "precision": "float32",
        "epochs": 1.0,
        "learning_rate": 5e-5,
    }


def command_words(options: dict[str, Any]) -> list[str]:
    """Return the same options as words of a command line."""
    words = []
    for name, value in options.items():
        for each in value if isinstance(value, list) else [value]:
            words += ["--" + name.replace("_", "-"), str(each)]
    return words


def measure_quickly(patch: pytest.MonkeyPatch) -> None:
    """Measure latencies at two lengths only."""
    patch.setattr("cutbert.work.objective.sample_lengths", lambda lengths: [4, 6])


def time_by_macs(patch: pytest.MonkeyPatch) -> None:
    """Let a network take 0.1 ms and one more for every million multiply-adds, at two lengths; nothing is run."""
    measure_quickly(patch)
    take_known_times(patch, lambda shape, length: 0.1 + cost_of(shape, sequence_length=length).macs / 1e6)


def fit_quickly(patch: pytest.MonkeyPatch) -> None:
    """Leave `fit` little time for training, and measure latencies, whatever the machine does beside."""
    measure_quickly(patch)
    patch.setattr("cutbert.methods.fit_plan.Clock.left_with", lambda self, candidates: 1.5)
    take_times_of_thread(patch)
    for module in ("fit_proposals", "fit_race"):
        patch.setattr(f"cutbert.methods.{module}.LEAST_ROUND_STEPS", 2)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")
