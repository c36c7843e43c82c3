"""Answers as files: behind the columns of their inputs, or in the formats of taggers, readers and vectors."""

from __future__ import annotations

import base64
import csv
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import numpy as np

from cutbert.data.records import Record
from cutbert.data.sentences import DOCUMENT_START, LINES
from cutbert.data.stream import Chunk, InputFile, RowProblem, Scan
from cutbert.shape.head import HeadSpec
from cutbert.train.predict_settings import TABLES

LABEL_JOIN = ","
BREAKS = re.compile(r"[\t\n\r]")  # what a cell of a .tsv file must not hold
SPACE = re.compile(r"\s|^$")  # what a word of a .conll file must not hold, or be
NO_TAG = "_"  # of a word without a label, where the label set has no O
BEFORE = "predicted_"  # begins the name of an answer whose name an input's column has
SPAN_NAMES = ("answer", "start", "end", "score", "best", "no_answer_score")

Write = Callable[[Chunk, list[Any]], None]
Sink = Callable[[str], object]


def has_classes(head: HeadSpec) -> bool:
    return head.is_sequence and head.kind != "regression"


def is_vector(head: HeadSpec) -> bool:
    return head.kind in ("none", "pooler")


@dataclass(frozen=True)
class AnswerPlan:
    """How answers are written.

    Args:
        head: of the model, which says what an answer has.
        suffix: the format.
        file: the inputs.
        scan: their number and columns.
        names: by each name in an answer, the name of its column: another where the input has a column of that name.
    """

    head: HeadSpec
    suffix: str
    file: InputFile
    scan: Scan
    names: Mapping[str, str]

    @classmethod
    def make(cls, head: HeadSpec, suffix: str, file: InputFile, scan: Scan) -> AnswerPlan:
        names = answer_names(head, suffix) if suffix in TABLES else ()
        return cls(head, suffix, file, scan, {name: BEFORE * (name in scan.columns) + name for name in names})

    @property
    def renamed(self) -> list[str]:
        """The names of answers that the input has columns of."""
        return [name for name, column in self.names.items() if name != column]

    def mistakes(self) -> Iterator[str]:
        """Yield the names of answers that are taken in the input in both forms."""
        for name in self.renamed:
            if self.names[name] in self.scan.columns:
                yield (
                    f"--input must not have both columns {name!r} and {self.names[name]!r}, which an answer is "
                    "written to; rename one"
                )


def answer_names(head: HeadSpec, suffix: str) -> tuple[str, ...]:
    """Return the names of what an answer has in a format with columns."""
    if is_vector(head):
        return ("vector",)
    if head.kind == "span":
        return SPAN_NAMES
    if head.kind == "token":
        return ("words", "labels", "entities")
    if not has_classes(head):
        return ("label",)
    return ("label", *(("probabilities",) if suffix == ".jsonl" else (probability(name) for name in head.labels)))


def probability(label: str) -> str:
    return f"probability_{label}"


def row_problem(suffix: str) -> RowProblem | None:
    """Return what finds that a row cannot be written in a format, or None where any row can."""

    def unwritable(record: Record) -> str | None:
        for name, value in record.cells.items():
            if BREAKS.search(name) or BREAKS.search(cell(value)):
                return f"column {name!r} has a tab or line end, which a .tsv file cannot hold: --out must be another"
        return None

    def no_words(record: Record) -> str | None:
        words = record.values[0] if isinstance(record.values[0], list) else []
        wrong = next((word for word in words if SPACE.search(word) or word == DOCUMENT_START), None)
        if wrong is None:
            return None
        return f"words of a .conll file must be without spaces, and none {DOCUMENT_START}, got {wrong!r:.40}"

    return {".tsv": unwritable, ".conll": no_words}.get(suffix)


def cell(value: Any) -> str:
    """Return a value as a cell of text: nothing as an empty one, what is neither text nor a number as JSON."""
    if value is None:
        return ""
    value = plain(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def plain(value: Any) -> Any:
    """Return a value as JSON holds it: bytes in base 64, times and decimals as text, nothing for NaN."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


def as_labels(label: Any) -> list[str]:
    return label if isinstance(label, list) else [str(label)]


def by_column(plan: AnswerPlan, answer: Any) -> dict[str, Any]:
    """Return an answer by the names of its columns, each probability its own."""
    if is_vector(plan.head):
        answer = {"vector": answer}
    elif has_classes(plan.head):
        answer = {"label": answer["label"], **{probability(k): v for k, v in answer["probabilities"].items()}}
    return {plan.names[name]: value for name, value in answer.items()}


@contextmanager
def open_writer(path: Path, plan: AnswerPlan) -> Iterator[Write]:
    """Yield what appends answers to a file, each chunk as it comes."""
    if plan.suffix == ".npy":
        with path.open("r+b") as binary:
            yield npy_writer(binary, plan.scan.num_rows)
    elif plan.suffix == ".parquet":
        with parquet_writer(path, plan) as write:
            yield write
    else:
        with path.open("w", encoding="utf-8", newline="") as file, text_writer(file.write, plan) as write:
            yield write


@contextmanager
def text_writer(sink: Sink, plan: AnswerPlan) -> Iterator[Write]:
    """Yield what gives answers as text to a sink."""
    if plan.suffix == ".json":
        with squad_writer(sink) as write:
            yield write
    else:
        yield {".jsonl": json_lines, ".conll": conll_lines}.get(plan.suffix, table_rows)(sink, plan)


def json_lines(sink: Sink, plan: AnswerPlan) -> Write:
    """Return what writes a JSON object for each row: its columns, then the answer."""

    def line(cells: Mapping[str, Any], answer: Any) -> str:
        named = {"vector": answer.tolist()} if is_vector(plan.head) else answer
        renamed = {plan.names[name]: value for name, value in named.items()}
        return json.dumps({**plain(cells), **renamed}, ensure_ascii=False) + "\n"

    return lambda chunk, answers: ignore(sink("".join(map(line, chunk.cells, answers))))


def table_rows(sink: Sink, plan: AnswerPlan) -> Write:
    """Return what writes the rows of a table, whose header is written here; cells that are no text are JSON."""
    if plan.suffix == ".tsv":

        def write(rows: Iterable[list[str]]) -> None:
            sink("".join("\t".join(row) + "\n" for row in rows))

    else:
        file: Any = SimpleNamespace(write=sink)
        few, all_quoted = (csv.writer(file, lineterminator="\n", quoting=q) for q in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL))

        def write(rows: Iterable[list[str]]) -> None:
            for row in rows:  # a lone CR in a field ends a line for some readers, unless it is quoted
                (all_quoted if any("\r" in each for each in row) else few).writerow(row)

    write([[*plan.scan.columns, *plan.names.values()]])

    def row_of(cells: Mapping[str, Any], answer: Any) -> list[str]:
        values = by_column(plan, answer).values()
        return [*(cell(cells.get(name)) for name in plan.scan.columns), *map(answer_cell, values)]

    return lambda chunk, answers: write(map(row_of, chunk.cells, answers))


def answer_cell(value: Any) -> str:
    return repr(value) if isinstance(value, float) else LABEL_JOIN.join(as_labels(value))


def conll_lines(sink: Sink, plan: AnswerPlan) -> Write:
    """Return what writes a word and its label in each line, an empty line after each sentence.

    A line of a .conll file stays, and the label comes behind it.
    """
    has_lines = plan.file.suffix == ".conll"

    def sentence(cells: Mapping[str, Any], answer: dict[str, Any]) -> str:
        words = cells[LINES] if has_lines else answer["words"]
        return (
            "".join(f"{word} {label or NO_TAG}\n" for word, label in zip(words, answer["labels"], strict=True)) + "\n"
        )

    return lambda chunk, answers: ignore(sink("".join(map(sentence, chunk.cells, answers))))


@contextmanager
def squad_writer(sink: Sink) -> Iterator[Write]:
    """Yield what writes answers as SQuAD's scripts read them: one JSON object, each answer under its question's id."""
    before = "{"

    def write(chunk: Chunk, answers: list[Any]) -> None:
        nonlocal before
        for cells, answer in zip(chunk.cells, answers, strict=True):
            pair = f"{json.dumps(cells['id'])}: {json.dumps(answer['answer'], ensure_ascii=False)}"
            sink(f"{before}{pair}")
            before = ",\n"

    yield write
    sink("}\n")


def npy_writer(file: BinaryIO, num_rows: int) -> Write:
    """Return what appends vectors to a .npy file, whose header is written with the first of them."""
    is_begun = False

    def write(chunk: Chunk, answers: list[Any]) -> None:
        nonlocal is_begun
        rows = np.stack(answers).astype("<f4")
        if not is_begun:
            header = {"descr": "<f4", "fortran_order": False, "shape": (num_rows, rows.shape[1])}
            np.lib.format.write_array_header_1_0(file, header)
            is_begun = True
        file.write(rows.tobytes())

    return write


@contextmanager
def parquet_writer(path: Path, plan: AnswerPlan) -> Iterator[Write]:
    """Yield what writes a row group for each chunk.

    Columns of a Parquet file keep their types; those of others are text, what is neither text nor a number in JSON.
    """
    import pyarrow
    import pyarrow.parquet

    of_input = plan.file.suffix == ".parquet"
    stored = pyarrow.parquet.read_schema(plan.file.path) if of_input else None
    carried = [(name, stored.field(name).type if stored else pyarrow.string()) for name in plan.scan.columns]
    own = [(plan.names[name], kind) for name, kind in answer_types(plan.head).items()]
    schema = pyarrow.schema([*carried, *own])

    def column(rows: Sequence[Mapping[str, Any]], name: str) -> list[Any]:
        values = [row.get(name) for row in rows]
        return values if of_input else [None if value is None else cell(value) for value in values]

    with pyarrow.parquet.ParquetWriter(path, schema) as file:

        def write(chunk: Chunk, answers: list[Any]) -> None:
            named = [by_column(plan, answer) for answer in answers]
            columns = [column(chunk.cells, name) for name, _ in carried]
            columns += [[each.get(name) for each in named] for name, _ in own]
            arrays = [pyarrow.array(values, kind.type) for values, kind in zip(columns, schema, strict=True)]
            file.write_table(pyarrow.table(arrays, schema=schema))

        yield write


def answer_types(head: HeadSpec) -> dict[str, Any]:
    """Return the Arrow type of each name in an answer."""
    import pyarrow as pa

    text, real, whole = pa.string(), pa.float64(), pa.int64()
    place = [("start", whole), ("end", whole)]
    if is_vector(head):
        return {"vector": pa.list_(pa.float32())}
    if head.kind == "span":
        best = pa.list_(pa.struct([("answer", text), *place, ("score", real)]))
        return dict(zip(SPAN_NAMES, (text, whole, whole, real, best, real), strict=True))
    if head.kind == "token":
        entity = pa.struct([("label", text), ("text", text), *place])
        return {"words": pa.list_(text), "labels": pa.list_(text), "entities": pa.list_(entity)}
    if not has_classes(head):
        return {"label": real}
    label = pa.list_(text) if head.kind == "multi_label" else text
    return {"label": label, **{probability(name): real for name in head.labels}}


def ignore(_: object) -> None:
    """Return nothing, whatever a sink returned."""
