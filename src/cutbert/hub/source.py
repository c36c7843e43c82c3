"""A model's files, found once: a model folder, a run folder, or the local copy of a hub repository. No torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import snapshot_download, try_to_load_from_cache

from cutbert.errors import ModelError
from cutbert.shape.folder import FolderShape, model_folder, read_folder_shape
from cutbert.shape.head import HeadSpec
from cutbert.shape.shape import EncoderShape

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
COMMIT = re.compile(r"[0-9a-f]{40}")
SMALL_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "README.md"]
OLD_WEIGHTS = ["pytorch_model*.bin", "pytorch_model.bin.index.json"]


@dataclass(frozen=True)
class ModelSource:
    """A model whose files are found and whose sizes are known; its weights are not read yet.

    Every reader takes this value, so a name is resolved once.

    Args:
        name: what the user gave.
        folder: where the files are.
        facts: what its JSON files say of it.
        commit: the hub's commit, where it came from there.
    """

    name: str
    folder: Path
    facts: FolderShape
    commit: str | None = None

    def __str__(self) -> str:
        return self.name

    @property
    def shape(self) -> EncoderShape:
        return self.facts.shape

    @property
    def head(self) -> HeadSpec:
        return self.facts.head


def find_model(model: str | Path | ModelSource, revision: str | None = None) -> ModelSource:
    """Return where a model is, fetching it from the hub where it is a hub id; a source that is found already as it is.

    An existing folder always wins over a hub id of the same name.

    Args:
        model: model folder, run folder (its `model/`), or hub id.
        revision: branch, tag or commit on the hub; only for a hub id.

    Raises:
        ModelError: neither a model folder nor a hub id that can be fetched or is in the hub's cache; no config, or
            one that we cannot express.
    """
    if isinstance(model, ModelSource):
        return model
    folder, commit = find_folder(model, revision)
    return ModelSource(str(model), folder, read_folder_shape(folder), commit)


def find_folder(model: str | Path, revision: str | None) -> tuple[Path, str | None]:
    """Return a model's folder, and the hub's commit where it came from there. Arguments and errors: `find_model`."""
    path = Path(model).expanduser()
    if path.exists():
        if revision is not None:
            raise ModelError(f"a revision goes with a hub id, got revision {revision!r} for the folder {path}")
        if not path.is_dir():
            raise ModelError(f"a model to load must be a folder or a hub id, got the file {path}")
        return model_folder(path), None
    if not HUB_ID.fullmatch(str(model)):
        raise ModelError(f"a model must be a folder or a hub id, got {str(model)!r}, which is no folder here")
    return fetch(str(model), revision)


def fetch(hub_id: str, revision: str | None) -> tuple[Path, str | None]:
    """Return the local copy of a hub repository's root files and its commit, downloading what is not cached.

    `HF_HOME`, `HF_HUB_OFFLINE` and a login are the hub library's own affair.
    """
    folder = download(hub_id, revision, SMALL_FILES)
    if not any(folder.glob("*.safetensors")):
        folder = download(hub_id, revision, OLD_WEIGHTS)
    commit = folder.name if COMMIT.fullmatch(folder.name) else None
    return folder, commit


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
