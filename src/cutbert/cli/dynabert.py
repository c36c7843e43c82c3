"""`cutbert dynabert`: one model and a task become a family of any width and depth."""

from __future__ import annotations

from cutbert import api
from cutbert.cli.tables import front_table
from cutbert.cli.verb import Verb
from cutbert.cli.words import MODEL
from cutbert.data.settings import DataSettings
from cutbert.data.text_settings import TextSettings
from cutbert.methods.settings import DynabertSettings
from cutbert.settings import RunSettings
from cutbert.train.settings import TrainSettings

VERB = Verb(
    name="dynabert",
    summary="A family of smaller models, any width and depth, from one run.",
    words=(MODEL,),
    settings=(RunSettings, DataSettings, TextSettings, DynabertSettings, TrainSettings),
    run=lambda words, options: api.dynabert(words[0], **options),
    show=front_table,
    resumes=True,
)
