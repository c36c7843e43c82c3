"""What is looked at: one model or two, and the texts they read, the same for both."""

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
from cutbert.errors import InputError, Mistakes, ModelError
from cutbert.hub.load import Loaded, load_model, output_rows
from cutbert.hub.source import find_model
from cutbert.hub.tokenizer import load_tokenizer
from cutbert.model.style import EncoderStyle
from cutbert.model.task_model import TaskModel
from cutbert.shape.folder import FolderShape
from cutbert.shape.head import HeadSpec


@dataclass(frozen=True, eq=False)
class Texts:
    """The rows drawn for an analysis; those of parts that are not asked for are not there.

    Args:
        data: the task.
        alike: rows that CKA is measured on, in random order.
        probe: training rows of the probes, None where they are the first ones of `alike`.
        num_probe: how many training rows probes have; 0 for no probes.
        dev: rows the probes are scored on.
        important: training rows that importance is measured on.
    """

    data: Dataset
    alike: Examples
    probe: Examples | None
    num_probe: int
    dev: Examples | None
    important: Examples | None


@dataclass(frozen=True, eq=False)
class Subject:
    """A model and its tokens of the texts.

    Args:
        name: as the user gave it.
        loaded: model, on its device, and tokenizer.
        fits: whether the model has a trained head for the task.
        alike, probe, dev, important: tokens of the rows of these names in `Texts`.
    """

    name: str
    loaded: Loaded
    fits: bool
    alike: Tokens
    probe: Tokens | None
    dev: Tokens | None
    important: Tokens | None

    @property
    def model(self) -> TaskModel:
        return self.loaded.model


def check_inputs(models: Sequence[str], data: DataSettings, settings: AnalyzeSettings) -> Dataset:
    """Return the task's rows; nothing expensive has run yet.

    Raises:
        InputError: every mistake in settings, models and data, together.
    """
    mistakes = Mistakes()
    with mistakes.collect():
        settings.check()
    for name in models:
        with mistakes.collect():
            room = facts_of(name).max_tokens
            if data.max_length is not None and data.max_length > room:
                raise ModelError(f"--max-length must be at most {room}, the positions of {name}, got {data.max_length}")
    dataset: Dataset | None = None
    with mistakes.collect():
        dataset = load_dataset(data)
    mistakes.check(InputError)
    assert dataset is not None
    return dataset


def draw_texts(data: Dataset, settings: AnalyzeSettings) -> Texts:
    """Draw the rows of an analysis at random.

    Raises:
        InputError: labels that no probe can be trained on.
    """
    random = np.random.default_rng(settings.seed)

    def drawn(rows: Examples, size: int) -> Examples:
        return rows.take(random.permutation(len(rows))[:size])

    alike = drawn({"train": data.train, "select": data.select, "dev": data.dev}[settings.split], settings.num_examples)
    important = drawn(data.train, settings.importance_samples) if settings.importance_samples else None
    size = min(settings.probe_examples, len(data.train)) if data.head.is_sequence else 0
    probe = dev = None
    if size:
        dev = drawn(data.dev, settings.probe_examples)
        probe = None if settings.split == "train" and size <= len(alike) else drawn(data.train, size)
        labelled = alike if probe is None else probe
        assert isinstance(labelled, Rows) and labelled.labels is not None
        check_labels(data.head, labelled.labels[:size])
    return Texts(data, alike, probe, size, dev, important)


def load_subjects(
    models: Sequence[str], texts: Texts, data: DataSettings, settings: AnalyzeSettings, device: torch.device
) -> list[Subject]:
    """Tokenise the texts for each model, then load the models.

    Raises:
        InputError: a model that cannot be read, or two that cut texts into other tokens where rows are tokens.
    """
    parts = {name: getattr(texts, name) for name in ("alike", "probe", "dev", "important")}
    limit = min([data.length_limit, *(facts_of(name).max_tokens for name in models)])
    tokens = []
    for name in models:
        facts = facts_of(name)
        tokenizer = load_tokenizer(find_model(name).folder, facts.shape, EncoderStyle.from_json(facts.style_data))
        tokens.append(
            {
                part: None if rows is None else tokenize_rows(rows, tokenizer, name, limit)
                for part, rows in parts.items()
            }
        )
    if settings.rows == "tokens":
        check_same_tokens(models, [each["alike"] for each in tokens])
    return [load_subject(name, texts.data.head, found, device) for name, found in zip(models, tokens, strict=True)]


def load_subject(name: str, head: HeadSpec, tokens: Mapping[str, Tokens | None], device: torch.device) -> Subject:
    """Load a model, with the task's head where it has one that fits, else with its own."""
    fits = output_rows(facts_of(name).head, head)[0] is not None
    loaded = load_model(name, head if fits else None)
    loaded.model.to(device)
    alike = tokens["alike"]
    assert alike is not None
    others = {part: found for part, found in tokens.items() if part != "alike"}
    return Subject(name, loaded, fits and not loaded.has_new_head, alike, **others)


def check_same_tokens(models: Sequence[str], tokens: Sequence[Tokens | None]) -> None:
    """Raise an InputError unless all models see texts as the same tokens."""
    first, *others = tokens
    for name, other in zip(models[1:], others, strict=True):
        assert first is not None and other is not None
        if not (np.array_equal(first.offsets, other.offsets) and np.array_equal(first.ids, other.ids)):
            raise InputError(
                f"--rows tokens must compare the same tokens, but {models[0]} and {name} cut texts differently; "
                "use --rows cls or --rows mean"
            )


def facts_of(model: str) -> FolderShape:
    """Return what a model's files say of it, weights unread."""
    return find_model(model).facts
