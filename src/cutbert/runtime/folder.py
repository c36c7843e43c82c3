"""What the files of an exported folder say: which graph to run, its labels, the longest text, the padding token."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from cutbert.errors import InputError, ModelError
from cutbert.parsing import parse_json

BACKENDS = ("auto", "onnx", "onnx-int8")
DEFAULT_LENGTH = 512
Activation = Callable[[NDArray[np.float32]], NDArray[np.float32]]
ACTIVATIONS: dict[str, Activation] = {
    "Identity": lambda x: x,
    "Sigmoid": lambda x: (0.5 * (1 + np.tanh(0.5 * x))).astype(np.float32),  # overflows nowhere
    "Tanh": lambda x: np.tanh(x),
}
SENTENCE_FILE = "config_sentence_transformers.json"
MOST_LABELS, MOST_TOKENS = 2**17, 2**31  # of a file that anybody may have written
NO_LENGTH = 10**6  # transformers writes a huge number where a tokenizer names no length


@dataclass(frozen=True)
class Folder:
    """An exported folder.

    Args:
        path: of the folder.
        config: contents of config.json.
        record: contents of cutbert.json; empty where another tool exported the model.
        tokenizer: as a tokenizer.json holds it, where that of the folder is not read; None to read it.
    """

    path: Path
    config: Mapping[str, Any]
    record: Mapping[str, Any]
    tokenizer: str | None = None

    @classmethod
    def read(cls, path: Path) -> Folder:
        """Read a folder's JSON files.

        Raises:
            ModelError: config.json or tokenizer.json is missing, or a file is not a JSON object.
        """
        missing = [name for name in ("config.json", "tokenizer.json") if not (path / name).is_file()]
        if missing and (path / "model" / "config.json").is_file():
            raise ModelError(f"{path} is the folder of a run: its network is in {path / 'model'}, which can be loaded")
        if missing:
            raise ModelError(f"{path} must hold config.json, tokenizer.json and an ONNX file, got no {missing[0]}")
        return cls(path, read_object(path / "config.json"), optional_object(path / "cutbert.json"))

    @cached_property
    def ours(self) -> Mapping[str, Any]:
        """What config.json says of a network that transformers' own classes cannot hold; empty for another."""
        if self.config.get("model_type") == "cutbert":
            return self.config
        ours = self.config.get("cutbert")
        return ours if isinstance(ours, dict) else {}

    @cached_property
    def kind(self) -> str | None:
        """The kind of the head: single_label, multi_label, regression, token, span or masked_lm; None if not said."""
        head = self.ours.get("head")
        if isinstance(head, dict):
            return str(head.get("kind"))
        architectures = self.config.get("architectures")
        name = str(architectures[0]) if isinstance(architectures, list) and architectures else ""
        if name.endswith("ForSequenceClassification"):
            problem = self.config.get("problem_type")
            stated = {"multi_label_classification": "multi_label", "regression": "regression"}
            single = "regression" if problem is None and len(self.labels) == 1 else "single_label"
            return stated.get(str(problem), single)
        endings = {"ForTokenClassification": "token", "ForQuestionAnswering": "span", "ForMaskedLM": "masked_lm"}
        return next((kind for ending, kind in endings.items() if name.endswith(ending)), None)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Names of the labels in id order; where config.json has none LABEL_0 and so on, as transformers reads it."""
        head = self.ours.get("head")
        if isinstance(head, dict) and isinstance(head.get("labels"), list):
            return tuple(map(str, head["labels"]))
        names = self.config.get("id2label")
        if not isinstance(names, dict):
            count = self.config.get("num_labels")
            return tuple(f"LABEL_{i}" for i in range(min(count, MOST_LABELS) if is_count(count) else 2))
        by_id = {str(key): str(name) for key, name in names.items()}
        if set(by_id) != {str(i) for i in range(len(by_id))}:
            raise ModelError(f"{self.path / 'config.json'}: id2label must have the keys 0 to {len(by_id) - 1}")
        return tuple(by_id[str(i)] for i in range(len(by_id)))

    @property
    def activation(self) -> Activation:
        """What sentence-transformers does with a cross-encoder's outputs, where its files name it; else nothing.

        Raises:
            ModelError: it is none of ours.

        Source:
            sentence-transformers 6, `CrossEncoder._parse_model_config` and `get_default_activation_fn`: a file of its
            own first, which version 6 writes, then config.json, there the key of versions before 4 last. Where nothing
            is named that applies a sigmoid to a single output, we do not.
        """
        place, named = SENTENCE_FILE, optional_object(self.path / SENTENCE_FILE).get("activation_fn")
        if named is None:
            place, said = "config.json", self.config.get("sentence_transformers")
            named = said.get("activation_fn") if isinstance(said, dict) else None
        if named is None:
            named = self.config.get("sbert_ce_default_activation_function")
        if named is None:
            return ACTIVATIONS["Identity"]
        name = str(named).removeprefix("torch.").rpartition(".")[2]
        if name not in ACTIVATIONS or not str(named).startswith("torch."):
            wanted = ", ".join(ACTIVATIONS)
            raise ModelError(f"{self.path}: activation_fn in {place} must be one of torch's {wanted}, got {named!r}")
        return ACTIVATIONS[name]

    @property
    def prompts(self) -> Mapping[str, str]:
        """What may come before the texts of an embedding model, by name, as sentence-transformers' file has it."""
        named = optional_object(self.path / SENTENCE_FILE).get("prompts")
        return {name: text for name, text in named.items() if isinstance(text, str)} if isinstance(named, dict) else {}

    @property
    def default_prompt(self) -> str:
        """What comes before a text where no prompt is asked for; empty where that is nothing."""
        name = optional_object(self.path / SENTENCE_FILE).get("default_prompt_name")
        return self.prompts.get(name, "") if isinstance(name, str) else ""

    @property
    def truncate_dim(self) -> int | None:
        """How many numbers of a vector an embedding model gives, from the first; None for all.

        Raises:
            ModelError: it is no such number.

        Source:
            sentence-transformers, `SentenceTransformer.encode`: after the modules, so also after their normalisation.
        """
        dims = optional_object(self.path / SENTENCE_FILE).get("truncate_dim")
        if dims is not None and not (is_count(dims) and dims > 0):
            wanted = "truncate_dim must be a whole number above 0"
            raise ModelError(f"{self.path / SENTENCE_FILE}: {wanted}, got {dims!r:.80}")
        return dims

    @property
    def pad_id(self) -> int:
        style = self.ours.get("style")
        value = (style if isinstance(style, dict) else self.config).get("pad_token_id")
        return value if is_count(value) and value < MOST_TOKENS else 0

    @property
    def positions(self) -> int:
        """The most tokens that the network has positions for."""
        shape, style = self.ours.get("shape"), self.ours.get("style")
        if isinstance(shape, dict) and isinstance(style, dict):
            rows, offset = shape.get("num_positions"), style.get("position_offset", 0)
        else:
            if "max_position_embeddings" not in self.config:
                return DEFAULT_LENGTH
            is_counted = str(self.config.get("model_type")) in ("roberta", "xlm-roberta", "camembert", "mpnet")
            rows, offset = self.config["max_position_embeddings"], self.pad_id + 1 if is_counted else 0
        if not (is_count(rows) and is_count(offset) and 0 < rows - offset < MOST_TOKENS):
            raise ModelError(f"{self.path / 'config.json'}: must name the number of positions, got {rows!r:.80}")
        return int(rows - offset)

    @property
    def longest(self) -> int:
        """Tokens at which texts are cut: what the model was trained on, else what a file beside it names."""
        named = (
            self.record.get("max_length"),
            optional_object(self.path / "sentence_bert_config.json").get("max_seq_length"),
            optional_object(self.path / "tokenizer_config.json").get("model_max_length"),
        )
        lengths = (int(each) for each in named if isinstance(each, int | float) and 0 < each < NO_LENGTH)
        return min(next(lengths, DEFAULT_LENGTH), self.positions)

    def graph(self, backend: str = "auto") -> Path:
        """Return the ONNX file to run.

        Args:
            backend: `onnx` (float32), `onnx-int8`, or `auto`: int8 where it is there.

        Raises:
            ModelError: an unknown backend; no such file; or several, and nothing says which.
        """
        if backend not in BACKENDS:
            raise ModelError(f"backend must be one of {', '.join(BACKENDS)}, got {backend!r}")
        wanted = {"auto": ("onnx-int8", "onnx")}.get(backend, (backend,))
        for name in wanted:
            for paths in self.candidates(name):
                if len(paths) > 1:
                    names = ", ".join(str(path.relative_to(self.path)) for path in paths)
                    other = "; backend onnx runs the float32 file" if name != "onnx" else ""
                    raise ModelError(
                        f"{self.path} must hold one ONNX file for {name}, got {names}: cutbert.runtime.load(file=...) "
                        f"runs the one it names{other}"
                    )
                if paths:
                    return paths[0]
        got = "files for OpenVINO alone" if list(self.path.glob("**/openvino_model*.xml")) else "none"
        raise ModelError(
            f"{self.path} must hold an ONNX file for {' or '.join(wanted)} (onnx/model.onnx, "
            f"onnx/model_qint8_*.onnx or model.onnx), got {got}; cutbert export writes them"
        )

    def named_graph(self, file: str) -> Path:
        """Return the ONNX file of a name, which is its path in the folder, such as `onnx/model_qint8_arm64.onnx`.

        Raises:
            ModelError: there is none of this name.
        """
        path = self.path / file
        if not path.is_file():
            raise ModelError(f"file must be the path of an ONNX file in {self.path}, got {file!r}, which is not there")
        return path

    def candidates(self, backend: str) -> Iterator[list[Path]]:
        """Yield groups of files of one backend, the group that is looked at first before the others."""
        layouts = self.record.get("layouts")
        tei = layouts.get("tei") if isinstance(layouts, dict) else None
        in_triton = sorted(self.path.glob("triton/*/1/model.onnx"))
        is_int8 = backend == "onnx-int8"
        if is_int8:
            yield sorted(self.path.glob("onnx/model_qint8_*.onnx"))
        yield [path for path in [self.path / "onnx" / NAMES[backend]] if path.is_file()]
        if (self.path / "model.onnx").is_file() and is_int8 == (isinstance(tei, list) and "model.onnx" in tei):
            yield [self.path / "model.onnx"]
        yield [path for path in in_triton if path.parts[-3].endswith("_int8") == is_int8]


NAMES = {"onnx": "model.onnx", "onnx-int8": "model_quantized.onnx"}


def named_prompt(prompts: Mapping[str, str], name: str, option: str = "prompt_name") -> str:
    """Return a prompt by its name; `option` is what a message calls the name.

    Raises:
        InputError: there is none of this name; lists those that there are.
    """
    if name in prompts:
        return prompts[name]
    if not prompts:
        raise InputError(f"{option} must not be given with a model that has no prompts, got {name!r}")
    raise InputError(f"{option} must be one of {', '.join(prompts)}, got {name!r}")


def is_count(value: Any) -> TypeGuard[int]:
    """Return whether a value of JSON is a whole number of at least 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def read_value(path: Path) -> Any:
    """Read JSON of any kind from a file.

    Raises:
        ModelError: it cannot be read, or is no JSON.
    """
    try:
        return parse_json(path.read_text(encoding="utf-8"), any_value=True)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ModelError(f"{path}: must be JSON: {error}") from None


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file.

    Raises:
        ModelError: it cannot be read, or holds something else.
    """
    data = read_value(path)
    if not isinstance(data, dict):
        raise ModelError(f"{path}: must be a JSON object, got {type(data).__name__}")
    return data


def optional_object(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file; empty where there is no such file."""
    return read_object(path) if path.is_file() else {}
