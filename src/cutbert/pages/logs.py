"""The training curves of a run, out of its log."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cutbert.shape.budget import is_number
from cutbert.train.run_folder import LOG

MOST_VALUES = 300  # of a curve; a page is no place for more
Curve = list[tuple[int, float]]


def read_curves(run: Path) -> tuple[dict[str, dict[str, Curve]], list[str]]:
    """Return curves by stage and quantity, and what a reader must be told of them.

    Where a resumed run went over a step again, the later value holds. What is no number is left out.
    """
    found: dict[str, dict[str, dict[int, float]]] = {}
    damaged = 0
    for line in log_lines(run):
        values = parsed(line)
        if values is None:
            damaged += 1
            continue
        stage, step = values.pop("stage", None), values.pop("step", None)
        if isinstance(stage, str) and isinstance(step, int):
            for name, value in values.items():
                if is_number(value):
                    found.setdefault(stage, {}).setdefault(name, {})[step] = value
    curves = {
        stage: {name: thinned(sorted(values.items())) for name, values in quantities.items()}
        for stage, quantities in found.items()
    }
    return curves, [f"{damaged} lines of {LOG} could not be read and are left out"] if damaged else []


def log_lines(run: Path) -> list[str]:
    path = run / LOG
    return path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []


def parsed(line: str) -> dict[str, Any] | None:
    """Return a line's object; None where a kill cut it off."""
    try:
        values = json.loads(line)
    except ValueError:
        return None
    return dict(values) if isinstance(values, Mapping) else None


def thinned(curve: Curve) -> Curve:
    """Return at most MOST_VALUES values, evenly taken, the last among them."""
    every = -(-len(curve) // MOST_VALUES)
    return curve[::-1][:: max(1, every)][::-1]
