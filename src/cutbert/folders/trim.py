"""A tokenizer without the tokens that some texts never use; what is left still splits every text it split before."""

from __future__ import annotations

import copy
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from cutbert.errors import ModelError

COMMON_PIECES = 2_000
WORD_STARTS = "\u0120\u2581"  # how byte-level BPE and sentencepiece write the space before a word
KINDS = ("WordPiece", "BPE", "Unigram")


def kept_tokens(tokenizer: PreTrainedTokenizerFast, used: NDArray[np.integer], model: str) -> NDArray[np.int64]:
    """Return the ids of the tokens that stay, rising: the used ones, those they are made of, and a floor.

    Texts whose tokens are all used are split as before: what stays is a part of the vocabulary that has their pieces,
    so the longest match (WordPiece), the first merge (BPE) and the best path (Unigram) are the same. The floor, our
    choice, is what splits every other text:

    - special and added tokens;
    - single characters or bytes, at the beginning of a word and within it;
    - pieces with a character that is no piece by itself, which could not be split further;
    - the first 2,000 pieces of letters by id, which is by frequency in all families.

    Args:
        tokenizer: fast.
        used: ids, in any order, may repeat.
        model: its name, for messages.

    Raises:
        ModelError: the tokenizer is of another kind than WordPiece, BPE and Unigram.
    """
    data = json.loads(tokenizer.backend_tokenizer.to_str())
    spec = data["model"]
    if spec["type"] not in KINDS:
        raise ModelError(f"{model}: --trim-vocab must be given a tokenizer of {', '.join(KINDS)}, got {spec['type']}")
    ids = piece_ids(spec)
    kept = {int(i) for i in np.unique(used)} | {each["id"] for each in data["added_tokens"]}
    kept |= set(special_ids(data["post_processor"]))
    kept |= {ids[name] for name in (spec.get("unk_token"),) if name in ids}
    kept |= {ids[piece] for piece in floor(spec, ids)}
    if spec["type"] == "Unigram":
        kept |= {i for i in (spec["unk_id"],) if i is not None}
        # An unknown character costs 10 more than the least likely piece.
        kept.add(min(range(len(spec["vocab"])), key=lambda i: spec["vocab"][i][1]))
    if spec["type"] == "BPE":
        kept |= merged_from(spec, ids, kept)
    return np.array(sorted(kept), dtype=np.int64)


def piece_ids(spec: Mapping[str, Any]) -> dict[str, int]:
    """Return the ids of a tokenizer's own pieces, without added tokens."""
    if spec["type"] == "Unigram":
        return {piece: i for i, (piece, _) in enumerate(spec["vocab"])}
    return dict(spec["vocab"])


def floor(spec: Mapping[str, Any], ids: Mapping[str, int]) -> set[str]:
    """Return the pieces that stay whether they are used or not, as `kept_tokens` says."""
    prefix, suffix = spec.get("continuing_subword_prefix") or "", spec.get("end_of_word_suffix") or ""

    def core(piece: str) -> str:
        return (piece.removeprefix(prefix) if prefix else piece).removesuffix(suffix)

    inner = {core(piece) for piece in ids if prefix and piece.startswith(prefix) and len(core(piece)) == 1}
    singles = {core(piece) for piece in ids if len(core(piece)) == 1 and not (prefix and piece.startswith(prefix))}
    pieces: set[str] = set()
    for piece in ids:
        body = core(piece)
        is_inner = bool(prefix) and piece.startswith(prefix)
        is_byte = spec.get("byte_fallback") and piece.startswith("<0x")
        first, rest = (inner if is_inner else singles), (inner if prefix else singles)
        is_covered = body[:1] in first and set(body[1:]) <= rest
        if len(body.lstrip(WORD_STARTS)) <= 1 or is_byte or not is_covered:
            pieces.add(piece)
    words = sorted((i, piece) for piece, i in ids.items() if core(piece).lstrip(WORD_STARTS).isalpha())
    return pieces | {piece for _, piece in [each for each in words if each[1] not in pieces][:COMMON_PIECES]}


def merges_of(spec: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return each merge of a BPE model as its two parts and their result."""
    prefix = spec.get("continuing_subword_prefix") or ""
    parts = (each.split(" ", 1) if isinstance(each, str) else each for each in spec["merges"])
    return [(left, right, left + (right.removeprefix(prefix) if prefix else right)) for left, right in parts]


def merged_from(spec: Mapping[str, Any], ids: Mapping[str, int], kept: Iterable[int]) -> set[int]:
    """Return the ids of all that the kept pieces of a BPE model are merged from, whichever way."""
    parts: dict[str, set[str]] = defaultdict(set)
    for left, right, result in merges_of(spec):
        parts[result] |= {left, right}
    names = {i: piece for piece, i in ids.items()}
    waiting = [names[i] for i in kept if i in names]
    reached: set[str] = set()
    while waiting:
        for part in parts.get(waiting.pop(), ()):
            if part not in reached:
                reached.add(part)
                waiting.append(part)
    return {ids[piece] for piece in reached}


def special_ids(processor: Any) -> list[int]:
    """Return the ids that a post-processor puts around texts."""
    ids: list[int] = []

    def same(i: int) -> int:
        ids.append(i)
        return i

    renumbered(processor, same)
    return ids


def renumbered(processor: Any, new_id: Callable[[int], int]) -> Any:
    """Return a post-processor with other ids: lists under `ids`, and pairs of a token and its id (`sep`, `cls`)."""
    if isinstance(processor, list):
        return [renumbered(each, new_id) for each in processor]
    if not isinstance(processor, dict):
        return processor
    made = {}
    for key, value in processor.items():
        if key == "ids":
            made[key] = [new_id(i) for i in value]
        elif key in ("sep", "cls") and isinstance(value, list):
            made[key] = [value[0], new_id(value[1])]
        else:
            made[key] = renumbered(value, new_id)
    return made


def trimmed_tokenizer(tokenizer: PreTrainedTokenizerFast, kept: NDArray[np.int64]) -> PreTrainedTokenizerFast:
    """Return a tokenizer with some of the tokens, numbered from 0 in the same order.

    Args:
        tokenizer: not changed.
        kept: ids of `kept_tokens`.
    """
    backend = tokenizer.backend_tokenizer
    data = json.loads(backend.to_str())
    new = {int(old): i for i, old in enumerate(kept)}
    spec = data["model"]
    if spec["type"] == "Unigram":
        spec["vocab"] = [each for i, each in enumerate(spec["vocab"]) if i in new]
        spec["unk_id"] = None if spec["unk_id"] is None else new[spec["unk_id"]]
    else:
        spec["vocab"] = {piece: new[i] for piece, i in spec["vocab"].items() if i in new}
    if spec["type"] == "BPE":
        vocab = spec["vocab"]
        whole = zip(spec["merges"], merges_of(spec), strict=True)
        spec["merges"] = [each for each, names in whole if all(name in vocab for name in names)]
    for each in data["added_tokens"]:
        each["id"] = new[each["id"]]
    data["post_processor"] = renumbered(data["post_processor"], new.__getitem__)
    trimmed = copy.deepcopy(tokenizer)
    engine = Tokenizer.from_str(json.dumps(data))
    engine.encode_special_tokens = backend.encode_special_tokens
    trimmed._tokenizer = engine
    return trimmed
