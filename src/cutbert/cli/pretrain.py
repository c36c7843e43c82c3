"""`cutbert pretrain`: masked-LM training of any shape, from weights or from scratch."""

from __future__ import annotations

from cutbert import api
from cutbert.cli.tables import perplexity_table
from cutbert.cli.verb import Verb
from cutbert.cli.words import MODEL
from cutbert.data.text_settings import TextSettings
from cutbert.methods.pretrain_settings import PretrainSettings
from cutbert.settings import RunSettings
from cutbert.train.settings import TrainSettings

VERB = Verb(
    name="pretrain",
    summary="Masked-LM training of any shape on plain text, from weights or from scratch.",
    words=(MODEL,),
    settings=(RunSettings, TextSettings, TrainSettings, PretrainSettings),
    run=lambda words, options: api.pretrain(words[0], **options),
    show=perplexity_table,
    resumes=True,
)
