"""Augmentation: originals once, each side of a pair varied beside the other's original, seeded, no duplicates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cutbert.data import augment
from cutbert.data.augment import (
    CandidateSource,
    OpenWord,
    augment_rows,
    masked_lm_source,
    read_word_list,
    word_list_source,
)
from cutbert.data.rows import Rows
from cutbert.data.settings import AugmentSettings
from cutbert.errors import DataError
from cutbert.work.augment import WordProposer
from tiny_runs import tiny_tokenizer

Write = Callable[[str, str | bytes], str]

TABLE = {"film": ["movie", "picture"], "good": ["great", "fine", "nice"], "dull": ["boring"], "plot": ["story"]}
WORDS = word_list_source(TABLE)


def variants(rows: Rows, source: CandidateSource = WORDS, seed: int = 0, **numbers: float) -> Rows:
    settings = AugmentSettings(**{"num_candidates": 15, "replace_prob": 0.5, "num_rounds": 20, **numbers})  # type: ignore[arg-type]
    return augment_rows(rows, source, settings, seed=seed)


def test_originals_come_first_and_once() -> None:
    rows = Rows(["a good film", "the plot", "a good film"], None, np.array([1, 0, 1]))
    found = variants(rows)
    assert found.text[:3] == rows.text
    assert "a good film" not in found.text[3:] and "the plot" not in found.text[3:]
    assert found.text_pair is None


def test_all_that_can_arise_arises_once() -> None:
    found = variants(Rows(["a good film"]), num_rounds=500)
    words = [(a, b) for a in ("good", "great", "fine", "nice") for b in ("film", "movie", "picture")]
    assert sorted(found.text) == sorted(f"a {a} {b}" for a, b in words)


def test_variants_keep_the_label_of_their_row() -> None:
    rows = Rows(["good", "dull", "plot"], None, np.array([5, 6, 7]))
    found = variants(rows, num_rounds=50)
    assert found.labels is not None and len(found.labels) == len(found.text)
    origin = {"good": 5, "great": 5, "fine": 5, "nice": 5, "dull": 6, "boring": 6, "plot": 7, "story": 7}
    assert found.labels.tolist() == [origin[text] for text in found.text]
    assert variants(Rows(["good"])).labels is None


def test_each_side_is_varied_beside_the_others_original() -> None:
    rows = Rows(["a good film", "dull"], ["the good plot", "a dull film"], np.array([0, 1]))
    found = variants(rows, num_rounds=50)
    assert found.text_pair is not None
    originals = list(zip(rows.text, rows.text_pair or [], strict=True))
    pairs = list(zip(found.text, found.text_pair, strict=True))
    assert pairs[:2] == originals
    for left, right in pairs[2:]:
        assert sum((left == a) + (right == b) == 1 for a, b in originals) == 1
    assert any(left == "a good film" for left, _ in pairs[2:]) and any(
        right == "the good plot" for _, right in pairs[2:]
    )
    assert len(set(pairs)) == len(pairs)


def test_seed_decides_and_chunks_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = Rows([f"good film {i} with a dull plot" for i in range(40)])
    first, other = variants(rows, num_rounds=2), variants(rows, num_rounds=2, seed=1)
    monkeypatch.setattr(augment, "CHUNK_ROWS", 7)
    assert variants(rows, num_rounds=2).text == first.text != other.text


def test_probability_is_that_of_a_word() -> None:
    text = " ".join(["good"] * 2000)
    [_, variant] = variants(Rows([text]), num_rounds=1, replace_prob=0.4).text
    assert 0.36 < 1 - variant.split().count("good") / 2000 < 0.44
    assert variants(Rows(["dull"]), num_rounds=1, replace_prob=1.0).text == ["dull", "boring"]


def test_rows_kept_out_do_not_arise() -> None:
    settings = AugmentSettings(num_rounds=200)
    found = augment_rows(Rows(["good"]), WORDS, settings, seed=0, keep_out=[Rows(["great"]), Rows(["fine "])])
    assert sorted(found.text) == ["good", "nice"]


def collect_words(asked: list[OpenWord]) -> CandidateSource:
    def source(words: Sequence[OpenWord]) -> list[list[str]]:
        asked.extend(words)
        return [["new"] for _ in words]

    return source


def test_only_alphabetic_words_that_are_no_stop_words_are_open() -> None:
    asked: list[OpenWord] = []
    text = "It's not the WELL-made film2 , 3D caf\u00e9 'll don't _x_ Movie"
    found = variants(Rows([text]), collect_words(asked), num_rounds=1, replace_prob=1.0)
    assert [word.word for word in asked] == ["caf\u00e9", "Movie"]
    assert all(word.before + word.word + word.after == text for word in asked)
    assert found.text[1] == "It's not the WELL-made film2 , 3D new 'll don't _x_ New"


def test_candidates_are_whole_other_words_and_at_most_m() -> None:
    def propose(texts: list[str]) -> list[list[str]]:
        assert texts == ["a [MASK] plot", "a Good [MASK]"]
        return [["##ly", "good", ".", "fine", "", "Great", "nice"], []]

    found = variants(Rows(["a Good plot"]), masked_lm_source(propose, "[MASK]"), num_candidates=2, num_rounds=99)
    assert sorted(found.text) == ["a Fine plot", "a Good plot", "a Great plot"]


def test_a_source_that_skips_words_is_refused() -> None:
    with pytest.raises(DataError, match="a source of candidates must return 2 lists, one per word, got 1"):
        variants(Rows(["good film"]), lambda words: [["nice"]])


def test_rows_of_a_table_beyond_the_tokenizer_are_not_proposed() -> None:
    """Tables are padded to round numbers; what pads them may have the best logits."""
    tokenizer = tiny_tokenizer()
    logits = torch.arange(len(tokenizer) + 3.0)

    def model(input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=logits.expand(*input_ids.shape, -1))

    model.shape, model.style = SimpleNamespace(num_positions=16), SimpleNamespace(position_offset=0)  # type: ignore[attr-defined]
    (proposed,) = WordProposer(SimpleNamespace(model=model, tokenizer=tokenizer))(["a [MASK] film"])  # type: ignore[arg-type]
    assert proposed == tokenizer.convert_ids_to_tokens(list(reversed(range(len(tokenizer)))))


def test_texts_without_open_words_stay_alone() -> None:
    def refuse(words: Sequence[OpenWord]) -> list[list[str]]:
        raise AssertionError("asked for nothing")

    assert variants(Rows(["it is not 3", "..."]), refuse).text == ["it is not 3", "..."]


def test_word_list_file(write: Write) -> None:
    name = write("words.tsv", "\ufeffFilm\tmovie picture\r\ndull\tboring\n")
    table = read_word_list(Path(name))
    assert table == {"film": ["movie", "picture"], "dull": ["boring"]}
    assert word_list_source(table)([OpenWord("", "Film", ""), OpenWord("", "x", "")]) == [["movie", "picture"], []]


def test_word_list_mistakes_are_named(write: Write) -> None:
    name = write("words.tsv", b"film\tmovie\ndull\n\tx\ngood\t \nfilm\tpicture\nx\t\xff\n")
    with pytest.raises(DataError) as caught:
        read_word_list(Path(name))
    shape = "must be a word, a tab and its candidates, in UTF-8"
    assert list(caught.value.mistakes) == [
        f"{name}: line 2 {shape}",
        f"{name}: line 3 {shape}",
        f"{name}: line 4 {shape}",
        f"{name}: line 5 must not give the word 'film' again",
        f"{name}: line 6 {shape}",
    ]
    with pytest.raises(DataError, match=r"empty.tsv: file is empty"):
        read_word_list(Path(write("empty.tsv", "")))
