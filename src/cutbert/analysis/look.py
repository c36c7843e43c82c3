"""All numbers of an analysis, as JSON: importance, then CKA in one pass over the texts, then probes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cutbert.analysis.importance import layer_importance
from cutbert.analysis.probes import Labelled, fit_probe
from cutbert.analysis.settings import AnalyzeSettings
from cutbert.analysis.stream import SUB_LAYERS, Features, Stream, read_features, sites_of
from cutbert.analysis.subjects import Subject, Texts
from cutbert.data.batches import Batch, plan_eval_batches
from cutbert.data.tokens import Tokens
from cutbert.model.sites import Site, SiteKind
from cutbert.model.task_model import TaskModel
from cutbert.train.collating import padded_batch
from cutbert.train.progress import counter, progress_bar, say

IMPORTANCE_TOKENS = 1024  # of a batch, forward and backward
EMBEDDINGS = Site("embeddings")


def look(subjects: Sequence[Subject], texts: Texts, settings: AnalyzeSettings) -> dict[str, Any]:
    """Return what layers hold, how alike they are, and what they do for the loss.

    Args:
        subjects: one model, or ours and the one it is compared with.
        texts: what they read.
        settings: of the analysis.
    """
    ours, notes = subjects[0], missing(subjects[0], texts, settings)
    for note in notes:
        say(note)
    result = names_json(subjects)
    if texts.important is not None and ours.fits:
        result["importance"] = importance_json(ours)
    stream = Stream(subjects, settings, texts.num_probe if texts.probe is None else 0)
    with progress_bar("representations (texts)", stream.num_texts) as bar:
        kept = stream.run(counter(bar))
    result |= cka_json(stream)
    for side, (subject, features) in enumerate(zip(subjects, kept, strict=True)):
        if texts.num_probe:
            found = probes_json(subject, features, texts, settings)
            result |= {f"{name}_against" if side else name: value for name, value in found.items()}
    return result | {
        "rows": settings.rows,
        "kernel": settings.kernel,
        "estimator": settings.estimator,
        "split": settings.split,
        "num_examples": stream.num_texts,
        "num_rows": stream.num_rows,
        **({"probe_rows": settings.probe, "probe_examples": texts.num_probe} if texts.num_probe else {}),
        "metric": texts.data.metric,
        "notes": notes,
    }


def missing(ours: Subject, texts: Texts, settings: AnalyzeSettings) -> list[str]:
    """Return a sentence for each part of the result that cannot be there."""
    found = []
    if texts.important is not None and not ours.fits:
        found.append(f"no importance: {ours.name} has no head for this task; fine-tune it first")
    if settings.probe_examples and not texts.num_probe:
        found.append("no probes: the task's labels are not of whole texts")
    return found


def layer_name(site: Site) -> str:
    return "embeddings" if site == EMBEDDINGS else f"layer{site.layer}"


def names_json(subjects: Sequence[Subject]) -> dict[str, Any]:
    """Return the models, their layers, and which of these have each sub-layer."""
    result: dict[str, Any] = {}
    for end, subject in zip(("", "_against"), subjects, strict=False):
        names = {kind: [layer_name(site) for site in sites_of(subject.model, kind)] for kind in ("layer", *SUB_LAYERS)}
        result["against" if end else "model"] = subject.name
        result[f"layers{end}"] = names.pop("layer")[1:]
        result[f"site_layers{end}"] = names
    return result


def importance_json(subject: Subject) -> dict[str, Any]:
    """Return the importance of each layer's sub-layers on the training rows drawn for it."""
    rows = subject.important
    assert rows is not None
    with progress_bar("importance (texts)", len(rows)) as bar:
        advance = counter(bar)

        def batches() -> Iterator[Batch]:
            for batch in labelled_batches(subject.model, rows):
                yield batch
                advance(batch.num_rows)

        found = layer_importance(subject.model, batches())
    return {layer_name(Site("layer", i)): parts for i, parts in found.items()}


def labelled_batches(model: TaskModel, tokens: Tokens) -> Iterator[Batch]:
    """Yield all rows in padded batches of like length, on the model's device."""
    device = next(model.parameters()).device
    for rows in plan_eval_batches(tokens.lengths, IMPORTANCE_TOKENS):
        yield padded_batch(model, tokens, rows).to(device)


def cka_json(stream: Stream) -> dict[str, Any]:
    """Return the matrices of CKA; null where a site is the same for all rows."""
    whole = plain(stream.meters["layer"].matrix())
    return {
        "cka": [row[1:] for row in whole[1:]],
        "cka_sites": {kind: plain(stream.meters[kind].matrix()) for kind in SUB_LAYERS if kind in stream.meters},
        "cka_embeddings": whole[0][1:],
    }


def plain(matrix: Tensor) -> list[list[float | None]]:
    return [[None if np.isnan(value) else value for value in row] for row in matrix.tolist()]


def probes_json(subject: Subject, kept: Features, texts: Texts, settings: AnalyzeSettings) -> dict[str, Any]:
    """Return the probes of a model: by layer, by sub-layer, and of the embeddings.

    Args:
        subject: the model.
        kept: what probes read of the training rows, where the pass over the texts has seen them.
        texts: whose labels are read.
        settings: of the analysis.
    """
    dev, own = subject.dev, subject.probe
    assert dev is not None
    head, metric = texts.data.head, texts.data.metric
    with progress_bar("texts of probes", len(dev) + (0 if own is None else len(own))) as bar:
        advance = counter(bar)
        features = kept if own is None else read_features(subject.model, own, settings.probe, advance)
        features_dev = read_features(subject.model, dev, settings.probe, advance)
    labels = labels_of(subject.alike if own is None else own)[: texts.num_probe]
    probes: dict[Site, dict[str, float]] = {}
    with progress_bar("probes (sites)", len(features)) as bar:
        for site in features:
            train = Labelled(features[site], labels)
            probe = fit_probe(head, metric, train, Labelled(features_dev[site], labels_of(dev)), seed=settings.seed)
            probes[site] = probe.to_json()
            bar(len(probes), layer_name(site))

    def of(kind: SiteKind) -> dict[str, Any]:
        return {layer_name(site): probes[site] for site in sites_of(subject.model, kind) if site != EMBEDDINGS}

    return {
        "probe": of("layer"),
        "probe_sites": {kind: found for kind in SUB_LAYERS if (found := of(kind))},
        "probe_embeddings": probes[EMBEDDINGS],
    }


def labels_of(tokens: Tokens) -> NDArray[Any]:
    assert tokens.labels is not None
    return tokens.labels
