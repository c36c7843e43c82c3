"""The names each family gives to the parameters, sizes and classes of one and the same encoder."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cutbert.errors import ModelError
from cutbert.model.style import EncoderStyle
from cutbert.shape.head import HeadKind, HeadSpec
from cutbert.shape.shape import EncoderShape

LAYER = re.compile(r"^layers\.(\d+)\.")
LAYER_KEPT = r"layers.\1."

BERT_ENCODER = {
    "embeddings.token": "embeddings.word_embeddings",
    "embeddings.position": "embeddings.position_embeddings",
    "embeddings.token_type": "embeddings.token_type_embeddings",
    "embeddings.norm": "embeddings.LayerNorm",
    "embeddings.projection": "embeddings_project",
    "layers.{i}.attention.query": "encoder.layer.{i}.attention.self.query",
    "layers.{i}.attention.key": "encoder.layer.{i}.attention.self.key",
    "layers.{i}.attention.value": "encoder.layer.{i}.attention.self.value",
    "layers.{i}.attention.output": "encoder.layer.{i}.attention.output.dense",
    "layers.{i}.attention.norm": "encoder.layer.{i}.attention.output.LayerNorm",
    "layers.{i}.feed_forward.up": "encoder.layer.{i}.intermediate.dense",
    "layers.{i}.feed_forward.down": "encoder.layer.{i}.output.dense",
    "layers.{i}.feed_forward.norm": "encoder.layer.{i}.output.LayerNorm",
}
DISTILBERT_ENCODER = {
    "embeddings.token": "embeddings.word_embeddings",
    "embeddings.position": "embeddings.position_embeddings",
    "embeddings.token_type": "embeddings.token_type_embeddings",
    "embeddings.norm": "embeddings.LayerNorm",
    "embeddings.projection": "embeddings_project",
    "layers.{i}.attention.query": "transformer.layer.{i}.attention.q_lin",
    "layers.{i}.attention.key": "transformer.layer.{i}.attention.k_lin",
    "layers.{i}.attention.value": "transformer.layer.{i}.attention.v_lin",
    "layers.{i}.attention.output": "transformer.layer.{i}.attention.out_lin",
    "layers.{i}.attention.norm": "transformer.layer.{i}.sa_layer_norm",
    "layers.{i}.feed_forward.up": "transformer.layer.{i}.ffn.lin1",
    "layers.{i}.feed_forward.down": "transformer.layer.{i}.ffn.lin2",
    "layers.{i}.feed_forward.norm": "transformer.layer.{i}.output_layer_norm",
}
POOLER = {"dense": "pooler.dense"}
TOKEN = {"out": "classifier"}
SPAN = {"out": "qa_outputs"}
BERT_HEADS = {
    "pooler": POOLER,
    "sequence": {"dense": "pooler.dense", "out": "classifier"},
    "token": TOKEN,
    "span": SPAN,
    "masked_lm": {
        "dense": "cls.predictions.transform.dense",
        "norm": "cls.predictions.transform.LayerNorm",
        "bias": "cls.predictions.bias",
    },
}
ROBERTA_HEADS = {
    "pooler": POOLER,
    "sequence": {"dense": "classifier.dense", "out": "classifier.out_proj"},
    "token": TOKEN,
    "span": SPAN,
    "masked_lm": {"dense": "lm_head.dense", "norm": "lm_head.layer_norm", "bias": "lm_head.bias"},
}
ELECTRA_HEADS = {
    "sequence": {"dense": "classifier.dense", "out": "classifier.out_proj"},
    "token": TOKEN,
    "span": SPAN,
    "masked_lm": {
        "dense": "generator_predictions.dense",
        "norm": "generator_predictions.LayerNorm",
        "bias": "generator_lm_head.bias",
    },
}
DISTILBERT_HEADS = {
    "sequence": {"dense": "pre_classifier", "out": "classifier"},
    "token": TOKEN,
    "span": SPAN,
    "masked_lm": {"dense": "vocab_transform", "norm": "vocab_layer_norm", "bias": "vocab_projector.bias"},
}
CLASS_SUFFIX = {
    "none": "Model",
    "pooler": "Model",
    "sequence": "ForSequenceClassification",
    "token": "ForTokenClassification",
    "span": "ForQuestionAnswering",
    "masked_lm": "ForMaskedLM",
}
BERT_KEYS = {
    "hidden_size": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "intermediate_size": "intermediate_size",
    "vocab_size": "vocab_size",
    "num_positions": "max_position_embeddings",
    "num_token_types": "type_vocab_size",
    "activation": "hidden_act",
    "layer_norm_eps": "layer_norm_eps",
    "hidden_dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
    "pad_token_id": "pad_token_id",
    "initializer_range": "initializer_range",
}
ELECTRA_KEYS = {**BERT_KEYS, "embedding_size": "embedding_size"}
DISTILBERT_KEYS = {
    "hidden_size": "dim",
    "num_layers": "n_layers",
    "num_heads": "n_heads",
    "intermediate_size": "hidden_dim",
    "vocab_size": "vocab_size",
    "num_positions": "max_position_embeddings",
    "activation": "activation",
    "hidden_dropout": "dropout",
    "attention_dropout": "attention_dropout",
    "pad_token_id": "pad_token_id",
    "initializer_range": "initializer_range",
}


@dataclass(frozen=True, kw_only=True)
class Family:
    """How one family of transformers names what we name our way.

    Args:
        name: transformers' model_type.
        stem: first part of the family's class names.
        prefix: attribute that holds the encoder inside a class with a task head.
        encoder: our module name to theirs, without prefix; `{i}` is the layer's index.
        heads: per head group, our module or parameter name inside the head to theirs, without prefix.
        keys: our name of a size or choice to the family's config key; what is absent is fixed in the class.
        decoder: names under which the tied decoder's weight and bias may be stored once more.
        other: beginnings of the names of weights that belong to heads we do not have.
        head_activation: activation of the sequence head's dense layer.
        layer_norm_eps: the epsilon, where the class fixes it.
        positions_from_pad: whether position ids begin at pad_token_id + 1 (RoBERTa).
    """

    name: str
    stem: str
    prefix: str
    encoder: Mapping[str, str]
    heads: Mapping[str, Mapping[str, str]]
    keys: Mapping[str, str]
    decoder: Mapping[str, str] = field(default_factory=dict)
    other: tuple[str, ...] = ()
    head_activation: str = "tanh"
    layer_norm_eps: float | None = None
    positions_from_pad: bool = False

    def class_name(self, kind: HeadKind) -> str:
        """Return the name of the family's own class with a head of this kind."""
        return self.stem + CLASS_SUFFIX[head_group(kind)]

    def name_of(self, ours: str, kind: HeadKind) -> str:
        """Return the family's name, without prefix, of a parameter of a TaskModel with a head of this kind."""
        part, _, rest = ours.partition(".")
        if part == "encoder":
            table, layer = self.encoder, LAYER.match(rest)
            if layer:
                rest = f"layers.{{i}}.{rest[layer.end() :]}"
            return theirs(table, rest).replace("{i}", layer[1] if layer else "")
        return theirs(self.heads[head_group(kind)], rest)

    def stored_name(self, ours: str, kind: HeadKind) -> str:
        """Return the name of a parameter in the state dict of the family's own class."""
        name = self.name_of(ours, kind)
        in_base = ours.startswith("encoder.") or name.startswith("pooler.")
        is_base = head_group(kind) in ("none", "pooler")
        return f"{self.prefix}.{name}" if in_base and not is_base else name

    def head_names(self) -> Iterable[str]:
        """Return the beginnings of the names of all head weights the family may store."""
        for table in self.heads.values():
            yield from table.values()
        yield from self.decoder
        yield from self.other


def theirs(table: Mapping[str, str], ours: str) -> str:
    """Translate a parameter name through a table of modules or parameters."""
    if ours in table:
        return table[ours]
    module, _, leaf = ours.rpartition(".")
    return f"{table[module]}.{leaf}"


def head_group(kind: HeadKind) -> str:
    """Return the kind, the three sequence kinds as one."""
    return "sequence" if kind in ("single_label", "multi_label", "regression") else kind


def roberta_like(name: str, stem: str) -> Family:
    return Family(
        name=name,
        stem=stem,
        prefix="roberta",
        encoder=BERT_ENCODER,
        heads=ROBERTA_HEADS,
        keys=BERT_KEYS,
        decoder={"lm_head.decoder.weight": "encoder.embeddings.token.weight", "lm_head.decoder.bias": "head.bias"},
        positions_from_pad=True,
    )


FAMILIES: dict[str, Family] = {
    "bert": Family(
        name="bert",
        stem="Bert",
        prefix="bert",
        encoder=BERT_ENCODER,
        heads=BERT_HEADS,
        keys=BERT_KEYS,
        decoder={
            "cls.predictions.decoder.weight": "encoder.embeddings.token.weight",
            "cls.predictions.decoder.bias": "head.bias",
        },
        other=("cls.seq_relationship",),
    ),
    "roberta": roberta_like("roberta", "Roberta"),
    "xlm-roberta": roberta_like("xlm-roberta", "XLMRoberta"),
    "camembert": roberta_like("camembert", "Camembert"),
    "electra": Family(
        name="electra",
        stem="Electra",
        prefix="electra",
        encoder=BERT_ENCODER,
        heads=ELECTRA_HEADS,
        keys=ELECTRA_KEYS,
        decoder={"generator_lm_head.weight": "encoder.embeddings.token.weight"},
        other=("discriminator_predictions", "sequence_summary"),
        head_activation="gelu",
    ),
    "distilbert": Family(
        name="distilbert",
        stem="DistilBert",
        prefix="distilbert",
        encoder=DISTILBERT_ENCODER,
        heads=DISTILBERT_HEADS,
        keys=DISTILBERT_KEYS,
        decoder={"vocab_projector.weight": "encoder.embeddings.token.weight"},
        head_activation="relu",
        layer_norm_eps=1e-12,
    ),
}


def family_of(name: str) -> Family:
    """Return a family by transformers' model_type.

    Raises:
        ModelError: no family of that name; the message lists them.
    """
    if name not in FAMILIES:
        raise ModelError(f"model_type must be one of {', '.join(FAMILIES)}, got {name!r}")
    return FAMILIES[name]
