"""Sentences with a label per word: the three formats, what is refused, the pieces of words."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_tokenizer import build_tokenizer
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from cutbert.data.dataset import load_dataset
from cutbert.data.sentences import Sentences
from cutbert.data.settings import DataSettings
from cutbert.data.subwords import engine_for_words
from cutbert.data.tokens import tokenize_rows
from cutbert.errors import DataError

Write = Callable[[str, str | bytes], str]
OWN: dict[str, Any] = {"tagging": True, "text": "0", "label": "-1"}


def conll(first: int, count: int) -> str:
    """Sentences of three words in four columns, spaces and tabs between."""
    found = ["-DOCSTART- -X- O O\n"]
    for i in range(first, first + count):
        found.append(f"\nfilm{i} NN\tx  B-PER\nis VB x O\nbad\u00a0film JJ x I-PER\n")
    return "".join(found)


def jsonl(first: int, count: int) -> str:
    rows = (
        {"w": [f"film{i}", "is", "bad\u00a0film"], "t": ["B-PER", "O", "I-PER"]} for i in range(first, first + count)
    )
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_conll_json_lines_and_parquet_hold_the_same(write: Write, tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    paths = {
        "conll": write("train.conll", conll(0, 20)),
        "zipped": write("train.conll.gz", gzip.compress(conll(0, 20).replace("\n", "\r\n").encode())),
        "jsonl": write("train.jsonl", jsonl(0, 20)),
        "parquet": str(tmp_path / "train.parquet"),
    }
    rows = [json.loads(line) for line in jsonl(0, 20).splitlines()]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), paths["parquet"])
    found = []
    for name, path in paths.items():
        by_number = name in ("conll", "zipped")
        columns = OWN if by_number else {**OWN, "text": "w", "label": "t"}
        dev = write("dev.conll", conll(50, 4)) if by_number else write("dev.jsonl", jsonl(50, 4))
        data = load_dataset(DataSettings(train=(path,), dev=(dev,), **columns))
        assert (data.head.kind, data.head.labels, data.metric) == ("token", ("B-PER", "I-PER", "O"), "f1"), name
        assert isinstance(data.train, Sentences) and isinstance(data.dev, Sentences)
        assert (len(data.train), len(data.select), len(data.dev)) == (18, 2, 4)
        assert data.dev.words[0] == ["film50", "is", "bad\u00a0film"] and data.dev.labels is not None
        assert data.dev.labels[0].tolist() == [0, 2, 1]
        found.append(sorted(map(tuple, data.train.words)))
    assert all(each == found[0] for each in found)


def test_columns_may_be_numbers_from_python(write: Write) -> None:
    files = {"train": write("a.conll", conll(0, 20)), "dev": write("b.conll", conll(50, 2))}
    data = load_dataset(DataSettings(**files, tagging=True, text=0, label=1))  # type: ignore[arg-type]
    assert data.head.labels == ("JJ", "NN", "VB") and data.metric == "accuracy"


def test_dev_is_held_out_where_none_is_given(write: Write) -> None:
    data = load_dataset(DataSettings(train=(write("a.conll", conll(0, 40)),), **OWN))
    assert (len(data.train), len(data.select), len(data.dev)) == (33, 3, 4)
    assert data.notes == ("4 rows of train are held out as dev, by hash of the text, as no --dev is given",)


def test_select_unlabeled_and_samples(write: Write) -> None:
    more = write("more.conll", "new\nwords\n\n")
    settings = DataSettings(
        train=(write("a.conll", conll(0, 20)),),
        dev=(write("b.conll", conll(50, 4)),),
        select=write("s.conll", conll(18, 4)),
        unlabeled=(more,),
        max_train_samples=5,
        max_eval_samples=3,
        **OWN,
    )
    data = load_dataset(settings)
    assert (len(data.train), len(data.select), len(data.dev)) == (5, 3, 3)
    assert data.notes == ("2 rows of train left out, because select holds the same text",)
    assert isinstance(data.unlabeled, Sentences) and isinstance(data.train, Sentences)
    joined = data.train.joined(data.unlabeled)
    assert joined.labels is None and joined.words[-1] == ["new", "words"] and len(joined) == 6


@pytest.mark.parametrize(
    ("name", "content", "settings", "expected"),
    [
        ("a.conll", "one O\n\ntwo\nthree O\n", {"label": "1"}, "row 2 (line 3): line 3 must have a column 1, got 1"),
        ("a.conll", "one O\n", {"text": "w"}, "columns of a .conll file must be numbers from 0, got w"),
        ("a.conll", "-DOCSTART- O\n\n", {}, "has no rows"),
        ("a.conll", b"\xff O\n", {}, "row 1: column '0' must be UTF-8, got ['\\udcff']"),
        ("a.tsv", "w\tO\n", {}, "with --tagging a name must end in one of .conll, .jsonl, .parquet"),
        ("a.jsonl", '{"0": ["a", "b"], "1": ["O"]}', {"label": "1"}, "must have one label per word, got 2 words and 1"),
        ("a.jsonl", '{"0": "a b", "1": ["O"]}', {"label": "1"}, "column '0' must be a list of texts, got str 'a b'"),
        ("a.jsonl", '{"0": ["a"], "1": [3]}', {"label": "1"}, "row 1: column '1' must be a list of texts, got list"),
        ("a.jsonl", '{"0": [], "1": []}', {"label": "1"}, "row 1: column '0' must not be empty"),
        ("a.jsonl", '{"0": ["a"]}', {"label": "1"}, "has no column '1'; columns: 0"),
        ("a.conll", "one O\ntwo O\n", {}, "column '-1' of --train must hold 2 or more different labels, got 1"),
        ("a.conll", "one B-X\ntwo Y\n", {}, "labels of entities must be O or begin with B-, I-, E- or S- (L-, U-)"),
    ],
)  # fmt: skip
def test_broken_files_are_named(
    write: Write, name: str, content: str | bytes, settings: dict[str, Any], expected: str
) -> None:
    train = write(name, content)
    dev = write("dev.conll", "one B-X\n") if "B-X" in str(content) else write("dev" + name, content)
    with pytest.raises(DataError) as caught:
        load_dataset(DataSettings(train=(train,), dev=(dev,), **{**OWN, **settings}))
    assert expected in caught.value.mistakes[0]


def test_labels_unseen_in_train_are_named(write: Write) -> None:
    files = {"train": write("a.conll", conll(0, 20)), "dev": write("b.conll", "x O\ny B-ORG\nz B-ORG\n")}
    with pytest.raises(DataError) as caught:
        load_dataset(DataSettings(**files, **OWN))
    assert list(caught.value.mistakes) == [f"{files['dev']}: row 1: label must be one of B-PER, I-PER, O, got 'B-ORG'"]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            {"regression": True, "text_pair": "2", "multi_label": ","},
            [
                "--text-pair must not be given with --tagging",
                "--regression must not be given with --tagging",
                "--multi-label must not be given with --tagging",
                "--regression and --multi-label must not be given together",
            ],
        ),
        ({"stride": 64}, ["--stride is for question answering (--task squad or squad2), got 64"]),
    ],
)
def test_options_that_do_not_go_with_tagging(settings: dict[str, Any], expected: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        DataSettings(train=("a.conll",), dev=("b.conll",), **OWN, **settings).check()
    assert list(caught.value.mistakes) == expected


def test_first_pieces_carry_the_labels() -> None:
    rows = Sentences(
        [["the", "filmy", "u.s.", "", "good"], ["bad", "a", "xyz", "plot", "dull"]],
        [np.array([0, 1, 2, 1, 0]), np.array([2, 2, 1, 0, 1])],
        ("a", "b", "c"),
    )
    tokens = tokenize_rows(rows, build_tokenizer(), "tiny", 8)
    pieces = [build_tokenizer().convert_ids_to_tokens(tokens.ids[a:b]) for a, b in ((0, 8), (8, 16))]
    assert pieces[0][:7] == ["[CLS]", "the", "film", "##y", "u", ".", "s"]
    assert tokens.token_labels is not None and tokens.lengths.tolist() == [8, 8]
    assert tokens.token_labels.tolist() == [-100, 0, 1, -100, 2, -100, -100, -100, -100, 2, 2, 1, -100, -100, 0, -100]
    assert tokens.label_counts.tolist() == [3, 4]
    assert tokens.notes == (
        "3 words are lost: after the first 8 tokens of their sentence, or dropped by the tokenizer",
    )
    again = tokenize_rows(rows, build_tokenizer(), "tiny", 8)
    assert isinstance(again.ids, np.memmap) and again.token_labels is not None
    assert again.token_labels.tolist() == tokens.token_labels.tolist()


def test_the_cache_knows_where_sentences_end() -> None:
    tokenizer = build_tokenizer()
    together = tokenize_rows(Sentences([["a", "film"], ["good"]], None, ("x",)), tokenizer, "t", 16)
    apart = tokenize_rows(Sentences([["a"], ["film", "good"]], None, ("x",)), tokenizer, "t", 16)
    assert (together.lengths.tolist(), apart.lengths.tolist()) == ([4, 3], [3, 4])
    assert together.token_labels is None and together.scorer is None


@pytest.mark.parametrize(
    ("step", "mark"),
    [
        (pre_tokenizers.ByteLevel(add_prefix_space=False), "Ġ"),
        (pre_tokenizers.Metaspace(prepend_scheme="never"), "▁"),
        (pre_tokenizers.Sequence([pre_tokenizers.Metaspace(prepend_scheme="first")]), "▁"),
    ],
)
def test_words_have_their_space_mark(step: Any, mark: str) -> None:
    vocab = {token: i for i, token in enumerate(["<unk>", "film", "good", mark + "film", mark + "good"])}
    engine = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    engine.pre_tokenizer = step
    before = engine.to_str()
    found = engine_for_words(engine).encode(["good", "film"], is_pretokenized=True)
    assert found.tokens == [mark + "good", mark + "film"] and engine.to_str() == before
    rows = Sentences([["good", "film"]], [np.array([0, 1])], ("x", "y"))
    tokens = tokenize_rows(rows, PreTrainedTokenizerFast(tokenizer_object=engine), "t", 8, cache=False)
    assert tokens.token_labels is not None and tokens.token_labels.tolist() == [0, 1]
