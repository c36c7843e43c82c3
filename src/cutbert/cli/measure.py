"""`cutbert measure`: size, latency, throughput, memory and score of models side by side."""

from __future__ import annotations

from cutbert import api
from cutbert.bench.settings import MeasureSettings
from cutbert.cli.tables import models_table
from cutbert.cli.verb import Verb
from cutbert.cli.words import MODELS
from cutbert.data.settings import DataSettings

VERB = Verb(
    name="measure",
    summary="Params, MACs, latency, throughput, peak memory and score of models, side by side.",
    words=(MODELS,),
    settings=(MeasureSettings, DataSettings),
    run=lambda words, options: api.measure(*words, **options),
    show=models_table,
    hidden=("select", "unlabeled", "max_train_samples"),
)
