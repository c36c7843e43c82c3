"""All verbs, in the order of the help."""

from __future__ import annotations

from cutbert.cli import (
    cost,
    demo,
    dynabert,
    export,
    finetune,
    front,
    measure,
    pick,
    predict,
    pretrain,
    schubert,
    search,
)
from cutbert.cli.verb import Verb

VERBS: tuple[Verb, ...] = tuple(
    module.VERB
    for module in (demo, finetune, dynabert, schubert, pretrain, front, pick, search, predict, measure, cost, export)
)
