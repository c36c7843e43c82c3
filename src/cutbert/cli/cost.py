"""`cutbert cost`: params, MACs and bytes, without weights and without torch."""

from __future__ import annotations

from cutbert import api
from cutbert.api.models import CostSettings
from cutbert.cli.tables import pairs_table
from cutbert.cli.verb import Verb, Word

VERB = Verb(
    name="cost",
    summary="Params, MACs and bytes of a model folder or a shape file, without loading weights.",
    words=(
        Word(
            "MODEL",
            "a model folder, a run folder, a shape file (.json), a hub id, or schuBERT's 99M and others.",
        ),
    ),
    settings=(CostSettings,),
    run=lambda words, options: api.cost(words[0], **options),
    show=lambda data: pairs_table({name: f"{value:,}" for name, value in data.items()}),
)
