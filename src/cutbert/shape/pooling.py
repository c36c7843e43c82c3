"""What the head of a whole text reads, the first token's last state or the mean over its tokens; and what a folder says
of it. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from cutbert.errors import ModelError
from cutbert.files import read_json
from cutbert.shape.shape import EncoderShape

Pooling = Literal["cls", "mean"]
PoolingChoice = Literal["auto", "cls", "mean"]
POOLINGS: tuple[str, ...] = get_args(Pooling)
POOLING_FILE = "1_Pooling/config.json"  # of a sentence-transformers folder
CONFIG_KEY = "classifier_pooling"  # ModernBERT's, and ours in the config.json of a stock class
READS = {"cls": "the first token", "mean": "the mean over tokens"}
FLAG = "pooling_mode_"
WORDS = {"cls_token": "cls", "mean_tokens": "mean"}


def fits_stock(shape: EncoderShape, pooling: str | None) -> bool:
    """Whether transformers' own classes can hold a shape with a head that reads this; None: a head of every token.

    Of these classes ModernBERT's alone can read the mean.
    """
    return shape.is_stock and fits_pooling(shape, pooling)


def fits_pooling(shape: EncoderShape, pooling: str | None) -> bool:
    """Whether the family's own class of a head of whole texts can read this."""
    return pooling != "mean" or shape.ingredients.has_prediction_head


def has_pooling_file(folder: Path) -> bool:
    """Whether a folder says, as sentence-transformers does, how the states of a bare encoder become a vector."""
    return (folder / POOLING_FILE).is_file()


def folder_pooling(folder: Path, stated: Any) -> str | None:
    """Return what a model folder says a text is read by, in our word where we have one; None where it says nothing.

    Args:
        folder: the model folder; the pooling of sentence-transformers comes first.
        stated: what its config.json says.

    Raises:
        ModelError: a pooling file that is no JSON object.
    """
    if not has_pooling_file(folder):
        return None if stated is None else str(stated)
    path = folder / POOLING_FILE
    data = read_json(path, ModelError)
    if not isinstance(data, Mapping):
        raise ModelError(f"{path}: must be a JSON object, got {type(data).__name__}")
    if data.get("pooling_mode") is not None:
        return str(data["pooling_mode"])
    modes = [key.removeprefix(FLAG) for key, is_on in data.items() if key.startswith(FLAG) and is_on is True]
    return " and ".join(WORDS.get(mode, mode) for mode in modes) or "none"
