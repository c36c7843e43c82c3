"""Vectors are scored as scikit-learn, scipy and a plain loop score them; a teacher's own vectors are all right."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics.pairwise import cosine_similarity

from cutbert.data import vectors
from cutbert.data.dataset import Dataset
from cutbert.data.ranking import mrr, ndcg
from cutbert.data.rows import Rows
from cutbert.data.vectors import Pairs, Prompts, Retrieval, VectorScorer, VectorTexts, prompts_of, unit
from cutbert.errors import DataError
from cutbert.shape.head import HeadSpec

DRAW = np.random.default_rng(0)
VECTORS = DRAW.normal(size=(40, 6)).astype(np.float32)
TEXTS = [f"text {i}" for i in range(40)]
PAIRS = Pairs(np.arange(0, 8), np.arange(8, 16), np.round(DRAW.random(8), 2))
RETRIEVAL = Retrieval(np.arange(16, 22), np.arange(22, 40), [{i: 1.0, 2 * i + 1: 2.0} for i in range(6)])
BOTH = VectorTexts(TEXTS, PAIRS, RETRIEVAL)


def test_pairs_as_scipy() -> None:
    scored = VectorScorer(VectorTexts(TEXTS, PAIRS))(VECTORS)
    cosines = cosine_similarity(VECTORS)[PAIRS.first, PAIRS.second]
    assert scored.metric == "spearman" and set(scored.metrics) == {"spearman", "pearson"}
    assert scored.metrics["spearman"] == pytest.approx(stats.spearmanr(PAIRS.numbers, cosines).statistic)
    assert scored.metrics["pearson"] == pytest.approx(stats.pearsonr(PAIRS.numbers, cosines).statistic, abs=1e-6)
    same = VectorScorer(VectorTexts(TEXTS, PAIRS))(np.ones_like(VECTORS))
    assert same.metrics == {"spearman": 0.0, "pearson": 0.0}


@pytest.mark.parametrize("looked_at", (10, 100))
def test_retrieval_as_a_plain_loop(looked_at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "LOOKED_AT", looked_at)
    monkeypatch.setattr(vectors, "QUERIES_AT_ONCE", 4)
    scored = VectorScorer(BOTH)(VECTORS)
    similar = cosine_similarity(VECTORS)
    gains = np.zeros((6, 18))
    for query, relevant in enumerate(RETRIEVAL.relevant):
        for place, gain in relevant.items():
            gains[query, place] = gain
    rows = [similar[query, RETRIEVAL.corpus] for query in RETRIEVAL.queries]
    assert scored.metric == "ndcg@10"
    assert scored.outputs["ndcg@10"] == pytest.approx([ndcg(row, each) for row, each in zip(rows, gains, strict=True)])
    assert scored.outputs["mrr@10"] == pytest.approx([mrr(row, each) for row, each in zip(rows, gains, strict=True)])


def test_the_teacher_itself_is_all_right() -> None:
    scored = VectorScorer(BOTH).beside(VECTORS)(7 * VECTORS)
    assert scored.metrics["cosine"] == pytest.approx(1)
    assert scored.metrics["ndcg@10_teacher_index"] == pytest.approx(scored.metrics["ndcg@10"])
    other = VectorScorer(BOTH).beside(VECTORS)(VECTORS + DRAW.normal(size=VECTORS.shape))
    wanted = (unit(VECTORS) * unit(np.asarray(VECTORS))).sum()  # a sum of unit cosines: the number of texts
    assert wanted == pytest.approx(40, abs=1e-4) and other.metrics["cosine"] < 1


def test_texts_may_be_alike_to_vectors_of_another_width() -> None:
    theirs = np.pad(VECTORS, ((0, 0), (0, 3))) @ np.linalg.qr(DRAW.normal(size=(9, 9)))[0].astype(np.float32)
    scorer = replace(VectorScorer(VectorTexts(TEXTS)), beside_teacher="similarity").beside(theirs)
    scored = scorer(VECTORS)
    assert scored.metric == "similarity" and scored.metrics == {"similarity": pytest.approx(1, abs=1e-5)}
    others = DRAW.normal(size=(40, 5)).astype(np.float32)
    ours, wanted = cosine_similarity(others), cosine_similarity(theirs)
    each = [stats.pearsonr(np.delete(ours[i], i), np.delete(wanted[i], i)).statistic for i in range(40)]
    assert scorer(others).outputs["similarity"] == pytest.approx(each, abs=1e-4)
    assert scorer(np.zeros_like(VECTORS)).metrics["similarity"] == 0
    assert set(scorer.beside(VECTORS)(VECTORS).metrics) == {"similarity", "cosine"}


def test_plain_texts_need_a_teacher() -> None:
    texts = VectorTexts(TEXTS)
    assert VectorScorer(texts).beside(VECTORS)(VECTORS).metrics == {"cosine": pytest.approx(1)}
    with pytest.raises(DataError, match="plain texts can be scored beside a teacher alone"):
        VectorScorer(texts)(VECTORS)


def test_prompts() -> None:
    named = {"query": "query: ", "passage": "passage: ", "other": "say: "}
    assert prompts_of(named, None) == Prompts("query: ", "", "")
    assert prompts_of({**named, "document": "text: "}, "query") == Prompts("query: ", "text: ", "query: ")
    assert prompts_of({"other": "say: "}, "other") == Prompts("", "", "say: ")
    assert prompts_of({"query": "", "other": "say: "}, "other") == Prompts("", "", "say: ")
    assert prompts_of({}, None) == Prompts()
    text = BOTH.prompted(Prompts("q ", "d ", "t ")).text
    assert (text[0], text[16], text[22]) == ("t text 0", "q text 16", "d text 22")


def test_texts_to_learn_from_come_behind_every_prompt() -> None:
    prompts, texts = Prompts("query: ", "passage: "), [f"text {i}" for i in range(300)]
    given = prompts.of_any_kind(texts)
    kinds = Counter(whole.removesuffix(text) for whole, text in zip(given, texts, strict=True))
    assert set(kinds) == {"query: ", "passage: ", ""} and min(kinds.values()) > 70
    assert given[::-1] == prompts.of_any_kind(texts[::-1])  # the text alone decides
    assert VectorTexts(texts).prompted(prompts).text == given
    data = Dataset("own", HeadSpec("embedding"), "cosine", Rows(texts), VectorTexts(texts[:5]), VectorTexts(texts[5:9]))
    prompted = data.prompted(prompts)
    assert prompted.train.text == given and prompted.select.text + prompted.dev.text == given[:9]
    assert Prompts("q ", "q ", "q ").of_any_kind(["a", "b"]) == ["q a", "q b"] and Prompts().of_any_kind(["a"]) == ["a"]
