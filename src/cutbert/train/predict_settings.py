"""What `predict` needs to know. No torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from cutbert.data.settings import MAX_LENGTH
from cutbert.files import remove_leftovers
from cutbert.options import option
from cutbert.settings import DATA, RUN, DeviceSettings, parent_mistakes

FORMATS = (".tsv", ".csv", ".jsonl")


@dataclass(frozen=True, kw_only=True)
class PredictSettings(DeviceSettings):
    """Which texts to label, and where the labels go."""

    GROUP = DATA

    input: str = field(metadata=option("File of texts: .tsv .csv .jsonl .parquet, also .gz."))
    text: str = field(metadata=option("Column that holds the text."))
    out: str = field(metadata=option("New file for labels and probabilities: .tsv .csv or .jsonl.", group=RUN))
    text_pair: str | None = field(default=None, metadata=option("Column that holds the second text of a pair."))
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
