"""Labels and probabilities for a file of texts, in the order of its rows."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax

from cutbert.data.settings import MAX_LENGTH
from cutbert.data.stream import count_texts, stream_texts
from cutbert.data.tasks import Layout
from cutbert.data.tokens import Tokens, cut_notes, encode, plain_engine
from cutbert.errors import InputError, Mistakes
from cutbert.files import replacing_file
from cutbert.hub.load import load_model
from cutbert.hub.provenance import input_length
from cutbert.shape.head import HeadSpec
from cutbert.shape.source import ModelSource, check_length
from cutbert.train.engine import make_engine
from cutbert.train.evaluate import predict_logits
from cutbert.train.machine import without_onednn
from cutbert.train.predict_settings import PredictSettings
from cutbert.train.progress import counter, progress_bar, say
from cutbert.train.settings import TrainSettings

LABEL_JOIN = ","
BREAKING = {".tsv": "\t\n\r", ".csv": "\r", ".jsonl": ""}  # what a label in such a file must not hold


def predict_to_file(source: ModelSource, settings: PredictSettings) -> dict[str, Any]:
    """Write one row of labels and probabilities per text, whole or not at all.

    The file is read twice: first to its end, for mistakes; then in chunks, of which one at a time is in memory.

    Returns:
        The result with the keys out, rows, and labels (how often each was given; not for regression).

    Raises:
        InputError: mistakes in the settings, the file or the model, all together, before the model is loaded.
    """
    layout = Layout(settings.text, settings.text_pair, None)
    num_texts = checked_count(source, settings, layout)
    engine = make_engine(TrainSettings(device=settings.device, threads=settings.threads))
    head, loaded = source.head, load_model(source)
    loaded.model.to(engine.device)
    room = loaded.tokenizer.model_max_length
    max_length = input_length(loaded.provenance, settings.max_length, MAX_LENGTH, room)
    tokenizer = plain_engine(loaded.tokenizer, loaded.source, max_length, pairs=settings.text_pair is not None)
    out, num_cut, num_rows = Path(settings.out), 0, 0
    given: Counter[str] = Counter()
    with (
        progress_bar("predict", num_texts) as bar,
        replacing_file(out, is_new=True) as aside,
        aside.open("w", encoding="utf-8", newline="") as file,
        without_onednn(),
    ):
        write, advance = writer(file, out.suffix, head), counter(bar)
        for rows in stream_texts(Path(settings.input), layout):
            arrays = encode(rows, tokenizer)
            tokens = Tokens(arrays["ids"], arrays["offsets"], arrays.get("pair_starts"))
            records = answers(head, predict_logits(loaded.model, tokens, on_batch=advance))
            write(records)
            num_cut, num_rows = num_cut + int(arrays["num_cut"][0]), num_rows + len(records)
            if head.kind != "regression":
                given.update(label for record in records for label in as_labels(record["label"]))
    for note in cut_notes(num_cut, num_rows, max_length):
        say(note)
    result: dict[str, Any] = {"out": str(out), "rows": num_rows}
    return result if head.kind == "regression" else {**result, "labels": dict(sorted(given.items()))}


def checked_count(source: ModelSource, settings: PredictSettings, layout: Layout) -> int:
    """Return the number of texts, or raise every mistake in settings and file."""
    mistakes, count = Mistakes(), 0
    with mistakes.collect():
        settings.check()
    mistakes.extend(label_mistakes(source.head, settings.out))
    if settings.max_length is not None:
        with mistakes.collect():
            check_length(source, "--max-length", settings.max_length)
    with mistakes.collect():
        count = count_texts(Path(settings.input), layout)
    mistakes.check(InputError)
    return count


def label_mistakes(head: HeadSpec, out: str) -> Iterator[str]:
    """Yield a mistake where a label cannot be read back from a file of the format of `out`."""
    if head.kind == "regression":
        return
    suffix, joined = Path(out).suffix, LABEL_JOIN if head.kind == "multi_label" else ""
    breaks = {name: breaking + joined if breaking else "" for name, breaking in BREAKING.items()}

    def unreadable(name: str) -> list[str]:
        return [label for label in head.labels if set(label) & set(breaks[name])]

    if suffix in breaks and (labels := unreadable(suffix)):
        others = " or ".join(name for name in breaks if not unreadable(name))
        yield f"--out must end in {others}, got {out}: a {suffix} file cannot hold the label {labels[0]!r:.80}"


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


def writer(file: TextIO, suffix: str, head: HeadSpec) -> Callable[[list[dict[str, Any]]], None]:
    """Return what appends records in the format of a suffix: JSON lines, or a table, whose header is written here.

    A table has the label, then `probability_CLASS` for each class.
    """
    if suffix == ".jsonl":
        return lambda records: file.writelines(json.dumps(each, ensure_ascii=False) + "\n" for each in records)
    if suffix == ".csv":
        write: Callable[[Iterable[list[str]]], None] = csv.writer(file, lineterminator="\n").writerows
    else:

        def write(rows: Iterable[list[str]]) -> None:
            file.writelines("\t".join(row) + "\n" for row in rows)

    classes = () if head.kind == "regression" else head.labels
    write([["label", *(f"probability_{name}" for name in classes)]])
    return lambda records: write(table_row(record, classes) for record in records)


def table_row(record: dict[str, Any], classes: Sequence[str]) -> list[str]:
    probabilities = [repr(record["probabilities"][name]) for name in classes]
    return [LABEL_JOIN.join(as_labels(record["label"])), *probabilities]


def as_labels(label: Any) -> list[str]:
    return label if isinstance(label, list) else [str(label)]
