"""Scores a reranker's outputs: NDCG@10 and MRR@10 in each group of pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cutbert.data.metrics import ScoredOutputs
from cutbert.data.ranking import can_be_ranked, group_rows, ranking_scores


@dataclass(frozen=True, eq=False)
class RankingScorer:
    """Ranks the pairs of each group by a model's one output, and scores the order.

    Args:
        groups: of each pair [N].
        relevance: of each pair [N], 0 or larger, or whether it is relevant.
    """

    groups: Sequence[str]
    relevance: NDArray[np.generic]

    @property
    def num_scored(self) -> int:
        return len(self._ranked)

    def __call__(self, logits: NDArray[np.float32]) -> ScoredOutputs:
        """Return the means over the groups that can be ranked; each pair's group, and these groups with their scores.

        Outputs that are not finite get 0, as a model that gives them cannot be used.
        """
        is_finite = bool(np.isfinite(logits).all())
        scores = np.nan_to_num(np.asarray(logits, dtype=np.float64)[:, 0])
        of_groups = ranking_scores(scores, self.relevance.astype(np.float64), self._ranked)
        metrics = {name: float(np.mean(values)) if is_finite else 0.0 for name, values in of_groups.items()}
        names = [self.groups[rows[0]] for rows in self._ranked]
        return ScoredOutputs(metrics, {"groups": list(self.groups), "ranked": names, **of_groups})

    @cached_property
    def _ranked(self) -> list[NDArray[np.int64]]:
        return [rows for rows in group_rows(self.groups) if can_be_ranked(self.relevance[rows])]
