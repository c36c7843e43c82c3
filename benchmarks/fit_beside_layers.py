"""Two runs of `fit` from one model in the same time, and what a record keeps of them.

One may try everything, the other whole layers alone, any choice of them: the plain alternative at its best.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import cutbert
from cutbert.files import read_json
from cutbert.fronts.leaderboard import Leaderboard

RIVALS: dict[str, dict[str, Any]] = {"fit": {}, "layers": {"kinds": ["layers"]}}


def run_both(
    model: str | Path, folders: Mapping[str, Path], own: Mapping[str, Mapping[str, Any]] | None = None, **options: Any
) -> dict[str, Leaderboard]:
    """Return the leaderboards of both runs by name; a finished run is read, an unfinished one goes on.

    Args:
        model: what is fitted.
        folders: of the runs, by the names in RIVALS.
        own: options of one run alone, by name.
        options: of fit, the same for both.
    """
    given = {name: {**options, **kinds, **(own or {}).get(name, {})} for name, kinds in RIVALS.items()}
    return {name: cutbert.fit(model, out=folders[name], **given[name]).leaderboard for name in RIVALS}


def model_name(number: int) -> str:
    """Return the folder in a run of fit of what it took under a limit, the loosest being 1."""
    return "model" if number == 1 else f"model-limit-{number}"


def facts_of(
    folders: Mapping[str, Path], boards: Mapping[str, Leaderboard], shown: Collection[str]
) -> dict[str, dict[str, Any]]:
    """Return by run the limits in milliseconds, the seconds of its stages, and its leaderboard.

    Args:
        folders, boards: of both runs, by name.
        shown: keys of the leaderboard's entries that are kept.
    """
    return {
        "limits_ms": {name: board.limits["max_latency_ms"] for name, board in boards.items()},
        "seconds": {name: read_json(folders[name] / "run.json")["timings"] for name in boards},
        "leaderboards": {
            name: [{key: value for key, value in each.to_json().items() if key in shown} for each in board]
            for name, board in boards.items()
        },
    }
