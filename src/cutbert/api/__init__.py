"""One function per verb, returning a frozen result whose to_json() is the --json object.

Importing this loads neither torch nor transformers; each verb loads what it needs when called.
"""

from __future__ import annotations

from cutbert.api.methods import demo, dynabert, finetune, pretrain, schubert
from cutbert.api.models import cost, export, measure, predict
from cutbert.api.result import Result
from cutbert.api.runs import Picked, Run, front, open_run, pick, search

__all__ = [
    "Picked",
    "Result",
    "Run",
    "cost",
    "demo",
    "dynabert",
    "export",
    "finetune",
    "front",
    "measure",
    "open_run",
    "pick",
    "predict",
    "pretrain",
    "schubert",
    "search",
]
