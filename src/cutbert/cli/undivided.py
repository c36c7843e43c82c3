"""`cutbert undivided`: attention layers without their own feed-forward, cut from a model or trained from scratch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType

from cutbert import api
from cutbert.cli.pictures import shape_picture
from cutbert.cli.tables import front_table, perplexity_table
from cutbert.cli.verb import Verb
from cutbert.cli.words import MODEL
from cutbert.data.settings import DataSettings
from cutbert.data.text_settings import TextSettings
from cutbert.methods.undivided_settings import UndividedSettings
from cutbert.settings import RunSettings
from cutbert.train.settings import TrainSettings


def show(data: Mapping[str, Any]) -> RenderableType:
    """Return the networks beside the uncut model where there is one, the sub-layers, and the sizes by layer."""
    result = data["subnets"][-1]["shape"]
    is_new = "teacher" not in data
    scores = perplexity_table(data) if is_new else front_table(data)
    picture = shape_picture(result, result if is_new else data["teacher"]["shape"])
    return Group(scores, "", f"sub-layers {data['pattern']}", picture)


VERB = Verb(
    name="undivided",
    summary="Fewer feed-forwards than attention layers: cut from a model and healed, or trained from scratch.",
    words=(MODEL,),
    settings=(RunSettings, DataSettings, TextSettings, UndividedSettings, TrainSettings),
    run=lambda words, options: api.undivided(words[0], **options),
    show=show,
    resumes=True,
)
