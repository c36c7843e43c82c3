"""What a sentence-transformers folder says beside the encoder: how its states become one vector for each text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cutbert.checks import is_count
from cutbert.data.vectors import COSINE, Prompts, prompts_of
from cutbert.errors import ModelError
from cutbert.files import read_json, write_json
from cutbert.shape.pooling import FLAG, POOLING_FILE, POOLINGS, folder_pooling

MODULES_FILE = "modules.json"
LENGTH_FILE = "sentence_bert_config.json"  # the text-embeddings server reads it too
PROMPTS_FILE = "config_sentence_transformers.json"
CROSS_ENCODER_KEY = "sentence_transformers"  # in a config.json
OLD_ACTIVATION_KEY = "sbert_ce_default_activation_function"  # there too, written before version 4
CROSS_ENCODER_FACT = "cross_encoder"  # the same in a cutbert.json
POOL = ["Transformer", "Pooling"]
NORMALIZE = "Normalize"
# A pooling's word here -> its key in a pooling file, as all versions of sentence-transformers read it.
POOLING_KEYS = {
    "cls": "cls_token",
    "mean": "mean_tokens",
    "max": "max_tokens",
    "mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "weightedmean": "weightedmean_tokens",
    "lasttoken": "lasttoken",
}
SIZE_KEYS = ("word_embedding_dimension", "embedding_dimension")


@dataclass(frozen=True)
class Sentence:
    """How the last hidden states of a text become its vector.

    Args:
        pooling: what a vector is made of, as in `shape.pooling`; one that we do not have keeps its name.
        normalize: whether vectors are divided by their norm.
        max_length: the longest text in tokens, where the folder names one.
        files: contents of its JSON files by path, as read.
        truncate_dim: how many of a vector's numbers are given, from the first; None for all. After normalisation.
    """

    pooling: str
    normalize: bool
    max_length: int | None
    files: Mapping[str, Any]
    truncate_dim: int | None = None

    @property
    def prompts(self) -> Prompts:
        """What is put before texts."""
        return prompts_of(self.named_prompts, self.files.get(PROMPTS_FILE, {}).get("default_prompt_name"))

    @property
    def named_prompts(self) -> dict[str, str]:
        """All prompts by their names, as `encode(prompt_name=)` takes them."""
        named = self.files.get(PROMPTS_FILE, {}).get("prompts")
        return {name: text for name, text in named.items() if isinstance(text, str)} if isinstance(named, dict) else {}

    @property
    def similarity(self) -> str:
        """What vectors are compared by, as the folder says: cosine, dot, euclidean or manhattan."""
        return str(self.files.get(PROMPTS_FILE, {}).get("similarity_fn_name") or COSINE)

    def norm_notes(self, model: str) -> tuple[str, ...]:
        """Return a note where a model's vectors are compared by more than their directions, which alone are learned."""
        if self.normalize or self.similarity == COSINE:
            return ()
        return (
            f"{model} compares vectors by {self.similarity}, which their norms change: these are neither learned nor "
            f"scored, cosines are; in an index of its vectors, searched by {self.similarity}, a cut model's do not fit",
        )

    def with_prompts_of(self, other: Sentence) -> Sentence:
        """Return the same with another's prompts, behind which its vectors were learned."""
        files = {name: data for name, data in self.files.items() if name != PROMPTS_FILE}
        prompts = {name: data for name, data in other.files.items() if name == PROMPTS_FILE}
        return replace(self, files={**files, **prompts})


def read_embedder(model: str, folder: Path) -> Sentence:
    """Return how an embedding model's states become vectors.

    Args:
        model: as the user gave it.
        folder: with its files.

    Raises:
        ModelError: it is no sentence-transformers folder, or makes vectors in a way that we do not.
    """
    sentence = read_sentence(folder)
    if sentence is None:
        raise ModelError(
            f"--objective embedding must have a model that says how a text's states become its vector ({MODULES_FILE} "
            f"and 1_Pooling), and {model} has no {MODULES_FILE}; write it with sentence-transformers: "
            f"SentenceTransformer(MODEL).save(FOLDER)"
        )
    if sentence.pooling not in POOLINGS:
        raise ModelError(
            f"--objective embedding must have a model with the pooling {' or '.join(POOLINGS)}, got "
            f"{sentence.pooling!r} in {model}"
        )
    if sentence.truncate_dim is not None:
        raise ModelError(
            f"--objective embedding must have a model of whole vectors, and {PROMPTS_FILE} of {model} cuts them to "
            f"truncate_dim {sentence.truncate_dim}; take that key out: the whole ones are learned and scored"
        )
    if sentence.files[POOLING_FILE].get("include_prompt") is False and sentence.prompts != Prompts():
        raise ModelError(f"--objective embedding must have a model that pools its prompts too, and {model} does not")
    return sentence


def read_cross_encoder(folder: Path) -> dict[str, Any] | None:
    """Return what sentence-transformers does with the outputs of a folder's head of whole texts; None if not said.

    Its version 6 says it in a file of its own, versions 4 and 5 in config.json, and former ones there by an older key.
    """
    own = read_json(folder / PROMPTS_FILE, ModelError) if (folder / PROMPTS_FILE).is_file() else None
    if isinstance(own, dict) and own.get("activation_fn") is not None:
        return {"activation_fn": own["activation_fn"]}
    config = read_json(folder / "config.json", ModelError)
    said, old = config.get(CROSS_ENCODER_KEY), config.get(OLD_ACTIVATION_KEY)
    data = {key: value for key, value in said.items() if value is not None} if isinstance(said, dict) else {}
    if old is not None:
        data.setdefault("activation_fn", old)
    return data or None


def read_sentence(folder: Path) -> Sentence | None:
    """Read the modules of a sentence-transformers folder; None where there are none.

    Raises:
        ModelError: modules that are not a transformer, a pooling and at most a normalisation, in this order; files
            that are missing or not as they must be.
    """
    path = folder / MODULES_FILE
    if not path.is_file():
        return None
    modules = read_json(path, ModelError)
    if not isinstance(modules, list) or not all(isinstance(each, dict) for each in modules):
        raise ModelError(f"{path}: must be a list of JSON objects, got {modules!r}")
    kinds = [str(each.get("type")).rpartition(".")[2] for each in modules]
    if kinds not in (POOL, [*POOL, NORMALIZE]):
        wanted = f"{', '.join(POOL)} and at most {NORMALIZE}"
        raise ModelError(f"{path}: modules after an encoder must be {wanted}, got {', '.join(kinds) or 'none'}")
    files: dict[str, Any] = {MODULES_FILE: modules}
    for name in (POOLING_FILE, LENGTH_FILE, PROMPTS_FILE):
        if name == POOLING_FILE or (folder / name).is_file():
            files[name] = read_json(folder / name, ModelError)
            if not isinstance(files[name], dict):
                raise ModelError(f"{folder / name}: must be a JSON object, got {type(files[name]).__name__}")
    length = files.get(LENGTH_FILE, {}).get("max_seq_length")
    is_length = is_count(length) and length > 0
    dims = files.get(PROMPTS_FILE, {}).get("truncate_dim")
    if not (dims is None or (is_count(dims) and dims > 0)):
        raise ModelError(f"{folder / PROMPTS_FILE}: truncate_dim must be a whole number above 0, got {dims!r:.80}")
    pooling = str(folder_pooling(folder, None))
    return Sentence(pooling, NORMALIZE in kinds, length if is_length else None, files, dims)


def write_sentence(folder: Path, sentence: Sentence, hidden_size: int, longest: int) -> None:
    """Write a folder's modules for a network of another size, with texts of at most `longest` tokens."""
    for name, data in sentence.files.items():
        if name not in (POOLING_FILE, LENGTH_FILE):
            write_json(folder / name, data)
    write_json(folder / POOLING_FILE, pooling_data(sentence, hidden_size))
    write_length(folder, longest, sentence.files.get(LENGTH_FILE, {}))


def write_length(folder: Path, longest: int, more: Mapping[str, Any] | None = None) -> None:
    """Write the longest text in tokens where sentence-transformers and the text-embeddings server look for it."""
    write_json(folder / LENGTH_FILE, {"do_lower_case": False, **(more or {}), "max_seq_length": longest})


def pooling_data(sentence: Sentence, hidden_size: int) -> dict[str, Any]:
    """Return the contents of a pooling file: one pooling as a key each, which all readers know; several as read."""
    data = dict(sentence.files[POOLING_FILE])
    if sentence.pooling in POOLING_KEYS:
        kept = {key: value for key, value in data.items() if key != "pooling_mode" and not key.startswith(FLAG)}
        flags = {FLAG + key: word == sentence.pooling for word, key in POOLING_KEYS.items()}
        data = {SIZE_KEYS[0]: 0, **kept, **flags}
        data.pop(SIZE_KEYS[1], None)
    return data | {key: hidden_size for key in SIZE_KEYS if key in data}
