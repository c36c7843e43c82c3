"""`cutbert finetune`: a full-size model on a task, the teacher of what comes after."""

from __future__ import annotations

from cutbert import api
from cutbert.cli.tables import scores_table
from cutbert.cli.verb import Verb
from cutbert.cli.words import MODEL
from cutbert.data.settings import DataSettings
from cutbert.methods.settings import FinetuneSettings
from cutbert.settings import RunSettings
from cutbert.train.settings import TrainSettings

VERB = Verb(
    name="finetune",
    summary="A full-size model on a task: the teacher.",
    words=(MODEL,),
    settings=(RunSettings, DataSettings, TrainSettings, FinetuneSettings),
    run=lambda words, options: api.finetune(words[0], **options),
    show=scores_table,
    resumes=True,
)
