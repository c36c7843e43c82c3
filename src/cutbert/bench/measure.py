"""Everything a user asks of model folders: size, latency side by side, throughput, memory, and score on a task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cutbert.bench.latency import (
    THROUGHPUT_ROUNDS,
    Latency,
    conditions,
    sample_lengths,
    settings_lengths,
    time_networks,
)
from cutbert.bench.memory import file_bytes, measure_peak_bytes
from cutbert.bench.settings import DEFAULT_LENGTH, LatencySettings
from cutbert.data.dataset import Dataset, load_dataset
from cutbert.data.settings import DataSettings
from cutbert.data.tokens import Tokens, tokenize_rows
from cutbert.errors import InputError, Mistakes, ModelError
from cutbert.hub.load import Loaded, load_model, named, output_rows
from cutbert.hub.source import find_source
from cutbert.shape.cost import cost_of
from cutbert.shape.folder import read_folder_shape
from cutbert.train.counting import counter
from cutbert.train.engine import make_engine
from cutbert.train.evaluate import predict_logits, score
from cutbert.train.machine import num_threads
from cutbert.train.progress import progress_bar
from cutbert.train.settings import TrainSettings


@dataclass(frozen=True)
class Candidate:
    """One model to measure, with its dev tokens where there is a task."""

    name: str
    folder: Path
    loaded: Loaded
    dev: Tokens | None


def measure_models(
    models: Sequence[str],
    data: DataSettings | None,
    settings: LatencySettings,
) -> dict[str, Any]:
    """Return the numbers of each model, latencies measured in one interleaved run.

    Args:
        models: model folders, run folders or hub ids.
        data: a task to score on, whose dev lengths are measured at; None for lengths alone.
        settings: how latency is measured.

    Returns:
        `models`, one object per model; `measured`, the conditions; `metric` where there is a task.

    Raises:
        InputError: mistakes in settings, models or data, all together, before any model is loaded.
    """
    dataset = check_inputs(models, data, settings)
    device = make_engine(TrainSettings(device=settings.device, threads=settings.threads)).device
    max_length = (data or DataSettings()).length_limit
    candidates = [load_candidate(name, dataset, max_length) for name in models]
    for candidate in candidates:
        candidate.loaded.model.to(device)
    first = candidates[0].dev
    lengths = settings_lengths(settings, None if first is None else sample_lengths(first.lengths))
    check_lengths(candidates, lengths)
    rounds = settings.rounds + THROUGHPUT_ROUNDS
    with num_threads(settings.threads) as threads, progress_bar("measure", rounds + len(candidates)) as bar:
        advance = counter(bar)
        networks = {str(i): each.loaded.model for i, each in enumerate(candidates)}
        times = time_networks(networks, lengths, settings, on_round=advance)
        found = []
        for i, candidate in enumerate(candidates):
            found.append(describe(candidate, dataset, times[str(i)], settings.backend, max(lengths), threads))
            advance()
    result: dict[str, Any] = {"models": found, "measured": conditions(settings, lengths, threads, device.type)}
    return result if dataset is None else {**result, "metric": dataset.metric}


def check_inputs(models: Sequence[str], data: DataSettings | None, settings: LatencySettings) -> Dataset | None:
    """Return the task's rows, or raise every mistake found."""
    mistakes = Mistakes()
    dataset: Dataset | None = None
    with mistakes.collect():
        settings.check()
    with mistakes.collect():
        dataset = None if data is None else load_dataset(data)
    for name in models:
        with mistakes.collect():
            check_model(name, data, dataset, settings)
    mistakes.check(InputError)
    return dataset


def check_model(name: str, data: DataSettings | None, dataset: Dataset | None, settings: LatencySettings) -> None:
    """Raise unless a model can be read, has room for the lengths, and has the task's head where there is one.

    The default --max-length stands for all the positions of a model that has fewer.
    """
    facts = read_folder_shape(find_source(name).folder)
    room, mistakes = facts.max_tokens, Mistakes()
    if settings.length is not None and settings.length > room:
        mistakes.add(f"--length must be at most {room} for {name}, got {settings.length}")
    elif settings.length is None and data is None and room < DEFAULT_LENGTH:
        mistakes.add(f"--length must be given for {name}, which has positions for {room} tokens, not {DEFAULT_LENGTH}")
    if data is not None and data.max_length is not None and data.max_length > room:
        mistakes.add(f"--max-length must be at most {room}, the positions of {name}, got {data.max_length}")
    if dataset is not None and output_rows(facts.head, dataset.head)[0] is None:
        mistakes.add(f"{name}: must be {named(dataset.head)} to be scored on this task, got {named(facts.head)}")
    mistakes.check(ModelError)


def check_lengths(candidates: Sequence[Candidate], lengths: Sequence[int]) -> None:
    """Raise unless every model has room for the longest text to measure at: the lengths are the first model's."""
    mistakes = Mistakes()
    for each in candidates:
        room = each.loaded.tokenizer.model_max_length
        if max(lengths) > room:
            mistakes.add(f"--length must be given for {each.name}: it takes {room} tokens, texts have {max(lengths)}")
    mistakes.check(ModelError)


def load_candidate(name: str, dataset: Dataset | None, max_length: int) -> Candidate:
    """Load a model with the task's labels and tokenise dev for it."""
    folder = find_source(name).folder
    loaded = load_model(name, None if dataset is None else dataset.head)
    if dataset is None:
        return Candidate(name, folder, loaded, None)
    max_length = min(max_length, loaded.tokenizer.model_max_length)
    return Candidate(name, folder, loaded, tokenize_rows(dataset.dev, loaded.tokenizer, name, max_length))


def describe(
    candidate: Candidate, dataset: Dataset | None, times: Latency, backend: str, length: int, threads: int
) -> dict[str, Any]:
    """Return one model's object of the result."""
    model = candidate.loaded.model
    cost = cost_of(model.shape, model.head_spec)
    data: dict[str, Any] = {
        "model": candidate.name,
        "backend": backend,
        "params": cost.params,
        "macs": cost.macs,
        **times.to_json(),
        "peak_bytes": measure_peak_bytes(candidate.folder, length=length, threads=threads),
        "file_bytes": file_bytes(candidate.folder),
    }
    if dataset is not None and candidate.dev is not None:
        scores = score(dataset.head, dataset.metric, predict_logits(model, candidate.dev), candidate.dev)
        data |= {"score": scores.score, "metrics": scores.metrics}
    return data
