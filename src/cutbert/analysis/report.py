"""The numbers of an analysis, as JSON: importance, then CKA in one pass over the texts, then probes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cutbert.analysis.inputs import AnalyzedModel, Texts
from cutbert.analysis.probes import Labelled, fit_probe
from cutbert.analysis.representation_pass import SUB_LAYERS, RepresentationPass, SiteFeatures, read_features, sites_of
from cutbert.analysis.settings import AnalyzeSettings
from cutbert.data.batches import Batch, plan_eval_batches
from cutbert.data.tokens import Tokens
from cutbert.model.sites import Site, SiteKind
from cutbert.model.task_model import TaskModel
from cutbert.surgery.importance import measure_importance
from cutbert.train.collating import padded_batch
from cutbert.train.progress import counter, progress_bar, say

IMPORTANCE_TOKENS = 1024  # positions of a batch: the backward pass needs more memory than the others
EMBEDDINGS = Site("embeddings")


def analysis_report(models: Sequence[AnalyzedModel], texts: Texts, settings: AnalyzeSettings) -> dict[str, Any]:
    """Return importance of sub-layers, CKA between layers, and probe scores of layers.

    Args:
        models: one model, or ours and the one it is compared with.
        texts: the rows of each measurement.
        settings: of the analysis.
    """
    ours, notes = models[0], missing(models[0], texts, settings)
    for note in notes:
        say(note)
    result = names_json(models)
    if texts.importance is not None and ours.fits:
        result["importance"] = importance_json(ours)
    representations = RepresentationPass(models, settings, texts.num_probe if texts.probe is None else 0)
    with progress_bar("representations (texts)", representations.num_texts) as bar:
        kept = representations.run(counter(bar))
    result |= cka_json(representations)
    for side, (analyzed, features) in enumerate(zip(models, kept, strict=True)):
        if texts.num_probe:
            probes = probes_json(analyzed, features, texts, settings)
            result |= {f"{name}_against" if side else name: value for name, value in probes.items()}
    return result | {
        "rows": settings.rows,
        "kernel": settings.kernel,
        "estimator": settings.estimator,
        "split": settings.split,
        "num_examples": representations.num_texts,
        "num_rows": representations.num_rows,
        **({"probe_rows": settings.probe, "probe_examples": texts.num_probe} if texts.num_probe else {}),
        "metric": texts.data.metric,
        "notes": notes,
    }


def missing(ours: AnalyzedModel, texts: Texts, settings: AnalyzeSettings) -> list[str]:
    """Return a sentence for each part of the result that cannot be measured."""
    notes = []
    if texts.importance is not None and not ours.fits:
        notes.append(f"no importance: {ours.name} has no head for this task; fine-tune it first")
    if settings.probe_examples and not texts.num_probe:
        notes.append("no probes: the task's labels are not of whole texts")
    return notes


def layer_name(site: Site) -> str:
    return "embeddings" if site == EMBEDDINGS else f"layer{site.layer}"


def names_json(models: Sequence[AnalyzedModel]) -> dict[str, Any]:
    """Return the models, the names of their layers, and which layers have each sub-layer."""
    result: dict[str, Any] = {}
    for end, analyzed in zip(("", "_against"), models, strict=False):
        names = {kind: [layer_name(site) for site in sites_of(analyzed.model, kind)] for kind in ("layer", *SUB_LAYERS)}
        result["against" if end else "model"] = analyzed.name
        result[f"layers{end}"] = names.pop("layer")[1:]
        result[f"site_layers{end}"] = names
    return result


def importance_json(analyzed: AnalyzedModel) -> dict[str, Any]:
    """Return the importance of each layer's sub-layers on the training rows drawn for it."""
    rows = analyzed.importance
    assert rows is not None
    with progress_bar("importance (texts)", len(rows)) as bar:
        advance = counter(bar)

        def batches() -> Iterator[Batch]:
            for batch in labelled_batches(analyzed.model, rows):
                yield batch
                advance(batch.num_rows)

        importance = layer_importance(analyzed.model, batches())
    return {layer_name(Site("layer", i)): parts for i, parts in importance.items()}


def layer_importance(model: TaskModel, batches: Iterable[Batch]) -> dict[int, dict[str, float]]:
    """Return the importance of each layer's sub-layers, by layer: the sum over their units, in units of the loss.

    `attention` is the sum over the layer's heads, `feed_forward` over its neurons, `total` over both. Units are summed
    as absolute values, so opposite changes do not cancel: it is not the loss of removing the whole sub-layer. Absent
    sub-layers have no entry.

    Args:
        model: with a task head for the batches' labels.
        batches: labelled, of training rows, on the model's device.

    Raises:
        InputError: no rows, no labels, no task head, no units at all, or a loss that is not finite.

    Source:
        Hou et al. 2020 (2004.04037) for the units (`surgery.importance`); the sum is ours.
    """
    units = measure_importance(model, batches)
    by_layer = {}
    for i, (layer, heads, neurons) in enumerate(zip(model.shape.layers, units.heads, units.neurons, strict=True)):
        parts = {}
        if layer.has_attention:
            parts["attention"] = float(heads.sum())
        if layer.has_feed_forward:
            parts["feed_forward"] = float(neurons.sum())
        by_layer[i] = {**parts, "total": sum(parts.values())}
    return by_layer


def labelled_batches(model: TaskModel, tokens: Tokens) -> Iterator[Batch]:
    """Yield all rows in padded batches of similar lengths, on the model's device."""
    device = next(model.parameters()).device
    for rows in plan_eval_batches(tokens.lengths, IMPORTANCE_TOKENS):
        yield padded_batch(model, tokens, rows).to(device)


def cka_json(representations: RepresentationPass) -> dict[str, Any]:
    """Return the matrices of CKA; null where a site is the same for all rows."""
    ckas = representations.ckas
    whole = plain(ckas["layer"].matrix())
    return {
        "cka": [row[1:] for row in whole[1:]],
        "cka_sites": {kind: plain(ckas[kind].matrix()) for kind in SUB_LAYERS if kind in ckas},
        "cka_embeddings": whole[0][1:],
    }


def plain(matrix: Tensor) -> list[list[float | None]]:
    return [[None if np.isnan(value) else value for value in row] for row in matrix.tolist()]


def probes_json(analyzed: AnalyzedModel, kept: SiteFeatures, texts: Texts, settings: AnalyzeSettings) -> dict[str, Any]:
    """Return the probes of a model: by layer, by sub-layer, and of the embeddings.

    Args:
        analyzed: the model.
        kept: features of the probes' training rows, where the pass over the texts has read them already.
        texts: the rows, with labels.
        settings: of the analysis.
    """
    dev, own = analyzed.dev, analyzed.probe
    assert dev is not None
    head = texts.data.head
    metric = "pearson" if head.kind == "regression" else texts.data.metric  # a probe does not rank
    with progress_bar("texts of probes", len(dev) + (0 if own is None else len(own))) as bar:
        advance = counter(bar)
        features = kept if own is None else read_features(analyzed.model, own, settings.probe, advance)
        features_dev = read_features(analyzed.model, dev, settings.probe, advance)
    labels = labels_of(analyzed.cka if own is None else own)[: texts.num_probe]
    probes: dict[Site, dict[str, float]] = {}
    with progress_bar("probes (sites)", len(features)) as bar:
        for site in features:
            train = Labelled(features[site], labels)
            probe = fit_probe(head, metric, train, Labelled(features_dev[site], labels_of(dev)), seed=settings.seed)
            probes[site] = probe.to_json()
            bar(len(probes), layer_name(site))

    def of(kind: SiteKind) -> dict[str, Any]:
        return {layer_name(site): probes[site] for site in sites_of(analyzed.model, kind) if site != EMBEDDINGS}

    return {
        "probe": of("layer"),
        "probe_sites": {kind: by_layer for kind in SUB_LAYERS if (by_layer := of(kind))},
        "probe_embeddings": probes[EMBEDDINGS],
    }


def labels_of(tokens: Tokens) -> NDArray[Any]:
    assert tokens.labels is not None
    return tokens.labels.astype(np.float32) if tokens.labels.dtype == np.bool_ else tokens.labels
