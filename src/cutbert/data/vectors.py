"""Texts for an embedding model, and how good its vectors of them are: by pairs, by retrieval, beside a teacher's.

Axes: N texts, D width of a vector, Q queries, C texts of a corpus.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cutbert.data.metrics import ScoredOutputs
from cutbert.data.ranking import TOP, mrr, ndcg
from cutbert.data.rows import text_key
from cutbert.errors import DataError

COSINE, SPEARMAN, NDCG, MRR = "cosine", "spearman", f"ndcg@{TOP}", f"mrr@{TOP}"
TEACHER_INDEX = f"{NDCG}_teacher_index"
SIMILARITY = "similarity"
SIMILAR_TEXTS = 1_000  # of a split at most, between which similarities are compared
LOOKED_AT = 10 * TOP  # texts of a corpus whose order is looked at, of each query
QUERIES_AT_ONCE = 256


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of texts with a number that says how near they are.

    Args:
        first, second: rows, int64 [P].
        numbers: larger is nearer, [P].
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    numbers: NDArray[Any]


@dataclass(frozen=True, eq=False)
class Retrieval:
    """Queries, and the texts of a corpus that answer them.

    Args:
        queries, corpus: rows, int64 [Q] and [C].
        relevant: of each query the gain, above 0, of its relevant texts by their place in `corpus`.
    """

    queries: NDArray[np.int64]
    corpus: NDArray[np.int64]
    relevant: list[dict[int, float]]


@dataclass(frozen=True)
class Prompts:
    """What a model wants before a text.

    Args:
        query, document: before a query and before a text of a corpus.
        default: before any other text.
    """

    query: str = ""
    document: str = ""
    default: str = ""

    def of_any_kind(self, texts: Sequence[str]) -> list[str]:
        """Return texts that may become queries, documents or others, each behind one of these, by hash of the text.

        So a student learns all three kinds of vectors, as sentence-transformers' encode_query, encode_document and
        encode ask for them (our choice; equal ones count once).
        """
        kinds = list(dict.fromkeys((self.query, self.document, self.default)))
        # Texts are held out by the first bytes of the same hash, so its last one decides here.
        return [kinds[text_key(text)[-1] % len(kinds)] + text for text in texts]


@dataclass(frozen=True, eq=False)
class VectorTexts:
    """Texts, each a row, with what their vectors are judged by.

    Args:
        text: the texts.
        pairs, retrieval: of these rows; with neither, vectors are judged beside a teacher's alone.
    """

    text: list[str]
    pairs: Pairs | None = None
    retrieval: Retrieval | None = None

    def __len__(self) -> int:
        return len(self.text)

    @property
    def metric(self) -> str:
        """Name of the primary metric."""
        if self.retrieval is not None:
            return NDCG
        return COSINE if self.pairs is None else SPEARMAN

    def take(self, indices: NDArray[np.integer]) -> VectorTexts:
        """Return the texts of some rows, without pairs and retrieval."""
        return VectorTexts([self.text[i] for i in indices])

    def joined(self, others: VectorTexts) -> VectorTexts:
        """Return these texts followed by others."""
        return VectorTexts([*self.text, *others.text])

    def text_keys(self) -> list[bytes]:
        """Return one key per row; equal keys mean equal texts."""
        return [text_key(text) for text in self.text]

    def prompted(self, prompts: Prompts) -> VectorTexts:
        """Return the rows with a model's prompts before their texts; of plain texts those for any kind."""
        if self.pairs is None and self.retrieval is None:
            return replace(self, text=prompts.of_any_kind(self.text))
        before = [prompts.default] * len(self.text)
        if self.retrieval is not None:
            for rows, prompt in ((self.retrieval.queries, prompts.query), (self.retrieval.corpus, prompts.document)):
                for row in rows:
                    before[row] = prompt
        return replace(self, text=[prompt + text for prompt, text in zip(before, self.text, strict=True)])


@dataclass(frozen=True, eq=False)
class VectorScorer:
    """Scores the vectors of some texts.

    Args:
        texts: the rows.
        teacher: the teacher's vectors of the same rows, unit length, [N, D], or of another width; None where there is
            no teacher.
        beside_teacher: the metric of a teacher's vectors that choices are made by: COSINE, or SIMILARITY, which
            networks of any width have.
    """

    texts: VectorTexts
    teacher: NDArray[np.float32] | None = field(default=None, repr=False)
    beside_teacher: str = COSINE

    def beside(self, vectors: NDArray[np.float32]) -> VectorScorer:
        """Return the scorer with a teacher's vectors."""
        return replace(self, teacher=unit(vectors))

    @property
    def num_scored(self) -> int:
        if self.texts.retrieval is not None:
            return len(self.texts.retrieval.queries)
        return len(self.texts) if self.texts.pairs is None else len(self.texts.pairs.numbers)

    def __call__(self, logits: NDArray[np.float32]) -> ScoredOutputs:
        """Return the scores of vectors [N, D], which need not have unit length.

        Spearman is that of the cosine of each pair and its number. NDCG and MRR are means over queries, the corpus
        ranked by cosine. Beside a teacher whose vectors have the same width: the mean cosine of each text's two
        vectors, and NDCG of these queries over an index of the teacher's vectors. SIMILARITY is that of `similarities`.

        Raises:
            DataError: plain texts and no teacher.
        """
        vectors_ND = unit(logits)
        metrics: dict[str, float] = {}
        outputs: dict[str, Any] = {}
        if self.texts.pairs is not None:
            scored = pair_scores(vectors_ND, self.texts.pairs)
            metrics |= scored.metrics
            outputs |= scored.outputs
        if self.texts.retrieval is not None:
            found = retrieval_scores(vectors_ND, vectors_ND, self.texts.retrieval)
            metrics |= {name: float(np.mean(each)) for name, each in found.items()}
            outputs |= found
        if self.teacher is not None and self.beside_teacher == SIMILARITY:
            alike = similarities(vectors_ND[:SIMILAR_TEXTS], self.teacher[:SIMILAR_TEXTS])
            metrics[SIMILARITY] = float(alike.mean())
            outputs[SIMILARITY] = np.round(alike, 6).tolist()
        if self.teacher is not None and self.teacher.shape[1] == vectors_ND.shape[1]:
            cosines = np.nan_to_num((vectors_ND * self.teacher).sum(axis=1))
            metrics[COSINE] = float(cosines.mean())
            outputs[COSINE] = np.round(cosines, 6).astype(float).tolist()
            if self.texts.retrieval is not None:
                mixed = retrieval_scores(vectors_ND, self.teacher, self.texts.retrieval)
                metrics[TEACHER_INDEX] = float(np.mean(mixed[NDCG]))
        if self.teacher is None and self.texts.metric == COSINE:
            raise DataError(
                "plain texts can be scored beside a teacher alone; give pairs with a number (--dev with --text, "
                "--text-pair and --label, or --task stsb), or --queries, --corpus and --relevant"
            )
        metric = self.texts.metric
        return ScoredOutputs(metrics, outputs, self.beside_teacher if metric == COSINE else metric)


def unit(vectors: NDArray[Any]) -> NDArray[np.float32]:
    """Return vectors divided by their norms, as torch's `normalize` does it: a vector of zeros stays one."""
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-12), dtype=np.float32)


def similarities(ours_ND: NDArray[np.float32], theirs_NE: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return for each text how well two models agree on which others are like it: 1 where they do, 0 by chance.

    It is Pearson's correlation of the text's cosines to all others; 0 where undefined. Vectors may have any widths.

    Args:
        ours_ND, theirs_NE: of the same texts, unit length.
    """
    if len(ours_ND) < 2:
        return np.zeros(len(ours_ND))
    others = ~np.eye(len(ours_ND), dtype=bool)
    sides = []
    for vectors in (ours_ND.astype(np.float64), theirs_NE.astype(np.float64)):
        cosines = (vectors @ vectors.T)[others].reshape(len(vectors), -1)
        centred = cosines - cosines.mean(axis=1, keepdims=True)
        sides.append(centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12))
    return np.nan_to_num((sides[0] * sides[1]).sum(axis=1))


def pair_scores(vectors_ND: NDArray[np.float32], pairs: Pairs) -> ScoredOutputs:
    """Return Spearman's and Pearson's correlation of the pairs' cosines with their numbers; 0 where undefined."""
    from scipy import stats

    cosines = (vectors_ND[pairs.first] * vectors_ND[pairs.second]).sum(axis=1).astype(np.float64)
    is_defined = np.isfinite(cosines).all() and min(map(np.ptp, (cosines, pairs.numbers))) > 0
    metrics = {
        name: float(measure(pairs.numbers, cosines).statistic) if is_defined else 0.0
        for name, measure in ((SPEARMAN, stats.spearmanr), ("pearson", stats.pearsonr))
    }
    return ScoredOutputs(metrics, {"pair_cosines": np.round(cosines, 6).tolist(), "numbers": pairs.numbers.tolist()})


def retrieval_scores(
    queries_ND: NDArray[np.float32], corpus_ND: NDArray[np.float32], retrieval: Retrieval
) -> dict[str, list[float]]:
    """Return NDCG@10 and MRR@10 of each query, the corpus ranked by the product of unit vectors.

    Args:
        queries_ND: vectors of all rows, of which the queries' are taken.
        corpus_ND: the same, of which those of the corpus are taken.
        retrieval: which rows are which.
    """
    corpus_CD = corpus_ND[retrieval.corpus]
    found: dict[str, list[float]] = {NDCG: [], MRR: []}
    for start in range(0, len(retrieval.queries), QUERIES_AT_ONCE):
        part = slice(start, start + QUERIES_AT_ONCE)
        scores_QC = queries_ND[retrieval.queries[part]] @ corpus_CD.T
        for scores_C, relevant in zip(np.nan_to_num(scores_QC), retrieval.relevant[part], strict=True):
            best = np.arange(len(scores_C))
            if len(scores_C) > LOOKED_AT:
                best = np.flatnonzero(scores_C >= np.partition(scores_C, -LOOKED_AT)[-LOOKED_AT])  # all ties too
            gains = np.array([relevant.get(int(each), 0.0) for each in best])
            every = np.array(list(relevant.values()))
            found[NDCG].append(ndcg(scores_C[best], gains, all_relevance_M=every))
            found[MRR].append(mrr(scores_C[best], gains))
    return found


def prompts_of(named: Mapping[str, str], default: Any) -> Prompts:
    """Return the prompts that sentence-transformers puts before queries, documents and other texts.

    Args:
        named: prompts by name, as its files have them.
        default: name of the one for texts of no kind; None for none.

    Source:
        sentence-transformers, versions 5 and 6: every model has the prompts "query" and "document", empty where its
        files name none, and encode_query and encode_document take these. So neither falls back to the default, and
        encode_document never comes to the names "passage" and "corpus" that it looks for next.
    """
    other = named.get(default, "") if isinstance(default, str) else ""
    return Prompts(named.get("query", ""), named.get("document", ""), other)
