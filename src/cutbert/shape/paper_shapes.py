"""The architectures that the schuBERT paper found, as named shapes."""

from __future__ import annotations

from collections.abc import Mapping

from cutbert.errors import ShapeError
from cutbert.shape.shape import EncoderShape, LayerShape

BERT_BASE_LAYERS, BERT_BASE_HEADS, HEAD_DIM, FEED_FORWARD = 12, 12, 64, 3072
FOUND_99M = {
    "intermediate_size": (2022, 2222, 2344, 2478, 2576, 2530, 2638, 2660, 2748, 2792, 2852, 2974),
    "num_heads": (12, 12, 12, 12, 11, 12, 12, 12, 12, 12, 12, 12),
    "value_dim": (54, 54, 46, 58, 52, 60, 64, 64, 64, 64, 64, 62),
}
FOUND_88M = {
    "intermediate_size": (1382, 1550, 1672, 1956, 2052, 2030, 2210, 2314, 2474, 2556, 2668, 2938),
    "num_heads": (12, 12, 11, 12, 11, 12, 12, 12, 12, 12, 12, 12),
    "value_dim": (46, 48, 42, 52, 46, 54, 64, 62, 64, 64, 64, 40),
}
# Below 88M the paper's best networks cut hidden units alone.
FOUND_HIDDEN = {"77M": 544, "66M": 466, "55M": 390, "43M": 304, "33M": 234}


def cut_bert_base(hidden_size: int, sizes: Mapping[str, tuple[int, ...]]) -> EncoderShape:
    """Return BERT-base with this hidden size and, where given, these sizes for each layer."""
    whole = {"num_heads": BERT_BASE_HEADS, "value_dim": HEAD_DIM, "intermediate_size": FEED_FORWARD}
    layers = tuple(
        LayerShape(
            key_dim=HEAD_DIM, **{name: sizes[name][i] if name in sizes else size for name, size in whole.items()}
        )
        for i in range(BERT_BASE_LAYERS)
    )
    return EncoderShape(hidden_size=hidden_size, layers=layers, vocab_size=30522, num_positions=512)


PAPER_SHAPES: dict[str, EncoderShape] = {
    "99M": cut_bert_base(768, FOUND_99M),
    "88M": cut_bert_base(756, FOUND_88M),
    **{name: cut_bert_base(hidden_size, {}) for name, hidden_size in FOUND_HIDDEN.items()},
}


def paper_shape(name: str) -> EncoderShape:
    """Return an architecture that the paper found, by its size in millions of parameters, such as 99M.

    Raises:
        ShapeError: no architecture of that name; lists the names.

    Source:
        Khetan and Karnin 2020 (2005.06628), tables 7, 9 and 14. That the 99M network's one layer with 11 heads is
        the fifth, counted from 1, is our reading.
    """
    if name not in PAPER_SHAPES:
        raise ShapeError(f"--from-paper must be one of {', '.join(PAPER_SHAPES)}, got {name!r}")
    return PAPER_SHAPES[name]
