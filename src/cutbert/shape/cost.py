"""The exact cost of an encoder of given sizes: parameters, multiply-adds and bytes."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from cutbert.errors import Mistakes, ShapeError
from cutbert.shape.head import HeadSpec
from cutbert.shape.ingredients import BERT, NUM_BUCKETS, Ingredients, num_scores
from cutbert.shape.shape import EncoderShape, LayerShape, check_size

DEFAULT_SEQUENCE_LENGTH = 128
BYTES_PER_PARAM = 4


@dataclass(frozen=True)
class Cost:
    """Counts of one model; flops are 2 * macs.

    Args:
        params_embeddings: token, position and type tables, their LayerNorm, and ELECTRA's projection.
        params_encoder: the layers, each present sub-layer with its biases and its own LayerNorm, and a LayerNorm after
            the last.
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
    embeddings, ingredients = embedding_params(shape), shape.ingredients
    encoder = sum(
        layer_params(layer, shape.hidden_size, ingredients, ingredients.is_bare(i))
        for i, layer in enumerate(shape.layers)
    )
    encoder += norm_params(shape.hidden_size, ingredients.has_norm_bias) if ingredients.norm_first else 0
    params = embeddings + encoder + head_params(head, shape)
    macs = projection_macs(shape, sequence_length) + head_macs(head, shape, sequence_length)
    macs += sum(
        layer_macs(layer, shape.hidden_size, sequence_length, ingredients, ingredients.window_of(i))
        for i, layer in enumerate(shape.layers)
    )
    return Cost(embeddings, encoder, params, macs, BYTES_PER_PARAM * params, sequence_length)


def table_rows(shape: EncoderShape) -> int:
    """Return the rows of all embedding tables."""
    positions = shape.num_positions if shape.ingredients.has_position_table else 0
    return shape.vocab_size + positions + shape.num_token_types


def embedding_params(shape: EncoderShape) -> int:
    """Return the parameters of the tables and their LayerNorm, of relative biases, and of a projection."""
    total = table_rows(shape) * shape.table_size + norm_params(shape.table_size, shape.ingredients.has_norm_bias)
    total += NUM_BUCKETS * shape.ingredients.num_bias_heads + distance_params(shape)
    total += norm_params(shape.hidden_size) if shape.ingredients.has_distance_norm else 0
    return total + (0 if shape.embedding_size is None else linear_params(shape.embedding_size, shape.hidden_size))


def distance_params(shape: EncoderShape) -> int:
    """Return the parameters of the table of distances, which is as wide as the hidden states."""
    return 2 * shape.ingredients.num_distance_buckets * shape.hidden_size


def projection_macs(shape: EncoderShape, sequence_length: int) -> int:
    """Return the macs of ELECTRA's projection from table width to hidden width, else 0."""
    return 0 if shape.embedding_size is None else sequence_length * shape.embedding_size * shape.hidden_size


def layer_params(layer: LayerShape, hidden_size: int, ingredients: Ingredients = BERT, is_bare: bool = False) -> int:
    """Return the parameters of one layer; an absent sub-layer has none, nor has its LayerNorm."""
    total, norm = 0, norm_params(hidden_size, ingredients.has_norm_bias)
    if layer.has_attention:
        has_bias = ingredients.has_attention_bias
        keys, values = layer.num_heads * layer.key_dim, layer.num_heads * layer.value_dim
        total += 2 * linear_params(hidden_size, keys, has_bias) + linear_params(hidden_size, values, has_bias)
        total += linear_params(values, hidden_size, has_bias) + (0 if is_bare else norm)
    if layer.has_feed_forward:
        has_bias = ingredients.has_feed_forward_bias
        into = has_bias and ingredients.has_neuron_bias
        total += rows_in(ingredients) * linear_params(hidden_size, layer.intermediate_size, into)
        total += linear_params(layer.intermediate_size, hidden_size, has_bias) + norm
    return total


def rows_in(ingredients: Ingredients) -> int:
    """Return the rows that make a neuron."""
    return 2 if ingredients.is_gated else 1


def layer_macs(
    layer: LayerShape,
    hidden_size: int,
    sequence_length: int,
    ingredients: Ingredients = BERT,
    window: int | None = None,
) -> int:
    """Return the macs of one layer on one text: its linear layers, queries @ keys and probabilities @ values."""
    dims = layer.key_dim + layer.value_dim
    neurons = layer.intermediate_size * (1 + rows_in(ingredients))
    linear = sequence_length * hidden_size * (2 * layer.num_heads * dims + neurons)
    keys, rows = layer.num_heads * layer.key_dim, distance_rows(ingredients, sequence_length)
    distances = 2 * rows * keys * (hidden_size + sequence_length)  # as queries and as keys: projected, and compared
    return linear + layer.num_heads * num_scores(sequence_length, window) * dims + distances


def distance_rows(ingredients: Ingredients, sequence_length: int) -> int:
    """Return how many states of distances a text reads."""
    return len(ingredients.distance_rows(sequence_length)) if ingredients.num_distance_buckets else 0


def prediction_params(shape: EncoderShape, outputs: int) -> int:
    """Return the parameters of the dense layer a head begins with, and of its LayerNorm where it has one."""
    ingredients = shape.ingredients
    if not ingredients.has_prediction_head:
        return linear_params(shape.hidden_size, outputs)
    norm = norm_params(outputs, ingredients.has_norm_bias)
    return linear_params(shape.hidden_size, outputs, ingredients.has_head_bias) + norm


def head_params(head: HeadSpec, shape: EncoderShape) -> int:
    """Return the parameters of a head; a masked LM shares its token table with the encoder, which counts it."""
    hidden, table = shape.hidden_size, shape.table_size
    if head.kind == "pooler" or head.is_sequence:
        out = linear_params(hidden, head.num_outputs) if head.is_sequence else 0
        return prediction_params(shape, hidden) + out
    if head.kind in ("token", "span"):
        first = prediction_params(shape, hidden) if shape.ingredients.has_prediction_head else 0
        return first + linear_params(hidden, head.num_outputs)
    if head.kind == "masked_lm":
        norm = 0 if shape.ingredients.has_prediction_head else norm_params(table, shape.ingredients.has_norm_bias)
        return prediction_params(shape, table) + norm + shape.vocab_size
    return 0


def head_macs(head: HeadSpec, shape: EncoderShape, sequence_length: int) -> int:
    """Return the macs of a head: at one position for pooler and sequence heads, at every position for the others."""
    hidden, table = shape.hidden_size, shape.table_size
    if head.kind == "pooler" or head.is_sequence:
        return hidden * hidden + hidden * head.num_outputs
    if head.kind in ("token", "span"):
        first = hidden if shape.ingredients.has_prediction_head else 0
        return sequence_length * hidden * (first + head.num_outputs)
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
    total = table_rows(shape) * table + NUM_BUCKETS * shape.ingredients.num_bias_heads + distance_params(shape)
    total += 0 if shape.embedding_size is None else table * hidden
    for layer in shape.layers:
        neurons = layer.intermediate_size * (1 + rows_in(shape.ingredients))
        total += hidden * (2 * layer.num_heads * (layer.key_dim + layer.value_dim) + neurons)
    dense = {"masked_lm": hidden * table, "pooler": hidden * hidden}.get(head.kind, 0)
    is_per_token = head.kind in ("token", "span") and shape.ingredients.has_prediction_head
    dense += hidden * hidden if head.is_sequence or is_per_token else 0
    return total + dense + hidden * head.num_outputs


def linear_params(inputs: int, outputs: int, has_bias: bool = True) -> int:
    return inputs * outputs + (outputs if has_bias else 0)


def norm_params(size: int, has_bias: bool = True) -> int:
    return (2 if has_bias else 1) * size
