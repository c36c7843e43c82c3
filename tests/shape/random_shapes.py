"""Random small shapes, subnets and heads for property tests."""

from __future__ import annotations

from hypothesis import strategies as st

from cutbert.shape.head import HeadSpec
from cutbert.shape.shape import EncoderShape, LayerShape
from cutbert.shape.subnet import KeptLayer, Subnet

BERT_BASE = EncoderShape.uniform(
    hidden_size=768, num_layers=12, num_heads=12, intermediate_size=3072, vocab_size=30522, num_positions=512
)

layer_shapes = st.builds(
    LayerShape,
    num_heads=st.integers(0, 4),
    key_dim=st.integers(1, 6),
    value_dim=st.integers(1, 6),
    intermediate_size=st.integers(0, 20),
)
encoder_shapes = st.builds(
    EncoderShape,
    hidden_size=st.integers(2, 24),
    layers=st.lists(layer_shapes, max_size=3).map(tuple),
    vocab_size=st.integers(3, 30),
    num_positions=st.integers(9, 16),
    num_token_types=st.integers(0, 2),
    embedding_size=st.none() | st.integers(2, 24),
)
labels = st.lists(st.text(min_size=1, max_size=5), min_size=2, max_size=4, unique=True).map(tuple)
head_specs = st.one_of(
    st.builds(HeadSpec, st.sampled_from(["single_label", "multi_label", "token"]), labels),
    st.just(HeadSpec("regression", ("score",))),
    st.builds(HeadSpec, st.sampled_from(["none", "pooler", "span", "masked_lm"])),
)


@st.composite
def subnets_of(draw: st.DrawFn, shape: EncoderShape) -> Subnet:
    """Any subnet of a shape, sub-layers dropped and hidden prefix included."""
    kept = []
    for i, layer in enumerate(shape.layers):
        if draw(st.booleans()):
            heads = draw(st.integers(0, layer.num_heads))
            keys = draw(st.integers(1, layer.key_dim)) if heads else 0
            values = draw(st.integers(1, layer.value_dim)) if heads else 0
            neurons = draw(st.integers(0, layer.intermediate_size))
            kept.append(KeptLayer(i, LayerShape(heads, keys, values, neurons)))
    sizes = st.integers(1, shape.hidden_size).filter(lambda size: size != shape.embedding_size)
    return Subnet(tuple(kept), draw(sizes))
