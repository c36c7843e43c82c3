"""From a model reference to its files, once: a model folder, a run folder or the copy of a hub repository. No torch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cutbert.errors import InputError, ModelError
from cutbert.lacks import refuse_lack
from cutbert.lengths import position_mistakes
from cutbert.printable import reason_of
from cutbert.shape.folder import FolderShape, expanded, local_folder, read_folder_shape
from cutbert.shape.head import HeadSpec
from cutbert.shape.pooling import POOLING_FILE, Pooling, PoolingChoice
from cutbert.shape.shape import EncoderShape

COMMIT = re.compile(r"[0-9a-f]{40}")
SMALL_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "README.md"]
TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "sentencepiece.bpe.model",
    "spiece.model",
    "spm.model",
    "tokenizer.model",
)
OLD_WEIGHTS = ["pytorch_model*.bin", "pytorch_model.bin.index.json"]
ONNX_FILES = ["model.onnx*", "onnx/model.onnx*", "onnx/model_quantized.onnx*", "onnx/model_qint8_*"]


@dataclass(frozen=True)
class ModelSource:
    """A model reference that has been resolved: its folder and sizes are known, its weights are not read yet.

    Everything that reads a model takes this value, so that a reference is resolved only once.

    Args:
        name: as the user gave it.
        folder: with the model's files.
        facts: sizes, head and style, read from its JSON files.
        commit: of the hub repository, where it came from the hub.
        pooling: what a head of whole texts is to read; None for what the folder says.
    """

    name: str
    folder: Path
    facts: FolderShape
    commit: str | None = None
    pooling: Pooling | None = None

    def __str__(self) -> str:
        return self.name

    @property
    def is_from_hub(self) -> bool:
        """Whether the name is a hub id, and the folder a copy in the hub's cache."""
        return not expanded(self.name).exists()

    @property
    def shape(self) -> EncoderShape:
        return self.facts.shape

    @property
    def head(self) -> HeadSpec:
        return self.facts.head

    @property
    def style_data(self) -> dict[str, Any]:
        """The fields of the EncoderStyle to run it with."""
        given = {} if self.pooling is None else {"pooling": self.pooling}
        return self.facts.style_data | given

    def reading(self, pooling: PoolingChoice) -> ModelSource:
        """Return the model with what a head of whole texts is to read; auto: what its folder says."""
        return replace(self, pooling=None if pooling == "auto" else pooling)

    def check_pooling(self) -> None:
        """Raise unless it is known what a new head of whole texts is to read.

        Raises:
            ModelError: the folder names a pooling that we do not have, and none was given.
        """
        unknown = self.facts.unknown_pooling
        if self.pooling is None and unknown is not None:
            raise ModelError(
                f"{self}: a text's head must read the first token or the mean over tokens, and this model's "
                f"own pooling is {unknown!r}; give --pooling cls or mean"
            )


@dataclass(frozen=True)
class Models:
    """The models that a command names, resolved.

    Args:
        model: the one it works on.
        others: further ones, by the setting that names them; those that are not given are left out.
    """

    model: ModelSource
    others: Mapping[str, ModelSource] = field(default_factory=dict)

    @property
    def teacher(self) -> ModelSource | None:
        """The teacher that --teacher names."""
        return self.others.get("teacher")


def check_length(source: ModelSource, option: str, length: int) -> None:
    """Raise an InputError unless a model has positions for a number of tokens."""
    if wrong := list(position_mistakes(option, length, source.facts.max_tokens, source)):
        raise InputError(*wrong)


def find_model(model: str | Path | ModelSource, revision: str | None = None) -> ModelSource:
    """Resolve a model reference, downloading a hub id; a ModelSource is returned unchanged.

    An existing folder takes precedence over a hub id of the same name.

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


def check_tokenizer(folder: Path) -> None:
    """Raise a ModelError where a model folder has no tokenizer's files."""
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise ModelError(f"{folder} must hold a tokenizer ({', '.join(TOKENIZER_FILES)}), got none")


def find_folder(model: str | Path, revision: str | None) -> tuple[Path, str | None]:
    """Return a model's folder, and the commit of a hub repository; arguments and errors as in `find_model`."""
    folder = local_folder(model)
    if folder is None:
        return fetch(str(model), revision)
    if revision is not None:
        raise ModelError(f"a revision goes with a hub id, got revision {revision!r} for the folder {model}")
    return folder, None


def fetch(hub_id: str, revision: str | None) -> tuple[Path, str | None]:
    """Return the local copy of a hub repository's root files and its commit, downloading what is not cached.

    Of a sentence-transformers repository, which has a modules.json, the pooling's config comes too.

    `HF_HOME`, `HF_HUB_OFFLINE` and a login are handled by huggingface_hub.
    """
    folder = download(hub_id, revision, SMALL_FILES)
    if not any(folder.glob("*.safetensors")):
        folder = download(hub_id, revision, OLD_WEIGHTS)
    if (folder / "modules.json").is_file():
        folder = download(hub_id, revision, [POOLING_FILE], ignored=[])
    commit = folder.name if COMMIT.fullmatch(folder.name) else None
    return folder, commit


def fetch_onnx(source: ModelSource) -> None:
    """Download what the hub has of a model's ONNX files into its folder; of a local folder do nothing."""
    if source.is_from_hub:
        download(source.name, source.commit, ONNX_FILES, ignored=[])


def download(hub_id: str, revision: str | None, patterns: list[str], ignored: Sequence[str] = ("*/*",)) -> Path:
    """Return the folder of the files that match; from the cache alone where the hub cannot be reached."""
    from huggingface_hub import snapshot_download  # here, since most models are folders and need no hub

    try:
        found = snapshot_download(hub_id, revision=revision, allow_patterns=patterns, ignore_patterns=list(ignored))
        return Path(found)
    except Exception as error:  # the errors of the hub, its transport and its cache have no common base class
        cached = cached_config(hub_id, revision)
        if cached is not None:
            return cached.parent
        refuse_lack(error)
        at = f" at revision {revision}" if revision else ""
        reason = f"{type(error).__name__}: {reason_of(error)}"
        raise ModelError(
            f"{hub_id} must be a folder here or a model the hub gives{at}, got {reason}; "
            "where the hub cannot be reached, give a local folder with the model's files"
        ) from None


def cached_config(hub_id: str, revision: str | None) -> Path | None:
    """Return the cached config.json of a repository: another tool may have fetched only some of its files."""
    from huggingface_hub import try_to_load_from_cache

    try:
        path = try_to_load_from_cache(hub_id, "config.json", revision=revision)
    except ValueError:
        return None
    return Path(path) if isinstance(path, str) else None
