"""Tiny models of families that are made of other things than BERT, with every parameter random."""

from __future__ import annotations

from dataclasses import replace

import torch

from cutbert.model.style import EncoderStyle
from cutbert.model.task_model import TaskModel
from cutbert.shape.head import HeadSpec
from cutbert.shape.ingredients import Ingredients
from cutbert.shape.shape import EncoderShape, LayerShape
from tiny_models import CLASSES, tiny_shape
from tiny_models import LAYERS as TINY_LAYERS

MODERNBERT = Ingredients(
    norm_first=True,
    has_position_table=False,
    rotary_bases=(1000.0, 100.0),
    window=2,
    local_layers=(False, True, False, True),
    bare_layers=(True, False, False, False),
    is_gated=True,
    has_attention_bias=False,
    has_feed_forward_bias=False,
    has_norm_bias=False,
    has_prediction_head=True,
    has_head_bias=False,
)
DEBERTA = Ingredients(has_position_table=False, num_distance_buckets=6, max_distance=12, has_distance_norm=True)
INGREDIENTS = {
    "nomic_bert": Ingredients(
        has_position_table=False,
        rotary_bases=(1000.0, 1000.0),
        is_gated=True,
        has_attention_bias=False,
        has_feed_forward_bias=False,
    ),
    "gte": Ingredients(has_position_table=False, rotary_bases=(1000.0, 1000.0), is_gated=True, has_neuron_bias=False),
    "deberta-v2": DEBERTA,
    "deberta-v2 with positions": replace(DEBERTA, has_position_table=True, has_distance_norm=False),
    "mpnet": Ingredients(num_bias_heads=4),
    "modernbert": MODERNBERT,
    "modernbert with biases": replace(
        MODERNBERT, has_attention_bias=True, has_feed_forward_bias=True, has_norm_bias=True, has_head_bias=True
    ),
}
OTHERS = tuple(INGREDIENTS)
LAYERS = (TINY_LAYERS[0], LayerShape(3, 4, 4, 0), *TINY_LAYERS[2:])


def family_shape(family: str) -> EncoderShape:
    """Return the layers of `tiny_models` with a family's ingredients."""
    types = 2 if family in ("nomic_bert", "gte") else 0
    return replace(tiny_shape(), layers=LAYERS, num_token_types=types, ingredients=INGREDIENTS[family])


def family_model(family: str, head: HeadSpec = CLASSES, seed: int = 0) -> TaskModel:
    """Return a model in evaluation mode with normal weights everywhere, norms and biases too."""
    name = family.split()[0]
    style = EncoderStyle(
        family=name,
        activation="silu" if name == "nomic_bert" else "gelu",
        position_offset=2 if name == "mpnet" else 0,
        pad_token_id=1,
    )
    model = TaskModel(family_shape(family), style, head).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
    return model
