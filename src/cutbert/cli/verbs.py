"""All verbs, in the order of the help."""

from __future__ import annotations

from importlib import import_module

from cutbert.cli.verb import Verb

# Each has a file of its name beside this one.
NAMES = (
    "demo", "finetune", "dynabert", "schubert", "undivided", "depth", "pretrain", "sweep", "front", "pick", "search",
    "report", "predict", "measure", "analyze", "cost", "export",
)  # fmt: skip
VERBS: tuple[Verb, ...] = tuple(import_module(f"cutbert.cli.{name}").VERB for name in NAMES)
