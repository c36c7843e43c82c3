"""Adds ONNX files to a model folder, or writes a new one with them, after checking that they answer well enough."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from cutbert.data.dataset import Dataset, load_dataset
from cutbert.data.rows import Examples, Rows
from cutbert.data.settings import DataSettings
from cutbert.data.tokens import Tokens, tokenize_rows
from cutbert.demo_data.reviews import DEV_FILE, read_reviews
from cutbert.errors import BudgetError, InputError, Mistakes, ModelError
from cutbert.exporters.example import example_code
from cutbert.exporters.graph import build_graph
from cutbert.exporters.int8 import Feeds, has_int8_dot, instruction_set, int8_file, quantize
from cutbert.exporters.session import OnnxRunner
from cutbert.exporters.settings import ExportSettings
from cutbert.files import replacing_folder, write_json
from cutbert.hub.card import EXAMPLE, write_card
from cutbert.hub.load import Loaded, load_model, named, output_rows
from cutbert.hub.provenance import FILE_NAME, extend_provenance, read_provenance
from cutbert.hub.save import loads_stock, save_model
from cutbert.hub.source import find_source
from cutbert.shape.folder import read_folder_shape
from cutbert.train.collating import padded_batch
from cutbert.train.evaluate import score
from cutbert.train.machine import num_threads
from cutbert.train.progress import progress_bar, say
from cutbert.train.runner import Runner, TorchRunner, run_rows

FOLDER, FLOAT_FILE = "onnx", "model.onnx"
MAX_DIFF = 1e-4
NEEDS_DATA = {
    True: "for its gate: --task NAME or own files; --no-gate does without, unchecked",
    False: "for --calibration static: --task NAME or own files",
}
COMPARED_ROWS = 200
MAX_TOKENS = 4096
EXTERNAL_BYTES = 2**31 - 2**20  # what one protobuf file can hold


@dataclass(frozen=True)
class Parts:
    """The rows of a task as the model's tokens.

    Args:
        dataset: the rows; None where there is no task.
        select, dev, train: tokens; of demo texts alone where there is no task, and without train.
    """

    dataset: Dataset | None
    dev: Tokens
    select: Tokens | None = None
    train: Tokens | None = None


def export_model(source: str, data: DataSettings | None, settings: ExportSettings, line: str) -> dict[str, Any]:
    """Write the files that are asked for and return the --json object.

    Args:
        source: model folder, run folder or, with `out`, hub id.
        data: a task to score on; None for the one the model was made for, where its cutbert.json names it.
        settings: what to write.
        line: the command, for provenance.

    Raises:
        InputError: mistakes in settings, model or data, all together, before the model is loaded.
        BudgetError: int8 loses more than it may; nothing is written.
        ModelError: the graph does not answer as the model does; nothing is written.
    """
    dataset, data = check_inputs(source, data, settings)
    loaded = load_model(source)
    model = loaded.model
    for note in (*loaded.notes, *(dataset.notes if dataset is not None else ())):
        say(note)
    with num_threads(settings.threads) as threads:
        if settings.stock and not loads_stock(model):
            raise ModelError(f"{source}: --stock needs a shape that plain transformers holds, and this one is free")
        if not (settings.onnx or settings.int8):
            return write(source, loaded, settings, {}, line, {"files": []})
        parts = tokens_of(loaded, dataset, data, settings)
        graph = build_graph(model)
        runner = OnnxRunner(graph, threads)
        result: dict[str, Any] = {"max_abs_diff": checked_diff(runner, loaded, parts.dev)}
        files = {FLOAT_FILE: graph} if settings.onnx else {}
        if settings.int8:
            name, runner_graph = int8_graph(graph, loaded, parts, settings)
            files[name], runner = runner_graph, OnnxRunner(runner_graph, threads)
        if dataset is not None:
            result |= scores_around(runner, loaded, parts)
            if settings.int8 and settings.gate:
                check_drop(result, settings)
    return write(source, loaded, settings, files, line, result)


def check_inputs(
    source: str, data: DataSettings | None, settings: ExportSettings
) -> tuple[Dataset | None, DataSettings | None]:
    """Return the task's rows and settings, None where there is no task, or raise every mistake found."""
    mistakes, facts = Mistakes(), None
    dataset: Dataset | None = None
    with mistakes.collect():
        settings.check()
    with mistakes.collect():
        folder = find_source(source).folder
        facts = read_folder_shape(folder)
        if settings.out is None and not Path(source).exists():
            mistakes.add(f"--out must be given with a hub id, got {source}")
        if data is None and settings.int8 and (settings.gate or settings.calibration == "static"):
            data = recorded_task(folder)
            if data is None:
                mistakes.add(f"--int8 must have data {NEEDS_DATA[settings.gate]}")
            else:
                say(f"the data are those {source} was made with: {', '.join(task_words(data))}")
    with mistakes.collect():
        dataset = None if data is None else load_dataset(data)
    if dataset is not None and facts is not None and output_rows(facts.head, dataset.head)[0] is None:
        wanted, got = named(dataset.head), named(facts.head)
        mistakes.add(f"{source}: must be {wanted} to be scored on this task, got {got}")
    mistakes.check(InputError)
    return dataset, data


def recorded_task(folder: Path) -> DataSettings | None:
    """Return the settings of the data that a model was made with, where its cutbert.json has them."""
    task = read_provenance(folder).get("task") if (folder / FILE_NAME).is_file() else None
    return DataSettings(**task) if task else None


def task_words(data: DataSettings) -> list[str]:
    """Return what names the data, for the user."""
    return [str(data.task), *([data.data_dir] if data.data_dir else [])] if data.task else [*data.train, *data.dev]


def tokens_of(loaded: Loaded, dataset: Dataset | None, data: DataSettings | None, settings: ExportSettings) -> Parts:
    """Return the task's rows as tokens, or some demo texts where there is no task."""
    room = loaded.tokenizer.model_max_length

    def tokens(rows: Examples, limit: int) -> Tokens:
        return tokenize_rows(rows, loaded.tokenizer, loaded.source, min(limit, room))

    if dataset is None or data is None:
        return Parts(None, tokens(Rows(read_reviews(DEV_FILE)[0]), DataSettings().length_limit))
    limit = data.length_limit
    train = None
    if settings.calibration == "static":
        rows = np.random.default_rng(0).permutation(len(dataset.train))[: settings.calibration_samples]
        train = tokens(dataset.train.take(np.sort(rows)), limit)
    return Parts(dataset, tokens(dataset.dev, limit), tokens(dataset.select, limit), train)


def checked_diff(runner: Runner, loaded: Loaded, tokens: Tokens) -> float:
    """Return the largest difference between ONNX Runtime's answers and torch's on texts, each run alone.

    Raises:
        ModelError: it exceeds 1e-4, or 1e-4 of the largest answer where that exceeds 1.
    """
    own, model = TorchRunner(loaded.model), loaded.model
    worst, largest = 0.0, 1.0
    rows = range(min(len(tokens), COMPARED_ROWS))
    with progress_bar("compare with torch", len(rows)) as bar:
        for row in rows:
            feeds = feeds_of(model, tokens, row)
            ours = own(**feeds)
            worst = max(worst, float(np.abs(runner(**feeds) - ours).max()))
            largest = max(largest, float(np.abs(ours).max()))
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


def int8_graph(
    graph: onnx.ModelProto, loaded: Loaded, parts: Parts, settings: ExportSettings
) -> tuple[str, onnx.ModelProto]:
    """Return the name of the int8 file and its graph, with a warning where it will not be quick here."""
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
    return int8_file(instructions), quantize(graph, instructions, calibration)


def scores_around(runner: Runner, loaded: Loaded, parts: Parts) -> dict[str, Any]:
    """Return the scores of the model in torch float32 and of a runner, on dev and on select."""
    dataset, model = parts.dataset, loaded.model
    assert dataset is not None and parts.select is not None
    columns = output_rows(model.head_spec, dataset.head)[0]
    found: dict[str, Any] = {"metric": dataset.metric}
    splits = {"": parts.dev, "select_": parts.select}
    runs: Mapping[str, tuple[Runner, int]] = {"before": (TorchRunner(model), MAX_TOKENS), "after": (runner, 1)}
    with progress_bar("score", sum(2 * len(tokens) for tokens in splits.values())) as bar:
        done = 0

        def count(rows: int) -> None:
            nonlocal done
            done += rows
            bar(done)

        for when, (each, max_tokens) in runs.items():
            for split, tokens in splits.items():
                logits = run_rows(each, model, tokens, max_tokens=max_tokens, on_batch=count)[..., columns]
                found[f"{split}score_{when}"] = score(dataset.head, dataset.metric, logits, tokens).score
    if dataset.select_is_dev:
        found["select_is_dev"] = True
    return found


def check_drop(result: Mapping[str, Any], settings: ExportSettings) -> None:
    """Raise a BudgetError where int8 loses more of the select score than it may."""
    before, after = result["select_score_before"], result["select_score_after"]
    drop = 100 * (before - after)
    if drop > settings.max_drop:
        other = "; --calibration static may lose less" if settings.calibration == "dynamic" else ""
        raise BudgetError(
            f"int8 may lose --max-drop {settings.max_drop:g} points of {result['metric']} on select, "
            f"it loses {drop:.2f} ({100 * before:.2f} to {100 * after:.2f}); nothing was written{other}"
        )


def write(
    source: str,
    loaded: Loaded,
    settings: ExportSettings,
    files: Mapping[str, onnx.ModelProto],
    line: str,
    result: dict[str, Any],
) -> dict[str, Any]:
    """Write graphs beside the model, whole or not at all, and return the --json object."""
    int8 = {key: value for key, value in result.items() if "score" in key or key == "metric"}
    facts = {"int8": {**int8, "calibration": settings.calibration}} if settings.int8 and int8 else {}
    provenance = extend_provenance(loaded.provenance, line, facts=facts)
    if settings.out is not None:
        folder = Path(settings.out)
        with replacing_folder(folder) as aside:
            save_model(aside, loaded.model, loaded.tokenizer, provenance=provenance)
            add_files(aside, loaded, files)
            write_card(aside)
    else:
        folder = find_source(source).folder
        add_files(folder, loaded, files)
        write_json(folder / FILE_NAME, provenance)
        write_card(folder)
    names = [str(folder / FOLDER / name) for name in files] or [str(folder / "model.safetensors")]
    return {"out": str(folder), **result, "files": names}


def add_files(folder: Path, loaded: Loaded, files: Mapping[str, onnx.ModelProto]) -> None:
    """Put graphs and an example of their use into a folder's onnx/; what else is there stays."""
    if not files:
        return
    if not (folder / "tokenizer.json").is_file():
        loaded.tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    with replacing_folder(folder / FOLDER) as aside:
        if (folder / FOLDER).is_dir():
            shutil.copytree(folder / FOLDER, aside, copy_function=link, dirs_exist_ok=True)
        for name, graph in files.items():
            (aside / name).unlink(missing_ok=True)
            save_graph(graph, aside / name)
        (aside / EXAMPLE).unlink(missing_ok=True)
        (aside / EXAMPLE).write_text(example_code(loaded, next(iter(files))), encoding="utf-8")


def link(source: str, target: str) -> None:
    """Give a file a second name, or copy it where the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def save_graph(graph: onnx.ModelProto, path: Path) -> None:
    """Write a graph; weights beyond what one file can hold go into a second one beside it."""
    is_large = graph.ByteSize() > EXTERNAL_BYTES
    onnx.save(graph, path, save_as_external_data=is_large, location=f"{path.name}_data" if is_large else None)
