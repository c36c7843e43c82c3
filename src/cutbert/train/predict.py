"""Labels and probabilities for a file of texts, in the order of its rows."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax

from cutbert.data.reading import check_mistakes, read_files
from cutbert.data.rows import Rows
from cutbert.data.settings import MAX_LENGTH
from cutbert.data.tasks import Layout
from cutbert.data.tokens import tokenize_rows
from cutbert.errors import InputError, Mistakes
from cutbert.files import replacing_file
from cutbert.hub.load import load_model
from cutbert.hub.provenance import input_length
from cutbert.shape.head import HeadSpec
from cutbert.shape.source import ModelSource, check_length
from cutbert.train.engine import make_engine
from cutbert.train.evaluate import predict_logits
from cutbert.train.predict_settings import PredictSettings
from cutbert.train.progress import counter, progress_bar, say
from cutbert.train.settings import TrainSettings

LABEL_JOIN = ","


def predict_to_file(source: ModelSource, settings: PredictSettings) -> dict[str, Any]:
    """Write one row of labels and probabilities per text, whole or not at all.

    Returns:
        The result with the keys out, rows, and labels (how often each was given; not for regression).

    Raises:
        InputError: mistakes in the files or the model, all together, before the model is loaded.
    """
    rows = checked_texts(source, settings)
    engine = make_engine(TrainSettings(device=settings.device, threads=settings.threads))
    head, loaded = source.head, load_model(source)
    loaded.model.to(engine.device)
    room = loaded.tokenizer.model_max_length
    max_length = input_length(loaded.provenance, settings.max_length, MAX_LENGTH, room)
    tokens = tokenize_rows(rows, loaded.tokenizer, loaded.source, max_length, cache=False)
    for note in tokens.notes:
        say(note)
    with progress_bar("predict", len(tokens)) as bar:
        records = answers(head, predict_logits(loaded.model, tokens, on_batch=counter(bar)))
    out = Path(settings.out)
    with replacing_file(out, is_new=True) as aside:
        write_records(aside, out.suffix, records)
    result: dict[str, Any] = {"out": str(out), "rows": len(records)}
    if head.kind != "regression":
        given = [label for record in records for label in as_labels(record["label"])]
        result["labels"] = dict(sorted(Counter(given).items()))
    return result


def checked_texts(source: ModelSource, settings: PredictSettings) -> Rows:
    """Return the texts, or raise every mistake in settings and file."""
    mistakes, rows = Mistakes(), Rows([])
    with mistakes.collect():
        settings.check()
    if settings.max_length is not None:
        with mistakes.collect():
            check_length(source, "--max-length", settings.max_length)
    with mistakes.collect():
        rows = read_texts(settings)
    mistakes.check(InputError)
    return rows


def read_texts(settings: PredictSettings) -> Rows:
    """Return the texts of the input file."""
    mistakes: list[str] = []
    raw = read_files([Path(settings.input)], Layout(settings.text, settings.text_pair, None), mistakes)
    check_mistakes(mistakes)
    return Rows(raw.text, raw.text_pair)


def answers(head: HeadSpec, logits: NDArray[np.float32]) -> list[dict[str, Any]]:
    """Return per row the label and the probabilities by class name; for regression the number alone.

    Several labels can hold at once under multi_label: those with a probability of at least one half.
    """
    if head.kind == "regression":
        return [{"label": float(value)} for value in logits[:, 0]]
    many = head.kind == "multi_label"
    values = logits.astype(np.float64)
    chances = expit(values) if many else softmax(values, axis=1)
    records = []
    for row in chances.tolist():
        named = dict(zip(head.labels, row, strict=True))
        above = [name for name, chance in named.items() if chance >= 0.5]
        records.append({"label": above if many else max(named, key=named.__getitem__), "probabilities": named})
    return records


def write_records(path: Path, suffix: str, records: list[dict[str, Any]]) -> None:
    """Write records in the format of the suffix: JSON lines, or a table with a column per class."""
    with path.open("w", encoding="utf-8", newline="") as file:
        if suffix == ".jsonl":
            file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        elif suffix == ".csv":
            csv.writer(file, lineterminator="\n").writerows(table(records))
        else:
            file.writelines("\t".join(row) + "\n" for row in table(records))


def table(records: list[dict[str, Any]]) -> Iterator[list[str]]:
    """Yield the header and one row per record: label, then `probability_CLASS` for each class."""
    classes = list(records[0].get("probabilities", {}))
    yield ["label", *(f"probability_{name}" for name in classes)]
    for record in records:
        probabilities = [repr(record["probabilities"][name]) for name in classes]
        yield [LABEL_JOIN.join(as_labels(record["label"])), *probabilities]


def as_labels(label: Any) -> list[str]:
    return label if isinstance(label, list) else [str(label)]
