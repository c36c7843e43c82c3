"""The weight files of a model folder: reading them in any of transformers' formats, writing safetensors."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from cutbert.errors import ModelError
from cutbert.files import read_json
from cutbert.lacks import refuse_lack
from cutbert.printable import reason_of

STEMS = ("model.safetensors", "pytorch_model.bin")
OLD_LEAVES = {"gamma": "weight", "beta": "bias"}


def weight_files(folder: Path) -> tuple[Path, ...]:
    """Return a folder's weight files: safetensors before pickles, a single file before shards.

    Raises:
        ModelError: there are none, or an index names a missing file.
    """
    for stem in STEMS:
        index = folder / f"{stem}.index.json"
        if (folder / stem).is_file():
            return (folder / stem,)
        if index.is_file():
            return shard_files(index)
    raise ModelError(f"{folder} must hold weights ({' or '.join(STEMS)}, or shards with an index), got none")


def shard_files(index: Path) -> tuple[Path, ...]:
    """Return the files that an index of shards names, which must be beside it.

    Raises:
        ModelError: it is no index, or names a file that is not there.
    """
    data = read_json(index, ModelError)
    shards = data.get("weight_map") if isinstance(data, dict) else None
    if not isinstance(shards, dict) or not shards or not all(isinstance(name, str) for name in shards.values()):
        raise ModelError(f"{index}: must have an object 'weight_map', got {shards!r}")
    files = tuple(index.parent / name for name in sorted(set(shards.values())))
    missing = [path for path in files if path.parent != index.parent or not path.is_file()]
    if missing:
        raise ModelError(*(f"{index}: names {path.name}, which is not beside it" for path in missing))
    return files


def read_weights(files: tuple[Path, ...]) -> dict[str, Tensor]:
    """Return all tensors by their stored names.

    Raises:
        ModelError: a file is broken or has anything but tensors.
    """
    tensors: dict[str, Tensor] = {}
    for path in files:
        tensors.update(read_file(path))
    return tensors


def read_file(path: Path) -> dict[str, Tensor]:
    """Return the tensors of one file; a pickle is read as data, so that nothing in it runs.

    Raises:
        ModelError: it is broken or has anything but tensors.
    """
    path.open("rb").close()  # safetensors calls a file missing that may not be read
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        data: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what torch fails with on a broken pickle has no common base class
        refuse_lack(error, path)
        raise ModelError(f"{path}: weights cannot be read: {reason_of(error)}") from None
    named = data.items() if isinstance(data, dict) else [(None, data)]
    if not all(isinstance(name, str) and isinstance(value, Tensor) for name, value in named):
        raise ModelError(f"{path}: must hold tensors by name and nothing else")
    return data


def write_weights(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors as safetensors, with the rights of any other new file: safetensors lets only its owner read it."""
    path.touch()
    rights = stat.S_IMODE(path.stat().st_mode)
    save_file(dict(tensors), path, metadata=None if metadata is None else dict(metadata))
    path.chmod(rights)


def modern_name(name: str) -> str:
    """Return today's name of a parameter: very old transformers called LayerNorm's weight and bias gamma and beta."""
    module, _, leaf = name.rpartition(".")
    return f"{module}.{OLD_LEAVES[leaf]}" if leaf in OLD_LEAVES and module.endswith("LayerNorm") else name
