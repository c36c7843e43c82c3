"""`cutbert schubert`: a model cut to a budget in every dimension, by learned gates under a price."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType

from cutbert import api
from cutbert.cli.pictures import shape_picture
from cutbert.cli.tables import front_table
from cutbert.cli.verb import Verb
from cutbert.cli.words import MODEL
from cutbert.data.settings import DataSettings
from cutbert.data.text_settings import TextSettings
from cutbert.methods.settings import SchubertSettings
from cutbert.settings import RunSettings
from cutbert.train.settings import TrainSettings


def show(data: Mapping[str, Any]) -> RenderableType:
    """Return the rounds beside the uncut model, and the sizes of the result by layer."""
    return Group(front_table(data), "", shape_picture(data["subnets"][-1]["shape"], data["teacher"]["shape"]))


VERB = Verb(
    name="schubert",
    summary="One smaller model under a budget: hidden size, heads, keys, values and neurons chosen by learned gates.",
    words=(MODEL,),
    settings=(RunSettings, DataSettings, TextSettings, SchubertSettings, TrainSettings),
    run=lambda words, options: api.schubert(words[0], **options),
    show=show,
    resumes=True,
)
