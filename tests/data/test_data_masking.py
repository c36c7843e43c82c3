"""Masking: how many tokens are hidden and what they show, whole words, and no dependence on how a step is split."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_tokenizer import build_tokenizer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from cutbert.data.batches import collate, collate_blocks
from cutbert.data.masking import Masking, Masks, draw_masks, masking_of, word_starts
from cutbert.data.tokens import Tokens
from cutbert.errors import ModelError

TOKENIZER = build_tokenizer()
V = len(TOKENIZER) + 3  # a model's table may have more rows than the tokenizer has tokens
SPECIAL = set(TOKENIZER.all_special_ids)


def masking(whole_word: bool = False, probability: float = 0.15) -> Masking:
    return masking_of(TOKENIZER, "tiny", vocab_size=V, whole_word=whole_word, probability=probability)


def random_tokens(count: int, length: int | None, seed: int = 0) -> Tokens:
    """Return rows of random ordinary tokens, special ones among them, of one length or of many."""
    random = np.random.default_rng(seed)
    lengths = np.full(count, length) if length else random.integers(3, 40, count)
    offsets = np.concatenate([[0], lengths.cumsum()])
    ids = random.integers(5, len(TOKENIZER), offsets[-1]).astype(np.int32)
    ids[random.random(len(ids)) < 0.05] = TOKENIZER.sep_token_id
    ids[offsets[:-1]], ids[offsets[1:] - 1] = TOKENIZER.cls_token_id, TOKENIZER.sep_token_id
    return Tokens(ids, offsets)


def draw(tokens: Tokens, how: Masking, seed: int = 0) -> Masks:
    return draw_masks(tokens, np.arange(len(tokens)), how, np.random.default_rng(seed))


@pytest.mark.parametrize("length", [128, None])
def test_the_share_of_each_row_is_exact(length: int | None) -> None:
    masks = draw(random_tokens(50, length), masking())
    ordinary = ~np.isin(masks.ids, list(SPECIAL)) & masks.is_real
    assert not (masks.is_hidden & ~ordinary).any()
    counts = ordinary.sum(1)
    wanted = [min(n, max(1, int(0.15 * n + 0.5))) for n in counts]
    assert masks.is_hidden.sum(1).tolist() == wanted and masks.num_hidden == sum(wanted)
    assert np.array_equal(masks.shown[~masks.is_hidden], masks.ids[~masks.is_hidden])


def test_what_hidden_tokens_show() -> None:
    masks = draw(random_tokens(2000, 128), masking())
    true, shown = masks.ids[masks.is_hidden], masks.shown[masks.is_hidden]
    count, mask_id = len(true), TOKENIZER.mask_token_id
    assert count > 30_000
    others = shown[(shown != mask_id) & (shown != true)]
    ordinary = len(TOKENIZER) - len(SPECIAL)
    for seen, wanted in (
        ((shown == mask_id).mean(), 0.8),
        (len(others) / count, 0.1 * (1 - 1 / ordinary)),
        ((shown == true).mean(), 0.1 + 0.1 / ordinary),
    ):
        assert abs(seen - wanted) < 0.01  # 5 standard deviations
    assert set(others) == set(range(len(TOKENIZER))) - SPECIAL
    places = masks.is_hidden.mean(0)[1:-1]
    assert np.abs(places - places.mean()).max() < 5 * np.sqrt(places.mean() / 2000)


@pytest.mark.parametrize("length", [60, None])
def test_whole_words_are_hidden_together(length: int | None) -> None:
    tokens, how = random_tokens(200, length), masking(whole_word=True)
    masks = draw(tokens, how)
    assert how.continues_word is not None
    names = TOKENIZER.convert_ids_to_tokens(range(len(TOKENIZER)))
    wanted = missed = 0
    for i in range(200):
        row, hidden = masks.ids[i], masks.is_hidden[i]
        words: list[list[int]] = []
        for place in np.flatnonzero(masks.is_real[i]):
            if row[place] in SPECIAL:
                continue
            goes_on = names[row[place]].startswith("##") and words and words[-1][-1] == place - 1
            words[-1].append(place) if goes_on else words.append([place])
        assert all(len({bool(hidden[place]) for place in word}) == 1 for word in words)
        budget = max(1, int(0.15 * sum(map(len, words)) + 0.5))
        assert hidden.sum() <= budget
        wanted, missed = wanted + budget, missed + budget - hidden.sum()
    assert missed < 0.12 * wanted


def test_every_word_is_as_likely() -> None:
    ids = [TOKENIZER.cls_token_id, *TOKENIZER.convert_tokens_to_ids(["the", "##a", "film", "plot"]), 3]
    tokens = Tokens(np.array(ids * 6000, dtype=np.int32), np.arange(6001) * 6)
    shares = draw(tokens, masking(whole_word=True, probability=0.5)).is_hidden.mean(0)
    assert shares[1] == shares[2] and shares[0] == shares[5] == 0
    np.testing.assert_allclose(shares[1:5], [1 / 3, 1 / 3, 2 / 3, 2 / 3], atol=0.03)


def test_no_split_of_a_step_changes_its_masks() -> None:
    tokens, how = random_tokens(40, None), masking()
    step = np.random.default_rng(5).permutation(40)[:16]
    whole = draw_masks(tokens, step, how, np.random.default_rng(7))
    again = draw_masks(tokens, step[::-1].copy(), how, np.random.default_rng(7))
    assert np.array_equal(whole.shown, again.shown) and np.array_equal(whole.is_hidden, again.is_hidden)
    assert not np.array_equal(whole.is_hidden, draw_masks(tokens, step, how, np.random.default_rng(8)).is_hidden)


@pytest.mark.parametrize("length", [16, 17, None])
@pytest.mark.parametrize("in_blocks", [True, False])
def test_a_batch_shows_its_rows_masks(length: int | None, in_blocks: bool) -> None:
    tokens, rows = random_tokens(30, length), np.array([7, 3, 29, 12, 4])
    masks = draw(tokens, masking())
    make = collate_blocks if in_blocks else collate
    batch = make(tokens, rows, pad_token_id=0, use_token_types=False)
    masked = masks.apply(batch, rows)
    shown = np.concatenate([masks.shown[row][masks.is_real[row]] for row in rows]).astype(np.int32)
    wanted = make(replace_rows(tokens, rows, shown), rows, pad_token_id=0, use_token_types=False)
    assert torch.equal(masked.batch.input_ids, wanted.input_ids)
    assert torch.equal(batch.input_ids.flatten()[masked.positions], masked.targets)
    assert len(masked.targets) == masks.is_hidden[rows].sum()


def replace_rows(tokens: Tokens, rows: np.ndarray, ids: np.ndarray) -> Tokens:
    changed = tokens.ids.copy()
    start = 0
    for row in rows:
        size = int(tokens.lengths[row])
        changed[tokens.offsets[row] : tokens.offsets[row + 1]] = ids[start : start + size]
        start += size
    return replace(tokens, ids=changed)


def test_rows_without_ordinary_tokens_hide_nothing() -> None:
    tokens = Tokens(np.array([2, 3, 2, 9, 3], dtype=np.int32), np.array([0, 2, 5]))
    assert draw(tokens, masking()).is_hidden.tolist() == [[False, False, False], [False, True, False]]


def tokenizer_of(model: models.Model, before: pre_tokenizers.PreTokenizer | None) -> PreTrainedTokenizerFast:
    engine = Tokenizer(model)
    if before is not None:
        engine.pre_tokenizer = before
    engine.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=engine, mask_token="<mask>", unk_token="<unk>", pad_token="<pad>")


@pytest.mark.parametrize(
    ("tokenizer", "begins"),
    [
        (
            tokenizer_of(models.BPE({"a": 0, "\u0120a": 1, "b": 2, "\u0120b": 3}, []), pre_tokenizers.ByteLevel(False)),
            [0, 1, 0, 1],
        ),
        (
            tokenizer_of(
                models.Unigram([("\u2581a", -1.0), ("a", -1.0), ("\u2581", -1.0), ("b", -1.0)], 1),
                pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]),
            ),
            [1, 0, 1, 0],
        ),
    ],
)
def test_words_of_other_tokenizers(tokenizer: PreTrainedTokenizerFast, begins: list[int]) -> None:
    how = masking_of(tokenizer, "tiny", vocab_size=9, whole_word=True)
    assert how.continues_word is not None
    assert [1 - int(each) for each in how.continues_word[:4]] == begins
    ids = np.array([[3, 3, tokenizer.pad_token_id, 3]])
    starts = word_starts(ids, how.is_ordinary[ids], how)
    assert starts.tolist() == [[True, bool(begins[3]), False, True]]


def test_what_cannot_be_masked_is_refused() -> None:
    with pytest.raises(
        ModelError, match=r"--whole-word needs a tokenizer whose tokens say where words begin .* got BPE"
    ):
        masking_of(
            tokenizer_of(models.BPE({"a": 0}, []), pre_tokenizers.Whitespace()), "m", vocab_size=9, whole_word=True
        )
    bare = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, "a")))
    with pytest.raises(ModelError, match="m: the tokenizer must have a mask token, got none"):
        masking_of(bare, "m", vocab_size=9)
