"""One forward pass of one model or two over the texts: CKA of all sites, and the features of the probes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cutbert.analysis.cka import MinibatchCka
from cutbert.analysis.inputs import AnalyzedModel
from cutbert.analysis.rows import DrawnTokens, draw_tokens, read_representations
from cutbert.analysis.settings import AnalyzeSettings, RowKind
from cutbert.data.tokens import Tokens
from cutbert.model.sites import Site, SiteKind
from cutbert.model.task_model import TaskModel

SITES: tuple[SiteKind, ...] = ("embeddings", "attention", "feed_forward", "layer")
SUB_LAYERS: tuple[SiteKind, ...] = ("attention", "feed_forward")
TEXTS_AT_ONCE = 256
OnTexts = Callable[[int], None]
SiteFeatures = dict[Site, NDArray[np.float32]]


def sites_of(model: TaskModel, kind: SiteKind) -> list[Site]:
    """Return a model's sites of a kind, first layer first; the embeddings come before the layers' outputs."""
    layers = list(enumerate(model.shape.layers))
    if kind == "attention":
        return [Site(kind, i) for i, layer in layers if layer.has_attention]
    if kind == "feed_forward":
        return [Site(kind, i) for i, layer in layers if layer.has_feed_forward]
    return [Site("embeddings"), *(Site("layer", i) for i, _ in layers)]


@dataclass
class RepresentationPass:
    """A pass over the texts that sums up CKA and keeps the probes' features of the first texts.

    Args:
        models: one model, or ours and theirs.
        settings: of the analysis.
        num_kept: number of first texts whose features are kept, for each model.
    """

    models: Sequence[AnalyzedModel]
    settings: AnalyzeSettings
    num_kept: int
    ckas: dict[SiteKind, MinibatchCka] = field(default_factory=dict)
    num_rows: int = 0

    @property
    def num_texts(self) -> int:
        """Number of texts that are read; a long text cut into windows counts once for each window."""
        return min(len(self.models[0].cka), self.settings.num_examples)

    def run(self, on_texts: OnTexts) -> list[SiteFeatures]:
        """Read all texts once; return the features of the first ones, by model."""
        kept: list[list[SiteFeatures]] = [[] for _ in self.models]
        start = 0
        for texts, picks in self._minibatches():
            wants_probe = start < self.num_kept
            kinds = {self.settings.rows, self.settings.probe} if wants_probe else {self.settings.rows}
            representations = [
                read_representations(each.model, each.cka, texts, sites=SITES, rows=kinds, picks=picks)
                for each in self.models
            ]
            self._add([each[self.settings.rows] for each in representations])
            if wants_probe:
                for features, each in zip(kept, representations, strict=True):
                    features.append(to_numpy(each[self.settings.probe]))
            start += len(texts)
            on_texts(len(texts))
        return [first_rows(parts, self.num_kept) for parts in kept]

    def _minibatches(self) -> Iterator[tuple[NDArray[np.int64], DrawnTokens | None]]:
        """Yield the texts of each minibatch, and the tokens drawn of them where rows are tokens."""
        tokens = self.models[0].cka
        random = np.random.default_rng([self.settings.seed, 1])
        for texts in in_parts(self.num_texts, self.settings.texts_at_once):
            picks = None
            if self.settings.rows == "tokens":
                picks = draw_tokens(tokens.lengths[texts], self.settings.tokens_per_text * len(texts), random)
            yield texts, picks

    def _add(self, by_model: Sequence[dict[Site, Tensor]]) -> None:
        self.num_rows += len(next(iter(by_model[0].values())))
        for kind in ("layer", *SUB_LAYERS):
            sides = [
                [rows[site] for site in sites_of(each.model, kind)]
                for each, rows in zip(self.models, by_model, strict=True)
            ]
            if all(sides):
                self.ckas.setdefault(kind, self._new_cka()).add(*sides)

    def _new_cka(self) -> MinibatchCka:
        settings = self.settings
        return MinibatchCka(kernel=settings.kernel, biased=settings.estimator == "biased", bandwidth=settings.bandwidth)


def read_features(model: TaskModel, tokens: Tokens, rows: RowKind, on_texts: OnTexts) -> SiteFeatures:
    """Return one row per text at each site, for all texts."""
    parts = []
    for texts in in_parts(len(tokens), TEXTS_AT_ONCE):
        parts.append(to_numpy(read_representations(model, tokens, texts, sites=SITES, rows=(rows,))[rows]))
        on_texts(len(texts))
    return first_rows(parts, len(tokens))


def in_parts(count: int, size: int) -> list[NDArray[np.int64]]:
    """Return the indices below `count` in parts of at most `size`, whose sizes differ by at most 1."""
    return np.array_split(np.arange(count), max(1, -(-count // size)))


def to_numpy(rows: dict[Site, Tensor]) -> SiteFeatures:
    return {site: x.to("cpu", torch.float32).numpy() for site, x in rows.items()}


def first_rows(parts: Sequence[SiteFeatures], count: int) -> SiteFeatures:
    """Concatenate the rows of minibatches, site by site, and return the first `count`."""
    return {site: np.concatenate([part[site] for part in parts])[:count] for site in (parts[0] if parts else ())}
