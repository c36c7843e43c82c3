"""all-mpnet-base-v2, a real model of base size: its states are transformers', its ONNX vectors those of torch."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor

import cutbert
from cutbert.data.dataset import load_dataset
from cutbert.data.settings import DataSettings
from cutbert.folders.load import load_model
from cutbert.runtime.load import load
from cutbert.shape.source import find_model

VARIABLE = "CUTBERT_MPNET"
TOLERANCE = 1e-4


@pytest.fixture
def mpnet() -> Path:
    if not os.environ.get(VARIABLE):
        pytest.skip(f"{VARIABLE} is not set to a folder of all-mpnet-base-v2")
    return Path(os.environ[VARIABLE])


def real_texts(folder: Path) -> list[str]:
    """Return 100 texts: 50 sentences of STS-B, and 50 longer passages of QNLI."""
    short, long = (load_dataset(DataSettings(task=task, data_dir=str(folder))).dev for task in ("stsb", "qnli"))
    assert long.text_pair is not None
    return [*short.text[:50], *long.text_pair[:50]]


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.real_weights
def test_states_and_vectors_of_real_texts(mpnet: Path, real_data: Path, tmp_path: Path) -> None:
    texts = real_texts(real_data)
    loaded = load_model(find_model(mpnet))
    stock = transformers.AutoModel.from_pretrained(mpnet).eval()
    far, expected = 0.0, []
    for start in range(0, len(texts), 10):
        batch = loaded.tokenizer(texts[start : start + 10], padding=True, return_tensors="pt")
        with torch.no_grad():
            ours, other = loaded.model(**batch), stock(**batch, output_hidden_states=True)
        real = batch["attention_mask"].bool()
        for state, theirs in zip(ours.hidden_states, other.hidden_states, strict=True):
            far = max(far, float((state[real] - theirs[real]).abs().max()))
        expected.append(mean_of(other.last_hidden_state, batch["attention_mask"]))
    cutbert.export(mpnet, onnx=True, out=tmp_path / "out", threads=1)
    vectors = np.stack(load(tmp_path / "out", threads=1)(texts))
    far_vectors = float((torch.from_numpy(vectors) - torch.cat(expected)).abs().max())
    print(f"states differ by at most {far:.1e}, vectors by {far_vectors:.1e}")
    assert far < TOLERANCE and far_vectors < TOLERANCE


def mean_of(states_BSH: Tensor, mask_BS: Tensor) -> Tensor:
    """Return the vectors that sentence-transformers makes: the mean over tokens, of length 1."""
    mask = mask_BS[..., None].float()
    return torch.nn.functional.normalize((states_BSH * mask).sum(1) / mask.sum(1), dim=-1)
