"""What a model says of texts, in their order: labels, entities, answers, vectors or numbers; of a file or a list."""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax

from cutbert.data.rows import Rows
from cutbert.data.stream import InputFile, Scan, scan, stream_chunks
from cutbert.data.tokens import Tokens, cut_notes, encode, plain_engine
from cutbert.errors import InputError, Mistakes, ModelError
from cutbert.files import replacing_file, scratch_folder
from cutbert.hub.load import load_model
from cutbert.hub.provenance import FILE_NAME
from cutbert.lacks import naming_lacks
from cutbert.parsing import is_encodable
from cutbert.printable import printable
from cutbert.shape.head import HeadSpec
from cutbert.shape.source import ModelSource, check_length
from cutbert.train.engine import make_engine
from cutbert.train.evaluate import predict_logits
from cutbert.train.machine import without_onednn
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
from cutbert.train.settings import TrainSettings

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
        with progress_bar("predict", found.num_rows) as bar, without_onednn:
            answers_to, notes = answers_of(source, settings, settings.text_pair is not None, counter(bar))
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
    with without_onednn:
        answers_to, notes = answers_of(source, settings, not isinstance(inputs[0], str), lambda done: None)
        answers = answers_to(inputs)
    for note in notes():
        say(note)
    return answers


def answers_of(
    source: ModelSource, settings: AnswerSettings, has_pairs: bool, advance: Callable[[int], None]
) -> tuple[Answers, Notes]:
    """Return what answers inputs on the backend that runs a model, and what then gives the notes."""
    if backend_of(source.folder, settings.backend) == "torch":
        return torch_answers(source, settings, has_pairs, advance)
    return onnx_answers(source, settings, advance)


def torch_answers(
    source: ModelSource, settings: AnswerSettings, has_pairs: bool, advance: Callable[[int], None]
) -> tuple[Answers, Notes]:
    """Return what answers inputs in torch, and what then gives the notes."""
    from cutbert.runtime.folder import Folder, optional_object, read_object

    record = optional_object(source.folder / FILE_NAME)
    folder = Folder(source.folder, read_object(source.folder / "config.json"), record)
    activate = folder.activation
    engine = make_engine(TrainSettings(device=settings.device, threads=settings.threads))
    loaded = load_model(source)
    loaded.model.to(engine.device)
    max_length = settings.max_length or min(folder.longest, source.facts.max_tokens)
    tokenizer = plain_engine(loaded.tokenizer, loaded.source, max_length, pairs=has_pairs)
    num_cut = num_rows = 0

    def answer(inputs: Sequence[Any]) -> list[Any]:
        nonlocal num_cut, num_rows
        arrays = encode(rows_of(inputs, has_pairs), tokenizer)
        tokens = Tokens(arrays["ids"], arrays["offsets"], arrays.get("pair_starts"))
        num_cut, num_rows = num_cut + int(arrays["num_cut"][0]), num_rows + len(tokens)
        logits = predict_logits(loaded.model, tokens, on_batch=advance)
        if not np.isfinite(logits).all():
            raise ModelError(f"{source}: the outputs must be finite, got infinity or NaN")
        return answers(source.head, logits, activate)

    return answer, lambda: cut_notes(num_cut, num_rows, max_length)


def rows_of(inputs: Sequence[Any], has_pairs: bool) -> Rows:
    """Return texts, or pairs of them, as rows.

    Raises:
        InputError: an input that is not what the first one is.
    """
    wanted = "a pair of texts" if has_pairs else "a text"
    for row, given in enumerate(inputs):
        sides = given if has_pairs and isinstance(given, tuple | list) else [given]
        if len(sides) != 1 + has_pairs or not all(isinstance(each, str) and is_encodable(each) for each in sides):
            raise InputError(f"input {row} must be {wanted}, as the first one, got {given!r:.80}")
    if not has_pairs:
        return Rows(list(inputs))
    return Rows([one for one, _ in inputs], [other for _, other in inputs])


def onnx_answers(
    source: ModelSource, settings: AnswerSettings, advance: Callable[[int], None]
) -> tuple[Answers, Notes]:
    """Return what answers inputs in ONNX Runtime, and what then gives the notes."""
    from cutbert.runtime import Reader, load

    model = load(
        source.folder,
        backend=backend_of(source.folder, settings.backend),
        threads=settings.threads,
        max_length=settings.max_length,
        batch_size=settings.batch_size,
    )
    num_rows = 0

    def answer(inputs: Sequence[Any]) -> list[Any]:
        nonlocal num_rows
        num_rows += len(inputs)
        return model(inputs, advance, prompt_name=settings.prompt_name)

    def notes() -> tuple[str, ...]:
        if isinstance(model, Reader) and model.num_cut:
            return (f"{model.num_cut:,} questions of more than {model.limit} tokens are cut to that",)
        return cut_notes(model.num_cut, num_rows, model.max_length)

    return answer, notes


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


def answers(
    head: HeadSpec, logits: NDArray[np.float32], activate: Callable[[NDArray[np.float32]], NDArray[np.float32]]
) -> list[dict[str, Any]]:
    """Return per row the label and the probabilities by class name; for regression the number alone.

    Several labels can hold at once under multi_label: those with a probability of at least one half.
    """
    if head.kind == "regression":
        return [{"label": float(value)} for value in activate(logits[:, 0])]
    many = head.kind == "multi_label"
    values = logits.astype(np.float64)
    chances = expit(values) if many else softmax(values, axis=1)
    records = []
    for row in chances.tolist():
        named = dict(zip(head.labels, row, strict=True))
        above = [name for name, chance in named.items() if chance >= 0.5]
        records.append({"label": above if many else max(named, key=named.__getitem__), "probabilities": named})
    return records
