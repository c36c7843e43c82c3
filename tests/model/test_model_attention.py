"""Attention by written-out products and by torch's kernel, beside one text at a time in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cutbert.model import tiles
from cutbert.model.attention import attend
from cutbert.model.layout import padding_biases
from cutbert.model.tiles import tiles_of
from cutbert.shape.blocks import Block

N, K, V, SCALE = 3, 4, 6, 0.7
BLOCKS = (Block(2, 5, True), Block(3, 3, False), Block(1, 4, False), Block(2, 1, False))
# First position, positions and tokens of each text; three more positions belong to none.
TEXTS = ((0, 5, 5), (5, 5, 2), (10, 3, 3), (13, 3, 3), (16, 3, 3), (19, 4, 4), (23, 1, 1), (24, 1, 1))
END, TAIL = 25, 3
SETTINGS = {"num_heads": N, "scale": SCALE}
CLOSE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2**-8}  # bf16 keeps 8 bits


def random_qkv(*shape: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    draw = torch.Generator().manual_seed(0)
    return [torch.randn(*shape, N * dim, generator=draw).to(dtype).requires_grad_() for dim in (K, K, V)]


def biases_of_blocks(dtype: torch.dtype) -> list[Tensor | None]:
    mask = torch.zeros(END + TAIL, dtype=torch.long)
    for start, _, num_tokens in TEXTS:
        mask[start : start + num_tokens] = 1
    biases = padding_biases(mask, BLOCKS, dtype)
    assert [bias is not None for bias in biases] == [True, False, False, False]
    return biases


def heads_of(*tensors: Tensor) -> list[Tensor]:
    """Return [N, S, K] of each [S, N K]."""
    return [x.unflatten(-1, (N, -1)).transpose(0, 1) for x in tensors]


def one_by_one(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return torch's attention of each text over its own tokens, 0 after the last text."""
    parts = []
    for start, length, num_tokens in TEXTS:
        tokens = slice(start, start + num_tokens)
        heads = heads_of(q[start : start + length], k[tokens], v[tokens])
        parts.append(F.scaled_dot_product_attention(*heads, scale=SCALE).transpose(0, 1).flatten(1))
    return torch.cat([*parts, v.new_zeros(TAIL, v.shape[1])])


def with_gradients(context: Tensor, qkv: list[Tensor]) -> list[Tensor]:
    """Return the context and the gradients of one fixed random sum of it, the positions of no text counted too."""
    weights = torch.randn(context.shape, generator=torch.Generator().manual_seed(1)).bfloat16()
    return [context.detach(), *torch.autograd.grad(context, qkv, weights.to(context.dtype))]


@pytest.fixture(params=[None, 30, 1], ids=["whole blocks", "texts and heads", "single heads"])
def tile(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set how many scores are computed together."""
    if request.param is not None:
        monkeypatch.setattr(tiles, "TILE", request.param)
        monkeypatch.setattr(torch, "get_num_threads", lambda: 1)


@pytest.mark.usefixtures("tile")
@pytest.mark.parametrize("dtype", CLOSE, ids=str)
def test_written_out_gives_what_each_text_gives_alone(dtype: torch.dtype) -> None:
    qkv = random_qkv(END + TAIL, dtype=dtype)
    exact = [x.detach().double().requires_grad_() for x in qkv]
    wanted = with_gradients(one_by_one(*exact), exact)
    got = with_gradients(attend(*qkv, BLOCKS, biases_of_blocks(dtype), **SETTINGS, dropout=0.0), qkv)
    for one, other in zip(got, wanted, strict=True):
        assert one.dtype == dtype and not one[END:].any()
        assert one[:END].abs().mean() > 0.1
        torch.testing.assert_close(one.double(), other, atol=CLOSE[dtype], rtol=CLOSE[dtype])


@pytest.mark.parametrize(
    ("room", "wanted"),
    [
        (10**6, [(2, 3)] * 2),
        (60, [(1, 2), (1, 1)] * 2 + [(2, 3)]),
        (74, [(1, 2), (1, 1)] * 2 + [(2, 3)]),
        (75, [(1, 3)] * 2 + [(2, 3)]),
        (8, [(1, 1)] * 6 + [(1, 2), (1, 1)] * 2),
    ],
)
def test_tiles_cover_every_head_once(room: int, wanted: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "TILE", room)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    blocks = (Block(2, 5, True), Block(2, 2, False))
    found = list(tiles_of(blocks, [torch.zeros(2, 1, 1, 5), None], 3))
    seen = torch.zeros(2, 2, 3)
    for each in found:
        seen[blocks.index(each.block), each.rows, each.heads] += 1
    sizes = [(len(range(2)[each.rows]), len(range(3)[each.heads])) for each in found]
    assert bool((seen == 1).all()) and sizes == wanted
    assert [each.is_whole for each in found] == [size == (2, 3) for size in sizes]


def test_bf16_is_rounded_only_at_the_end() -> None:
    rounded, biases = random_qkv(END + TAIL, dtype=torch.bfloat16), biases_of_blocks(torch.bfloat16)
    exact = [x.detach().float().requires_grad_() for x in rounded]
    got, wanted = (
        with_gradients(attend(*qkv, BLOCKS, biases, **SETTINGS, dropout=0.0), qkv) for qkv in (rounded, exact)
    )
    assert all(torch.equal(one, other.bfloat16()) for one, other in zip(got, wanted, strict=True))


@pytest.mark.parametrize("dtype", CLOSE, ids=str)
def test_without_gradients_torch_gives_the_same(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    qkv, biases = random_qkv(END + TAIL, dtype=dtype), biases_of_blocks(dtype)
    with monkeypatch.context() as patch:
        patch.setattr(F, "scaled_dot_product_attention", None)
        written = attend(*qkv, BLOCKS, biases, **SETTINGS, dropout=0.0)
    with torch.no_grad():
        fused = attend(*qkv, BLOCKS, biases, **SETTINGS, dropout=0.0)
    assert written.requires_grad and not fused.requires_grad
    close = max(CLOSE[dtype], 2**-5 * (dtype == torch.bfloat16))  # torch rounds the weights too
    torch.testing.assert_close(fused, written.detach(), atol=close, rtol=close)


def test_one_block_may_keep_its_rows_apart() -> None:
    qkv, block = random_qkv(2, 5), Block(2, 5, True)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])
    biases = padding_biases(mask, (block,), torch.float32)
    got = with_gradients(attend(*qkv, (block,), biases, **SETTINGS, dropout=0.0), qkv)
    heads = [x.unflatten(-1, (N, -1)).transpose(1, 2) for x in qkv]
    context = F.scaled_dot_product_attention(*heads, attn_mask=mask.bool()[:, None, None], scale=SCALE)
    wanted = with_gradients(context.transpose(1, 2).flatten(2), qkv)
    with torch.no_grad():
        fused = attend(*qkv, (block,), biases, **SETTINGS, dropout=0.0)
    for one, other in zip([*got, fused], [*wanted, wanted[0]], strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.usefixtures("tile")
def test_dropout_is_seeded_and_keeps_the_mean() -> None:
    q = torch.zeros(2600, N, requires_grad=True)
    blocks, ones = (Block(100, 20, False), Block(600, 1, False)), torch.ones(2600, N)

    def dropped(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return attend(q, q, ones, blocks, [None, None], num_heads=N, scale=1.0, dropout=0.25).detach()

    once = dropped(0)
    assert torch.equal(dropped(0), once) and not torch.equal(dropped(1), once)
    assert float(once[:2000].mean()) == pytest.approx(1.0, abs=0.01)
    single = once[2000:]  # texts of one token have one weight: all or nothing
    assert float((single == 0).float().mean()) == pytest.approx(0.25, abs=0.03)
    torch.testing.assert_close(single[single > 0], torch.full((int((single > 0).sum()),), 1 / 0.75))


@pytest.mark.usefixtures("tile")
def test_gradients_go_through_the_weights_that_dropout_kept() -> None:
    blocks = (Block(3, 4, False), Block(2, 6, False))
    qkv = random_qkv(24)
    ends = ((0, 4), (4, 8), (8, 12), (12, 18), (18, 24))

    def attended(v: Tensor) -> Tensor:
        torch.manual_seed(5)
        return attend(qkv[0], qkv[1], v, blocks, [None, None], **SETTINGS, dropout=0.4)

    eyes = torch.cat([torch.eye(6)[: stop - start].repeat(1, N) for start, stop in ends])
    weights = attended(eyes).detach()  # the weights themselves, for values that are unit vectors
    assert 0.2 < float((heads_of(weights[12:])[0] == 0).float().mean()) < 0.6
    parts = []
    for start, stop in ends:
        q, k, v = heads_of(*(x[start:stop] for x in qkv))
        (used,) = heads_of(weights[start:stop])
        kept = (used[..., : stop - start] > 0) / 0.6
        parts.append((((q @ k.mT * SCALE).softmax(-1) * kept) @ v).transpose(0, 1).flatten(1))
    wanted = with_gradients(torch.cat(parts), qkv)
    for one, other in zip(with_gradients(attended(qkv[2]), qkv), wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
