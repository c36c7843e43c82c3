"""The exact cost of an encoder of given sizes: parameters, multiply-adds and bytes."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from cutbert.errors import Mistakes, ShapeError
from cutbert.shape.head import HeadSpec
from cutbert.shape.ingredients import NUM_BUCKETS
from cutbert.shape.shape import EncoderShape, LayerShape, check_size

DEFAULT_SEQUENCE_LENGTH = 128
BYTES_PER_PARAM = 4


@dataclass(frozen=True)
class Cost:
    """Counts of one model; flops are 2 * macs.

    Args:
        params_embeddings: token, position and type tables, their LayerNorm, and ELECTRA's projection.
        params_encoder: the layers, each present sub-layer with its biases and its own LayerNorm.
        params: the two, plus the head where the model has one.
        macs: multiply-adds of the matrix products of one text of sequence_length tokens, no padding.
        bytes: 4 x params.
        sequence_length: tokens that macs are counted for.
    """

    params_embeddings: int
    params_encoder: int
    params: int
    macs: int
    bytes: int
    sequence_length: int

    def to_json(self) -> dict[str, int]:
        return asdict(self)


def cost_of(shape: EncoderShape, head: HeadSpec | None = None, sequence_length: int = DEFAULT_SEQUENCE_LENGTH) -> Cost:
    """Return the cost of an encoder and its head, from sizes alone.

    The look-up in the embedding tables is not a matrix product and has no macs. The tied decoder of a
    masked LM has no parameters of its own but has macs. The sequence length is not checked against the
    rows of the position table.

    Args:
        shape: sizes of the encoder.
        head: what is on top; None for a bare encoder.
        sequence_length: tokens of the one text that macs are counted for, at least 1.

    Raises:
        ShapeError: sequence_length is not a positive integer.

    >>> bert_base = EncoderShape.uniform(
    ...     hidden_size=768, num_layers=12, num_heads=12, intermediate_size=3072, vocab_size=30522
    ... )
    >>> cost = cost_of(bert_base, HeadSpec("pooler"))
    >>> f"{cost.params:,} = {cost.params_embeddings:,} + {cost.params_encoder:,} + {768 * 768 + 768:,} (pooler)"
    '109,482,240 = 23,837,184 + 85,054,464 + 590,592 (pooler)'
    >>> f"{cost.macs:,} for 128 tokens, of them {12 * 12 * 128**2 * (64 + 64):,} in attention scores and contexts"
    '11,174,215,680 for 128 tokens, of them 301,989,888 in attention scores and contexts'
    """
    mistakes = Mistakes()
    check_size(mistakes, "sequence_length", sequence_length, least=1)
    mistakes.check(ShapeError)
    head = head or HeadSpec("none")
    embeddings = embedding_params(shape)
    encoder = sum(layer_params(layer, shape.hidden_size) for layer in shape.layers)
    params = embeddings + encoder + head_params(head, shape)
    macs = projection_macs(shape, sequence_length) + head_macs(head, shape, sequence_length)
    macs += sum(layer_macs(layer, shape.hidden_size, sequence_length) for layer in shape.layers)
    return Cost(embeddings, encoder, params, macs, BYTES_PER_PARAM * params, sequence_length)


def embedding_params(shape: EncoderShape) -> int:
    """Return the parameters of the tables, relative biases too, their LayerNorm and, where there is one, the projection."""
    rows = shape.vocab_size + shape.num_positions + shape.num_token_types
    tables = rows * shape.table_size + norm_params(shape.table_size) + NUM_BUCKETS * shape.ingredients.num_bias_heads
    return tables + (0 if shape.embedding_size is None else linear_params(shape.embedding_size, shape.hidden_size))


def projection_macs(shape: EncoderShape, sequence_length: int) -> int:
    """Return the macs of ELECTRA's projection from table width to hidden width, else 0."""
    return 0 if shape.embedding_size is None else sequence_length * shape.embedding_size * shape.hidden_size


def layer_params(layer: LayerShape, hidden_size: int) -> int:
    """Return the parameters of one layer; an absent sub-layer has none, nor has its LayerNorm."""
    total = 0
    if layer.has_attention:
        keys, values = layer.num_heads * layer.key_dim, layer.num_heads * layer.value_dim
        total += 2 * linear_params(hidden_size, keys) + linear_params(hidden_size, values)
        total += linear_params(values, hidden_size) + norm_params(hidden_size)
    if layer.has_feed_forward:
        total += linear_params(hidden_size, layer.intermediate_size)
        total += linear_params(layer.intermediate_size, hidden_size) + norm_params(hidden_size)
    return total


def layer_macs(layer: LayerShape, hidden_size: int, sequence_length: int) -> int:
    """Return the macs of one layer on one text: its linear layers, queries @ keys and probabilities @ values."""
    dims = layer.key_dim + layer.value_dim
    linear = sequence_length * hidden_size * 2 * (layer.num_heads * dims + layer.intermediate_size)
    return linear + layer.num_heads * sequence_length**2 * dims


def head_params(head: HeadSpec, shape: EncoderShape) -> int:
    """Return the parameters of a head; a masked LM shares its token table with the encoder, which counts it."""
    hidden, table = shape.hidden_size, shape.table_size
    if head.kind == "pooler":
        return linear_params(hidden, hidden)
    if head.is_sequence:
        return linear_params(hidden, hidden) + linear_params(hidden, head.num_outputs)
    if head.kind in ("token", "span"):
        return linear_params(hidden, head.num_outputs)
    if head.kind == "masked_lm":
        return linear_params(hidden, table) + norm_params(table) + shape.vocab_size
    return 0


def head_macs(head: HeadSpec, shape: EncoderShape, sequence_length: int) -> int:
    """Return the macs of a head: at one position for pooler and sequence heads, at every position for the others."""
    hidden, table = shape.hidden_size, shape.table_size
    if head.kind == "pooler" or head.is_sequence:
        return hidden * hidden + hidden * head.num_outputs
    if head.kind in ("token", "span"):
        return sequence_length * hidden * head.num_outputs
    if head.kind == "masked_lm":
        return sequence_length * table * (hidden + shape.vocab_size)
    return 0


def matrix_params(shape: EncoderShape, head: HeadSpec) -> int:
    """Return the parameters of tables and matrices alone, without biases and LayerNorm: what schuBERT's prices count.

    Source:
        Khetan and Karnin 2020 (2005.06628), section 4: their prices follow from these counts, the masked-LM
        transform included.
    """
    hidden, table = shape.hidden_size, shape.table_size
    total = (shape.vocab_size + shape.num_positions + shape.num_token_types) * table
    total += NUM_BUCKETS * shape.ingredients.num_bias_heads
    total += 0 if shape.embedding_size is None else table * hidden
    for layer in shape.layers:
        total += 2 * hidden * (layer.num_heads * (layer.key_dim + layer.value_dim) + layer.intermediate_size)
    dense = {"masked_lm": hidden * table, "pooler": hidden * hidden}.get(head.kind, 0)
    dense += hidden * hidden if head.is_sequence else 0
    return total + dense + hidden * head.num_outputs


def linear_params(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


def norm_params(size: int) -> int:
    return 2 * size
