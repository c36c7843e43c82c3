"""Plain text: packing loses no token, documents are told apart, held-out rows are never trained on."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_tokenizer import build_tokenizer
from transformers import PreTrainedTokenizerFast

from cutbert.data import text as text_file
from cutbert.data.batches import plan_batches
from cutbert.data.cache import cache_folder
from cutbert.data.splits import num_held_out
from cutbert.data.text import TextData, TextSources, find_texts, load_texts
from cutbert.data.text_settings import TextSettings
from cutbert.data.text_sources import TextSource, dataset_pieces
from cutbert.data.tokens import Tokens
from cutbert.errors import DataError, ModelError

Write = Callable[[str, str | bytes], str]
S = 10


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUTBERT_CACHE", str(tmp_path / "cache"))


def random_documents(count: int, seed: int = 0) -> list[list[str]]:
    """Return documents, each a list of lines."""
    random = np.random.default_rng(seed)
    words = ["the", "film", "dull", "warm", "plot", "zebra", "it", "is"]
    return [
        [" ".join(random.choice(words, random.integers(1, 9))) for _ in range(random.integers(1, 4))]
        for _ in range(count)
    ]


def as_text(documents: list[list[str]]) -> str:
    return "\n\n".join("\n".join(lines) for lines in documents) + "\n"


def load(tokenizer: PreTrainedTokenizerFast, length: int = S, **options: object) -> TextData:
    return load_texts(find_texts(TextSettings(sequence_length=length, **options)), tokenizer, "tiny", length)


def rows(tokens: Tokens) -> np.ndarray:
    return np.asarray(tokens.ids).reshape(len(tokens), -1)


def joined_plainly(tokenizer: PreTrainedTokenizerFast, documents: list[list[str]]) -> list[int]:
    """Return all documents' ids, a separator between, each document tokenised as a whole."""
    found: list[int] = []
    for lines in documents:
        ids = tokenizer(" ".join(lines), add_special_tokens=False)["input_ids"]
        found += [tokenizer.sep_token_id] * bool(found) + ids
    return found


@pytest.mark.parametrize("chunk", [1, 3, 5_000])
def test_packing_loses_no_token(
    chunk: int, tokenizer: PreTrainedTokenizerFast, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_file, "CHUNK_PIECES", chunk)
    documents, dev = random_documents(30), random_documents(5, 1)
    found = load(tokenizer, train=write("a.txt", as_text(documents)), dev=write("b.txt", as_text(dev)))
    for tokens, source in ((found.train, documents), (found.dev, dev)):
        wanted = joined_plainly(tokenizer, source)
        packed = rows(tokens)
        assert packed.shape[1] == S and packed.dtype == np.int32
        assert (packed[:, 0] == tokenizer.cls_token_id).all() and (packed[:, -1] == tokenizer.sep_token_id).all()
        assert packed[:, 1:-1].flatten().tolist() == wanted[: len(wanted) // (S - 2) * (S - 2)]
        assert (tokens.lengths == S).all() and tokens.pair_starts is None


def test_a_document_ends_at_a_blank_line_and_at_a_files_end(tokenizer: PreTrainedTokenizerFast, write: Write) -> None:
    write("1.txt", "\ufeffthe film\r\nis dull\r\n \t\r\nthe plot\n\n\n\n")
    zipped = gzip.compress(b"it is warm\n")
    write("2.txt.gz", zipped)
    folder = str(Path(write("dev.txt", "the film is not the plot")).parent)
    found = load(tokenizer, 8, train=(f"{folder}/[12].txt*",), dev=f"{folder}/dev.txt")
    wanted = joined_plainly(tokenizer, [["the film is dull"], ["the plot"], ["it is warm"]])
    assert rows(found.train)[:, 1:-1].flatten().tolist() == wanted[:6]
    assert set(found.files) == {f"{folder}/{name}" for name in ("1.txt", "2.txt.gz", "dev.txt")}


def test_too_little_for_a_sequence_is_one_short_one(tokenizer: PreTrainedTokenizerFast, write: Write) -> None:
    found = load(tokenizer, 64, train=write("a.txt", "the film is dull"), dev=write("b.txt", "the plot"))
    assert found.train.lengths.tolist() == [6] and found.dev.lengths.tolist() == [4]


def test_the_mark_of_rare_words_becomes_the_unknown_token(tokenizer: PreTrainedTokenizerFast, write: Write) -> None:
    found = load(tokenizer, train=write("a.txt", "the <unk> film"), dev=write("b.txt", "the plot"))
    assert rows(found.train)[0, 2] == tokenizer.unk_token_id and found.train.lengths.tolist() == [5]


def test_held_out_rows_are_never_trained_on(tokenizer: PreTrainedTokenizerFast, write: Write) -> None:
    documents = random_documents(400)
    found = load(tokenizer, train=write("a.txt", as_text(documents)))
    everything = joined_plainly(tokenizer, documents)
    total = len(everything) // (S - 2)
    assert len(found.train) + len(found.dev) == total
    assert len(found.dev) in (num_held_out(total), num_held_out(total) - 1)  # equal rows stay together
    inner = [tuple(row) for tokens in (found.train, found.dev) for row in rows(tokens)[:, 1:-1].tolist()]
    assert sorted(inner) == sorted(tuple(everything[i * 8 : i * 8 + 8]) for i in range(total))
    assert not set(inner[: len(found.train)]) & set(inner[len(found.train) :])
    assert "a share of the training text, by hash" in found.notes[1]


def test_a_hub_data_set_is_streamed_row_by_row(
    tokenizer: PreTrainedTokenizerFast, write: Write, tmp_path: Path
) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    table = pa.table({"body": ["the film\n\nis dull", "", "the plot is warm", None]})
    pq.write_table(table, folder / "train.parquet")
    dev = write("dev.txt", "the film is not the plot")
    found = load(tokenizer, 8, dataset=str(folder), text_column="body", dev=dev)
    wanted = joined_plainly(tokenizer, [["the film is dull"], ["the plot is warm"]])
    assert rows(found.train)[:, 1:-1].flatten().tolist() == wanted[:6]
    with pytest.raises(DataError, match=r"--dataset .* must have a column of text 'text', got body"):
        find_texts(TextSettings(dataset=str(folder)))
    with pytest.raises(DataError, match=r"--dataset .*nosuch cannot be had \(.*\); give text files by --train"):
        find_texts(TextSettings(dataset=str(tmp_path / "nosuch")))


def test_a_stream_that_breaks_off_leaves_nothing(tokenizer: PreTrainedTokenizerFast) -> None:
    def rows() -> Iterator[dict[str, str]]:
        yield {"text": "the film is dull"}
        raise ConnectionError("no route\nto host")

    source = TextSource({"far": "fingerprint"}, lambda: dataset_pieces("far", rows(), "text"))
    with pytest.raises(DataError, match=r"--dataset far broke off \(no route\); the same command reads it again"):
        load_texts(TextSources(source, None), tokenizer, "tiny", S)
    assert not list((cache_folder() / "tokens").glob("*/*"))


def test_the_cache_is_used_and_keyed_by_content(tokenizer: PreTrainedTokenizerFast, write: Write) -> None:
    options = {"train": write("a.txt", as_text(random_documents(30))), "dev": write("b.txt", "the film")}
    entries = []
    for length, name in ((S, "a"), (S, "renamed"), (S + 1, "a")):
        moved = Path(options["train"]).with_name(f"{name}.txt")
        moved.write_bytes(Path(options["train"]).read_bytes())
        found = load(tokenizer, length, **{**options, "train": str(moved)})
        assert isinstance(found.train.ids, np.memmap)
        entries.append(len([path for path in (cache_folder() / "tokens").iterdir() if path.is_dir()]))
    assert entries == [2, 2, 4]


def test_mistakes_come_together(write: Write, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        files = ("no.txt", write("a.csv", "x"))
        find_texts(TextSettings(train=files, dev=str(tmp_path / "*.txt"), mask_probability=2.0))
    assert [line.split(": ")[-1] for line in caught.value.mistakes] == [
        "--mask-probability must lie in (0, 1), got 2.0",
        "no such file",
        "name must end in .txt or .txt.gz",
        "no file matches",
    ]
    both = write("both.txt", "x")
    with pytest.raises(DataError, match=r"--train and --dev must not both hold the same text, got \S*both\.txt$"):
        find_texts(TextSettings(train=both, dev=both))
    copy = write("copy.txt", "x")
    with pytest.raises(DataError, match=r"the same text, got \S*both\.txt and \S*copy\.txt"):
        find_texts(TextSettings(train=both, dev=copy))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"fine\n\xff\n", r"a\.txt: line 2 must be UTF-8"),
        ("a.txt.gz", b"no gzip", r"a\.txt\.gz: must be a whole gzip file"),
        ("a.txt.gz", gzip.compress(b"x" * 999, mtime=0)[:-9], r"a\.txt\.gz: must be a whole gzip file"),
        (
            "a.txt",
            b" \n",
            r"a\.txt: must fill two different sequences of 10 tokens, one to train on and one",
        ),
        ("a.txt", b"the film", "must fill two different sequences"),
        ("a.txt", b"", "must fill two different sequences"),
    ],
)
def test_text_that_cannot_be_used(
    name: str, content: bytes, message: str, tokenizer: PreTrainedTokenizerFast, write: Write
) -> None:
    with pytest.raises(DataError, match=message):
        load(tokenizer, train=write(name, content))
    assert not [path for path in cache_folder().rglob("*.part")]


def test_a_tokenizer_needs_its_special_tokens(write: Write) -> None:
    tokenizer = build_tokenizer()
    tokenizer.cls_token = None
    with pytest.raises(ModelError, match="tiny: the tokenizer must have a first and a separating token"):
        load(tokenizer, train=write("a.txt", "the film"))


def test_batches_of_rows_of_one_length() -> None:
    plans = [plan_batches(np.full(1001, S), 32, seed=3, epoch=epoch) for epoch in (0, 0, 1)]
    for plan in plans:
        assert [len(batch) for batch in plan] == [32] * 31 + [9]
        assert sorted(np.concatenate(plan)) == list(range(1001))
    flat = [np.concatenate(plan).tolist() for plan in plans]
    assert flat[0] == flat[1] != flat[2]
