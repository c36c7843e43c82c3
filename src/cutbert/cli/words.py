"""The positional arguments that several verbs share."""

from __future__ import annotations

from cutbert.cli.verb import Word

MODEL = Word("MODEL", "a hub id, a model folder, or a run folder (its model/).")
MODELS = Word("MODEL", "hub ids, model folders or run folders.", is_many=True)
RUN = Word("RUN", "a finished run folder with a front.")
RUNS = Word("RUN", "finished run folders; of a demo, its folder.", is_many=True)
