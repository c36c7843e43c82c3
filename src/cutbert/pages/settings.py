"""Where a page goes. No torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from cutbert.errors import InputError, Mistakes
from cutbert.fronts.settings import file_parents

MARK = '<meta name="generator" content="cutbert report">'
MARK_WITHIN_BYTES = 1000


@dataclass(frozen=True, kw_only=True)
class ReportSettings:
    """The file that a report is written to."""

    out: str = field(metadata={"help": "The page: a new file, or an earlier report, which is replaced."})

    def check(self) -> None:
        """Raise unless `out` is a new file or a report of ours, in a folder that can be made.

        Raises:
            InputError: all mistakes together.
        """
        mistakes, out = Mistakes(), Path(self.out)
        if out.is_dir():
            mistakes.add(f"--out must be a file, but {out} is a folder")
        elif out.exists() and not is_report(out):
            mistakes.add(f"--out must be a new file or an earlier report, but {out} is another file")
        mistakes.extend(f"--out must lie in a folder, but {parent} is a file" for parent in file_parents(out))
        mistakes.check(InputError)


def is_report(path: Path) -> bool:
    """Return whether a file is a page that cutbert wrote."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return MARK.encode() in file.read(MARK_WITHIN_BYTES)
