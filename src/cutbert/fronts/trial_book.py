"""The scores a search has paid for, a line each in a file, so that none is paid for twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from cutbert.shape.subnet import Subnet


class TrialBook:
    """Scores by subnet, kept in a file of JSON lines.

    A line that a kill cut short is as if it were not there.

    Args:
        path: of the file; it need not be there.
        score_of: scores a subnet that is not in it.
    """

    def __init__(self, path: Path, score_of: Callable[[Subnet], float]) -> None:
        self.path, self.score_of = path, score_of
        self.scores: dict[str, float] = {}
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        whole, _, rest = text.rpartition("\n")
        if rest:
            path.write_text(whole + "\n" if whole else "", encoding="utf-8")
        for line in whole.splitlines():
            data = json.loads(line)
            self.scores[json.dumps(data["subnet"])] = data["score"]

    def __call__(self, subnet: Subnet) -> float:
        """Return a subnet's score, from the book or new."""
        key = json.dumps(subnet.to_json())
        if key not in self.scores:
            score = self.scores[key] = self.score_of(subnet)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"subnet": subnet.to_json(), "score": score}) + "\n")
        return self.scores[key]
