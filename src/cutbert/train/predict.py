"""What a model says of texts, in their order: labels, entities, answers, vectors or numbers; of a file or a list."""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cutbert.data.stream import InputFile, Scan, scan, stream_chunks
from cutbert.data.tokens import cut_notes
from cutbert.errors import InputError, Mistakes
from cutbert.files import replacing_file, scratch_folder
from cutbert.lacks import naming_lacks
from cutbert.printable import printable
from cutbert.runtime import Model, Reader, load
from cutbert.shape.head import HeadSpec
from cutbert.shape.source import ModelSource, check_length
from cutbert.train.predict_files import (
    LABEL_JOIN,
    SPACE,
    AnswerPlan,
    Write,
    as_labels,
    has_classes,
    is_vector,
    open_writer,
    row_problem,
    text_writer,
)
from cutbert.train.predict_settings import (
    KIND_FORMATS,
    OUT_FORMATS,
    STREAM,
    TABLES,
    AnswerSettings,
    PredictSettings,
    backend_of,
)
from cutbert.train.progress import counter, progress_bar, say

BREAKING = {".tsv": "\t\n\r", ".csv": "", ".jsonl": "", ".parquet": ""}  # what a label in such a file must not hold
JOINED = (".tsv", ".csv")  # formats in which several labels are one cell

Answers = Callable[[Sequence[Any]], list[Any]]
Notes = Callable[[], Iterable[str]]


def predict_to_file(source: ModelSource, settings: PredictSettings) -> dict[str, Any]:
    """Write one answer per text, a file whole or not at all.

    The input is read twice: first to its end, for mistakes; then in chunks, of which one at a time is in memory.
    Standard input is kept in a temporary file meanwhile.

    Returns:
        The result with the keys out, rows, backend, of a format with columns columns (those that answers were written
        to), and, of a model that classifies, labels (how often each was given).

    Raises:
        InputError: mistakes in the settings, the file or the model, all together, before the model is loaded.
    """
    head = source.head
    with opened_input(source, settings) as (file, found):
        plan = AnswerPlan.make(head, settings.out_suffix(head.kind), file, found)
        backend, num_rows = backend_of(source.folder, settings.backend), 0
        given: Counter[str] = Counter()
        with progress_bar("predict", found.num_rows) as bar:
            answers_to, notes = answers_of(source, settings, counter(bar))
            with opened_output(settings.out, plan) as write:
                for chunk in stream_chunks(file):
                    answers = answers_to(chunk.inputs)
                    write(chunk, answers)
                    num_rows += len(answers)
                    if has_classes(head):
                        given.update(label for each in answers for label in as_labels(each["label"]))
                if num_rows != found.num_rows:
                    rows = f"it had {found.num_rows:,} rows, then {num_rows:,}"
                    raise InputError(f"--input must stay as it is while it is read: {rows}")
    for name in plan.renamed:
        say(f"the input has a column {name!r}: that of the answers is {plan.names[name]!r}")
    for note in notes():
        say(note)
    result: dict[str, Any] = {"out": settings.out, "rows": num_rows, "backend": backend}
    if plan.names:
        result["columns"] = list(plan.names.values())
    return {**result, "labels": dict(sorted(given.items()))} if has_classes(head) else result


def predict_texts(source: ModelSource, texts: Iterable[Any], settings: AnswerSettings) -> list[Any]:
    """Return one answer per input, as `cutbert.runtime` gives them.

    Args:
        source: of the model.
        texts: texts, or pairs of them; of a tagger texts or lists of words. A list, an array, or whatever gives them
            one by one.
        settings: how the model is run.

    Raises:
        InputError: mistakes in the settings or the model, all together, before it is loaded; or an input that is not
            of the model's kind.
    """
    mistakes = Mistakes()
    with mistakes.collect():
        settings.check()
    mistakes.extend(length_mistakes(source, settings))
    mistakes.extend(prompt_mistakes(source, settings))
    mistakes.check(InputError)
    if isinstance(texts, str):
        raise InputError(f"texts must be a list of texts, got one text, {texts!r:.80}")
    if not isinstance(texts, Iterable) or isinstance(texts, bytes | Mapping):
        raise InputError(f"texts must be a list of texts, got {type(texts).__name__}")
    inputs = list(texts)
    if not inputs:
        return []
    answers_to, notes = answers_of(source, settings, lambda done: None)
    answers = answers_to(inputs)
    for note in notes():
        say(note)
    return answers


def answers_of(source: ModelSource, settings: AnswerSettings, advance: Callable[[int], None]) -> tuple[Answers, Notes]:
    """Return what answers inputs on the backend that runs a model, and what then gives the notes."""
    model, num_rows = loaded_model(source, settings), 0

    def answer(inputs: Sequence[Any]) -> list[Any]:
        nonlocal num_rows
        num_rows += len(inputs)
        return model(inputs, advance, prompt_name=settings.prompt_name)

    def notes() -> tuple[str, ...]:
        if isinstance(model, Reader) and model.num_cut:
            return (f"{model.num_cut:,} questions of more than {model.limit} tokens are cut to that",)
        return cut_notes(model.num_cut, num_rows, model.max_length)

    return answer, notes


def loaded_model(source: ModelSource, settings: AnswerSettings) -> Model:
    """Return the callable of a model on the backend that runs it."""
    backend = backend_of(source.folder, settings.backend)
    if backend == "torch":
        from cutbert.train.torch_session import torch_model  # here, since ONNX files need no torch

        return torch_model(source, settings)
    return load(
        source.folder,
        backend=backend,
        threads=settings.threads,
        max_length=settings.max_length,
        batch_size=settings.batch_size,
    )


@contextmanager
def opened_input(source: ModelSource, settings: PredictSettings) -> Iterator[tuple[InputFile, Scan]]:
    """Yield the inputs and what a first reading of them finds, or raise every mistake in settings and inputs."""
    head, mistakes = source.head, Mistakes()
    with mistakes.collect():
        settings.check()
    mistakes.extend(kind_mistakes(head, settings))
    mistakes.extend(label_mistakes(head, settings))
    mistakes.extend(length_mistakes(source, settings))
    mistakes.extend(prompt_mistakes(source, settings))
    suffix, takes_words = settings.out_suffix(head.kind), head.kind == "token"
    columns = (settings.text, settings.text_pair, takes_words)
    if settings.input == STREAM or Path(settings.input).is_fifo():
        mistakes.check(InputError)  # nobody is kept waiting for texts that are of no use
    if settings.input != STREAM:
        file = InputFile(Path(settings.input), *columns)
        yield file, checked_scan(head, suffix, file, mistakes)
        return
    with scratch_folder() as folder:
        file = InputFile(folder / f"input{settings.input_suffix}", *columns, name="standard input")
        with file.path.open("wb") as copy:
            shutil.copyfileobj(sys.stdin.buffer, copy)
        yield file, checked_scan(head, suffix, file, mistakes)


def checked_scan(head: HeadSpec, suffix: str, file: InputFile, mistakes: Mistakes) -> Scan:
    """Return what a first reading finds, or raise its mistakes with those that are known."""
    found = Scan(0, ())
    with mistakes.collect():
        found = scan(file, row_problem(suffix))
    mistakes.extend(AnswerPlan.make(head, suffix, file, found).mistakes())
    mistakes.check(InputError)
    return found


@contextmanager
def opened_output(out: str, plan: AnswerPlan) -> Iterator[Write]:
    """Yield what writes answers: to a new file, or to standard output."""
    if out != STREAM:
        with replacing_file(Path(out), is_new=True) as aside, open_writer(aside, plan) as write:
            yield write
        return
    with naming_lacks("standard output"):
        output, is_seen = sys.stdout.buffer, sys.stdout.isatty()
        with text_writer(lambda text: output.write((on_terminal(text) if is_seen else text).encode()), plan) as write:
            yield write
        output.flush()


def on_terminal(text: str) -> str:
    """Return what a terminal shows of lines with tabs, and does not act on."""
    return "\t".join(printable(each, many_lines=True) for each in text.split("\t"))


def length_mistakes(source: ModelSource, settings: AnswerSettings) -> Iterator[str]:
    """Yield what is wrong with the longest input for a model."""
    if settings.max_length is not None:
        try:
            check_length(source, "--max-length", settings.max_length)
        except InputError as error:
            yield from error.mistakes


def prompt_mistakes(source: ModelSource, settings: AnswerSettings) -> Iterator[str]:
    """Yield a mistake where a prompt is asked for that a model does not have."""
    if settings.prompt_name is None:
        return
    if not is_vector(source.head):
        yield f"--prompt is for embedding models, got a head of kind {source.head.kind}"
        return
    from cutbert.runtime.folder import Folder, named_prompt

    try:
        named_prompt(Folder(source.folder, {}, {}).prompts, settings.prompt_name, "--prompt")
    except InputError as error:
        yield from error.mistakes


def kind_mistakes(head: HeadSpec, settings: PredictSettings) -> Iterator[str]:
    """Yield what does not go with a kind of head: the format of its answers or of its texts, the second text."""
    suffix, given = settings.out_suffix(head.kind), settings.input_suffix
    wanted = KIND_FORMATS.get(head.kind, TABLES)
    if suffix in OUT_FORMATS and suffix not in wanted:
        yield f"--out must end in {' or '.join(wanted)} with a head of kind {head.kind}, got {settings.out}"
    if suffix == ".json" and head.kind == "span" and given != ".json":
        yield f"--out must end in .jsonl or .parquet, got {settings.out}: the questions' ids come from a .json file"
    if given == ".conll" and head.kind != "token":
        yield f"--input in CoNLL's format must be given with a tagger, got a head of kind {head.kind}"
    if head.kind == "span" and settings.text_pair is None and given != ".json":
        yield "--text-pair must name the column of the texts that answer the questions of --text"
    if head.kind != "span" and given == ".json":
        yield f"--input in SQuAD's format must be given with a reader, got a head of kind {head.kind}"
    if head.kind == "token" and settings.text_pair is not None:
        yield "--text-pair must not be given with a tagger"
    if head.kind in ("none", "pooler", "embedding") and settings.text_pair is not None:
        yield "--text-pair must not be given with a model of vectors"


def label_mistakes(head: HeadSpec, settings: PredictSettings) -> Iterator[str]:
    """Yield a mistake where a label cannot be read back from a file of the format of the answers."""
    suffix = settings.out_suffix(head.kind)
    spaced = next((label for label in head.labels if SPACE.search(label)), None)
    if head.kind == "token" and suffix == ".conll" and spaced is not None:
        yield (
            f"--out must end in .jsonl or .parquet, got {settings.out}: a .conll file cannot hold the label "
            f"{spaced!r:.80}"
        )
    if not has_classes(head):
        return

    def unreadable(name: str) -> list[str]:
        joined = LABEL_JOIN if head.kind == "multi_label" and name in JOINED else ""
        return [label for label in head.labels if set(label) & set(BREAKING[name] + joined)]

    if suffix in BREAKING and (labels := unreadable(suffix)):
        others = " or ".join(name for name in BREAKING if not unreadable(name))
        yield (
            f"--out must end in {others}, got {settings.out}: a {suffix} file cannot hold the label {labels[0]!r:.80}"
        )
