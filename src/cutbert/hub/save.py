"""Writing a model folder, in the family's own class where that can hold the shape, else in ours."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import CONFIG_MAPPING, PretrainedConfig, PreTrainedTokenizerFast

from cutbert.files import replacing_folder, write_json
from cutbert.hub.card import write_card
from cutbert.hub.config import OUR_PREFIX, CutbertConfig, label_values
from cutbert.hub.families import CLASS_SUFFIX, Family, family_of, head_group
from cutbert.hub.provenance import FILE_NAME
from cutbert.hub.tokenizer import save_tokenizer
from cutbert.hub.weights import write_weights
from cutbert.model.reorder import has_own_columns, with_own_columns
from cutbert.model.task_model import TaskModel
from cutbert.shape.pooling import CONFIG_KEY
from cutbert.shape.stock_config import STOCK_POOLING


def save_model(
    folder: str | Path,
    model: TaskModel,
    tokenizer: PreTrainedTokenizerFast,
    *,
    provenance: Mapping[str, Any],
    is_new: bool = False,
) -> None:
    """Write a model folder, whole or not at all; an existing folder is replaced.

    Args:
        folder: the model folder.
        model: of any shape; its dtype is kept.
        tokenizer: written with padding and truncation off.
        provenance: contents of cutbert.json.
        is_new: refuse where there is more than an empty folder, or another process is writing it.

    Raises:
        InputError: it is not new.
        ModelError: a head that transformers' configs cannot express.
    """
    family = family_of(model.style.family)
    stock = loads_stock(model)
    config = stock_config(model, tokenizer, family) if stock else our_config(model)
    tensors = stock_tensors(model, family) if stock else our_tensors(model)
    with replacing_folder(Path(folder), is_new=is_new) as aside:
        write_weights(aside / "model.safetensors", tensors, {"format": "pt"})
        config.save_pretrained(aside)
        save_tokenizer(aside, tokenizer, model.shape, model.style)
        write_json(aside / "shape.json", model.shape.to_json())
        write_json(aside / FILE_NAME, dict(provenance))
        write_card(aside)


def loads_stock(model: TaskModel) -> bool:
    """Whether a model is written in its family's own class, which loads without cutbert."""
    family = family_of(model.style.family)
    return family.holds(model.shape, model.style, model.head_spec.kind) and has_own_columns(model)


def stock_config(model: TaskModel, tokenizer: PreTrainedTokenizerFast, family: Family) -> PretrainedConfig:
    """Return the config of the family's own class."""
    values = family.config_values(model.shape, model.style) | label_values(model.head_spec)
    values |= {key: getattr(tokenizer, name) for key, name in family.special_ids.items()}
    if model.style.pooling != STOCK_POOLING:  # no head here reads it, one that is trained later will
        values[CONFIG_KEY] = model.style.pooling
    kind = model.head_spec.kind
    return CONFIG_MAPPING[family.name](architectures=[family.class_name(kind)], dtype=dtype_name(model), **values)


def our_config(model: TaskModel) -> CutbertConfig:
    name = "Cutbert" + CLASS_SUFFIX[head_group(model.head_spec.kind)]
    return CutbertConfig.of(model.shape, model.style, model.head_spec, architectures=[name], dtype=dtype_name(model))


def stock_tensors(model: TaskModel, family: Family) -> dict[str, Tensor]:
    """Return the weights by the names in the state dict of the family's own class."""
    kind = model.head_spec.kind
    weights = with_own_columns(model).named_parameters()
    tensors = family.joined({family.stored_name(name, kind): weight.detach() for name, weight in weights})
    return {name: plain(tensor) for name, tensor in tensors.items()}


def our_tensors(model: TaskModel) -> dict[str, Tensor]:
    return {OUR_PREFIX + name: plain(tensor) for name, tensor in model.state_dict().items()}


def plain(tensor: Tensor) -> Tensor:
    """Return a tensor as safetensors needs it: on the CPU, contiguous, sharing no memory."""
    return tensor.detach().cpu().contiguous().clone()


def dtype_name(model: TaskModel) -> str:
    return str(next(model.parameters()).dtype).removeprefix("torch.")
