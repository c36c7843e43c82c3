"""The inputs of an analysis: one model or two, and the texts they read, the same for both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from cutbert.analysis.probes import check_labels
from cutbert.analysis.settings import AnalyzeSettings
from cutbert.data.dataset import Dataset, load_dataset
from cutbert.data.rows import Examples, Rows
from cutbert.data.settings import DataSettings
from cutbert.data.tokens import Tokens, tokenize_rows
from cutbert.errors import InputError, Mistakes
from cutbert.folders.load import Loaded, load_model, output_rows
from cutbert.folders.tokenizer import tokenizer_of
from cutbert.model.task_model import TaskModel
from cutbert.shape.head import HeadSpec
from cutbert.shape.source import ModelSource


@dataclass(frozen=True, eq=False)
class Texts:
    """The rows drawn for each measurement of an analysis; None for a measurement that is not wanted.

    Args:
        data: the task.
        cka: rows that CKA is measured on, in random order.
        probe: training rows of the probes, None where they are the first ones of `cka`.
        num_probe: number of training rows of the probes; 0 for no probes.
        dev: rows that the probes are scored on.
        importance: training rows that importance is measured on.
    """

    data: Dataset
    cka: Examples
    probe: Examples | None
    num_probe: int
    dev: Examples | None
    importance: Examples | None


@dataclass(frozen=True, eq=False)
class AnalyzedModel:
    """A model, and the texts as its tokens.

    Args:
        name: as the user gave it.
        loaded: model, on its device, and tokenizer.
        fits: whether the model has a trained head for the task.
        cka, probe, dev, importance: tokens of the rows with these names in `Texts`.
    """

    name: str
    loaded: Loaded
    fits: bool
    cka: Tokens
    probe: Tokens | None
    dev: Tokens | None
    importance: Tokens | None

    @property
    def model(self) -> TaskModel:
        return self.loaded.model


def check_inputs(sources: Sequence[ModelSource], data: DataSettings, settings: AnalyzeSettings) -> Dataset:
    """Read the task's rows and check all else that the user gave, before anything expensive runs.

    Raises:
        InputError: mistakes in settings, models or data, all together.
    """
    mistakes = Mistakes()
    with mistakes.collect():
        settings.check()
    for source in sources:
        room = source.facts.max_tokens
        if data.max_length is not None and data.max_length > room:
            mistakes.add(f"--max-length must be at most {room}, the positions of {source}, got {data.max_length}")
    dataset: Dataset | None = None
    with mistakes.collect():
        dataset = load_dataset(data)
    mistakes.check(InputError)
    assert dataset is not None
    return dataset


def draw_texts(data: Dataset, settings: AnalyzeSettings) -> Texts:
    """Draw the rows of an analysis at random.

    Raises:
        InputError: no probe can be trained on the labels.
    """
    random = np.random.default_rng(settings.seed)

    def drawn(rows: Examples, size: int) -> Examples:
        return rows.take(random.permutation(len(rows))[:size])

    cka = drawn({"train": data.train, "select": data.select, "dev": data.dev}[settings.split], settings.num_examples)
    importance = drawn(data.train, settings.importance_samples) if settings.importance_samples else None
    size = min(settings.probe_examples, len(data.train)) if data.head.is_sequence else 0
    probe = dev = None
    if size:
        dev = drawn(data.dev, settings.probe_examples)
        probe = None if settings.split == "train" and size <= len(cka) else drawn(data.train, size)
        labelled = cka if probe is None else probe
        assert isinstance(labelled, Rows) and labelled.labels is not None
        check_labels(data.head, labelled.labels[:size])
    return Texts(data, cka, probe, size, dev, importance)


def load_models(
    sources: Sequence[ModelSource], texts: Texts, data: DataSettings, settings: AnalyzeSettings, device: torch.device
) -> list[AnalyzedModel]:
    """Tokenise the texts for each model, then load the models.

    Raises:
        InputError: a tokenizer that cannot be read, or two models with different tokens where rows are tokens.
    """
    parts = {name: getattr(texts, name) for name in ("cka", "probe", "dev", "importance")}
    limit = min([data.length_limit, *(source.facts.max_tokens for source in sources)])
    tokens = []
    for source in sources:
        tokenizer = tokenizer_of(source)
        tokens.append(
            {
                part: None if rows is None else tokenize_rows(rows, tokenizer, source.name, limit)
                for part, rows in parts.items()
            }
        )
    if settings.rows == "tokens":
        check_same_tokens(sources, [each["cka"] for each in tokens])
    return [
        load_analyzed(source, texts.data.head, parts, device) for source, parts in zip(sources, tokens, strict=True)
    ]


def load_analyzed(
    source: ModelSource, head: HeadSpec, tokens: Mapping[str, Tokens | None], device: torch.device
) -> AnalyzedModel:
    """Load a model, with the task's head where it has one that fits, else with its own."""
    fits = output_rows(source.head, head)[0] is not None
    loaded = load_model(source, head if fits else None)
    loaded.model.to(device)
    cka = tokens["cka"]
    assert cka is not None
    others = {part: rows for part, rows in tokens.items() if part != "cka"}
    return AnalyzedModel(source.name, loaded, fits and not loaded.has_new_head, cka, **others)


def check_same_tokens(models: Sequence[ModelSource], tokens: Sequence[Tokens | None]) -> None:
    """Raise an InputError unless all models cut the texts into the same tokens."""
    first, *others = tokens
    for name, other in zip(models[1:], others, strict=True):
        assert first is not None and other is not None
        if not (np.array_equal(first.offsets, other.offsets) and np.array_equal(first.ids, other.ids)):
            raise InputError(
                f"--rows tokens must compare the same tokens, but {models[0]} and {name} cut texts differently; "
                "use --rows cls or --rows mean"
            )
