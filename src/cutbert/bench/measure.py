"""The verb `measure`: size, interleaved latency, throughput, memory, and score on a task, of model folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cutbert.bench.backends import BACKENDS
from cutbert.bench.latency import (
    THROUGHPUT_ROUNDS,
    Latency,
    conditions,
    sample_lengths,
    settings_lengths,
    time_runners,
)
from cutbert.bench.memory import file_bytes, measure_alone
from cutbert.bench.quality import Sized
from cutbert.bench.settings import DEFAULT_LENGTH, MeasureSettings
from cutbert.data.dataset import Dataset, load_dataset
from cutbert.data.settings import DataSettings
from cutbert.data.tokens import Tokens, tokenize_rows
from cutbert.data.vectors import COSINE
from cutbert.errors import DataError, InputError, Mistakes, ModelError
from cutbert.files import scratch_folder
from cutbert.folders.load import Loaded, load_model, output_rows
from cutbert.folders.provenance import input_length, recorded_task, task_words
from cutbert.folders.sentence import read_embedder
from cutbert.shape.cost import cost_of
from cutbert.shape.head import HeadSpec
from cutbert.shape.source import ModelSource
from cutbert.train.engine import make_engine
from cutbert.train.evaluate import score
from cutbert.train.machine import num_threads
from cutbert.train.progress import counter, progress_bar, say
from cutbert.train.runner import Runner, run_rows
from cutbert.train.settings import TrainSettings
from cutbert.train.vectors import PooledRunner


@dataclass(frozen=True)
class MeasuredModel:
    """One model to measure.

    Args:
        name: as the user gave it.
        folder: with its files.
        loaded: the model, with its stored head.
        dev: dev's tokens where there is a task.
        columns: for each label of the task the index of the model's output; None for all.
    """

    name: str
    folder: Path
    loaded: Loaded
    dev: Tokens | None = None
    columns: Sequence[int] | None = None


@dataclass(frozen=True)
class RunnableModel:
    """A candidate on one backend: its runner, and the file or folder it was loaded from."""

    candidate: MeasuredModel
    backend: str
    runner: Runner
    path: Path

    @property
    def sized(self) -> Sized:
        """What its times are compared by."""
        label = f"{self.candidate.name} on {self.backend}"
        return Sized(label, self.backend, self.candidate.loaded.model.shape)


def measure_models(
    sources: Sequence[ModelSource], data: DataSettings | None, settings: MeasureSettings
) -> dict[str, Any]:
    """Measure each model on each backend, all latencies in one interleaved run.

    Args:
        sources: the models.
        data: a task to score on, whose dev lengths are used for latency; None for the models' own, where their
            cutbert.json names it, else for latency alone.
        settings: how latency is measured.

    Returns:
        `models`, one object per model and backend; `measured`, the conditions; `metric` where there is a task.

    Raises:
        InputError: mistakes in settings, models or data, all together, before any model is loaded.
        MissingError: the settings require a quiet machine, and it was not quiet.
    """
    dataset, data = check_inputs(sources, data, settings)
    device = make_engine(TrainSettings(device=settings.engine_device, threads=settings.threads)).device
    candidates = [load_candidate(source, dataset, data) for source in sources]
    for candidate in candidates:
        candidate.loaded.model.to(device)
    first = candidates[0].dev
    lengths = settings_lengths(settings, None if first is None else sample_lengths(first.lengths))
    check_lengths(candidates, lengths)
    with num_threads(settings.threads) as threads, scratch_folder() as scratch:
        runnables = [
            load_on_backend(candidate, name, scratch / f"{i}-{name}.onnx", threads)
            for i, candidate in enumerate(candidates)
            for name in settings.backends
        ]
        with progress_bar("measure", settings.rounds + THROUGHPUT_ROUNDS + len(runnables)) as bar:
            advance = counter(bar)
            runners = {str(i): each.runner for i, each in enumerate(runnables)}
            vocab_size = min(each.loaded.model.shape.vocab_size for each in candidates)
            sizes = {str(i): each.sized for i, each in enumerate(runnables)}
            times = time_runners(runners, lengths, settings, vocab_size=vocab_size, sizes=sizes, on_round=advance)
            measured = []
            for i, runnable in enumerate(runnables):
                measured.append(describe(runnable, dataset, times[str(i)], max(lengths), threads))
                advance()
    measured_as = conditions(settings, lengths, threads, device.type, times.quality)
    result: dict[str, Any] = {"models": measured, "measured": measured_as}
    return result if dataset is None else {**result, "metric": dataset.metric}


def check_inputs(
    sources: Sequence[ModelSource], data: DataSettings | None, settings: MeasureSettings
) -> tuple[Dataset | None, DataSettings | None]:
    """Return the task's rows and settings, None where there is no task, or raise all mistakes together."""
    mistakes = Mistakes()
    dataset: Dataset | None = None
    with mistakes.collect():
        settings.check()
    with mistakes.collect():
        if data is not None:
            heads = (source.head for source in sources)
            dataset = load_dataset(data, next((head for head in heads if head.has_names), None))
            check_judged(dataset)
        elif settings.length is None:
            data, dataset = recorded_data(sources, settings)
    for source in sources:
        with mistakes.collect():
            check_model(source, data, dataset, settings)
    mistakes.check(InputError)
    for note in () if dataset is None else dataset.notes:
        say(note)
    return dataset, data


def check_judged(dataset: Dataset) -> None:
    """Raise a DataError where only a teacher's vectors could judge a model's, and there is no teacher."""
    if dataset.metric == COSINE:
        raise DataError(
            "an embedding model must be measured on pairs with a number (--dev with --text, --text-pair and --label, "
            "or --task stsb) or on --queries, --corpus and --relevant, got plain texts"
        )


def recorded_data(
    sources: Sequence[ModelSource], settings: MeasureSettings
) -> tuple[DataSettings | None, Dataset | None]:
    """Return the data that models were made with and its rows, and tell the user; None where there are none.

    Models whose data is not recorded take those of the others. Data that cannot be used here are done without.
    """
    tasks = [(source, task) for source in sources if (task := recorded_task(source.folder)) is not None]
    own = {replace(task, unlabeled=(), max_train_samples=None) for _, task in tasks}
    if len(own) != 1:
        if own:
            say(f"the models were made with different data: latency is at {DEFAULT_LENGTH} tokens, nothing is scored")
        return None, None
    (data,) = own
    first, _ = tasks[0]
    try:
        dataset = load_dataset(data)
        check_judged(dataset)
        for source in sources:
            check_model(source, data, dataset, settings)
    except (DataError, ModelError) as error:
        say(f"{task_words(data)}, which {first} was made with, cannot be used here ({error.mistakes[0]}):")
        say(f"latency is at {DEFAULT_LENGTH} tokens, nothing is scored")
        return None, None
    made = "all models were" if len(tasks) == len(sources) > 1 else f"{first} was"
    say(f"scores and lengths are of dev of the data {made} made with: {task_words(data)}; --length N does without")
    return data, dataset


def check_model(
    source: ModelSource, data: DataSettings | None, dataset: Dataset | None, settings: MeasureSettings
) -> None:
    """Raise unless a model has positions for the lengths, and has the task's head where there is a task.

    The default --max-length is shortened to the positions of a model that has fewer.
    """
    name, room, mistakes = source.name, source.facts.max_tokens, Mistakes()
    if settings.length is not None and settings.length > room:
        mistakes.add(f"--length must be at most {room} for {name}, got {settings.length}")
    elif settings.length is None and data is None and room < DEFAULT_LENGTH:
        mistakes.add(f"--length must be given for {name}, which has positions for {room} tokens, not {DEFAULT_LENGTH}")
    if data is not None and data.max_length is not None and data.max_length > room:
        mistakes.add(f"--max-length must be at most {room}, the positions of {name}, got {data.max_length}")
    if dataset is not None and dataset.head.kind == "embedding":
        with mistakes.collect():
            read_embedder(name, source.folder)
    elif dataset is not None and output_rows(source.head, dataset.head)[0] is None:
        mistakes.add(f"{name}: must be {dataset.head.words} to be scored on this task, got {source.head.words}")
    mistakes.check(ModelError)


def check_lengths(candidates: Sequence[MeasuredModel], lengths: Sequence[int]) -> None:
    """Raise unless every model has positions for the longest text; lengths are in tokens of the first model."""
    mistakes = Mistakes()
    for each in candidates:
        room = each.loaded.tokenizer.model_max_length
        if max(lengths) > room:
            mistakes.add(f"--length must be given for {each.name}: it takes {room} tokens, texts have {max(lengths)}")
    mistakes.check(ModelError)


def load_candidate(source: ModelSource, dataset: Dataset | None, data: DataSettings | None) -> MeasuredModel:
    """Load a model with the task's labels and tokenise dev for it."""
    name, folder = source.name, source.folder
    is_embedding = dataset is not None and dataset.head.kind == "embedding"
    loaded = load_model(source, HeadSpec("embedding") if is_embedding else None)
    if dataset is None or data is None:
        return MeasuredModel(name, folder, loaded)
    room = loaded.tokenizer.model_max_length
    default = data.length_limit
    if is_embedding:
        sentence = read_embedder(name, folder)
        dataset, default = dataset.prompted(sentence.prompts), sentence.max_length or default
        for note in sentence.norm_notes(name):
            say(note)
    longest = input_length(loaded.provenance, data.max_length, default, room)
    dev = tokenize_rows(dataset.dev, loaded.tokenizer, name, longest)
    for note in dev.notes:
        say(f"{name}, dev: {note}")
    columns = None if is_embedding else output_rows(loaded.model.head_spec, dataset.head)[0]
    return MeasuredModel(name, folder, loaded, dev, columns)


def load_on_backend(candidate: MeasuredModel, backend: str, scratch: Path, threads: int) -> RunnableModel:
    """Load a candidate on a backend, from its folder's file or from one written for this measurement."""
    loader = BACKENDS[backend]
    path = loader.stored(candidate.folder)
    if not path.exists():
        say(f"{candidate.name} has no {path.relative_to(candidate.folder)}: measured on one made for this measurement")
        path = scratch
        loader.store(candidate.loaded.model, path)
    is_in_memory, model = path == candidate.folder, candidate.loaded.model
    runner = loader.load(model if is_in_memory else path, threads)
    if model.head_spec.kind == "embedding":
        runner = PooledRunner(runner, model.pooling, model.head_spec.normalizes)
    return RunnableModel(candidate, backend, runner, path)


def describe(
    runnable: RunnableModel, dataset: Dataset | None, times: Latency, length: int, threads: int
) -> dict[str, Any]:
    """Return the JSON object of one model on one backend."""
    candidate, backend = runnable.candidate, BACKENDS[runnable.backend]
    model, dev = candidate.loaded.model, candidate.dev
    cost = cost_of(model.shape, model.head_spec)
    data: dict[str, Any] = {
        "model": candidate.name,
        "backend": backend.name,
        "params": cost.params,
        "macs": cost.macs,
        **times.to_json(),
        **measure_alone(backend.name, runnable.path, length=length, threads=threads),
        "file_bytes": file_bytes(runnable.path),
    }
    if dataset is not None and dev is not None:
        logits = run_rows(runnable.runner, model, dev, max_tokens=backend.batch_tokens)
        logits = logits if candidate.columns is None else logits[..., candidate.columns]
        scores = score(dataset.head, dataset.metric, logits, dev)
        data |= {"score": scores.score, "metrics": scores.metrics}
    return data
