"""Tiny models with every parameter random, and batches for them."""

from __future__ import annotations

import torch

from cutbert.data.batches import Batch
from cutbert.model.style import EncoderStyle
from cutbert.model.task_model import TaskModel, TaskOutput
from cutbert.shape.head import HeadSpec
from cutbert.shape.shape import EncoderShape, LayerShape

VOCAB, POSITIONS = 31, 12
LAYERS = (
    LayerShape(4, 6, 6, 20),
    LayerShape(3, 5, 4, 0),
    LayerShape(0, 0, 0, 13),
    LayerShape(2, 4, 7, 9),
)
CLASSES = HeadSpec("single_label", ("a", "b", "c"))
HEADS = (
    CLASSES,
    HeadSpec("none"),
    HeadSpec("pooler"),
    HeadSpec("multi_label", ("a", "b")),
    HeadSpec("regression", ("score",)),
    HeadSpec("token", ("a", "b", "c")),
    HeadSpec("span"),
    HeadSpec("masked_lm"),
)


def tiny_shape(embedding_size: int | None = None) -> EncoderShape:
    return EncoderShape(24, LAYERS, VOCAB, POSITIONS, 2, embedding_size)


def random_model(
    head: HeadSpec = CLASSES, shape: EncoderShape | None = None, family: str = "bert", seed: int = 0
) -> TaskModel:
    """Return a model in evaluation mode with normal weights everywhere, norms and biases too."""
    offset = {"roberta": 2}.get(family, 0)
    style = EncoderStyle(family=family, position_offset=offset, pad_token_id=max(0, offset - 1))
    model = TaskModel(shape or tiny_shape(), style, head).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
    return model


def random_batch(rows: int = 5, seed: int = 0, num_labels: int = 3) -> Batch:
    """Return a padded batch of random tokens and types with class ids as labels."""
    generator = torch.Generator().manual_seed(100 + seed)
    lengths = torch.randint(3, 10, (rows,), generator=generator)
    lengths[0] = 9
    mask = (torch.arange(9) < lengths[:, None]).long()
    return Batch(
        input_ids=torch.randint(2, VOCAB, (rows, 9), generator=generator) * mask,
        attention_mask=mask,
        token_type_ids=torch.randint(0, 2, (rows, 9), generator=generator),
        labels=torch.randint(0, num_labels, (rows,), generator=generator),
        num_rows=rows,
        num_tokens=int(lengths.sum()),
    )


def run(model: TaskModel, batch: Batch, **options: object) -> list[torch.Tensor]:
    """Return all outputs that exist at real tokens: hidden states, pooled, logits."""
    with torch.no_grad():
        output = model(batch.input_ids, batch.attention_mask, batch.token_type_ids, **options)
    return outputs(output, batch)


def outputs(output: TaskOutput, batch: Batch) -> list[torch.Tensor]:
    """Return all outputs that exist at real tokens: hidden states, pooled, logits."""
    real = batch.attention_mask.bool()
    found = [states[real] for states in output.hidden_states]
    found += [] if output.pooled is None else [output.pooled]
    if output.logits is not None:
        found.append(output.logits[real] if output.logits.shape[:2] == real.shape else output.logits)
    return found


def assert_same(got: list[torch.Tensor], wanted: list[torch.Tensor], atol: float = 1e-5) -> None:
    assert len(got) == len(wanted)
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=atol, rtol=1e-5)
