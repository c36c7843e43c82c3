"""The sizes and the head of a stored model, read from its JSON files alone: no torch, no weights."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cutbert.errors import ModelError, ShapeError
from cutbert.files import read_json
from cutbert.shape.head import HeadSpec
from cutbert.shape.pooling import CONFIG_KEY, POOLINGS, folder_pooling, has_pooling_file
from cutbert.shape.shape import EncoderShape
from cutbert.shape.stock_config import STOCK_FAMILIES, check_style, stock_head, stock_shape, stock_style

FORMAT_VERSION = 1
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
OURS = "cutbert"


@dataclass(frozen=True)
class FolderShape:
    """What the JSON files of a model folder say about its model.

    Args:
        shape: sizes of the encoder.
        head: what is on top; kind "none" for a shape file, and where sentence-transformers' folder names a masked LM.
        style_data: the fields of an EncoderStyle; empty for a shape file. Its pooling is what the head reads, where
            that is of whole texts; else what the folder says a text is read by, cls where it says nothing.
        family: transformers' model_type of the weights' family; None for a shape file.
        unknown_pooling: what the folder says a text is read by, where we have no such pooling.
    """

    shape: EncoderShape
    head: HeadSpec
    style_data: dict[str, Any]
    family: str | None
    unknown_pooling: str | None = None

    @property
    def max_tokens(self) -> int:
        """The longest input in tokens: rows of the position table less the family's offset."""
        return self.shape.num_positions - int(self.style_data.get("position_offset", 0))


def read_folder_shape(path: Path) -> FolderShape:
    """Read sizes, head and style of a model folder, a run folder (its `model/`) or a shape file.

    Raises:
        ModelError: no such path, no config, an unknown family, class, key or format version, or a
            shape.json that differs from the config; all mistakes of one file together.
    """
    if path.is_file():
        return read_shape_file(path)
    folder = model_folder(path)
    if not (folder / "config.json").is_file():
        if (folder / "shape.json").is_file():
            return read_shape_file(folder / "shape.json")
        raise ModelError(f"{folder} must hold a config.json or a shape.json, got neither")
    folder_shape = read_config(folder / "config.json")
    check_sidecars(folder, folder_shape.shape)
    return folder_shape


def expanded(path: str | Path) -> Path:
    """Return a path with the home folder in the place of ~; of a user who has none, as it is, as shells do."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def local_folder(source: str | Path) -> Path | None:
    """Return the model folder that a reference means on this machine; None where it is a hub id.

    An existing folder always wins over a hub id of the same name.

    Raises:
        ModelError: a file, a run without its model, or neither a folder nor a hub id.
    """
    path = expanded(source)
    if path.is_dir():
        return model_folder(path)
    if path.exists():
        raise ModelError(f"a model to load must be a folder or a hub id, got the file {path}")
    if not HUB_ID.fullmatch(str(source)):
        raise ModelError(f"a model must be a folder or a hub id, got {str(source)!r}, which is no folder here")
    return None


def model_folder(path: Path) -> Path:
    """Return the model folder that a path stands for: itself, or the `model/` of a run folder.

    Raises:
        ModelError: no such folder, or a run without its model/.
    """
    if not path.is_dir():
        raise ModelError(f"a model must be a folder or a shape file, got {path}, which does not exist")
    if not (path / "run.json").is_file():
        return path
    if not (path / "model").is_dir():
        raise ModelError(f"a run must be finished to be used as a model, got {path} without model/")
    return path / "model"


def read_config(path: Path) -> FolderShape:
    """Read a config.json, ours or of a stock family."""
    config = read_object(path)
    model_type = config.get("model_type")
    if model_type == OURS or isinstance(config.get(OURS), dict):  # the latter: a free shape in another loader's layout
        facts = read_our_config(path, config if model_type == OURS else config[OURS])
        return with_pooling(facts, path.parent, facts.style_data.get("pooling"))
    if not isinstance(model_type, str) or model_type not in STOCK_FAMILIES:
        known = ", ".join([*STOCK_FAMILIES, OURS])
        raise ModelError(
            f"{path}: model_type must be one of {known}, got {model_type!r}; give a model of one of these families, "
            "such as bert-base-uncased or roberta-base"
        )
    with naming(path):
        said = STOCK_FAMILIES[model_type].class_names(config)
        shape, head = stock_shape(said, model_type), stock_head(said, model_type)
        if head.kind == "masked_lm" and has_pooling_file(path.parent):  # config.json names the class it was made from
            head = HeadSpec("none")
        facts = FolderShape(shape, head, stock_style(said, model_type), model_type)
    return with_pooling(facts, path.parent, config.get(CONFIG_KEY))


def with_pooling(facts: FolderShape, folder: Path, stated: Any) -> FolderShape:
    """Return a folder's facts with what a new head of whole texts is to read.

    A head of whole texts keeps what it was trained with: ours says so in its style, and stock classes read the first
    token whatever else their folder says.
    """
    pooling = None if facts.head.is_sequence else folder_pooling(folder, stated)
    if pooling is None:
        return facts
    if pooling not in POOLINGS:
        return replace(facts, unknown_pooling=pooling)
    return replace(facts, style_data={**facts.style_data, "pooling": pooling})


def read_our_config(path: Path, config: dict[str, Any]) -> FolderShape:
    """Read a config.json of model_type cutbert: its objects `shape`, `head` and `style`."""
    wrong = [key for key in ("shape", "head", "style") if not isinstance(config.get(key), dict)]
    if wrong:
        raise ModelError(*(f"{path}: {key} must be a JSON object, got {config.get(key)!r}" for key in wrong))
    with naming(path):
        shape, head = EncoderShape.from_json(config["shape"]), HeadSpec.from_json(config["head"])
        check_style(config["style"], vocab_size=shape.vocab_size)
    return FolderShape(shape, head, dict(config["style"]), config["style"].get("family"))


def check_sidecars(folder: Path, shape: EncoderShape) -> None:
    """Raise unless cutbert.json has a version we know and shape.json equals the config's shape."""
    sidecar = folder / "cutbert.json"
    if sidecar.is_file():
        version = read_object(sidecar).get("format_version")
        if version != FORMAT_VERSION:
            raise ModelError(f"{sidecar}: format_version must be {FORMAT_VERSION}, got {version!r}")
    sizes = folder / "shape.json"
    if sizes.is_file() and read_shape_file(sizes).shape != shape:
        raise ModelError(f"{sizes} must give the sizes that config.json gives, got others")


def read_shape_file(path: Path) -> FolderShape:
    """Read a file that holds an EncoderShape and nothing else."""
    data = read_object(path)
    with naming(path):
        return FolderShape(EncoderShape.from_json(data), HeadSpec("none"), {}, None)


def read_object(path: Path) -> dict[str, Any]:
    data = read_json(path, ModelError)
    if not isinstance(data, dict):
        raise ModelError(f"{path}: must be a JSON object, got {type(data).__name__}")
    return data


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn a ShapeError raised inside into a ModelError whose mistakes name the file."""
    try:
        yield
    except ShapeError as error:
        raise ModelError(*(f"{path}: {mistake}" for mistake in error.mistakes)) from None
