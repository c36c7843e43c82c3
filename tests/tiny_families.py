"""Tiny models of families that are made of other things than BERT, with every parameter random."""

from __future__ import annotations

from dataclasses import replace

import torch

from cutbert.model.style import EncoderStyle
from cutbert.model.task_model import TaskModel
from cutbert.shape.head import HeadSpec
from cutbert.shape.ingredients import Ingredients
from cutbert.shape.shape import EncoderShape
from tiny_models import CLASSES, LAYERS, tiny_shape

INGREDIENTS = {
    "mpnet": Ingredients(num_bias_heads=4),
}
OTHERS = tuple(INGREDIENTS)


def family_shape(family: str) -> EncoderShape:
    """Return the layers of `tiny_models` with a family's ingredients."""
    return replace(tiny_shape(), num_token_types=0, ingredients=INGREDIENTS[family])


def family_model(family: str, head: HeadSpec = CLASSES, seed: int = 0) -> TaskModel:
    """Return a model in evaluation mode with normal weights everywhere, norms and biases too."""
    style = EncoderStyle(family=family, position_offset=2 if family == "mpnet" else 0, pad_token_id=1)
    model = TaskModel(family_shape(family), style, head).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
    return model


__all__ = ["LAYERS", "OTHERS", "family_model", "family_shape"]
