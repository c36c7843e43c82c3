"""The verb `export`: adds ONNX files to a model folder, or writes a new folder, after checking their outputs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import onnx

from cutbert.data.dataset import Dataset, load_dataset
from cutbert.data.settings import DataSettings
from cutbert.errors import InputError, Mistakes, ModelError
from cutbert.exporters.balance import balanced
from cutbert.exporters.folder import FLOAT_FILE
from cutbert.exporters.gate import TaskTokens, check_drop, checked_diff, feeds_of, scores_around, tokens_of, trimmed
from cutbert.exporters.graph import build_graph
from cutbert.exporters.int8 import has_int8_dot, instruction_set, int8_file, quantize
from cutbert.exporters.layouts import VECTORS, check_installed, resolved, unserved
from cutbert.exporters.session import OnnxRunner
from cutbert.exporters.settings import ExportSettings
from cutbert.exporters.writing import Writing
from cutbert.files import change_mistakes
from cutbert.folders.load import Loaded, load_model, output_rows
from cutbert.folders.provenance import TRIMMED, recorded_task, task_words
from cutbert.folders.save import loads_stock
from cutbert.folders.sentence import Sentence, read_embedder, read_sentence
from cutbert.model.task_model import TaskModel
from cutbert.shape.pooling import READS, fits_stock
from cutbert.shape.source import ModelSource, check_length
from cutbert.shape.stock_config import STOCK_POOLING
from cutbert.train.machine import num_threads
from cutbert.train.progress import say

TASK_OR_FILES = "--task NAME or own files"
NEEDS_DATA = {
    True: f"for its gate: {TASK_OR_FILES}; --no-gate does without, unchecked",
    False: f"for --calibration static: {TASK_OR_FILES}",
}


def export_model(source: ModelSource, data: DataSettings | None, settings: ExportSettings, line: str) -> dict[str, Any]:
    """Write the wanted files and return the --json object.

    Args:
        source: the model; from the hub only with `out`.
        data: a task to score on; None for the model's own task, where its cutbert.json names it.
        settings: which files to write.
        line: the command, for provenance.

    Raises:
        InputError: mistakes in settings, model or data, all together, before the model is loaded.
        BudgetError: int8 loses more score than allowed; nothing is written.
        ModelError: the graph's outputs differ from the model's; nothing is written.
        MissingError: a layout needs a package that is not installed.
    """
    dataset, data, sentence = check_inputs(source, data, settings)
    settings = replace(settings, layouts=resolved(settings.layouts, str(source.facts.family), source.head, sentence))
    check_installed(settings.layouts)
    writing = Writing(source, sentence, settings, line)
    loaded = load_model(source)
    for note in (*loaded.notes, *(dataset.notes if dataset is not None else ())):
        say(note)
    with num_threads(settings.threads) as threads:
        more: dict[str, Any] = {}
        if settings.trim_vocab:
            assert dataset is not None and data is not None
            loaded = trimmed(loaded, dataset, data, settings, sentence).trimmed
            more = {TRIMMED: loaded.provenance[TRIMMED]}
        if settings.stock and not loads_stock(loaded.model):
            raise ModelError(f"{source}: --stock {why_not_stock(loaded.model)}")
        if not (settings.wants_float or settings.wants_int8):
            return writing.write(loaded, {}, {"files": [], **more})
        parts = tokens_of(loaded, dataset, data, settings, sentence)
        graph = build_graph(loaded.model)
        runner = OnnxRunner(graph, threads)
        result: dict[str, Any] = {**more, "max_abs_diff": checked_diff(runner, loaded, parts.dev)}
        files = {FLOAT_FILE: graph} if settings.wants_float else {}
        if settings.wants_int8:
            name, runner_graph = int8_graph(graph, loaded, parts, settings)
            files[name], runner = runner_graph, OnnxRunner(runner_graph, threads)
        if dataset is not None:
            result |= scores_around(runner, loaded, parts, sentence)
            if settings.wants_int8 and settings.gate:
                check_drop(result, settings)
    return writing.write(loaded, files, result)


def check_inputs(
    source: ModelSource, data: DataSettings | None, settings: ExportSettings
) -> tuple[Dataset | None, DataSettings | None, Sentence | None]:
    """Return the task's rows and settings, None where there is no task, and how a bare encoder's states become vectors.

    Raises:
        InputError: all mistakes together.
    """
    mistakes = Mistakes()
    dataset: Dataset | None = None
    sentence: Sentence | None = None
    with mistakes.collect():
        settings.check()
    if settings.out is None and source.is_from_hub:
        mistakes.add(f"--out must be given with a hub id, got {source}")
    elif settings.out is None:
        mistakes.extend(change_mistakes(source.folder))
    with mistakes.collect():
        needs_scores = settings.wants_int8 and (settings.gate or settings.calibration == "static")
        if data is None and (needs_scores or settings.trim_vocab):
            data = recorded_task(source.folder)
            if data is None and settings.trim_vocab:
                mistakes.add(f"--trim-vocab must have data, whose training texts say what is used: {TASK_OR_FILES}")
            elif data is None:
                other = "" if settings.int8 else f"; --for {' and '.join(settings.layouts)} with --onnx needs no int8"
                mistakes.add(f"--int8 must have data {NEEDS_DATA[settings.gate]}{other}")
            else:
                say(f"the data are those {source} was made with: {task_words(data)}")
    with mistakes.collect():
        dataset = None if data is None else load_dataset(data)
    if data is not None and data.max_length is not None:
        with mistakes.collect():
            check_length(source, "--max-length", data.max_length)
    if dataset is not None and dataset.head.kind == "embedding":
        with mistakes.collect():
            dataset = dataset.prompted(read_embedder(str(source), source.folder).prompts)
    elif dataset is not None and output_rows(source.head, dataset.head)[0] is None:
        wanted, got = dataset.head.words, source.head.words
        mistakes.add(f"{source}: must be {wanted} to be scored on this task, got {got}")
    with mistakes.collect():
        sentence = sentence_of(source, settings)
        mistakes.extend(unserved(settings.layouts, str(source.facts.family), source.head, sentence, str(source)))
    mistakes.check(InputError)
    return dataset, data, sentence


def sentence_of(source: ModelSource, settings: ExportSettings) -> Sentence | None:
    """Return how a bare encoder's states become vectors, as its folder says; None where it says nothing.

    Raises:
        ModelError: modules that no layout holds. Without a layout they are left out, which is said.
    """
    if source.head.kind not in VECTORS:
        return None
    try:
        return read_sentence(source.folder)
    except ModelError as error:
        if settings.layouts:
            raise
        say(f"{error}: the encoder alone is written")
        return None


def why_not_stock(model: TaskModel) -> str:
    """Return what keeps a network out of plain transformers."""
    if model.shape.is_stock and not fits_stock(model.shape, model.pooling):
        reads = f"{READS[STOCK_POOLING]}, as plain transformers' classes do, and this one reads {READS[model.pooling]}"
        return f"needs a head that reads {reads}; train with --pooling cls"
    return "needs a shape that plain transformers holds, and this one is free"


def int8_graph(
    graph: onnx.ModelProto, loaded: Loaded, parts: TaskTokens, settings: ExportSettings
) -> tuple[str, onnx.ModelProto]:
    """Return the name of the int8 file and its graph; warn where int8 is not fast on this processor."""
    instructions = instruction_set()
    if not has_int8_dot(instructions):
        say(
            f"this processor ({instructions}) has no int8 products of its own (VNNI, AMX or Arm's dot products): "
            "int8 is smaller, but may be no faster, and weights get 7 bits"
        )
    if not settings.gate:
        say("int8 is written without a gate, whatever it scores")
    calibration = None
    if parts.train is not None:
        names = {each.name for each in graph.graph.input}
        batches = (feeds_of(loaded.model, parts.train, row) for row in range(len(parts.train)))
        calibration = [{name: feeds[name] for name in feeds if name in names} for feeds in batches]
    say("quantising")
    return int8_file(instructions), quantize(balanced(graph, loaded.model), instructions, calibration)
