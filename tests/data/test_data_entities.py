"""Entities are those of conlleval; words without a token are outside."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_tokenizer import build_tokenizer

from cutbert.data.entities import entities, tag_metric, tag_metrics
from cutbert.data.sentences import Sentences
from cutbert.data.tokens import tokenize_rows
from cutbert.errors import DataError

NAMES = ("B-LOC", "B-PER", "E-LOC", "E-PER", "I-LOC", "I-PER", "O", "S-LOC", "S-PER")


def plain_chunks(tags: list[str]) -> set[tuple[int, int, str]]:
    """startOfChunk and endOfChunk of conlleval, written out, over one sentence."""
    found, begun, before, type_before = set(), 0, "O", ""
    for i, tag in enumerate([*tags, "O"]):
        mark, _, kind = tag.partition("-")
        ends = (
            before in ("E", "S")
            or (before == "B" and mark in ("B", "S", "O"))
            or (before == "I" and mark in ("B", "S", "O"))
            or (before != "O" and type_before != kind)
        )
        starts = (
            mark in ("B", "S")
            or (before in ("E", "S", "O") and mark in ("E", "I"))
            or (mark != "O" and type_before != kind)
        )
        if ends:
            found.add((begun, i - 1, type_before))
        if starts:
            begun = i
        before, type_before = mark, kind
    return found


def ours(*sentences: list[str]) -> set[tuple[int, int, str]]:
    ids = np.array([NAMES.index(tag) for tags in sentences for tag in tags])
    found = entities(NAMES, ids, [len(tags) for tags in sentences])
    return {(first, last, ("LOC", "PER")[kind]) for first, last, kind in found}


@pytest.mark.parametrize(
    ("tags", "wanted"),
    [
        ("B-PER I-PER O B-LOC", {(0, 1, "PER"), (3, 3, "LOC")}),
        ("I-PER I-PER O I-LOC", {(0, 1, "PER"), (3, 3, "LOC")}),
        ("I-PER B-PER I-PER", {(0, 0, "PER"), (1, 2, "PER")}),
        ("B-PER I-LOC I-LOC", {(0, 0, "PER"), (1, 2, "LOC")}),
        ("B-PER I-PER E-PER S-PER I-PER", {(0, 2, "PER"), (3, 3, "PER"), (4, 4, "PER")}),
        ("E-PER E-PER", {(0, 0, "PER"), (1, 1, "PER")}),
        ("O O", set()),
    ],
)
def test_entities_of_known_cases(tags: str, wanted: set[tuple[int, int, str]]) -> None:
    assert ours(tags.split()) == wanted == plain_chunks(tags.split())


def test_entities_equal_the_plain_twins() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        tags = [NAMES[i] for i in rng.integers(0, len(NAMES), size=rng.integers(1, 12))]
        assert ours(tags) == plain_chunks(tags)


def test_no_entity_crosses_into_the_next_sentence() -> None:
    assert ours(["B-PER", "I-PER"], ["I-PER"]) == {(0, 1, "PER"), (2, 2, "PER")}


def test_last_and_unit_are_end_and_single() -> None:
    names = ("B-X", "I-X", "L-X", "O", "U-X")
    tags = np.array([names.index(tag) for tag in ["B-X", "I-X", "L-X", "U-X", "I-X"]])
    assert entities(names, tags, [5]) == {(0, 2, 0), (3, 3, 0), (4, 4, 0)}


def test_scores_of_a_known_case() -> None:
    """The worked example of seqeval's own page: one of two entities is right."""
    names = ("B-MISC", "B-PER", "I-MISC", "I-PER", "O")
    true = ["O", "O", "O", "B-MISC", "I-MISC", "I-MISC", "O", "B-PER", "I-PER", "O"]
    said = ["O", "O", "B-MISC", "I-MISC", "I-MISC", "I-MISC", "O", "B-PER", "I-PER", "O"]
    ids = [np.array([names.index(tag) for tag in tags]) for tags in (said, true)]
    found = tag_metrics(names, *ids, [7, 3])
    assert found == {"f1": 0.5, "precision": 0.5, "recall": 0.5, "accuracy": 0.8}


def test_labels_without_marks_are_scored_by_accuracy() -> None:
    names = ("NN", "O", "VB-D")
    assert tag_metric(names) == "accuracy" and tag_metric(("B-X", "O")) == "f1"
    assert tag_metrics(names, np.array([0, 1]), np.array([0, 2]), [2]) == {"accuracy": 0.5}
    with pytest.raises(DataError, match=r"labels of entities must be O or begin with B-, I-, E- or S- .*got also NN"):
        tag_metric(("B-X", "NN", "O"))


def test_nothing_found_scores_nothing() -> None:
    zeros = np.array([0, 0])
    assert tag_metrics(("O", "S-X"), zeros, zeros, [2]) == {"f1": 0.0, "precision": 0.0, "recall": 0.0, "accuracy": 1.0}


@pytest.mark.parametrize(("names", "cut"), [(("B-X", "O"), "O"), (("NN", "VB"), None)])
def test_words_without_a_token(names: tuple[str, str], cut: str | None) -> None:
    rows = Sentences([["a", "film", "", "good", "bad"], ["the"]], [np.array([0, 1, 1, 0, 0]), np.array([1])], names)
    tokens = tokenize_rows(rows, build_tokenizer(), "tiny", 5, cache=False)
    logits = np.zeros((2, 5, 2), dtype=np.float32)
    logits[0, 1:4, 0] = logits[1, 1, 1] = 1.0
    assert tokens.scorer is not None
    scored = tokens.scorer(logits)
    first = names[0]
    assert scored.outputs["predicted"] == [[first, first, cut, first, cut], [names[1]]]
    assert scored.outputs["labels"] == [[first, names[1], names[1], first, first], [names[1]]]
    assert scored.metrics["accuracy"] == (4 / 6 if cut else 3 / 6)
    logits[0, 0, 0] = np.inf
    assert set(tokens.scorer(logits).metrics.values()) == {0.0}
