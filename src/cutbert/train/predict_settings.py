"""What `predict` needs to know. No torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from cutbert.errors import InputError, Mistakes
from cutbert.settings import check_device

FORMATS = (".tsv", ".csv", ".jsonl")


@dataclass(frozen=True, kw_only=True)
class PredictSettings:
    """Which texts to label, and where the labels go."""

    input: str = field(metadata={"help": "File of texts: .tsv .csv .jsonl .parquet, also .gz."})
    text: str = field(metadata={"help": "Column that holds the text."})
    out: str = field(metadata={"help": "New file for labels and probabilities: .tsv .csv or .jsonl."})
    text_pair: str | None = field(default=None, metadata={"help": "Column that holds the second text of a pair."})
    max_length: int = field(default=128, metadata={"help": "Longest input in tokens; longer ones are cut."})
    device: str = field(default="auto", metadata={"help": "auto, cpu, cuda or cuda:N."})
    threads: int | None = field(default=None, metadata={"help": "CPU threads; default all cores."})

    def check(self) -> None:
        """Raise unless the output is a new file of a format we write, and numbers are in range.

        Raises:
            InputError: all mistakes together.
        """
        mistakes = Mistakes()
        out = Path(self.out)
        if out.suffix not in FORMATS:
            mistakes.add(f"--out must end in one of {', '.join(FORMATS)}, got {self.out}")
        if out.exists():
            mistakes.add(f"--out must be a new file, but {self.out} is there already")
        parent = next((folder for folder in out.parents if folder.exists()), Path())
        if not parent.is_dir():
            mistakes.add(f"--out must lie in a folder, but {parent} is a file")
        with mistakes.collect():
            check_device(self.device)
        if self.max_length < 2:
            mistakes.add(f"--max-length must be at least 2, got {self.max_length}")
        if self.threads is not None and self.threads < 1:
            mistakes.add(f"--threads must be at least 1, got {self.threads}")
        mistakes.check(InputError)
