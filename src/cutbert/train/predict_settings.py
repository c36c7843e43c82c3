"""What `predict` needs to know. No torch."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from cutbert.aside import remove_leftovers
from cutbert.errors import ModelError
from cutbert.lengths import MOST_SPECIAL_TOKENS
from cutbert.options import option
from cutbert.settings import DATA, MACHINE, RUN, DeviceSettings, place_mistakes
from cutbert.shape.head import SEQUENCE_KINDS
from cutbert.shape.source import ModelSource, check_tokenizer, fetch_onnx

STREAM = "-"  # standard input, or standard output
TABLES = (".tsv", ".csv", ".jsonl", ".parquet")  # formats with columns
INPUT_FORMATS = (*TABLES, ".txt", ".conll", ".json")
OUT_FORMATS = (*TABLES, ".npy", ".conll", ".json")
VECTOR_KINDS = ("none", "pooler")
PREDICTED = (*SEQUENCE_KINDS, "token", "span", *VECTOR_KINDS)
VECTOR_FORMATS = (".npy", ".jsonl", ".parquet")
# What answers may be written as, by the kind of head; those of whole texts as any table.
KIND_FORMATS = {
    "token": (".jsonl", ".parquet", ".conll"),
    "span": (".jsonl", ".parquet", ".json"),
    **dict.fromkeys(VECTOR_KINDS, VECTOR_FORMATS),
}
PredictBackend = Literal["auto", "torch", "onnx", "onnx-int8"]
StreamFormat = Literal["tsv", "csv", "jsonl", "parquet", "txt", "conll", "json"]


@dataclass(frozen=True, kw_only=True)
class AnswerSettings(DeviceSettings):
    """What runs a model, and how."""

    GROUP = MACHINE

    backend: PredictBackend = field(
        default="auto",
        metadata=option("What runs the model; auto: its int8 file, else its float32 ONNX file, else torch."),
    )
    batch_size: int = field(
        default=32,
        metadata=option(
            "Most texts in a batch of ONNX; 1 gives an int8 file's answers to texts served one by one.", least=1
        ),
    )
    max_length: int | None = field(
        default=None,
        metadata=option(
            "Longest input; longer ones are cut. Default what the model was trained on, else what its folder names.",
            least=MOST_SPECIAL_TOKENS,
            unit="tokens",
            group=DATA,
        ),
    )
    prompt_name: str | None = field(
        default=None,
        metadata=option(
            "Prompt of an embedding model that comes before each text, by its name, such as query; default the one "
            "that its folder names, if any.",
            flag="--prompt",
            group=DATA,
        ),
    )


@dataclass(frozen=True, kw_only=True)
class PredictSettings(AnswerSettings):
    """Which texts to answer, with what, and where the answers go."""

    GROUP = DATA

    input: str = field(
        metadata=option(
            "File of texts: .tsv .csv .jsonl .parquet; .txt, a text in each line; .conll; SQuAD's .json; all but "
            ".parquet also .gz. - is standard input."
        )
    )
    out: str = field(
        metadata=option(
            "New file for the answers behind the columns of --input: .tsv .csv .jsonl .parquet; of taggers .conll, of "
            "readers SQuAD's .json, of vectors .npy. - is standard output, in the format of --input where that can "
            "hold the answers, else JSON lines.",
            group=RUN,
        )
    )
    text: str | None = field(
        default=None, metadata=option("Column that holds the text; none with .txt and .json, a number with .conll.")
    )
    text_pair: str | None = field(default=None, metadata=option("Column that holds the second text of a pair."))
    format: StreamFormat | None = field(default=None, metadata=option("Format of standard input."))

    @property
    def input_suffix(self) -> str:
        """The format of the input as the end of a file's name; empty where it is not said."""
        if self.input == STREAM:
            return f".{self.format}" if self.format else ""
        path = Path(self.input)
        return (path.with_suffix("") if path.suffix == ".gz" else path).suffix

    def out_suffix(self, kind: str) -> str:
        """The format of the answers of a kind of head as the end of a file's name."""
        if self.out != STREAM:
            return Path(self.out).suffix
        suffix = self.input_suffix
        return suffix if suffix in KIND_FORMATS.get(kind, TABLES) and suffix != ".parquet" else ".jsonl"

    def missing(self) -> Iterable[str]:
        if self.input == STREAM and self.format is None:
            yield "--format must be given with --input -"
        if self.text is None and self.input_suffix in (*TABLES, ".conll"):
            yield f"--text must name the column of the texts of a {self.input_suffix} file"

    def conflicts(self) -> Iterable[str]:
        suffix = self.input_suffix
        if self.input != STREAM:
            if suffix not in INPUT_FORMATS:
                yield f"--input must end in one of {', '.join(INPUT_FORMATS)}, or be -, got {self.input}"
            if Path(self.input).is_fifo():
                yield f"--input must be a file, which is read twice, or -, got the pipe {self.input}"
            if self.format is not None:
                yield "--format must be given with --input - only: the name of a file says its format"
        if suffix in (".txt", ".json") and self.text is not None:
            yield f"--text must not be given with a {suffix} file, which has no columns"
        if suffix in (".txt", ".json", ".conll") and self.text_pair is not None:
            yield f"--text-pair must not be given with a {suffix} file"
        if self.out == STREAM:
            return
        out = Path(self.out)
        if out.suffix not in OUT_FORMATS:
            yield f"--out must end in one of {', '.join(OUT_FORMATS)}, or be -, got {self.out}"
        remove_leftovers(out.parent)
        if os.path.lexists(out):
            yield f"--out must be a new file, but {self.out} is there already"
        yield from place_mistakes(out)


def backend_of(folder: Path, wanted: str) -> str:
    """Return the backend that runs a model: the one given, or of `auto` what the folder holds a file for."""
    if wanted != "auto":
        return wanted
    from cutbert.runtime.folder import Folder, optional_object

    opened = Folder(folder, {}, optional_object(folder / "cutbert.json"))
    for backend in ("onnx-int8", "onnx"):
        if any(opened.candidates(backend)):
            return backend
    return "torch"


def check_predicts(source: ModelSource, wanted: str) -> None:
    """Raise a ModelError unless a model has a tokenizer, and its head says something of texts.

    Of a hub id the ONNX files are fetched where one is asked for, and where there are no weights for torch.
    """
    check_tokenizer(source.folder)
    has_weights = any(any(source.folder.glob(f"*{ending}")) for ending in (".safetensors", ".bin"))
    if wanted.startswith("onnx") or (wanted == "auto" and not has_weights):
        fetch_onnx(source)
    kind = source.head.kind
    if kind not in PREDICTED:
        raise ModelError(
            f"{source}: must label, score, tag, answer or embed texts to predict, got a head of kind {kind}; cutbert "
            "finetune makes such a model of it"
        )
    if kind in VECTOR_KINDS:
        from cutbert.runtime.vectors import modules_of

        modules_of(source.folder)
