"""What `predict` needs to know. No torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from cutbert.data.settings import MAX_LENGTH
from cutbert.errors import ModelError
from cutbert.files import remove_leftovers
from cutbert.options import option
from cutbert.settings import DATA, MACHINE, RUN, DeviceSettings, parent_mistakes
from cutbert.shape.head import SEQUENCE_KINDS
from cutbert.shape.source import ModelSource

FORMATS = (".tsv", ".csv", ".jsonl", ".npy")
PredictBackend = Literal["auto", "torch", "onnx", "onnx-int8"]


@dataclass(frozen=True, kw_only=True)
class PredictSettings(DeviceSettings):
    """Which texts to answer, with what, and where the answers go."""

    GROUP = DATA

    input: str = field(metadata=option("File of texts: .tsv .csv .jsonl .parquet, also .gz."))
    text: str = field(metadata=option("Column that holds the text."))
    out: str = field(metadata=option("New file for the answers: .tsv .csv .jsonl; vectors: .npy .jsonl.", group=RUN))
    text_pair: str | None = field(default=None, metadata=option("Column that holds the second text of a pair."))
    backend: PredictBackend = field(
        default="auto",
        metadata=option(
            "What runs the model; auto: its int8 file, else its float32 ONNX file, else torch.", group=MACHINE
        ),
    )
    batch_size: int = field(
        default=32,
        metadata=option(
            "Most texts in a batch of ONNX; 1 gives an int8 file's answers to texts served one by one.",
            group=MACHINE,
            least=1,
        ),
    )
    max_length: int | None = field(
        default=None,
        metadata=option(
            f"Longest input; longer ones are cut. Default what the model was trained on, else {MAX_LENGTH}.",
            least=2,
            unit="tokens",
        ),
    )

    def conflicts(self) -> Iterable[str]:
        out = Path(self.out)
        if out.suffix not in FORMATS:
            yield f"--out must end in one of {', '.join(FORMATS)}, got {self.out}"
        remove_leftovers(out.parent)
        if out.exists():
            yield f"--out must be a new file, but {self.out} is there already"
        yield from parent_mistakes(out)


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
    """Raise a ModelError unless a model's head says something of texts on the backend that would run it."""
    backend = backend_of(source.folder, wanted)
    kinds = (*SEQUENCE_KINDS, *(() if backend == "torch" else ("token", "span", "none", "pooler")))
    if source.head.kind not in kinds:
        raise ModelError(
            f"{source}: must classify whole texts to predict labels, got a head of kind {source.head.kind}; "
            "cutbert finetune makes such a model, and taggers, readers and embedding models run from what "
            "cutbert export writes"
        )
