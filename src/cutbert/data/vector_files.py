"""Files of an embedding model's data: plain texts, pairs with a number, and retrieval in BEIR's layout."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from cutbert.data.labels import scores
from cutbert.data.reading import RawRows, check_mistakes, expand_files, place_name, read_files
from cutbert.data.records import open_records
from cutbert.data.rows import Rows
from cutbert.data.settings import DataSettings
from cutbert.data.sources import read_raw
from cutbert.data.tasks import FileLayout
from cutbert.data.text_sources import SUFFIXES, lines_of
from cutbert.data.vectors import Pairs, Retrieval, VectorTexts
from cutbert.errors import DataError
from cutbert.files import file_sha256
from cutbert.parsing import is_encodable

TEXT_COLUMNS, RELEVANT_COLUMNS = ("_id", "text"), ("query-id", "corpus-id", "score")
SHOWN = 3


@dataclass(frozen=True)
class VectorParts:
    """The contents of the files.

    Args:
        train: texts to learn from, each once.
        dev, select: what vectors are judged by, where files say so.
        hashes: SHA-256 of each file.
    """

    train: Rows
    dev: VectorTexts | None
    select: VectorTexts | None
    hashes: dict[str, str] = field(default_factory=dict)


def read_vector_parts(settings: DataSettings) -> VectorParts:
    """Read the files that the settings name.

    Raises:
        DataError: all mistakes in the files together (the first 20 in full).
    """
    mistakes: list[str] = []
    hashes: dict[str, str] = {}
    train = expand_files(settings.train, "--train", mistakes)
    dev_files = expand_files(settings.dev, "--dev", mistakes)
    mistakes.extend(f"--train and --dev must not both name {path}" for path in train if path in dev_files)
    if settings.select is not None:
        others = (("--dev", dev_files), ("--train", train))
        mistakes.extend(
            f"{option} and --select must not both name {settings.select}"
            for option, files in others
            if Path(settings.select) in files
        )
    files = [*dev_files, *([] if settings.select is None else [Path(settings.select)])]
    if settings.label is not None and files and all(path.name.endswith(SUFFIXES) for path in files):
        names = ", ".join(map(str, files))
        mistakes.append(f"--label must come with a --dev or --select that has columns, got files of lines: {names}")
    given, every = settings.given("text", "text_pair"), [*train, *files]
    if given and every and all(path.name.endswith(SUFFIXES) for path in every):
        mistakes.append(f"{' and '.join(given)} must come with files that have columns, got files of lines")
    texts = read_texts(train, settings, mistakes)
    dev = judged(dev_files, settings, mistakes)
    select = None if settings.select is None else judged([Path(settings.select)], settings, mistakes)
    retrieval = read_retrieval(settings, mistakes)
    check_mistakes(mistakes)
    if settings.task is not None:
        raw = read_raw(replace(settings, objective="task", train=(), text=None, text_pair=None, select=None, **NONE))
        assert raw.train is not None and raw.dev is not None  # as a named task has
        dev, hashes = pairs_of(raw.dev, mistakes), dict(raw.hashes)
        texts = texts if train else [*raw.train.text, *(raw.train.text_pair or [])]
        check_mistakes(mistakes)
    files = [*train, *dev_files, *(Path(each) for each in (settings.select, *retrieval_files(settings)) if each)]
    return VectorParts(
        Rows(list(dict.fromkeys(texts))),
        with_retrieval(dev, retrieval),
        select,
        hashes | {str(path): file_sha256(path) for path in files},
    )


NONE: Mapping[str, Any] = {"queries": None, "corpus": None, "relevant": None}


def retrieval_files(settings: DataSettings) -> tuple[str | None, ...]:
    return settings.queries, settings.corpus, settings.relevant


# Texts and pairs


def read_texts(paths: Sequence[Path], settings: DataSettings, mistakes: list[str]) -> list[str]:
    """Return the lines of text files, and the texts in the columns --text and --text-pair of others."""
    texts: list[str] = []
    for path in paths:
        if path.name.endswith(SUFFIXES):
            texts += lines_of(path, mistakes)
        elif settings.text is None:
            mistakes.append(f"{path}: --text must name the column that holds the text; a .txt has a text a line")
        else:
            rows = read_files([path], FileLayout(settings.text, settings.text_pair, None), mistakes)
            texts += [*rows.text, *(rows.text_pair or [])]
    return texts


def judged(paths: Sequence[Path], settings: DataSettings, mistakes: list[str]) -> VectorTexts | None:
    """Return what files of dev or select judge by: pairs where --label names a number, else plain texts."""
    if not paths:
        return None
    is_plain = [path.name.endswith(SUFFIXES) for path in paths]
    if settings.label is None or all(is_plain):
        return VectorTexts(list(dict.fromkeys(read_texts(paths, settings, mistakes))))
    if any(is_plain):
        mistakes.append("--dev must be files of pairs or files of lines, got both")
        return None
    layout = FileLayout(settings.text or "", settings.text_pair, settings.label)
    return pairs_of(read_files(paths, layout, mistakes), mistakes)


def pairs_of(rows: RawRows, mistakes: list[str]) -> VectorTexts:
    """Return pairs with their numbers, each text once."""
    numbers, seconds = scores(rows, mistakes), rows.text_pair or []
    place = {text: i for i, text in enumerate(dict.fromkeys([*rows.text, *seconds]))}
    first, second = (np.array([place[text] for text in side], dtype=np.int64) for side in (rows.text, seconds))
    return VectorTexts(list(place), Pairs(first, second, numbers))


def first_judged(texts: VectorTexts, count: int | None) -> VectorTexts:
    """Return the first pairs and the first queries, the whole corpus; of plain texts the first ones."""
    if count is None:
        return texts
    pairs, retrieval = texts.pairs, texts.retrieval
    if pairs is None and retrieval is None:
        return texts.take(np.arange(min(count, len(texts))))
    rows: list[int] = []
    if pairs is not None:
        pairs = Pairs(pairs.first[:count], pairs.second[:count], pairs.numbers[:count])
        rows += [*pairs.first, *pairs.second]
    if retrieval is not None:
        retrieval = Retrieval(retrieval.queries[:count], retrieval.corpus, retrieval.relevant[:count])
        rows += [*retrieval.queries, *retrieval.corpus]
    kept = np.unique(np.array(rows, dtype=np.int64))
    if pairs is not None:
        first, second = (np.searchsorted(kept, each) for each in (pairs.first, pairs.second))
        pairs = Pairs(first, second, pairs.numbers)
    if retrieval is not None:
        queries, corpus = (np.searchsorted(kept, each) for each in (retrieval.queries, retrieval.corpus))
        retrieval = Retrieval(queries, corpus, retrieval.relevant)
    return VectorTexts([texts.text[i] for i in kept], pairs, retrieval)


# Retrieval


def read_retrieval(settings: DataSettings, mistakes: list[str]) -> VectorTexts | None:
    """Return queries, corpus and which of its texts are relevant; None where no files are named.

    Source:
        BEIR's files (Thakur et al. 2021, 2104.08663): `_id` and `text` of queries and corpus, of which the title is
        not read; `query-id`, `corpus-id` and `score` of what is relevant.
    """
    queries, corpus, relevant = retrieval_files(settings)
    if queries is None or corpus is None or relevant is None:
        return None
    before = len(mistakes)
    asked, texts = read_named(Path(queries), mistakes), read_named(Path(corpus), mistakes)
    gains: dict[str, dict[int, float]] = {name: {} for name in asked}
    places = {name: i for i, name in enumerate(texts)}
    strangers: dict[str, list[str]] = {"queries": [], "corpus": []}
    for query, text, gain in read_relevant(Path(relevant), mistakes):
        if query not in gains:
            strangers["queries"].append(query)
        elif text not in places:
            strangers["corpus"].append(text)
        elif gain > 0:
            gains[query][places[text]] = gain
    if len(mistakes) > before:
        return None
    for name, ids in strangers.items():
        if ids:
            mistakes.append(f"--relevant {relevant}: ids must be in --{name}, got {named(ids)}, which are not")
    without = [name for name, each in gains.items() if not each]
    if without and not any(strangers.values()):
        mistakes.append(f"--relevant {relevant}: every query must have a relevant text, {named(without)} have none")
    order = Retrieval(np.arange(len(asked)), len(asked) + np.arange(len(texts)), list(gains.values()))
    return VectorTexts([*asked.values(), *texts.values()], retrieval=order)


def named(ids: Iterable[str]) -> str:
    """Return the first ids, and how many there are."""
    each = list(dict.fromkeys(ids))
    more = f" and {len(each) - SHOWN:,} more" if len(each) > SHOWN else ""
    return ", ".join(repr(name) for name in each[:SHOWN]) + more


def read_named(path: Path, mistakes: list[str]) -> dict[str, str]:
    """Return the texts of a file by their ids."""
    texts: dict[str, str] = {}
    for place, (name, text) in values_of(path, TEXT_COLUMNS, mistakes):
        if not is_id(name) or not isinstance(text, str) or not text.strip() or not is_encodable(text):
            mistakes.append(f"{place}: must have an id and a text, got {name!r:.40} and {text!r:.40}")
        elif str(name) in texts:
            mistakes.append(f"{place}: ids must differ, got {str(name)!r} again")
        else:
            texts[str(name)] = text
    return texts


def read_relevant(path: Path, mistakes: list[str]) -> list[tuple[str, str, float]]:
    """Return query, text and gain of each row of a file of what is relevant."""
    rows = []
    for place, (query, text, gain) in values_of(path, RELEVANT_COLUMNS, mistakes):
        try:
            number = float(gain)
        except (TypeError, ValueError):
            number = -1.0
        if is_id(query) and is_id(text) and np.isfinite(number) and number >= 0:
            rows.append((str(query), str(text), number))
        else:
            got = f"{query!r:.40}, {text!r:.40} and {gain!r:.40}"
            mistakes.append(f"{place}: must have two ids and a number of at least 0, got {got}")
    return rows


def is_id(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool) and bool(str(value).strip())


def values_of(path: Path, columns: Sequence[str], mistakes: list[str]) -> list[tuple[str, tuple[Any, ...]]]:
    """Return place and values of each row of a file; broken rows are mistakes, and so is a file without rows."""
    rows, before = [], len(mistakes)
    try:
        for record in open_records(path, columns):
            place = place_name(str(path), record.row, record.line)
            if record.problem is None:
                rows.append((place, record.values))
            else:
                mistakes.append(f"{place}: {record.problem}")
    except DataError as error:
        mistakes.extend(error.mistakes)
    if not rows and len(mistakes) == before:
        mistakes.append(f"{path}: has no rows")
    return rows


def with_retrieval(dev: VectorTexts | None, retrieval: VectorTexts | None) -> VectorTexts | None:
    """Return both as one, rows of retrieval after the others."""
    if dev is None or retrieval is None:
        return retrieval if dev is None else dev
    made, shift = retrieval.retrieval, len(dev)
    assert made is not None
    moved = replace(made, queries=made.queries + shift, corpus=made.corpus + shift)
    return VectorTexts([*dev.text, *retrieval.text], dev.pairs, moved)
