"""Activations are those of transformers by the same names, and each can be written as ONNX."""

from __future__ import annotations

import pytest
import torch
from transformers.activations import ACT2FN

from cutbert.exporters import nodes
from cutbert.model.activations import ACTIVATIONS


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_they_are_those_of_transformers(name: str) -> None:
    x = torch.linspace(-12, 12, 999)
    torch.testing.assert_close(ACTIVATIONS[name](x), ACT2FN[name](x), atol=2e-6, rtol=1e-5)


def test_all_can_be_exported() -> None:
    assert ACTIVATIONS.keys() == nodes.ACTIVATIONS.keys()
