"""Where a model's files lie: a model folder, a run folder, or the local copy of a hub repository."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import snapshot_download, try_to_load_from_cache

from cutbert.errors import ModelError
from cutbert.shape.folder import local_folder

COMMIT = re.compile(r"[0-9a-f]{40}")
SMALL_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "README.md"]
OLD_WEIGHTS = ["pytorch_model*.bin", "pytorch_model.bin.index.json"]


class Source(NamedTuple):
    """The folder a model is read from, and the hub's commit where it came from there."""

    folder: Path
    commit: str | None = None


def find_source(source: str | Path, revision: str | None = None) -> Source:
    """Return the folder of a model, fetching it from the hub where source is a hub id.

    An existing folder always wins over a hub id of the same name.

    Args:
        source: model folder, run folder (its `model/`), or hub id.
        revision: branch, tag or commit on the hub; only for a hub id.

    Raises:
        ModelError: neither a model folder nor a hub id that can be fetched or is in the hub's cache.
    """
    folder = local_folder(source)
    if folder is None:
        return fetch(str(source), revision)
    if revision is not None:
        raise ModelError(f"a revision goes with a hub id, got revision {revision!r} for the folder {source}")
    return Source(folder)


def fetch(hub_id: str, revision: str | None) -> Source:
    """Return the local copy of a hub repository's root files, downloading what is not cached.

    `HF_HOME`, `HF_HUB_OFFLINE` and a login are the hub library's own affair.
    """
    folder = download(hub_id, revision, SMALL_FILES)
    if not any(folder.glob("*.safetensors")):
        folder = download(hub_id, revision, OLD_WEIGHTS)
    commit = folder.name if COMMIT.fullmatch(folder.name) else None
    return Source(folder, commit)


def download(hub_id: str, revision: str | None, patterns: list[str]) -> Path:
    """Return the folder of the files that match, from the cache alone where the hub cannot be reached."""
    try:
        return Path(snapshot_download(hub_id, revision=revision, allow_patterns=patterns, ignore_patterns=["*/*"]))
    except Exception as error:  # what the hub, its transport and its cache raise has no common root
        cached = cached_config(hub_id, revision)
        if cached is not None:
            return cached.parent
        reason = str(error).strip().partition("\n")[0]
        at = f" at revision {revision}" if revision else ""
        raise ModelError(
            f"{hub_id} must be a folder here or a model the hub gives{at}, got {type(error).__name__}: {reason}; "
            "where the hub cannot be reached, give a local folder with the model's files"
        ) from None


def cached_config(hub_id: str, revision: str | None) -> Path | None:
    """Return the cached config.json of a repository, where another tool has fetched only some of its files."""
    try:
        found = try_to_load_from_cache(hub_id, "config.json", revision=revision)
    except ValueError:
        return None
    return Path(found) if isinstance(found, str) else None
