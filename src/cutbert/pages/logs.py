"""The training curves of a run, from its log."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cutbert.checks import is_number
from cutbert.parsing import parse_json
from cutbert.train.run_folder import LOG

MOST_VALUES = 300  # of a curve, to keep the page small
LossCurve = list[tuple[int, float]]


def read_curves(run: Path) -> tuple[dict[str, dict[str, LossCurve]], list[str]]:
    """Return curves by stage and quantity, and notes for the reader.

    Where a resumed run repeated a step, the later value is used. Values that are not numbers are left out.
    """
    by_step: dict[str, dict[str, dict[int, float]]] = {}
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
                    by_step.setdefault(stage, {}).setdefault(name, {})[step] = value
    curves = {
        stage: {name: thinned(sorted(values.items())) for name, values in quantities.items()}
        for stage, quantities in by_step.items()
    }
    return curves, [f"{damaged} lines of {LOG} could not be read and are left out"] if damaged else []


def log_lines(run: Path) -> list[str]:
    path = run / LOG
    return path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []


def parsed(line: str) -> dict[str, Any] | None:
    """Return the JSON object of a line; None where a kill cut it off."""
    try:
        values = parse_json(line)
    except ValueError:
        return None
    return dict(values) if isinstance(values, Mapping) else None


def thinned(curve: LossCurve) -> LossCurve:
    """Return at most MOST_VALUES evenly spaced values, the last one included."""
    every = -(-len(curve) // MOST_VALUES)
    return curve[::-1][:: max(1, every)][::-1]
