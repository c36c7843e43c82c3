"""Provenance, the contents of cutbert.json: a model's base model, licence, commands, data hashes and scores."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cutbert.checks import (
    COUNT,
    NUMBER,
    NUMBERS,
    OBJECT,
    PAIR,
    POSITIVE,
    TEXT,
    TEXTS,
    Check,
    are,
    check_values,
    has,
    is_count,
    is_text,
    list_of,
    or_null,
)  # fmt: skip
from cutbert.data.settings import DataSettings
from cutbert.errors import Mistakes, ModelError
from cutbert.files import file_sha256, read_json
from cutbert.settings import build_settings
from cutbert.shape.folder import FORMAT_VERSION

FILE_NAME = "cutbert.json"
# Optional keys: settings of its data, the longest input it was trained on, interval of its dev score, a sentence where
# that is near chance, the network it was cut from with what was given up, measured latency with its conditions,
# scores before and after int8, the ONNX files by the loader whose layout the folder has, and what trimming the
# vocabulary changed. Beside them, for as long as the head is kept: what sentence-transformers' CrossEncoder does with
# its outputs.
TRIMMED = "trimmed_vocabulary"
FACTS = ("task", "max_length", "score_interval", "near_chance", "cut_from", "latency", "int8", "layouts", TRIMMED)
REQUIRED: dict[str, Check] = {
    "base_model": TEXT,
    "licence": or_null(TEXT),
    "commands": TEXTS,
    "data": (are(is_text), "a JSON object of texts"),
    "scores": NUMBERS,
}
IS_CUT, _ = has(
    {},
    {
        **dict.fromkeys(("params", "macs"), COUNT),
        **dict.fromkeys(("score", "select_score", "difference", "latency_ratio", "int8_latency_ms"), NUMBER),
        "difference_interval": PAIR,
        "latency_ms": POSITIVE,
        "near_chance": TEXT,
    },
)
BESIDE = {"difference": {"score", "select_score"}, "latency_ratio": {"latency_ms"}}  # is never alone
OPTIONAL: dict[str, Check] = {
    "base_revision": or_null(TEXT),
    "base_sha256": (are(is_text), "a JSON object of texts"),
    "task": OBJECT,
    "max_length": (lambda value: is_count(value) and value > 0, "a whole number above 0"),
    "score_interval": PAIR,
    "near_chance": TEXT,
    "cut_from": (
        lambda value: IS_CUT(value) and all(needed <= value.keys() for key, needed in BESIDE.items() if key in value),
        "a JSON object of the uncut model's figures as cutbert writes them",
    ),
    "latency": has(
        {"latency_ms": NUMBER, "backend": TEXT, "threads": COUNT, "processor": TEXT},
        {"latency_p95_ms": or_null(NUMBER)},
    ),
    "cross_encoder": OBJECT,
    TRIMMED: has(
        {
            **dict.fromkeys(("tokens_before", "tokens", "bytes_saved"), COUNT),
            "split_differently": (are(is_count), "a JSON object of whole numbers"),
            "metric": TEXT,
            **{f"{key}_{when}": NUMBER for key in ("score", "select_score") for when in ("before", "after")},
        },
        {"select_score_metric": TEXT},
    ),
    "layouts": (are(list_of(is_text)), "a JSON object of lists of texts"),
    "int8": has(
        {
            "calibration": TEXT,
            "metric": TEXT,
            **{f"{key}_{when}": NUMBER for key in ("score", "select_score") for when in ("before", "after")},
        },
        {"select_score_metric": TEXT},
    ),
}


def read_provenance(folder: Path) -> dict[str, Any]:
    """Read the cutbert.json of a model folder.

    Raises:
        ModelError: not a JSON object, another format version than ours, a key that is missing, or a value that is
            not what it must be.
    """
    path = folder / FILE_NAME
    data = read_json(path, ModelError)
    if not isinstance(data, dict):
        raise ModelError(f"{path}: must be a JSON object, got {type(data).__name__}")
    if data.get("format_version") != FORMAT_VERSION:
        raise ModelError(f"{path}: format_version must be {FORMAT_VERSION}, got {data.get('format_version')!r}")
    mistakes = Mistakes()
    known = {key: value for key, value in data.items() if key in REQUIRED or key in OPTIONAL}
    check_values(mistakes, str(path), known, required=REQUIRED, optional=OPTIONAL)
    mistakes.check(ModelError)
    return data


def recorded_task(folder: Path) -> DataSettings | None:
    """Return the settings of the data that a model was made with, where its cutbert.json has them."""
    task = read_provenance(folder).get("task") if (folder / FILE_NAME).is_file() else None
    mistakes = Mistakes()
    with mistakes.collect(f"{folder / FILE_NAME}: task: "):
        return build_settings(task, DataSettings)[0] if task else None
    raise ModelError(*mistakes.messages)


def task_words(data: DataSettings) -> str:
    """Return the words that name the data, for the user."""
    words = [data.task, data.data_dir] if data.task else [*data.train, *data.dev]
    return ", ".join(word for word in words if word)


def input_length(provenance: Mapping[str, Any], given: int | None, default: int, room: int) -> int:
    """Return the longest input in tokens: the one given, else that the model was trained on, else the default.

    Args:
        provenance: of the model.
        given: by the user.
        default: for a model whose training is not recorded.
        room: the positions of the model; the result never exceeds them.
    """
    return min(given or provenance.get("max_length") or default, room)


def first_provenance(source: str, folder: Path, weights: tuple[Path, ...], revision: str | None) -> dict[str, Any]:
    """Return the provenance of a model that cutbert has not changed yet.

    Args:
        source: the hub id or folder as the user gave it.
        folder: with the model's files.
        weights: its weight files, whose hashes are recorded.
        revision: commit on the hub, where known.
    """
    return {
        "format_version": FORMAT_VERSION,
        "base_model": source,
        "base_revision": revision,
        "base_sha256": {path.name: file_sha256(path) for path in weights},
        "licence": licence_in(folder),
        "commands": [],
        "data": {},
        "scores": {},
    }


def extend_provenance(
    provenance: Mapping[str, Any],
    command: str | None = None,
    *,
    data: Mapping[str, str] | None = None,
    scores: Mapping[str, float] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return provenance with one more command, more data hashes, and new scores.

    Args:
        provenance: as read or first made; not changed.
        command: as the user typed it; where it was the last one already, as after a kill, it is not added again.
        data: SHA-256 by path of each data file the command read.
        scores: of the changed model; None where the model is the same: its scores and FACTS are kept.
        facts: values of FACTS for the model as it is now.
    """
    before = provenance["commands"]
    commands = [*before, *([command] if command and before[-1:] != [command] else [])]
    files = {**provenance["data"], **(data or {})}
    new_scores = dict(provenance["scores"] if scores is None else scores)
    kept = {key: value for key, value in provenance.items() if scores is None or key not in FACTS}
    return {**kept, "commands": commands, "data": files, "scores": new_scores, **(facts or {})}


def licence_in(folder: Path) -> str | None:
    """Return the licence that a folder's model card names in its front matter, or None."""
    card = folder / "README.md"
    if not card.is_file():
        return None
    front = re.match(r"\A---\s*\n(.*?)\n---", card.read_text(encoding="utf-8", errors="replace"), re.DOTALL)
    named = re.search(r"^license:[ \t]*(\S.*?)[ \t]*$", front[1], re.MULTILINE) if front else None
    return named[1].strip("'\"") if named else None
