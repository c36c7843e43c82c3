"""All verbs, in the order of the help."""

from __future__ import annotations

from cutbert.cli import cost, demo, dynabert, finetune, front, measure, pick, predict, pretrain, report, schubert
from cutbert.cli.verb import Verb

VERBS: tuple[Verb, ...] = tuple(
    module.VERB
    for module in (demo, finetune, dynabert, schubert, pretrain, front, pick, report, predict, measure, cost)
)
