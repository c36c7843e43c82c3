"""Files of an embedding model's data: what they mean, the splits made of them, and every mistake in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cutbert.data.dataset import load_dataset
from cutbert.data.settings import DataSettings
from cutbert.data.vectors import VectorTexts
from cutbert.errors import DataError

PAIRS = {"text": "a", "text_pair": "b", "label": "score"}


def write(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    queries = [{"_id": "q1", "text": "who"}, {"_id": 2, "text": "what"}]
    corpus = [{"_id": f"d{i}", "text": f"answer {i}"} for i in range(4)]
    lines = {"queries": queries, "corpus": corpus}
    return {
        "train": write(tmp_path, "train.txt", "".join(f"a text of {i}\n" for i in range(50)) + "\na text of 1\n"),
        "dev": write(tmp_path, "dev.csv", "a,b,score\none,two,1.5\ntwo,three,0\n"),
        **{
            name: write(tmp_path, f"{name}.jsonl", "".join(json.dumps(each) + "\n" for each in rows))
            for name, rows in lines.items()
        },
        "relevant": write(tmp_path, "relevant.tsv", "query-id\tcorpus-id\tscore\nq1\td1\t2\n2\td3\t1\n2\td0\t0\n"),
    }


def settings(files: dict[str, str], *names: str, **options: Any) -> DataSettings:
    return DataSettings(objective="embedding", **{name: files[name] for name in names}, **options)


def mistakes(given: DataSettings) -> str:
    with pytest.raises(DataError) as caught:
        load_dataset(given)
    return "\n".join(caught.value.mistakes)


def test_pairs(files: dict[str, str]) -> None:
    data = load_dataset(settings(files, "train", "dev", **PAIRS))
    assert (len(data.train), len(data.select), data.metric, data.select_metric) == (45, 5, "spearman", "cosine")
    assert isinstance(data.dev, VectorTexts) and data.dev.pairs is not None
    assert data.dev.text == ["one", "two", "three"]
    assert data.dev.pairs.second.tolist() == [1, 2] and data.dev.pairs.numbers.tolist() == [1.5, 0]
    first = load_dataset(settings(files, "train", "dev", max_eval_samples=1, **PAIRS)).dev
    assert isinstance(first, VectorTexts) and first.text == ["one", "two"]


def test_pairs_and_retrieval_together(files: dict[str, str]) -> None:
    names = ("train", "dev", "queries", "corpus", "relevant")
    data = load_dataset(settings(files, *names, max_eval_samples=1, **PAIRS))
    dev = data.dev
    assert isinstance(dev, VectorTexts) and dev.pairs is not None and dev.retrieval is not None
    assert data.metric == "ndcg@10" and dev.retrieval.relevant == [{1: 2.0}]
    assert [dev.text[i] for i in dev.retrieval.queries] == ["who"]
    assert [dev.text[i] for i in dev.retrieval.corpus] == [f"answer {i}" for i in range(4)]
    assert [dev.text[i] for i in (*dev.pairs.first, *dev.pairs.second)] == ["one", "two"]


def test_held_out_text(files: dict[str, str], tmp_path: Path) -> None:
    data = load_dataset(settings(files, "train"))
    assert (len(data.train), len(data.select), len(data.dev)) == (41, 4, 5) and data.metric == data.select_metric
    named = settings({**files, "dev": write(tmp_path, "dev.txt", "a text of 1\nnew\n")}, "train", "dev")
    data = load_dataset(named)
    assert data.metric == "cosine" and len(data.train) + len(data.select) == 49
    chosen = load_dataset(settings(files, "train", select=files["dev"], **PAIRS))
    assert (chosen.metric, chosen.select_metric) == ("cosine", "spearman")


def test_columns_of_train_are_texts(files: dict[str, str], tmp_path: Path) -> None:
    rows = "".join(f"left {i},right {i}\n" for i in range(20))
    two = write(tmp_path, "two.csv", "a,b\n" + rows)
    data = load_dataset(settings({"train": two}, "train", text="a", text_pair="b"))
    assert len(data.train) + len(data.select) + len(data.dev) == 40


def test_a_named_task(files: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "STS-B").mkdir()
    for name in ("train", "dev"):
        rows = "".join(f"{name} {i}\tother {name} {i}\t{i % 6}\n" for i in range(30))
        write(tmp_path / "STS-B", f"{name}.tsv", "sentence1\tsentence2\tscore\n" + rows)
    data = load_dataset(DataSettings(objective="embedding", task="stsb", data_dir=str(tmp_path)))
    assert data.metric == "spearman" and len(data.train) + len(data.select) == 60
    data = load_dataset(settings(files, "train", task="stsb", data_dir=str(tmp_path)))
    assert data.metric == "spearman" and len(data.train) + len(data.select) == 50
    assert isinstance(data.dev, VectorTexts) and data.dev.pairs is not None
    np.testing.assert_array_equal(data.dev.pairs.numbers[:7], [0, 1, 2, 3, 4, 5, 0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train": ()}, "texts to learn from must be given"),
        ({"queries": "q.jsonl"}, "--queries must come with --corpus and --relevant"),
        ({"label": "score"}, "--label must come with --text and --text-pair"),
        ({"text": "a", "text_pair": "a"}, "must name different columns"),
        ({"regression": True}, "--regression is for --objective task"),
        ({"pooling": "mean"}, "--pooling is for --objective task"),
        ({"task": "sst2"}, "--task with --objective embedding must be stsb"),
        ({"task": "stsb", "label": "score"}, "--label must not be given with --task"),
        ({"select": "dev"}, "--select must be a file with --objective embedding"),
        ({"data_dir": "glue"}, "--data-dir goes with --task"),
        ({"objective": "mlm"}, "--objective must be one of task, embedding, got"),
        ({"objective": "task", "corpus": "c", "text": "a", "label": "b"}, "--corpus is for --objective embedding"),
    ],
)
def test_options_that_do_not_go_together(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        DataSettings(**{"objective": "embedding", "train": ("train.txt",), **options}).check()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("relevant", "query-id\tcorpus-id\tscore\nq1\td1\t1\n", "every query must have a relevant text, '2' have none"),
        ("relevant", "query-id\tcorpus-id\tscore\nq1\td9\t1\n2\td1\t1\n", "ids must be in --corpus, got 'd9'"),
        ("relevant", "query-id\tcorpus-id\tscore\nq1\td1\t1\n9\td1\t1\n", "ids must be in --queries, got '9'"),
        ("relevant", "query-id\tcorpus-id\tscore\nq1\td1\tmuch\n", "row 1.*two ids and a number of at least 0"),
        ("relevant", "query-id\tcorpus-id\n", "score"),
        ("relevant", "query-id\tcorpus-id\tscore\n", "has no rows"),
        ("queries", "", "queries.jsonl.*(empty|no rows)"),
        ("queries", '{"_id": "q1", "text": " "}\n', "row 1: must have an id and a text"),
        ("corpus", '{"_id": "d1", "text": "a"}\n{"_id": "d1", "text": "b"}\n', "ids must differ, got 'd1' again"),
        ("train", "\n\n", "train.txt: has no texts"),
        ("dev", "a,b,score\none,two,near\n", "row 1.*label must be a finite number"),
        ("dev", "a,b,score\none,two,\n", "'score' must not be empty"),
    ],
)
def test_mistakes_in_files(files: dict[str, str], name: str, text: str, message: str) -> None:
    Path(files[name]).write_text(text, encoding="utf-8")
    import re

    assert re.search(message, mistakes(settings(files, *files, **PAIRS)))


def test_text_without_a_column(files: dict[str, str], tmp_path: Path) -> None:
    named = settings({"train": write(tmp_path, "two.csv", "a,b\n1,2\n")}, "train")
    assert "--text must name the column that holds the text; a .txt has a text a line" in mistakes(named)
    mixed = DataSettings(
        objective="embedding", train=(files["train"],), dev=(files["dev"], write(tmp_path, "d.txt", "x\n")), **PAIRS
    )
    assert "--dev must be files of pairs or files of lines, got both" in mistakes(mixed)
    lines = write(tmp_path, "lines.txt", "x\ny\n")
    no_pairs = settings({**files, "dev": lines}, "train", "dev", **PAIRS)
    assert "--label must come with a --dev or --select that has columns, got files of lines: " in mistakes(no_pairs)
    only_lines = settings({**files, "dev": lines}, "train", "dev", text="a")
    assert "--text must come with files that have columns, got files of lines" in mistakes(only_lines)
    assert load_dataset(settings({**files, "dev": lines, "select": files["dev"]}, "train", "dev", "select", **PAIRS))
