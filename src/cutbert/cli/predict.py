"""`cutbert predict`: labels and probabilities for a file of texts."""

from __future__ import annotations

from cutbert import api
from cutbert.cli.tables import pairs_table
from cutbert.cli.verb import Verb
from cutbert.cli.words import MODEL
from cutbert.train.predict_settings import PredictSettings

VERB = Verb(
    name="predict",
    summary="Labels and probabilities for a file of texts.",
    words=(MODEL,),
    settings=(PredictSettings,),
    run=lambda words, options: api.predict(words[0], **options),
    show=lambda data: pairs_table({"texts": data["rows"], **data.get("labels", {}), "in": data["out"]}),
)
