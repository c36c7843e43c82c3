"""Tokens: equal to what transformers gives, cached whole, rebuilt when damaged."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_tokenizer import build_tokenizer
from transformers import PreTrainedTokenizerFast

from cutbert.data import tokens as tokens_file
from cutbert.data.cache import cache_folder
from cutbert.data.rows import Rows
from cutbert.data.tokens import Tokens, tokenize_rows
from cutbert.errors import DataError, ModelError
from kills import killed_before


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CUTBERT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tokens"


def random_texts(count: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    words = ["the", "film", "dull", "unknown", "é", "[SEP]", "[MASK]", "!?", "日本", "\x00", "", "a b", "'t", "\u200b"]
    return [" ".join(rng.choices(words, k=rng.randint(0, 12))) for _ in range(count)]


def row(tokens: Tokens, index: int) -> list[int]:
    return tokens.ids[tokens.offsets[index] : tokens.offsets[index + 1]].tolist()


@pytest.mark.parametrize("token_types", [True, False])
@pytest.mark.parametrize("max_length", [5, 9, 128])
@pytest.mark.parametrize("pairs", [False, True])
def test_tokens_equal_those_of_transformers(
    monkeypatch: pytest.MonkeyPatch, pairs: bool, max_length: int, token_types: bool
) -> None:
    monkeypatch.setattr(tokens_file, "CHUNK_ROWS", 7)
    tokenizer = build_tokenizer(token_types)
    text, text_pair = random_texts(40, 0), random_texts(40, 1) if pairs else None
    found = tokenize_rows(Rows(text, text_pair, np.arange(40)), tokenizer, "tiny", max_length)
    expected = tokenizer(text, text_pair, truncation="longest_first", max_length=max_length, return_token_type_ids=True)
    assert [row(found, i) for i in range(40)] == expected["input_ids"]
    assert found.lengths.tolist() == [len(ids) for ids in expected["input_ids"]]
    assert (found.ids.dtype, found.offsets.dtype, len(found)) == (np.int32, np.int64, 40)
    assert found.labels is not None and found.labels.tolist() == list(range(40))
    if pairs:
        assert found.pair_starts is not None and found.pair_starts.dtype == np.int32
        types = [
            [0] * start + [1] * (length - start) for start, length in zip(found.pair_starts, found.lengths, strict=True)
        ]
        assert types == expected["token_type_ids"]
    else:
        assert found.pair_starts is None


def test_padding_and_truncation_of_the_tokenizer_are_ignored_and_kept(tokenizer: PreTrainedTokenizerFast) -> None:
    engine = tokenizer.backend_tokenizer
    engine.enable_padding(length=50)
    engine.enable_truncation(4)
    before = engine.to_str()
    found = tokenize_rows(Rows(["the film is not very good ."]), tokenizer, "tiny", 128)
    assert found.lengths.tolist() == [9]
    assert engine.to_str() == before


def test_rows_that_are_cut_are_counted(tokenizer: PreTrainedTokenizerFast, cache: Path) -> None:
    rows = Rows(random_texts(40, 0))
    whole = tokenize_rows(rows, tokenizer, "t", 64)
    for longest in sorted(set(whole.lengths.tolist()) - {2}):
        cut = int((whole.lengths > longest).sum())
        for _ in range(2):  # made, then from the cache
            notes = tokenize_rows(rows, tokenizer, "t", longest).notes
            assert notes == ((f"{cut} of 40 texts are cut at {longest} tokens",) if cut else ())


def test_special_tokens_are_split_where_the_tokenizer_does(tokenizer: PreTrainedTokenizerFast) -> None:
    rows = Rows(["[SEP]"])
    whole = tokenize_rows(rows, tokenizer, "tiny", 128)
    tokenizer.backend_tokenizer.encode_special_tokens = True
    split = tokenize_rows(rows, tokenizer, "tiny", 128)
    assert len(whole.ids) == 3 < len(split.ids)


def test_second_time_comes_from_the_cache(tokenizer: PreTrainedTokenizerFast, cache: Path) -> None:
    rows = Rows(random_texts(30, 0), random_texts(30, 1))
    first = tokenize_rows(rows, tokenizer, "tiny", 16)
    (written,) = cache.glob("*/ids.npy")
    before = written.stat()
    second = tokenize_rows(rows, build_tokenizer(), "another name", 16)
    assert (written.stat().st_ino, written.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    for found in (first, second):
        assert isinstance(found.ids, np.memmap)
        assert not found.ids.flags.writeable
    assert second.ids.tolist() == first.ids.tolist()
    assert second.offsets.tolist() == first.offsets.tolist()
    assert second.pair_starts is not None and first.pair_starts is not None
    assert second.pair_starts.tolist() == first.pair_starts.tolist()
    assert len([entry for entry in cache.iterdir() if entry.is_dir()]) == 1


def test_key_knows_content_tokenizer_and_length(cache: Path) -> None:
    plain, other = build_tokenizer(), build_tokenizer(token_types=False)
    tokenize_rows(Rows(["a b", "c"]), plain, "tiny", 16)
    tokenize_rows(Rows(["a", "b c"]), plain, "tiny", 16)
    tokenize_rows(Rows(["a b"], ["c"]), plain, "tiny", 16)
    tokenize_rows(Rows(["a b", "c"]), plain, "tiny", 17)
    tokenize_rows(Rows(["a b", "c"]), other, "tiny", 16)
    assert len([entry for entry in cache.iterdir() if entry.is_dir()]) == 5


def test_without_cache_nothing_is_written(tokenizer: PreTrainedTokenizerFast, cache: Path) -> None:
    found = tokenize_rows(Rows(["the film"]), tokenizer, "tiny", 16, cache=False)
    assert found.lengths.tolist() == [4]
    assert not cache.exists()


@pytest.mark.parametrize("damage", ["bit", "cut", "gone", "index", "index gone", "odd index", "deep index"])
def test_damaged_entries_are_rebuilt(tokenizer: PreTrainedTokenizerFast, cache: Path, damage: str) -> None:
    rows = Rows(random_texts(30, 0))
    expected = tokenize_rows(rows, tokenizer, "tiny", 16, cache=False).ids.tolist()
    tokenize_rows(rows, tokenizer, "tiny", 16)
    [entry] = [each for each in cache.iterdir() if each.is_dir()]
    ids, index = entry / "ids.npy", entry / "index.json"
    data = ids.read_bytes()
    if damage == "bit":
        ids.write_bytes(data[:-3] + bytes([data[-3] ^ 1]) + data[-2:])
    elif damage == "cut":
        ids.write_bytes(data[:-8])
    elif damage == "gone":
        ids.unlink()
    elif damage == "index":
        index.write_text('{"sha256"')
    elif damage == "index gone":
        index.unlink()
    else:
        index.write_text("[1]" if damage == "odd index" else "[" * 100_000)
    assert tokenize_rows(rows, tokenizer, "tiny", 16).ids.tolist() == expected
    assert ids.read_bytes() == data


def test_an_interrupted_entry_leaves_nothing(tokenizer: PreTrainedTokenizerFast, cache: Path) -> None:
    with killed_before("index.json"):
        tokenize_rows(Rows(["the film"]), tokenizer, "tiny", 16)
    assert not any(entry.is_dir() for entry in cache.iterdir())


RACER = """
import sys
import numpy as np
from cutbert.data.cache import cached_arrays
arrays = {"ids": np.arange(100_000, dtype=np.int32)}
for i in range(40):
    assert cached_arrays(f"key{i}", lambda: arrays, "a race")["ids"][-1] == 99_999
"""


def test_processes_may_want_the_same_entry_at_once(cache: Path) -> None:
    racers = [subprocess.Popen([sys.executable, "-c", RACER]) for _ in range(2)]
    assert [racer.wait() for racer in racers] == [0, 0]
    assert len([entry for entry in cache.iterdir() if entry.is_dir()]) == 40


def test_a_cache_that_cannot_be_written_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CUTBERT_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(DataError) as caught:
        tokenize_rows(Rows(["the film"]), tokenizer, "tiny", 16)
    assert str(caught.value) == (
        f"token cache {tmp_path}/file/cache must be writable: Not a directory; set CUTBERT_CACHE to another folder"
    )


def test_an_entry_that_cannot_be_read_back_is_named(
    monkeypatch: pytest.MonkeyPatch, tokenizer: PreTrainedTokenizerFast
) -> None:
    monkeypatch.setattr("cutbert.data.cache.load_arrays", lambda folder: None)
    with pytest.raises(DataError, match="must be writable: what was written cannot be read back; set CUTBERT_CACHE"):
        tokenize_rows(Rows(["the film"]), tokenizer, "tiny", 16)


def test_the_cache_folder_is_the_users_unless_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CUTBERT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert cache_folder() == tmp_path / "x" / "cutbert"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "cutbert"


def test_a_tokenizer_that_is_not_fast_is_refused() -> None:
    with pytest.raises(ModelError, match=r"slow: must have a fast tokenizer \(tokenizer.json\), got str"):
        tokenize_rows(Rows(["x"]), "no tokenizer", "slow", 16)


@pytest.mark.parametrize(("pair", "special"), [(None, 2), (["y"], 3)])
def test_max_length_must_leave_room(tokenizer: PreTrainedTokenizerFast, pair: list[str] | None, special: int) -> None:
    with pytest.raises(ModelError, match=f"max_length must exceed the {special} special tokens of tiny, got {special}"):
        tokenize_rows(Rows(["x"], pair), tokenizer, "tiny", special)


@pytest.mark.real_weights
def test_real_tokenizer(real_weights: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(real_weights)
    text, text_pair = random_texts(50, 2), random_texts(50, 3)
    found = tokenize_rows(Rows(text, text_pair), tokenizer, "minilm", 24)
    expected = tokenizer(text, text_pair, truncation=True, max_length=24)
    assert [row(found, i) for i in range(50)] == expected["input_ids"]
