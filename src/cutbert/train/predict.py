"""What a model says of a file of texts, in the order of its rows: labels, entities, answers, vectors or numbers."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax

from cutbert.data.rows import Rows
from cutbert.data.settings import MAX_LENGTH
from cutbert.data.stream import count_texts, stream_texts
from cutbert.data.tasks import Layout
from cutbert.data.tokens import Tokens, cut_notes, encode, plain_engine
from cutbert.errors import InputError, Mistakes
from cutbert.files import replacing_file
from cutbert.hub.load import load_model
from cutbert.hub.provenance import FILE_NAME, input_length, read_provenance
from cutbert.shape.head import HeadSpec
from cutbert.shape.source import ModelSource, check_length
from cutbert.train.engine import make_engine
from cutbert.train.evaluate import predict_logits
from cutbert.train.machine import without_onednn
from cutbert.train.predict_settings import FORMATS, PredictSettings, backend_of
from cutbert.train.progress import counter, progress_bar, say
from cutbert.train.settings import TrainSettings

LABEL_JOIN = ","
BREAKING = {".tsv": "\t\n\r", ".csv": "\r", ".jsonl": ""}  # what a label in such a file must not hold


Answers = Callable[[Rows], list[Any]]


def predict_to_file(source: ModelSource, settings: PredictSettings) -> dict[str, Any]:
    """Write one answer per text, whole or not at all.

    The file is read twice: first to its end, for mistakes; then in chunks, of which one at a time is in memory.

    Returns:
        The result with the keys out, rows, backend, and, of a model that classifies, labels (how often each was given).

    Raises:
        InputError: mistakes in the settings, the file or the model, all together, before the model is loaded.
    """
    layout = Layout(settings.text, settings.text_pair, None)
    num_texts = checked_count(source, settings, layout)
    head, out, num_rows = source.head, Path(settings.out), 0
    backend = backend_of(source.folder, settings.backend)
    given: Counter[str] = Counter()
    with progress_bar("predict", num_texts) as bar, without_onednn():
        make = torch_answers if backend == "torch" else onnx_answers
        answers_to, notes = make(source, settings, counter(bar))
        with replacing_file(out, is_new=True) as aside, open_writer(aside, out.suffix, head, num_texts) as write:
            for rows in stream_texts(Path(settings.input), layout):
                records = answers_to(rows)
                write(records)
                num_rows += len(records)
                if has_classes(head):
                    given.update(label for record in records for label in as_labels(record["label"]))
    for note in notes():
        say(note)
    result: dict[str, Any] = {"out": str(out), "rows": num_rows, "backend": backend}
    return {**result, "labels": dict(sorted(given.items()))} if has_classes(head) else result


def has_classes(head: HeadSpec) -> bool:
    return head.is_sequence and head.kind != "regression"


def torch_answers(
    source: ModelSource, settings: PredictSettings, advance: Callable[[int], None]
) -> tuple[Answers, Callable[[], Iterable[str]]]:
    """Return what answers a chunk of rows in torch, and what then gives the notes."""
    engine = make_engine(TrainSettings(device=settings.device, threads=settings.threads))
    loaded = load_model(source)
    loaded.model.to(engine.device)
    max_length = input_length(loaded.provenance, settings.max_length, MAX_LENGTH, loaded.tokenizer.model_max_length)
    tokenizer = plain_engine(loaded.tokenizer, loaded.source, max_length, pairs=settings.text_pair is not None)
    num_cut = num_rows = 0

    def answer(rows: Rows) -> list[Any]:
        nonlocal num_cut, num_rows
        arrays = encode(rows, tokenizer)
        tokens = Tokens(arrays["ids"], arrays["offsets"], arrays.get("pair_starts"))
        num_cut, num_rows = num_cut + int(arrays["num_cut"][0]), num_rows + len(tokens)
        return answers(source.head, predict_logits(loaded.model, tokens, on_batch=advance))

    return answer, lambda: cut_notes(num_cut, num_rows, max_length)


def onnx_answers(
    source: ModelSource, settings: PredictSettings, advance: Callable[[int], None]
) -> tuple[Answers, Callable[[], Iterable[str]]]:
    """Return what answers a chunk of rows in ONNX Runtime, and what then gives the notes."""
    from cutbert.runtime import load

    folder, head = source.folder, source.head
    max_length = settings.max_length
    if head.is_sequence or head.kind == "token":
        record = read_provenance(folder) if (folder / FILE_NAME).is_file() else {}
        max_length = input_length(record, settings.max_length, MAX_LENGTH, source.facts.max_tokens)
    model = load(
        folder,
        backend=backend_of(folder, settings.backend),
        threads=settings.threads,
        max_length=max_length,
        batch_size=settings.batch_size,
    )
    num_rows = 0

    def answer(rows: Rows) -> list[Any]:
        nonlocal num_rows
        num_rows += len(rows)
        return model(
            rows.text if rows.text_pair is None else list(zip(rows.text, rows.text_pair, strict=True)), advance
        )

    return answer, lambda: cut_notes(model.num_cut, num_rows, model.max_length)


def checked_count(source: ModelSource, settings: PredictSettings, layout: Layout) -> int:
    """Return the number of texts, or raise every mistake in settings and file."""
    mistakes, count = Mistakes(), 0
    with mistakes.collect():
        settings.check()
    mistakes.extend(label_mistakes(source.head, settings.out))
    mistakes.extend(kind_mistakes(source.head, settings))
    if settings.max_length is not None:
        with mistakes.collect():
            check_length(source, "--max-length", settings.max_length)
    with mistakes.collect():
        count = count_texts(Path(settings.input), layout)
    mistakes.check(InputError)
    return count


def kind_mistakes(head: HeadSpec, settings: PredictSettings) -> Iterator[str]:
    """Yield what does not go with a kind of head: the format of its answers, the second text."""
    suffix = Path(settings.out).suffix
    if suffix not in FORMATS:  # said already
        return
    kinds = {"token": (".jsonl",), "span": (".jsonl",), "none": (".npy", ".jsonl"), "pooler": (".npy", ".jsonl")}
    wanted = kinds.get(head.kind, tuple(BREAKING))
    if suffix not in wanted:
        yield f"--out must end in {' or '.join(wanted)} with a head of kind {head.kind}, got {settings.out}"
    if head.kind == "span" and settings.text_pair is None:
        yield "--text-pair must name the column of the texts that answer the questions of --text"
    if head.kind == "token" and settings.text_pair is not None:
        yield "--text-pair must not be given with a tagger"


def label_mistakes(head: HeadSpec, out: str) -> Iterator[str]:
    """Yield a mistake where a label cannot be read back from a file of the format of `out`."""
    if not has_classes(head):
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


@contextmanager
def open_writer(path: Path, suffix: str, head: HeadSpec, num_texts: int) -> Iterator[Callable[[list[Any]], None]]:
    """Yield what appends answers to a file in the format of a suffix.

    Vectors go to a .npy file as an array of one row per text, which is never whole in memory.
    """
    if suffix == ".npy":
        with path.open("r+b") as binary:
            yield npy_writer(binary, num_texts)
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        if head.kind in ("none", "pooler"):
            yield lambda vectors: file.writelines(json.dumps({"vector": each.tolist()}) + "\n" for each in vectors)
        else:
            yield writer(file, suffix, head)


def npy_writer(file: BinaryIO, num_texts: int) -> Callable[[list[Any]], None]:
    """Return what appends vectors to a .npy file, whose header is written with the first of them."""
    is_begun = False

    def write(vectors: list[Any]) -> None:
        nonlocal is_begun
        rows = np.stack(vectors).astype("<f4")
        if not is_begun:
            header = {"descr": "<f4", "fortran_order": False, "shape": (num_texts, rows.shape[1])}
            np.lib.format.write_array_header_1_0(file, header)
            is_begun = True
        file.write(rows.tobytes())

    return write


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
