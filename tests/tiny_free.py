"""Tiny networks of free shape: layers of different sizes, sub-layers absent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cutbert.folders.save import save_model
from cutbert.model.style import EncoderStyle
from cutbert.model.task_model import TaskModel
from cutbert.shape.folder import FORMAT_VERSION
from cutbert.shape.head import HeadSpec
from cutbert.shape.ingredients import BERT, Ingredients
from cutbert.shape.shape import EncoderShape, LayerShape
from cutbert.shape.stock_config import STOCK_FAMILIES
from tiny_families import DEBERTA, INGREDIENTS, MODERNBERT
from tiny_stock import ROBERTA_LIKE, VOCAB_SIZE, randomise, tiny_tokenizer

LAYERS = (LayerShape(3, 5, 4, 7), LayerShape(0, 0, 0, 6), LayerShape(1, 6, 6, 0), LayerShape(2, 3, 3, 9))
EVEN_KEYS = (LayerShape(3, 4, 5, 7), LayerShape(0, 0, 0, 6), LayerShape(1, 6, 6, 0), LayerShape(2, 2, 3, 9))
FREE_INGREDIENTS = {
    "deberta-v2": replace(DEBERTA, max_distance=16),
    "mpnet": Ingredients(num_bias_heads=3),
    "modernbert": replace(MODERNBERT, local_layers=(False, True, True, False)),
    "nomic_bert": INGREDIENTS["nomic_bert"],
    "gte": INGREDIENTS["gte"],
}
PROVENANCE = {
    "format_version": FORMAT_VERSION,
    "base_model": "tiny",
    "licence": None,
    "commands": ["cutbert pick"],
    "data": {},
    "scores": {"accuracy": 0.5},
}


def free_shape(family: str = "bert") -> EncoderShape:
    return EncoderShape(
        hidden_size=12,
        layers=EVEN_KEYS if family in ("modernbert", "nomic_bert", "gte") else LAYERS,
        vocab_size=VOCAB_SIZE,
        num_positions=18 if family in ROBERTA_LIKE else 16,
        num_token_types={"distilbert": 0, "mpnet": 0, "modernbert": 0, "deberta-v2": 0}.get(
            family, 1 if family in ROBERTA_LIKE else 2
        ),
        embedding_size=8 if family == "electra" else None,
        ingredients=FREE_INGREDIENTS.get(family, BERT),
    )


def style_of(family: str) -> EncoderStyle:
    pad = 1 if family in ROBERTA_LIKE else 0
    return EncoderStyle(
        family=family,
        head_activation=STOCK_FAMILIES[family].head_activation,
        pad_token_id=pad,
        position_offset=pad + 1 if family in ROBERTA_LIKE else 0,
    )


def free_model(head: HeadSpec, family: str = "bert") -> TaskModel:
    """Return a network of free shape, all parameters random."""
    model = TaskModel(free_shape(family), style_of(family), head)
    randomise(model)
    return model.eval()


def save_free(folder: Path, head: HeadSpec, family: str = "bert") -> TaskModel:
    """Save a network of free shape and return it."""
    model = free_model(head, family)
    save_model(folder, model, tiny_tokenizer(family), provenance=PROVENANCE)
    return model
