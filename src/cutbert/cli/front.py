"""`cutbert front`: the table of subnets of a run."""

from __future__ import annotations

from cutbert import api
from cutbert.cli.tables import front_table
from cutbert.cli.verb import Verb
from cutbert.cli.words import RUN
from cutbert.fronts.settings import FrontSettings

VERB = Verb(
    name="front",
    summary="The table of subnets of a run: score, params, MACs, measured latency.",
    words=(RUN,),
    settings=(FrontSettings,),
    run=lambda words, options: api.front(words[0], **options),
    show=front_table,
)
