"""Writing a model folder, in the family's own class where that can hold the shape, else in ours."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import Tensor
from transformers import CONFIG_MAPPING, PretrainedConfig, PreTrainedTokenizerFast

from cutbert.files import replacing_folder, write_json
from cutbert.folders.card import write_card
from cutbert.folders.config import OUR_PREFIX, CutbertConfig, label_values
from cutbert.folders.families import family_of
from cutbert.folders.family import CLASS_SUFFIX, Family, head_group
from cutbert.folders.provenance import FILE_NAME, input_length
from cutbert.folders.sentence import CROSS_ENCODER_FACT, CROSS_ENCODER_KEY, Sentence, write_length, write_sentence
from cutbert.folders.tokenizer import save_tokenizer, save_tokenizer_for_loaders
from cutbert.folders.weights import write_weights
from cutbert.model.reorder import has_own_columns, with_own_columns
from cutbert.model.task_model import TaskModel
from cutbert.shape.folder import OURS
from cutbert.shape.head import HeadSpec
from cutbert.shape.ingredients import BERT
from cutbert.shape.pooling import CONFIG_KEY
from cutbert.shape.shape import EncoderShape, LayerShape
from cutbert.shape.stock_config import STOCK_POOLING

IDENTITY = {"activation_fn": "torch.nn.modules.linear.Identity"}  # sentence-transformers puts one output in 0..1 else


def save_model(
    folder: str | Path,
    model: TaskModel,
    tokenizer: PreTrainedTokenizerFast,
    *,
    provenance: Mapping[str, Any],
    is_new: bool = False,
    sentence: Sentence | None = None,
) -> None:
    """Write a model folder, whole or not at all; an existing folder is replaced.

    Args:
        folder: the model folder.
        model: of any shape; its dtype is kept.
        tokenizer: written with padding and truncation off.
        provenance: contents of cutbert.json.
        is_new: refuse where there is more than an empty folder, or another process is writing it.
        sentence: of a bare encoder or an embedding, which is written as one, how texts become vectors, for
            sentence-transformers.

    Raises:
        InputError: it is not new.
        ModelError: a head that transformers' configs cannot express.
    """
    model, family = without_readout(model), family_of(model.style.family)
    stock = loads_stock(model)
    config = stock_config(model, tokenizer, family, model.shape) if stock else our_config(model)
    if model.head_spec.is_sequence and CROSS_ENCODER_FACT in provenance:
        setattr(config, CROSS_ENCODER_KEY, dict(provenance[CROSS_ENCODER_FACT]))
    tensors = stock_tensors(model, family) if stock else our_tensors(model)
    with replacing_folder(Path(folder), is_new=is_new) as aside:
        write_weights(aside / "model.safetensors", tensors, {"format": "pt"})
        config.save_pretrained(aside)
        save_tokenizer(aside, tokenizer, model.shape, model.style)
        if sentence is not None:
            room = tokenizer.model_max_length
            longest = input_length(provenance, None, sentence.max_length or room, room)
            write_sentence(aside, sentence, model.shape.hidden_size, longest)
        write_sidecars(aside, model, provenance)


def without_readout(model: TaskModel) -> TaskModel:
    """Return an embedding model as the bare encoder it is stored as; any other model as it is."""
    if model.head_spec.kind != "embedding":
        return model
    bare = copy.copy(model)
    bare.head_spec = HeadSpec("none")
    return bare


def save_for_loaders(
    folder: Path,
    model: TaskModel,
    tokenizer: PreTrainedTokenizerFast,
    *,
    provenance: Mapping[str, Any],
    longest: int,
    sentence: Sentence | None = None,
    cross_encoder: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Write what loaders of ONNX files read beside them into a folder that is there.

    The config.json is that of the family's own class. Of a shape which that class cannot hold it gives sizes that come
    near, and the true ones under `cutbert`; then no torch weights are written, since transformers would load them into
    another network.

    Args:
        folder: of the model.
        model, tokenizer, provenance: as in `save_model`.
        longest: tokens at which a loader cuts a text.
        sentence: of a bare encoder, how texts become vectors.
        cross_encoder: what sentence-transformers does with the outputs of a head of whole texts; where it names no
            activation: nothing.
    """
    family = family_of(model.style.family)
    config = loader_config(model, tokenizer, family)
    if model.head_spec.is_sequence:
        config[CROSS_ENCODER_KEY] = IDENTITY | dict(cross_encoder)
    if loads_stock(model):
        write_weights(folder / "model.safetensors", stock_tensors(model, family), {"format": "pt"})
    write_json(folder / "config.json", config)
    save_tokenizer_for_loaders(folder, tokenizer, model.shape, model.style, longest)
    if sentence is None:
        write_length(folder, longest)
    else:
        write_sentence(folder, sentence, model.shape.hidden_size, longest)
    write_sidecars(folder, model, provenance)


def loader_config(model: TaskModel, tokenizer: PreTrainedTokenizerFast, family: Family) -> dict[str, Any]:
    """Return a config.json of the family's own class, for a shape that this class need not hold."""
    is_stock = loads_stock(model)
    shape = model.shape if is_stock else stand_in(model.shape)
    config: dict[str, Any] = json.loads(stock_config(model, tokenizer, family, shape).to_json_string(use_diff=False))
    # By these names loaders ask for sizes in every family: DistilBERT has others.
    names = {
        "hidden_size": shape.hidden_size,
        "num_hidden_layers": shape.num_layers,
        "num_attention_heads": shape.layers[0].num_heads,
    }
    ours = {"shape": model.shape.to_json(), "style": model.style.to_json(), "head": model.head_spec.to_json()}
    return {**names, **config, **({} if is_stock else {OURS: ours})}


def stand_in(shape: EncoderShape) -> EncoderShape:
    """Return a shape of equal layers in place of one of different layers, for loaders that only look at sizes.

    Hidden size, layers, their kinds and tables are the same; heads and neurons those of the largest layer, heads as
    far as they divide the hidden size. A network without layers gets one.
    """
    most = max((layer.num_heads for layer in shape.layers), default=1)
    heads = max(count for count in range(1, max(most, 1) + 1) if shape.hidden_size % count == 0)
    size = shape.hidden_size // heads
    size += size % 2 if shape.ingredients.rotary_bases else 0  # such keys are of pairs
    neurons = max((layer.intermediate_size for layer in shape.layers), default=0) or 1
    layer = LayerShape(heads, size, size, neurons)
    if shape.layers:
        return replace(shape, layers=(layer,) * shape.num_layers)
    return replace(shape, layers=(layer,), ingredients=BERT).made_as(shape)


def write_sidecars(folder: Path, model: TaskModel, provenance: Mapping[str, Any]) -> None:
    """Write what only we read, and the card."""
    write_json(folder / "shape.json", model.shape.to_json())
    write_json(folder / FILE_NAME, dict(provenance))
    write_card(folder)


def loads_stock(model: TaskModel) -> bool:
    """Whether a model is written in its family's own class, which loads without cutbert."""
    family = family_of(model.style.family)
    return family.holds(model.shape, model.style, model.head_spec.kind) and has_own_columns(model)


def stock_config(
    model: TaskModel, tokenizer: PreTrainedTokenizerFast, family: Family, shape: EncoderShape
) -> PretrainedConfig:
    """Return the config of the family's own class, with the sizes of a shape that it holds."""
    values = family.config_values(shape, model.style) | label_values(model.head_spec)
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
