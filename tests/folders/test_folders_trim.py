"""Vocabularies cut to what some texts use: those texts keep their pieces, and no other text becomes unknown."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from cutbert.errors import ModelError
from cutbert.folders import trim
from cutbert.folders.load import load_model
from cutbert.folders.save import save_model
from cutbert.folders.trim import kept_tokens, trimmed_tokenizer
from cutbert.model.style import EncoderStyle
from cutbert.model.task_model import TaskModel
from cutbert.shape.head import HeadSpec
from cutbert.shape.shape import EncoderShape
from cutbert.surgery.token_rows import with_token_rows
from tiny_runs import PROVENANCE

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
SYLLABLES = ("ka", "to", "mi", "re", "su", "lon", "berg", "ing", "\u00e9t", "\u6f22")
RANDOM = np.random.default_rng(0)
WORDS = ["".join(RANDOM.choice(SYLLABLES, RANDOM.integers(1, 4))) for _ in range(400)]
CORPUS = [" ".join(RANDOM.choice(WORDS, 8)) for _ in range(300)]
SOME, OTHERS = CORPUS[:12], CORPUS[12:]


def word_piece() -> Tokenizer:
    engine = Tokenizer(models.WordPiece(unk_token="<unk>"))
    engine.pre_tokenizer = pre_tokenizers.Whitespace()
    engine.train_from_iterator(CORPUS, trainers.WordPieceTrainer(vocab_size=400, special_tokens=SPECIAL))
    return engine


def byte_level() -> Tokenizer:
    engine = Tokenizer(models.BPE())
    engine.pre_tokenizer, engine.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=700, special_tokens=SPECIAL, initial_alphabet=alphabet)
    engine.train_from_iterator(CORPUS, trainer)
    return engine


def unigram() -> Tokenizer:
    engine = Tokenizer(models.Unigram())
    engine.normalizer, engine.pre_tokenizer = normalizers.NFKC(), pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=200, special_tokens=SPECIAL, unk_token="<unk>")
    engine.train_from_iterator(CORPUS, trainer)
    return engine


def with_specials(engine: Tokenizer) -> PreTrainedTokenizerFast:
    engine.add_special_tokens(["<mask>"])  # behind the others, as in XLM-R
    engine.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    names = {"bos": "<s>", "cls": "<s>", "pad": "<pad>", "eos": "</s>", "sep": "</s>", "unk": "<unk>", "mask": "<mask>"}
    return PreTrainedTokenizerFast(tokenizer_object=engine, **{f"{name}_token": token for name, token in names.items()})


@pytest.mark.parametrize("make", [word_piece, byte_level, unigram])
def test_used_texts_keep_their_pieces_and_others_stay_known(
    make: Callable[[], Tokenizer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trim, "COMMON_PIECES", 5)
    whole = with_specials(make())
    before = [whole(text).tokens() for text in SOME]
    used = np.concatenate([whole(text).input_ids for text in SOME])
    kept = kept_tokens(whole, used, "m")
    small = trimmed_tokenizer(whole, kept)
    assert len(small) == len(kept) < 0.9 * len(whole)
    assert [small(text).tokens() for text in SOME] == before
    assert all((kept[small(text).input_ids] == whole(text).input_ids).all() for text in SOME)
    changed = sum(small(text).tokens() != whole(text).tokens() for text in OTHERS)
    assert changed > 0
    for text in [*OTHERS, "q w kato9 \u6f22mi", "".join(SYLLABLES)]:
        assert small(text).tokens().count("<unk>") == whole(text).tokens().count("<unk>")
    assert small.mask_token_id == len(kept) - 1 and small.convert_tokens_to_ids(SPECIAL) == [0, 1, 2, 3]

    shape = EncoderShape.uniform(
        hidden_size=8, num_layers=1, num_heads=2, intermediate_size=8, vocab_size=len(whole) + 3, num_positions=40
    )
    torch.manual_seed(0)
    model = TaskModel(shape, EncoderStyle(family="bert", pad_token_id=1), HeadSpec("masked_lm")).eval()
    model.head.bias.data.normal_()
    cut = with_token_rows(model, kept)
    theirs, ours = (torch.tensor([each(SOME[0]).input_ids]) for each in (whole, small))
    wanted = model(theirs).logits[..., torch.from_numpy(kept)]
    torch.testing.assert_close(cut(ours).logits, wanted)
    save_model(tmp_path / "m", cut, small, provenance=PROVENANCE)
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    assert config["vocab_size"] == len(kept) and config["pad_token_id"] == 1
    loaded = load_model(tmp_path / "m")
    assert [loaded.tokenizer(text).tokens() for text in CORPUS] == [small(text).tokens() for text in CORPUS]
    torch.testing.assert_close(loaded.model(ours).logits, wanted)


def test_a_piece_that_could_not_be_split_further_stays() -> None:
    vocab = {token: i for i, token in enumerate([*SPECIAL, "a", "##a", "b", "ax", "##ax", "ab"])}
    engine = Tokenizer(models.WordPiece(vocab, unk_token="<unk>"))
    engine.pre_tokenizer = pre_tokenizers.Whitespace()
    whole = with_specials(engine)
    small = trimmed_tokenizer(whole, kept_tokens(whole, np.array([4]), "m"))
    assert small("ax aax ab").tokens() == whole("ax aax ab").tokens()


def test_a_vocabulary_of_whole_words_is_refused() -> None:
    engine = Tokenizer(models.WordLevel({token: i for i, token in enumerate(SPECIAL)}, unk_token="<unk>"))
    message = "m: --trim-vocab must be given a tokenizer of WordPiece, BPE, Unigram, got WordLevel"
    with pytest.raises(ModelError, match=message):
        kept_tokens(with_specials(engine), np.array([0]), "m")
