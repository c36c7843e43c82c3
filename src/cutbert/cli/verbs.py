"""All verbs, in the order of the help."""

from __future__ import annotations

from cutbert.cli import (
    analyze,
    cost,
    demo,
    depth,
    dynabert,
    export,
    finetune,
    front,
    measure,
    pick,
    predict,
    pretrain,
    report,
    schubert,
    search,
    sweep,
    undivided,
)
from cutbert.cli.verb import Verb

VERBS: tuple[Verb, ...] = tuple(
    module.VERB
    for module in (
        demo,
        finetune,
        dynabert,
        schubert,
        undivided,
        depth,
        pretrain,
        sweep,
        front,
        pick,
        search,
        report,
        predict,
        measure,
        analyze,
        cost,
        export,
    )
)
