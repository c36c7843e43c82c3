"""The checks before a graph is written: float32 outputs equal torch's, and int8 loses little of the score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from cutbert.data.batches import MAX_TOKENS
from cutbert.data.dataset import Dataset
from cutbert.data.rows import Examples, Rows
from cutbert.data.settings import DataSettings
from cutbert.data.tokens import Tokens, tokenize_rows
from cutbert.demo_data.reviews import DEV_FILE, read_reviews
from cutbert.errors import BudgetError, ModelError
from cutbert.exporters.int8 import Feeds
from cutbert.exporters.settings import ExportSettings
from cutbert.exporters.trimming import Trimming, trim_words
from cutbert.folders.load import Loaded, output_rows
from cutbert.folders.provenance import TRIMMED, extend_provenance, input_length
from cutbert.folders.sentence import Sentence
from cutbert.shape.cost import BYTES_PER_PARAM
from cutbert.shape.pooling import Pooling
from cutbert.train.collating import padded_batch
from cutbert.train.evaluate import predict_logits, score
from cutbert.train.progress import progress_bar, say
from cutbert.train.runner import Runner, TorchRunner, run_rows
from cutbert.train.vectors import PooledRunner, beside, embedder

MAX_DIFF = 1e-4
COMPARED_ROWS = 200


@dataclass(frozen=True)
class TaskTokens:
    """The rows of a task as the model's tokens.

    Args:
        dataset: the rows; None where there is no task.
        dev: tokens of dev, or of demo texts where there is no task.
        select, train: tokens; None where there is no task. train: None also without static calibration.
    """

    dataset: Dataset | None
    dev: Tokens
    select: Tokens | None = None
    train: Tokens | None = None


def longest_input(loaded: Loaded, data: DataSettings | None, sentence: Sentence | None) -> int:
    """Return the tokens at which texts are cut: those asked for, else the model's own, else the task's default."""
    asked, room = data or DataSettings(), loaded.tokenizer.model_max_length
    named = None if sentence is None else sentence.max_length
    return input_length(loaded.provenance, asked.max_length, named or asked.length_limit, room)


def tokens_of(
    loaded: Loaded,
    dataset: Dataset | None,
    data: DataSettings | None,
    settings: ExportSettings,
    sentence: Sentence | None = None,
) -> TaskTokens:
    """Tokenise the task's rows, or demo texts where there is no task."""
    longest = longest_input(loaded, data, sentence)

    def tokens(rows: Examples, part: str) -> Tokens:
        made = tokenize_rows(rows, loaded.tokenizer, loaded.source, longest)
        for note in made.notes:
            say(f"{part}: {note}")
        return made

    if dataset is None:
        return TaskTokens(None, tokens(Rows(read_reviews(DEV_FILE)[0]), "demo texts"))
    train = None
    if settings.calibration == "static":
        rows = np.random.default_rng(0).permutation(len(dataset.train))[: settings.calibration_samples]
        train = tokens(dataset.train.take(np.sort(rows)), "train")
    return TaskTokens(dataset, tokens(dataset.dev, "dev"), tokens(dataset.select, "select"), train)


def checked_diff(runner: Runner, loaded: Loaded, tokens: Tokens) -> float:
    """Return the largest difference between ONNX Runtime's outputs and torch's on texts, each run alone.

    Raises:
        ModelError: it exceeds 1e-4, or 1e-4 of the largest output where that exceeds 1.
    """
    torch_runner, model = TorchRunner(loaded.model), loaded.model
    worst, largest = 0.0, 1.0
    rows = range(min(len(tokens), COMPARED_ROWS))
    with progress_bar("compare with torch", len(rows)) as bar:
        for row in rows:
            feeds = feeds_of(model, tokens, row)
            expected = torch_runner(**feeds)
            worst = max(worst, float(np.abs(runner(**feeds) - expected).max()))
            largest = max(largest, float(np.abs(expected).max()))
            bar(row + 1)
    if not worst <= MAX_DIFF * largest:
        raise ModelError(
            f"ONNX Runtime must answer as torch within {MAX_DIFF * largest:.1e}, it differs by {worst:.1e}"
        )
    return worst


def feeds_of(model: Any, tokens: Tokens, row: int) -> Feeds:
    """Return one row as the inputs of a runner."""
    batch = padded_batch(model, tokens, [row])
    ids = batch.input_ids.numpy()
    types = np.zeros_like(ids) if batch.token_type_ids is None else batch.token_type_ids.numpy()
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": types}


def pooled(runner: Runner, sentence: Sentence) -> PooledRunner:
    """Return a runner of an embedding model, whose folder `read_embedder` takes, as one that gives vectors."""
    return PooledRunner(runner, cast(Pooling, sentence.pooling), sentence.normalize)


def scores_around(runner: Runner, loaded: Loaded, parts: TaskTokens, sentence: Sentence | None) -> dict[str, Any]:
    """Return the scores of the model in torch float32 (before) and of a runner (after), on dev and on select.

    Vectors of an embedding model are compared with its own in torch.
    """
    dataset, model = parts.dataset, loaded.model
    assert dataset is not None and parts.select is not None
    columns = output_rows(model.head_spec, dataset.head)[0]
    scores: dict[str, Any] = {"metric": dataset.metric}
    if dataset.own_select_metric is not None:
        scores["select_score_metric"] = dataset.own_select_metric
    splits = {"": parts.dev, "select_": parts.select}
    runs: Mapping[str, tuple[Runner, int]] = {"before": (TorchRunner(model), MAX_TOKENS), "after": (runner, 1)}
    if sentence is not None and dataset.head.kind == "embedding":
        runs = {when: (pooled(each, sentence), most) for when, (each, most) in runs.items()}
        own = pooled(TorchRunner(model), sentence)
        vectors = {name: run_rows(own, model, each, max_tokens=MAX_TOKENS) for name, each in splits.items()}
        splits = {name: beside(each, vectors[name]) for name, each in splits.items()}
    with progress_bar("score", sum(2 * len(tokens) for tokens in splits.values())) as bar:
        done = 0

        def count(rows: int) -> None:
            nonlocal done
            done += rows
            bar(done)

        for when, (each, max_tokens) in runs.items():
            for split, tokens in splits.items():
                logits = run_rows(each, model, tokens, max_tokens=max_tokens, on_batch=count)
                logits = logits if columns is None else logits[..., columns]
                scores[f"{split}score_{when}"] = score(dataset.head, dataset.metric, logits, tokens).score
    if dataset.select_is_dev:
        scores["select_is_dev"] = True
    return scores


def trimmed(
    loaded: Loaded, dataset: Dataset, data: DataSettings, settings: ExportSettings, sentence: Sentence | None
) -> Trimming:
    """Return a model trimmed to its training texts, whose provenance says what that changes.

    Vectors of an embedding model are compared with those of the whole one.
    """
    longest = longest_input(loaded, data, sentence)

    def tokens(rows: Examples, of: Loaded) -> Tokens:
        return tokenize_rows(rows, of.tokenizer, of.source, longest)

    trimming = Trimming.of(loaded, tokens(dataset.train, loaded), sentence)
    splits = {
        name: (tokens(rows, loaded), tokens(rows, trimming.trimmed))
        for name, rows in (("select", dataset.select), ("dev", dataset.dev))
    }
    networks, size = (loaded.model, trimming.trimmed.model), 1 if settings.wants_int8 else BYTES_PER_PARAM
    if sentence is not None and dataset.head.kind == "embedding":
        networks = (embedder(networks[0], sentence.normalize), embedder(networks[1], sentence.normalize))
        vectors = {name: predict_logits(networks[0], whole) for name, (whole, _) in splits.items()}
        splits = {name: (beside(one, vectors[name]), beside(two, vectors[name])) for name, (one, two) in splits.items()}
    facts = trimming.facts(dataset, splits, networks, size)
    say(trim_words(facts))
    provenance = extend_provenance(loaded.provenance, facts={TRIMMED: facts})
    return replace(trimming, trimmed=replace(trimming.trimmed, provenance=provenance))


def check_drop(result: Mapping[str, Any], settings: ExportSettings) -> None:
    """Raise a BudgetError where int8 loses more of the select score than --max-drop."""
    before, after = result["select_score_before"], result["select_score_after"]
    drop = 100 * (before - after)
    if not drop <= settings.max_drop:
        other = "; --calibration static may lose less" if settings.calibration == "dynamic" else ""
        metric = result.get("select_score_metric", result["metric"])
        raise BudgetError(
            f"int8 may lose --max-drop {settings.max_drop:g} points of {metric} on select, "
            f"it loses {drop:.2f} ({100 * before:.2f} to {100 * after:.2f}); nothing was written{other}"
        )
