"""Rows that are scored alone, where nothing is learned: their labels are those of the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import cutbert
from cutbert.data.dataset import load_dataset
from cutbert.data.settings import ScoredData
from cutbert.errors import DataError, InputError
from cutbert.folders.save import save_model
from cutbert.shape.head import HeadSpec
from tiny_runs import PROVENANCE, tiny_model, tiny_tokenizer

Write = Callable[[str, str | bytes], str]
OWN = {"text": "text", "label": "label"}


def table(*labels: str) -> str:
    return "text\tlabel\n" + "".join(f"text {i}\t{label}\n" for i, label in enumerate(labels))


@pytest.mark.parametrize(
    ("own", "rows", "options", "expected"),
    [
        (HeadSpec("single_label", ("c", "b", "a")), ("a", "a"), {}, ("c", "b", "a")),
        (HeadSpec("single_label", ("LABEL_0", "LABEL_1")), ("b", "a"), {}, ("a", "b")),
        (HeadSpec("multi_label", ("c", "b", "a")), ("a", ""), {"multi_label": "+"}, ("c", "b", "a")),
        (HeadSpec("multi_label", ("c", "b", "a")), ("b", "a"), {}, ("a", "b")),
        (HeadSpec("regression", ("rating",)), ("1", "2"), {"regression": True}, ("label",)),
        (None, ("b", "a"), {}, ("a", "b")),
    ],
)
def test_labels_are_the_models_where_it_names_them(
    write: Write, own: HeadSpec | None, rows: Sequence[str], options: dict[str, Any], expected: tuple[str, ...]
) -> None:
    data = load_dataset(ScoredData(dev=write("dev.tsv", table(*rows)), **OWN, **options), own)
    assert data.head.labels == expected
    assert (len(data.train), len(data.select), len(data.dev)) == (0, 0, len(rows))


def test_with_files_to_train_on_these_name_the_labels(write: Write) -> None:
    files = {"train": write("train.tsv", table("b", "a", "b")), "dev": write("dev.tsv", table("a"))}
    data = load_dataset(ScoredData(**files, **OWN, select="dev"), HeadSpec("single_label", ("b", "a", "c")))
    assert data.head.labels == ("a", "b") and len(data.train) == 3


def test_words_have_the_labels_of_a_tagger(write: Write) -> None:
    dev = write("dev.conll", "a O\nfilm B-X\n\n")
    own = HeadSpec("token", ("O", "B-X", "I-X"))
    data = load_dataset(ScoredData(dev=dev, text="0", label="-1", tagging=True), own)
    assert data.head == own and data.metric == "f1" and len(data.train) == 0


def test_pairs_in_groups_are_scored(write: Write) -> None:
    rows = "text\tother\tlabel\tq\n" + "".join(f"text {i}\tmore\t{i % 2}\t{i // 2}\n" for i in range(4))
    data = load_dataset(ScoredData(dev=write("dev.tsv", rows), **OWN, text_pair="other", group="q"))
    assert data.metric.startswith("ndcg") and data.notes == ("dev: 2 of 2 groups are scored",)


@pytest.mark.parametrize(
    ("rows", "own", "mistake"),
    [
        (("a", "a"), None, "column 'label' of --dev must hold 2 or more different labels, got 1"),
        (("a", "d"), HeadSpec("single_label", ("a", "b")), "label must be one of a, b, got 'd'"),
    ],
)
def test_what_the_rows_lack_is_said(write: Write, rows: Sequence[str], own: HeadSpec | None, mistake: str) -> None:
    with pytest.raises(DataError, match=mistake):
        load_dataset(ScoredData(dev=write("dev.tsv", table(*rows)), **OWN), own)


def test_measure_needs_dev_alone(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cutbert.bench.measure.measure_alone", lambda *parts, **options: {})
    for name in ("first", "second"):
        save_model(tmp_path / name, tiny_model(), tiny_tokenizer(), provenance=PROVENANCE)
    labels = tiny_model().head_spec.labels
    options = {"dev": write("dev.tsv", table(*labels, labels[0])), "rounds": 1, "threads": 1}
    found = cutbert.measure(tmp_path / "first", tmp_path / "second", **OWN, **options)
    assert found["metric"] == "accuracy" and all(each["score"] * 3 % 1 == 0 for each in found["models"])
    with pytest.raises(InputError, match=r"^--text must be given with own files\n--label must be given with own files"):
        cutbert.measure(tmp_path / "first", **options)
    with pytest.raises(InputError, match="--task NAME, or --dev FILE --text COLUMN --label COLUMN"):
        cutbert.measure(tmp_path / "first", max_length=9)
