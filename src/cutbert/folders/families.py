"""The families of transformers as tables: each one's names for the parameters of our encoder and heads."""

from __future__ import annotations

from collections.abc import Mapping

from cutbert.errors import ModelError
from cutbert.folders.family import Family

TOKEN_TABLE = "encoder.embeddings.token.weight"

# What several families share

POOLER = {"dense": "pooler.dense"}
TOKEN = {"out": "classifier"}
SPAN = {"out": "qa_outputs"}

# BERT, and who has its encoder: RoBERTa and its like, ELECTRA

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
BOS_AND_EOS = {"bos_token_id": "bos_token_id", "eos_token_id": "eos_token_id"}
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

# DistilBERT

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
DISTILBERT_HEADS = {
    "sequence": {"dense": "pre_classifier", "out": "classifier"},
    "token": TOKEN,
    "span": SPAN,
    "masked_lm": {"dense": "vocab_transform", "norm": "vocab_layer_norm", "bias": "vocab_projector.bias"},
}

# MPNet: heads as RoBERTa's

MPNET_ENCODER = {
    "embeddings.token": "embeddings.word_embeddings",
    "embeddings.position": "embeddings.position_embeddings",
    "embeddings.norm": "embeddings.LayerNorm",
    "embeddings.token_type": "embeddings.token_type_embeddings",
    "embeddings.projection": "embeddings_project",
    "embeddings.relative": "encoder.relative_attention_bias",
    "layers.{i}.attention.bias_heads": "encoder.layer.{i}.attention.bias_heads",  # ours: the family has them in order
    "layers.{i}.attention.query": "encoder.layer.{i}.attention.attn.q",
    "layers.{i}.attention.key": "encoder.layer.{i}.attention.attn.k",
    "layers.{i}.attention.value": "encoder.layer.{i}.attention.attn.v",
    "layers.{i}.attention.output": "encoder.layer.{i}.attention.attn.o",
    "layers.{i}.attention.norm": "encoder.layer.{i}.attention.LayerNorm",
    "layers.{i}.feed_forward.up": "encoder.layer.{i}.intermediate.dense",
    "layers.{i}.feed_forward.down": "encoder.layer.{i}.output.dense",
    "layers.{i}.feed_forward.norm": "encoder.layer.{i}.output.LayerNorm",
}

# ModernBERT

MODERNBERT_ENCODER = {
    "embeddings.token": "embeddings.tok_embeddings",
    "embeddings.token_type": "embeddings.token_type_embeddings",
    "embeddings.norm": "embeddings.norm",
    "embeddings.projection": "embeddings_project",
    "layers.{i}.attention.query": "layers.{i}.attn.Wqkv#0",
    "layers.{i}.attention.key": "layers.{i}.attn.Wqkv#1",
    "layers.{i}.attention.value": "layers.{i}.attn.Wqkv#2",
    "layers.{i}.attention.output": "layers.{i}.attn.Wo",
    "layers.{i}.attention.norm": "layers.{i}.attn_norm",
    "layers.{i}.feed_forward.up": "layers.{i}.mlp.Wi#0",
    "layers.{i}.feed_forward.gate": "layers.{i}.mlp.Wi#1",
    "layers.{i}.feed_forward.down": "layers.{i}.mlp.Wo",
    "layers.{i}.feed_forward.norm": "layers.{i}.mlp_norm",
    "norm": "final_norm",
}
PREDICTION = {"dense": "head.dense", "norm": "head.norm"}
MODERNBERT_HEADS = {
    "sequence": PREDICTION | TOKEN,
    "token": PREDICTION | TOKEN,
    "span": PREDICTION | TOKEN,
    "masked_lm": PREDICTION | {"bias": "decoder.bias"},
}
CLS_AND_SEP = {
    "bos_token_id": "cls_token_id",
    "eos_token_id": "sep_token_id",
    "cls_token_id": "cls_token_id",
    "sep_token_id": "sep_token_id",
}

# NomicBERT

NOMIC_ENCODER = {  # as transformers writes it: the names of its first release
    "embeddings.token": "embeddings.word_embeddings",
    "embeddings.token_type": "embeddings.token_type_embeddings",
    "embeddings.norm": "emb_ln",
    "embeddings.projection": "embeddings_project",
    "layers.{i}.attention.query": "encoder.layers.{i}.attn.Wqkv#0",
    "layers.{i}.attention.key": "encoder.layers.{i}.attn.Wqkv#1",
    "layers.{i}.attention.value": "encoder.layers.{i}.attn.Wqkv#2",
    "layers.{i}.attention.output": "encoder.layers.{i}.attn.out_proj",
    "layers.{i}.attention.norm": "encoder.layers.{i}.norm1",
    "layers.{i}.feed_forward.up": "encoder.layers.{i}.mlp.fc12",
    "layers.{i}.feed_forward.gate": "encoder.layers.{i}.mlp.fc11",
    "layers.{i}.feed_forward.down": "encoder.layers.{i}.mlp.fc2",
    "layers.{i}.feed_forward.norm": "encoder.layers.{i}.norm2",
}
NOMIC_CLASS = {  # the names in transformers' class, of which a file may be made too
    "embeddings.LayerNorm": "emb_ln",
    "layers.{i}.self_attn.q_proj": "encoder.layers.{i}.attn.Wqkv#0",
    "layers.{i}.self_attn.k_proj": "encoder.layers.{i}.attn.Wqkv#1",
    "layers.{i}.self_attn.v_proj": "encoder.layers.{i}.attn.Wqkv#2",
    "layers.{i}.self_attn.o_proj": "encoder.layers.{i}.attn.out_proj",
    "layers.{i}.post_attention_layernorm": "encoder.layers.{i}.norm1",
    "layers.{i}.mlp.gate_proj": "encoder.layers.{i}.mlp.fc12",
    "layers.{i}.mlp.up_proj": "encoder.layers.{i}.mlp.fc11",
    "layers.{i}.mlp.down_proj": "encoder.layers.{i}.mlp.fc2",
    "layers.{i}.post_mlp_layernorm": "encoder.layers.{i}.norm2",
}
NOMIC_HEADS = {
    "sequence": {"dense": "pooler.dense", "out": "classifier"},
    "token": TOKEN,
    "masked_lm": {
        "dense": "cls.predictions.transform.dense",
        "norm": "cls.predictions.transform.layer_norm",
        "bias": "cls.predictions.bias",
    },
}

# GTE

GTE_ENCODER = {  # as transformers writes it: the names of its first release
    "embeddings.token": "embeddings.word_embeddings",
    "embeddings.token_type": "embeddings.token_type_embeddings",
    "embeddings.norm": "embeddings.LayerNorm",
    "embeddings.projection": "embeddings_project",
    "layers.{i}.attention.query": "encoder.layer.{i}.attention.qkv_proj#0",
    "layers.{i}.attention.key": "encoder.layer.{i}.attention.qkv_proj#1",
    "layers.{i}.attention.value": "encoder.layer.{i}.attention.qkv_proj#2",
    "layers.{i}.attention.output": "encoder.layer.{i}.attention.o_proj",
    "layers.{i}.attention.norm": "encoder.layer.{i}.attn_ln",
    "layers.{i}.feed_forward.up": "encoder.layer.{i}.mlp.up_gate_proj#1",
    "layers.{i}.feed_forward.gate": "encoder.layer.{i}.mlp.up_gate_proj#0",
    "layers.{i}.feed_forward.down": "encoder.layer.{i}.mlp.down_proj",
    "layers.{i}.feed_forward.norm": "encoder.layer.{i}.mlp_ln",
}
GTE_CLASS = {
    "layers.{i}.self_attn.q_proj": "encoder.layer.{i}.attention.qkv_proj#0",
    "layers.{i}.self_attn.k_proj": "encoder.layer.{i}.attention.qkv_proj#1",
    "layers.{i}.self_attn.v_proj": "encoder.layer.{i}.attention.qkv_proj#2",
    "layers.{i}.self_attn.o_proj": "encoder.layer.{i}.attention.o_proj",
    "layers.{i}.post_attention_layernorm": "encoder.layer.{i}.attn_ln",
    "layers.{i}.mlp.gate_proj": "encoder.layer.{i}.mlp.up_gate_proj#1",
    "layers.{i}.mlp.up_proj": "encoder.layer.{i}.mlp.up_gate_proj#0",
    "layers.{i}.mlp.down_proj": "encoder.layer.{i}.mlp.down_proj",
    "layers.{i}.post_mlp_layernorm": "encoder.layer.{i}.mlp_ln",
    "lm_head.layer_norm": "lm_head.norm",
}
GTE_HEADS = {
    "sequence": {"dense": "pooler.dense", "out": "classifier"},
    "token": TOKEN,
    "masked_lm": {"dense": "lm_head.dense", "norm": "lm_head.norm", "bias": "lm_head.decoder.bias"},
}

# DeBERTa, versions 2 and 3

DEBERTA_ENCODER = BERT_ENCODER | {
    "embeddings.distance": "encoder.rel_embeddings",
    "embeddings.distance_norm": "encoder.LayerNorm",
    "layers.{i}.attention.query": "encoder.layer.{i}.attention.self.query_proj",
    "layers.{i}.attention.key": "encoder.layer.{i}.attention.self.key_proj",
    "layers.{i}.attention.value": "encoder.layer.{i}.attention.self.value_proj",
}
DEBERTA_HEADS = {kind: table for kind, table in BERT_HEADS.items() if kind != "pooler"}


def roberta_like(name: str, prefix: str = "roberta", encoder: Mapping[str, str] = BERT_ENCODER) -> Family:
    """Return a family with RoBERTa's heads and special tokens, under another name.

    Args:
        name: transformers' model_type.
        prefix: of its encoder's weights.
        encoder: the names of these.
    """
    return Family(
        name=name,
        prefix=prefix,
        encoder=encoder,
        heads=ROBERTA_HEADS,
        decoder={"lm_head.decoder.weight": TOKEN_TABLE, "lm_head.decoder.bias": "head.bias"},
        special_ids=BOS_AND_EOS,
        masked_lm_activation="gelu",
    )


TABLES = (
    Family(
        name="bert",
        prefix="bert",
        encoder=BERT_ENCODER,
        heads=BERT_HEADS,
        decoder={"cls.predictions.decoder.weight": TOKEN_TABLE, "cls.predictions.decoder.bias": "head.bias"},
        other=("cls.seq_relationship",),
    ),
    roberta_like("roberta"),
    roberta_like("xlm-roberta"),
    roberta_like("camembert"),
    Family(
        name="electra",
        prefix="electra",
        encoder=BERT_ENCODER,
        heads=ELECTRA_HEADS,
        decoder={"generator_lm_head.weight": TOKEN_TABLE},
        other=("discriminator_predictions", "sequence_summary"),
        masked_lm_activation="gelu",
    ),
    Family(
        name="distilbert",
        prefix="distilbert",
        encoder=DISTILBERT_ENCODER,
        heads=DISTILBERT_HEADS,
        decoder={"vocab_projector.weight": TOKEN_TABLE},
    ),
    roberta_like("mpnet", "mpnet", MPNET_ENCODER),
    Family(
        name="modernbert",
        prefix="model",
        encoder=MODERNBERT_ENCODER,
        heads=MODERNBERT_HEADS,
        decoder={"decoder.weight": TOKEN_TABLE},
        special_ids=CLS_AND_SEP,
        fused={"Wqkv": 3, "Wi": 2},
    ),
    Family(
        name="nomic_bert",
        prefix="nomic_bert",
        encoder=NOMIC_ENCODER,
        heads=NOMIC_HEADS,
        decoder={"cls.predictions.decoder.weight": TOKEN_TABLE, "cls.predictions.decoder.bias": "head.bias"},
        fused={"Wqkv": 3},
        in_class=NOMIC_CLASS,
    ),
    Family(
        name="gte",
        prefix="gte",
        old_prefix="new",
        encoder=GTE_ENCODER,
        heads=GTE_HEADS,
        decoder={"lm_head.decoder.weight": TOKEN_TABLE},
        fused={"qkv_proj": 3, "up_gate_proj": 2},
        in_class=GTE_CLASS,
        masked_lm_activation="gelu",
    ),
    Family(
        name="deberta-v2",
        prefix="deberta",
        encoder=DEBERTA_ENCODER,
        heads=DEBERTA_HEADS,
        decoder={"cls.predictions.decoder.weight": TOKEN_TABLE, "cls.predictions.decoder.bias": "head.bias"},
        other=("lm_predictions", "mask_predictions", "embeddings.position_embeddings"),
        has_pooler_inside=False,
    ),
)
FAMILIES = {family.name: family for family in TABLES}  # as in STOCK_FAMILIES


def family_of(name: str) -> Family:
    """Return a family by transformers' model_type.

    Raises:
        ModelError: no family of that name; the message lists them.
    """
    if name not in FAMILIES:
        raise ModelError(f"model_type must be one of {', '.join(FAMILIES)}, got {name!r}")
    return FAMILIES[name]
