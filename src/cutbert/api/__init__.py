"""One function per verb, returning a frozen result whose to_json() is the --json object.

Importing this loads neither torch nor transformers; each verb loads what it needs when called.
"""

from __future__ import annotations

from cutbert.api.methods import demo, depth, dynabert, finetune, fit, pretrain, schubert, undivided
from cutbert.api.models import analyze, cost, export, measure, predict, report
from cutbert.api.result import Result
from cutbert.api.runs import Picked, Run, front, open_run, pick, search
from cutbert.api.sweeps import sweep

__all__ = [
    "Picked",
    "Result",
    "Run",
    "analyze",
    "cost",
    "demo",
    "depth",
    "dynabert",
    "export",
    "finetune",
    "fit",
    "front",
    "measure",
    "open_run",
    "pick",
    "predict",
    "pretrain",
    "report",
    "schubert",
    "search",
    "sweep",
    "undivided",
]
