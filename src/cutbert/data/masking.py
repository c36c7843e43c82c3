"""Dynamic masking for masked-LM training: which tokens of a step's rows are hidden, and what replaces them.

Axes: N rows, S positions, W words of a row, M hidden tokens, V vocabulary.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from cutbert.data.batches import Batch, collate
from cutbert.data.tokens import Tokens
from cutbert.errors import ModelError
from cutbert.shape.head import IGNORED

SHARE_MASKED = 0.8
SHARE_RANDOM = 0.1


@dataclass(frozen=True, eq=False)
class Masking:
    """How tokens of a vocabulary are hidden.

    Args:
        mask_id, pad_id: special tokens.
        ordinary_ids: ids of all tokens that are not special; these may be hidden, and may replace others.
        is_ordinary: [V], whether an id is one of them.
        continues_word: [V], whether a token continues the word before it; None hides single tokens.
        probability: share of a row's ordinary tokens that is hidden.
    """

    mask_id: int
    pad_id: int
    ordinary_ids: NDArray[np.int64]
    is_ordinary: NDArray[np.bool_]
    continues_word: NDArray[np.bool_] | None
    probability: float


def masking_of(
    tokenizer: Any, tokenizer_id: str, *, vocab_size: int, probability: float = 0.15, whole_word: bool = False
) -> Masking:
    """Return how the tokens of a tokenizer are hidden.

    Args:
        tokenizer: a fast tokenizer of transformers.
        tokenizer_id: its name, for messages.
        vocab_size: rows of the model's token table.
        probability: in (0, 1).
        whole_word: hide all subwords of a word together.

    Raises:
        ModelError: the tokenizer has no mask token, or its tokens do not mark where words begin.
    """
    if tokenizer.mask_token_id is None:
        raise ModelError(f"{tokenizer_id}: the tokenizer must have a mask token, got none")
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    is_ordinary = np.zeros(vocab_size, dtype=bool)
    is_ordinary[list(vocabulary.values())] = True
    is_ordinary[list(tokenizer.all_special_ids)] = False
    return Masking(
        mask_id=tokenizer.mask_token_id,
        pad_id=tokenizer.pad_token_id or 0,
        ordinary_ids=np.flatnonzero(is_ordinary),
        is_ordinary=is_ordinary,
        continues_word=word_continuations(tokenizer, tokenizer_id, vocabulary, vocab_size) if whole_word else None,
        probability=probability,
    )


def word_continuations(
    tokenizer: Any, tokenizer_id: str, vocabulary: dict[str, int], vocab_size: int
) -> NDArray[np.bool_]:
    """Return for each id whether its token continues the word before it, [V].

    WordPiece marks such tokens (##), byte-level BPE and SentencePiece mark all others.

    Raises:
        ModelError: a tokenizer of another kind.
    """
    engine = json.loads(tokenizer.backend_tokenizer.to_str())
    kind = engine["model"]["type"]
    continues = np.zeros(vocab_size, dtype=bool)
    if kind == "WordPiece":
        mark, is_of_continuations = engine["model"]["continuing_subword_prefix"], True
    else:
        mark, is_of_continuations = begin_mark(engine["pre_tokenizer"]), False
    if not mark:
        raise ModelError(
            f"--whole-word needs a tokenizer whose tokens say where words begin (WordPiece, byte-level BPE or "
            f"SentencePiece), got {kind} without such marks in {tokenizer_id}"
        )
    for token, number in vocabulary.items():
        continues[number] = token.startswith(mark) == is_of_continuations
    return continues


def begin_mark(pre_tokenizer: dict[str, Any] | None) -> str:
    """Return the mark that a pre-tokenizer puts before tokens that begin a word; empty where it has none."""
    steps = [pre_tokenizer or {}, *(pre_tokenizer or {}).get("pretokenizers", [])]
    for step in steps:
        if step.get("type") == "ByteLevel":
            return "\u0120"
        if step.get("type") == "Metaspace":
            return str(step["replacement"])
    return ""


class MaskedBatch(NamedTuple):
    """A batch with hidden tokens.

    Args:
        batch: the model's input.
        positions: [M], the hidden tokens' positions in the flattened batch.
        targets: [M], their original ids.
    """

    batch: Batch
    positions: torch.Tensor
    targets: torch.Tensor


@dataclass(frozen=True, eq=False)
class Masks:
    """The hidden tokens of some rows.

    Args:
        rows: [N], indices into Tokens, rising.
        is_real: [N, S], False beyond a row's end.
        ids: [N, S], the original ids.
        shown: [N, S], the ids that the model sees.
        is_hidden: [N, S], the positions to predict.
    """

    rows: NDArray[np.int64]
    is_real: NDArray[np.bool_]
    ids: NDArray[np.int64]
    shown: NDArray[np.int64]
    is_hidden: NDArray[np.bool_]

    @property
    def num_hidden(self) -> int:
        return int(self.is_hidden.sum())

    def apply(self, batch: Batch, rows: NDArray[np.int64]) -> MaskedBatch:
        """Hide the tokens of a batch, of [N, S] or in blocks.

        Args:
            batch: of some of the rows, on any device.
            rows: their indices, in the batch's order.
        """
        places = np.searchsorted(self.rows, rows)
        real = self.is_real[places]
        hidden = self.is_hidden[places][real]
        device = batch.input_ids.device
        if batch.attention_mask is None:
            slots = torch.arange(batch.num_tokens, device=device)
        else:
            slots = batch.attention_mask.flatten().nonzero().squeeze(-1)
        flat = batch.input_ids.flatten().index_copy(0, slots, torch.from_numpy(self.shown[places][real]).to(device))
        positions = slots[torch.from_numpy(np.flatnonzero(hidden)).to(device)]
        targets = torch.from_numpy(self.ids[places][real][hidden]).to(device)
        return MaskedBatch(replace(batch, input_ids=flat.view_as(batch.input_ids)), positions, targets)


def draw_masks(tokens: Tokens, rows: NDArray[np.int64], masking: Masking, random: np.random.Generator) -> Masks:
    """Draw the hidden tokens of some rows; the order of `rows` does not matter.

    Special tokens are never hidden. Of each row exactly round(probability x ordinary tokens) are, at least one
    (exactly, not on average: our choice). Whole words are taken in random order as long as they fit into that number,
    so that fewer are hidden only where no word of the right size is left.

    Args:
        tokens: all rows.
        rows: those of a whole step, each once. The masks of a row depend on the other rows, so micro-batches and
            processes must draw for the whole step and then take their part.
        masking: of the tokenizer.
        random: the same state gives the same masks.

    Source:
        Devlin et al. 2019 (1810.04805), section 3.1: of the hidden tokens 80 % become [MASK], 10 % a random token,
        10 % stay; whole words, and skipping those that do not fit, as in its released create_pretraining_data.py.
        Dynamic: Liu et al. 2019 (1907.11692), section 4.1.
    """
    rows = np.sort(rows)
    starts, lengths = tokens.offsets[rows], tokens.offsets[rows + 1] - tokens.offsets[rows]
    places_S = np.arange(int(lengths.max()))
    real_NS = places_S < lengths[:, None]
    ids_NS = np.where(real_NS, tokens.ids[np.where(real_NS, starts[:, None] + places_S, 0)], masking.pad_id)
    ids_NS = ids_NS.astype(np.int64)
    ordinary_NS = real_NS & masking.is_ordinary[ids_NS]
    counts_N = ordinary_NS.sum(1)
    wanted_N = np.minimum(counts_N, np.maximum(1, np.floor(masking.probability * counts_N + 0.5).astype(np.int64)))
    hidden_NS = choose_words(ordinary_NS, word_starts(ids_NS, ordinary_NS, masking), wanted_N, random)
    shown_NS = ids_NS.copy()
    shown_NS[hidden_NS] = disguise(ids_NS[hidden_NS], masking, random)
    return Masks(rows, real_NS, ids_NS, shown_NS, hidden_NS)


def word_starts(ids_NS: NDArray[np.int64], ordinary_NS: NDArray[np.bool_], masking: Masking) -> NDArray[np.bool_]:
    """Return which ordinary tokens begin a word; without whole words each is a word by itself."""
    if masking.continues_word is None:
        return ordinary_NS
    follows_NS = np.zeros_like(ordinary_NS)
    follows_NS[:, 1:] = ordinary_NS[:, :-1]
    return ordinary_NS & ~(masking.continues_word[ids_NS] & follows_NS)


def choose_words(
    ordinary_NS: NDArray[np.bool_],
    starts_NS: NDArray[np.bool_],
    wanted_N: NDArray[np.int64],
    random: np.random.Generator,
) -> NDArray[np.bool_]:
    """Return the tokens of words taken in random order, each where it fits into the number its row still needs."""
    N, W = len(starts_NS), max(1, int(starts_NS.sum(1).max()))
    word_NS = np.maximum(starts_NS.cumsum(1) - 1, 0)
    flat_NS = word_NS + W * np.arange(N)[:, None]
    sizes_NW = np.bincount(flat_NS[ordinary_NS], minlength=N * W).reshape(N, W)
    order_NW = np.where(sizes_NW > 0, random.random((N, W)), 2.0).argsort(1)
    sizes_NW = np.take_along_axis(sizes_NW, order_NW, 1)
    taken_NW = np.zeros((N, W), dtype=bool)
    left_N = wanted_N.copy()
    for place in range(W):
        fits_N = (sizes_NW[:, place] > 0) & (sizes_NW[:, place] <= left_N)
        taken_NW[np.arange(N), order_NW[:, place]] = fits_N
        left_N -= fits_N * sizes_NW[:, place]
        if not left_N.any():
            break
    return np.take_along_axis(taken_NW, word_NS, 1) & ordinary_NS


def disguise(ids: NDArray[np.int64], masking: Masking, random: np.random.Generator) -> NDArray[np.int64]:
    """Return the replacements of hidden tokens: the mask, a random ordinary token, or the token itself."""
    kind = random.random(len(ids))
    other = masking.ordinary_ids[random.integers(len(masking.ordinary_ids), size=len(ids))]
    shown = np.where(kind < SHARE_MASKED + SHARE_RANDOM, other, ids)
    return np.where(kind < SHARE_MASKED, masking.mask_id, shown)


def masked_batch(tokens: Tokens, rows: np.ndarray, masking: Masking, seed: int) -> Batch:
    """Return some rows as a batch with masked tokens, whose original ids are its labels; for rows of one length."""
    masks = draw_masks(tokens, rows, masking, np.random.default_rng([seed, int(rows[0])]))
    masked = masks.apply(collate(tokens, rows, pad_token_id=masking.pad_id, use_token_types=False), rows)
    labels = torch.full_like(masked.batch.input_ids, IGNORED).flatten()
    labels[masked.positions] = masked.targets
    return replace(masked.batch, labels=labels.view_as(masked.batch.input_ids))
