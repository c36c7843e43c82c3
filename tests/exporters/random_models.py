"""Random tiny networks of any shape, head and family, and what they answer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from cutbert.model.style import EncoderStyle
from cutbert.model.task_model import TaskModel
from cutbert.shape.head import HEAD_KINDS, HeadSpec
from cutbert.shape.ingredients import BERT, Ingredients
from cutbert.shape.pooling import Pooling
from cutbert.shape.shape import EncoderShape, LayerShape, first_alone
from cutbert.shape.stock_config import STOCK_FAMILIES

NAMES = ("neg", "pos", "so so")
LABELS = {"regression": ("score",), "single_label": NAMES, "multi_label": NAMES, "token": NAMES}
HEADS = {kind: HeadSpec(kind, LABELS.get(kind, ()), kind == "embedding") for kind in HEAD_KINDS}
ROBERTA_LIKE = ("roberta", "xlm-roberta", "camembert", "mpnet")


def random_shape(seed: int, family: str) -> EncoderShape:
    """Return layers that differ, some without attention or feed-forward, tables of another width at times."""
    draw = np.random.default_rng(seed)
    layers = [
        LayerShape(*(int(size) for size in (draw.integers(0, 4), *draw.integers(1, 7, 2), draw.integers(0, 12))))
        for _ in range(draw.integers(0, 4))
    ]
    if family in ("modernbert", "nomic_bert", "gte"):  # rotary keys are of pairs
        layers = [replace(layer, key_dim=2 * layer.key_dim) for layer in layers]
    types = (
        0
        if family in ("distilbert", "mpnet", "modernbert")
        else 1
        if family in ROBERTA_LIKE
        else int(draw.integers(0, 3))
    )
    return EncoderShape(
        hidden_size=int(draw.integers(2, 20)),
        layers=tuple(layers),
        vocab_size=23,
        num_positions=18,
        num_token_types=types,
        embedding_size=int(draw.integers(2, 20)) if draw.integers(2) else None,
        ingredients=random_ingredients(family, len(layers), draw),
    )


def random_ingredients(family: str, num_layers: int, draw: np.random.Generator) -> Ingredients:
    """Return what a family is made of, with biases or without, and local layers anywhere."""
    if family == "mpnet":
        return Ingredients(num_bias_heads=3)
    if family == "deberta-v2":
        has_table, has_norm = (bool(each) for each in draw.integers(0, 2, 2))
        return Ingredients(
            has_position_table=has_table, num_distance_buckets=6, max_distance=16, has_distance_norm=has_norm
        )
    if family == "nomic_bert":
        return Ingredients(
            has_position_table=False,
            rotary_bases=(1000.0, 1000.0),
            is_gated=True,
            has_attention_bias=False,
            has_feed_forward_bias=False,
        )
    if family == "gte":
        return Ingredients(
            has_position_table=False, rotary_bases=(1000.0, 1000.0), is_gated=True, has_neuron_bias=False
        )
    if family != "modernbert":
        return BERT
    attention_bias, feed_forward_bias, norm_bias, head_bias = (bool(each) for each in draw.integers(0, 2, 4))
    return Ingredients(
        norm_first=True,
        has_position_table=False,
        rotary_bases=(1000.0, 100.0),
        window=2,
        local_layers=tuple(bool(each) for each in draw.integers(0, 2, num_layers)),
        bare_layers=first_alone(num_layers),
        is_gated=True,
        has_attention_bias=attention_bias,
        has_feed_forward_bias=feed_forward_bias,
        has_norm_bias=norm_bias,
        has_prediction_head=True,
        has_head_bias=head_bias,
    )


def random_model(
    shape: EncoderShape,
    head: HeadSpec,
    family: str = "bert",
    *,
    activation: str = "gelu",
    pooling: Pooling = "cls",
    seed: int = 0,
) -> TaskModel:
    """Return a network with all parameters random."""
    pad = 1 if family in ROBERTA_LIKE else 0
    style = EncoderStyle(
        family=family,
        activation=activation,
        pooling=pooling,
        head_activation=STOCK_FAMILIES[family].head_activation,
        pad_token_id=pad,
        position_offset=pad + 1 if family in ROBERTA_LIKE else 0,
    )
    model = TaskModel(shape, style, head)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=draw))
        for buffer in model.buffers():  # of relative biases, each layer's heads in an order of its own
            buffer.copy_(torch.randperm(shape.ingredients.num_bias_heads, generator=draw)[: len(buffer)])
    return model.eval()


def random_inputs(shape: EncoderShape, lengths: tuple[int, ...], seed: int = 0) -> list[np.ndarray]:
    """Return input_ids, attention_mask and token_type_ids of random texts, padded on the right."""
    draw = np.random.default_rng(seed)
    size = (len(lengths), max(lengths))
    mask = (np.arange(size[1]) < np.array(lengths)[:, None]).astype(np.int64)
    types = draw.integers(max(1, shape.num_token_types), size=size)
    return [draw.integers(shape.vocab_size, size=size) * mask, mask, types * mask]


@torch.inference_mode()
def own_answer(model: TaskModel, inputs: list[np.ndarray]) -> np.ndarray:
    """Return a network's logits, or last hidden states where it has no head."""
    ids, mask, types = map(torch.from_numpy, inputs)
    output = model(ids, mask, types if model.shape.num_token_types else None)
    return (output.hidden_states[-1] if output.logits is None else output.logits).numpy()
