"""Where a page goes. No torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from cutbert.aside import remove_leftovers
from cutbert.options import option
from cutbert.settings import RUN, Settings, place_mistakes

MARK = '<meta name="generator" content="cutbert report">'
MARK_WITHIN_BYTES = 1000


@dataclass(frozen=True, kw_only=True)
class ReportSettings(Settings):
    """The file that a report is written to."""

    GROUP = RUN

    out: str = field(metadata=option("The page: a new file, or an earlier report, which is replaced."))

    def conflicts(self) -> Iterable[str]:
        out = Path(self.out)
        remove_leftovers(out.parent)
        if out.is_dir():
            yield f"--out must be a file, but {out} is a folder"
        elif out.exists() and not is_report(out):
            yield f"--out must be a new file or an earlier report, but {out} is another file"
        yield from place_mistakes(out)


def is_report(path: Path) -> bool:
    """Return whether a file is a page that cutbert wrote."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return MARK.encode() in file.read(MARK_WITHIN_BYTES)
