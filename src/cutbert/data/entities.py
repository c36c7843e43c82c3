"""Tagging: from the logits of tokens to labels of words, and their scores: F1 of entities, accuracy of words.

Axes: N sentences, S positions, C labels, T tokens of all sentences, V words of all sentences.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cutbert.data.cache import Arrays
from cutbert.data.metrics import ScoredOutputs
from cutbert.data.sentences import Sentences
from cutbert.data.subwords import NO_WORD, word_places
from cutbert.errors import DataError

OUTSIDE = "O"
PREFIX = re.compile(r"([BIESLU])-(.+)", re.DOTALL)
SAME_AS = {"L": "E", "U": "S"}
NO_LABEL = -1


@dataclass(frozen=True, eq=False)
class TagScorer:
    """Decodes the labels of words from the logits of their first subwords, and scores them.

    A word without a token, such as one cut off at the longest input, gets the label O where the label set has it, else
    none, which is always wrong.

    Args:
        sentences: with their labels.
        arrays: as `encode_words` returns them.
    """

    sentences: Sentences
    arrays: Arrays

    @property
    def num_scored(self) -> int:
        return len(self.sentences)

    def __call__(self, logits: NDArray[np.float32]) -> ScoredOutputs:
        """Return the metrics of `tag_metrics`, and for each sentence the predicted and the true labels."""
        assert self.sentences.labels is not None
        names, counts = self.sentences.names, [len(labels) for labels in self.sentences.labels]
        predicted_V, true_V = self.labels(logits), np.concatenate(self.sentences.labels)
        metrics = tag_metrics(names, predicted_V, true_V, counts)
        if not np.isfinite(logits).all():
            metrics = dict.fromkeys(metrics, 0.0)
        stops = np.cumsum(counts)[:-1]
        names_of = [*names, None]  # NO_LABEL, -1, is the last
        rows = {
            key: [[names_of[i] for i in part] for part in np.split(labels, stops)]
            for key, labels in (("predicted", predicted_V), ("labels", true_V))
        }
        return ScoredOutputs(metrics, rows)

    def labels(self, logits: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the id of the label predicted for each word, [V]; NO_LABEL where there is none."""
        names, offsets = self.sentences.names, self.arrays["offsets"]
        predicted_V = np.full(
            sum(map(len, self.sentences.words)), names.index(OUTSIDE) if OUTSIDE in names else NO_LABEL, dtype=np.int64
        )
        row_T = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
        is_first_T = self.arrays["words_T"] != NO_WORD
        rows, places = row_T[is_first_T], (np.arange(len(row_T)) - offsets[row_T])[is_first_T]
        predicted_V[word_places(self.sentences, self.arrays)] = logits[rows, places].argmax(axis=-1)
        return predicted_V


def tag_metric(names: Sequence[str]) -> str:
    """Return the name of the primary metric of a label set: f1 of entities, or accuracy where no label marks entities.

    Raises:
        DataError: some labels mark entities and others neither do nor are O.
    """
    marked = [name for name in names if PREFIX.fullmatch(name)]
    others = [name for name in names if name != OUTSIDE and name not in marked]
    if marked and others:
        raise DataError(
            f"labels of entities must be O or begin with B-, I-, E- or S- (L-, U-), got also {', '.join(others[:10])}"
        )
    return "f1" if marked else "accuracy"


def tag_metrics(
    names: Sequence[str], predicted: NDArray[np.int64], true: NDArray[np.int64], counts: Sequence[int]
) -> dict[str, float]:
    """Return the metrics of predicted labels.

    Args:
        names: the labels in id order.
        predicted, true: ids, words of all sentences, [V].
        counts: words of each sentence.

    Returns:
        accuracy, the share of words with the right label; with labels of entities also precision, recall and f1
        of entities, over all types: one is right where type, first and last word are those of a true one. They are 0
        where nothing is predicted or nothing is true.

    Source:
        Tjong Kim Sang and De Meulder 2003 (cs/0306050), section 2.4, and the script of that task, conlleval.
    """
    accuracy = float(np.mean(predicted == true))
    if tag_metric(names) != "f1":
        return {"accuracy": accuracy}
    ours, gold = entities(names, predicted, counts), entities(names, true, counts)
    hits = len(ours & gold)
    precision, recall = hits / max(1, len(ours)), hits / max(1, len(gold))
    f1 = 2 * hits / max(1, len(ours) + len(gold))
    return {"f1": f1, "precision": precision, "recall": recall, "accuracy": accuracy}


def tag_counts(
    metric: str, predicted: Sequence[Sequence[str | None]], true: Sequence[Sequence[str | None]]
) -> NDArray[np.float64]:
    """Return for each sentence two counts, [N, 2]: the metric is the sum of the first divided by that of the second.

    Of f1 they are twice the entities that are right, and the predicted and the true ones together; of accuracy the
    words with the right label, and all.

    Args:
        metric: f1 or accuracy.
        predicted, true: the label of each word by sentence; None where none was predicted.
    """
    counts = [len(labels) for labels in true]
    if metric != "f1":
        right = [sum(a == b for a, b in zip(*rows, strict=True)) for rows in zip(predicted, true, strict=True)]
        return np.array([right, counts], dtype=np.float64).T
    names = sorted({label for labels in (*predicted, *true) for label in labels if label is not None})
    ids: dict[str | None, int] = {None: NO_LABEL, **{name: i for i, name in enumerate(names)}}
    sentence_V = np.repeat(np.arange(len(counts)), counts)

    def found(rows: Sequence[Sequence[str | None]]) -> set[tuple[int, int, int]]:
        return entities(names, np.array([ids[label] for labels in rows for label in labels]), counts)

    def by_sentence(places: set[tuple[int, int, int]]) -> NDArray[np.int64]:
        firsts = np.array([first for first, _, _ in places], dtype=np.int64)
        return np.bincount(sentence_V[firsts], minlength=len(counts))

    ours, gold = found(predicted), found(true)
    return np.stack([2 * by_sentence(ours & gold), by_sentence(ours) + by_sentence(gold)], axis=1).astype(np.float64)


def entities(names: Sequence[str], labels: NDArray[np.int64], counts: Sequence[int]) -> set[tuple[int, int, int]]:
    """Return first word, last word and type of every entity, as conlleval reads labels.

    An entity begins at B and S, at any label whose type is not that of the word before, and at I or E after O, E or S;
    it ends before one that begins, before O, and after E and S. L counts as E and U as S (our choice).
    No entity continues from one sentence to the next.
    """
    mark_of, type_of = parsed(names)
    marks_V, types_V = mark_of[labels], type_of[labels]
    is_first = np.zeros(len(labels), dtype=bool)
    is_first[np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64)] = True
    before_V = np.where(is_first, "O", np.roll(marks_V, 1))
    type_before_V = np.where(is_first, NO_LABEL, np.roll(types_V, 1))
    inside_V = marks_V != "O"
    begins_V = inside_V & (
        np.isin(marks_V, ["B", "S"]) | (types_V != type_before_V) | np.isin(before_V, ["O", "E", "S"])
    )
    goes_on_V = inside_V & ~begins_V
    ends_V = inside_V & ~np.append(goes_on_V[1:], False)
    starts, stops = np.flatnonzero(begins_V), np.flatnonzero(ends_V)
    return set(zip(starts.tolist(), stops.tolist(), types_V[starts].tolist(), strict=True))


def parsed(names: Sequence[str]) -> tuple[NDArray[np.str_], NDArray[np.int64]]:
    """Return the mark (B, I, E, S or O) and the type's number of each label, and of NO_LABEL after them."""
    matches = [PREFIX.fullmatch(name) for name in names]
    types = sorted({match[2] for match in matches if match})
    marks = [SAME_AS.get(match[1], match[1]) if match else "O" for match in matches]
    return np.array([*marks, "O"]), np.array([types.index(m[2]) if m else NO_LABEL for m in matches] + [NO_LABEL])
