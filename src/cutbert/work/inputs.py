"""What a run starts from, checked together: a model, further models, and a task's rows or plain text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from cutbert.data.dataset import Dataset, load_dataset
from cutbert.data.settings import DataSettings
from cutbert.data.text import TextSources, find_texts
from cutbert.data.text_settings import TextSettings
from cutbert.errors import InputError, Mistakes
from cutbert.files import file_sha256
from cutbert.folders.families import family_of
from cutbert.folders.provenance import FILE_NAME, input_length, read_provenance
from cutbert.folders.sentence import read_embedder
from cutbert.folders.weights import weight_files
from cutbert.model.style import EncoderStyle
from cutbert.settings import Settings
from cutbert.shape.folder import read_shape_file
from cutbert.shape.head import HeadSpec
from cutbert.shape.shape import EncoderShape
from cutbert.shape.source import Models, ModelSource, check_length
from cutbert.train.masked_lm import check_token_table
from cutbert.train.settings import TrainSettings

MASKED_LM = HeadSpec("masked_lm")


@dataclass(frozen=True)
class NewShape:
    """Sizes of new weights.

    Args:
        name: what the user gave.
        shape: the sizes.
        hashes: SHA-256 of the file it was read from, if any.
    """

    name: str
    shape: EncoderShape
    hashes: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of_file(cls, path: str) -> NewShape:
        """Return the sizes that a shape file holds.

        Raises:
            InputError: no such file, or a file without a shape.
        """
        return cls(path, read_shape_file(Path(path)).shape, {path: file_sha256(Path(path))})

    def made_as(self, model: ModelSource) -> NewShape:
        """Return the sizes with the ingredients of the model that gives tokenizer and style."""
        return replace(self, shape=self.shape.made_as(model.shape))


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a run starts from, checked.

    Args:
        models: the model, and further ones.
        data: settings of the data.
        head: the head that the data asks for.
        dataset: rows of a task; None for plain text.
        texts: where plain text is; None for a task.
        new: shape of a new, randomly initialised network, for which the model gives tokenizer and style alone; None
            for its own weights.
    """

    models: Models
    data: DataSettings | TextSettings
    head: HeadSpec
    dataset: Dataset | None = None
    texts: TextSources | None = None
    new: NewShape | None = None

    @property
    def model(self) -> ModelSource:
        return self.models.model

    @property
    def has_labels(self) -> bool:
        """Whether rows have labels to learn."""
        return not self.is_text and self.head.kind != "embedding"

    @property
    def is_text(self) -> bool:
        return isinstance(self.data, TextSettings)


MethodCheck = Callable[[Inputs], None]


def check_inputs(
    models: Models,
    data: DataSettings | TextSettings,
    settings: Settings | None,
    *,
    train: TrainSettings | None = None,
    new: NewShape | None = None,
    check_method: MethodCheck | None = None,
) -> Inputs:
    """Check what a run starts from, and read a task's rows; nothing expensive has run yet.

    Args:
        models: the model, and further ones that the settings name.
        data: the task, or plain text.
        settings: of the method; None where they are checked already.
        train: training flags, where there are any.
        new: shape of a new, randomly initialised network, for which the model gives tokenizer and style alone; None
            for its own weights.
        check_method: further checks of the method, run only where models, data and its settings are valid.

    Raises:
        InputError: every mistake, together.
    """
    mistakes = Mistakes()
    if train is not None:
        with mistakes.collect():
            train.check()
    is_sound = settings is None or mistakes.passes(settings.check)
    if isinstance(data, DataSettings) and data.is_embedding:
        with mistakes.collect():
            data = with_own_length(data, models)
    if train is not None and isinstance(data, TextSettings):
        with mistakes.collect():
            check_token_table(train.token_table)
    fits = [mistakes.passes(partial(check_fit, each, data, new)) for each in (models.model, *models.others.values())]
    dataset: Dataset | None = None
    texts: TextSources | None = None
    with mistakes.collect():
        if isinstance(data, TextSettings):
            texts = find_texts(data)
        else:
            dataset = load_dataset(data)
    if dataset is not None and dataset.head.is_sequence:
        with mistakes.collect():
            models.model.check_pooling()
    if dataset is not None and dataset.head.kind == "embedding" and models.teacher is not None:
        mistakes.add("--teacher must not be given with --objective embedding: MODEL is the teacher")
    inputs = Inputs(models, data, MASKED_LM if dataset is None else dataset.head, dataset, texts, new)
    has_rows = dataset is not None or isinstance(data, TextSettings)
    if check_method is not None and has_rows and all(fits) and is_sound:
        with mistakes.collect():
            check_method(inputs)
    mistakes.check(InputError)
    return inputs


def with_own_length(data: DataSettings, models: Models) -> DataSettings:
    """Return the settings of an embedding model's data with the length that the model has, where none is given.

    That is the longest text it was trained on, else the longest that its sentence-transformers folder names, as far
    as all models have positions.

    Raises:
        ModelError: it is no embedding model, as in `read_embedder`.
    """
    sentence = read_embedder(models.model.name, models.model.folder)
    if data.max_length is not None:
        return data
    record = models.model.folder / FILE_NAME
    provenance = read_provenance(record.parent) if record.is_file() else {}
    room = min(source.facts.max_tokens for source in (models.model, *models.others.values()))
    return replace(data, max_length=input_length(provenance, None, sentence.max_length or data.length_limit, room))


def check_fit(source: ModelSource, data: DataSettings | TextSettings, new: NewShape | None) -> None:
    """Raise an InputError unless a model, or a new shape in its style, can read inputs of the data's length."""
    if isinstance(data, DataSettings):
        check_length(source, "--max-length", data.length_limit)
        return
    style = EncoderStyle.from_json(source.facts.style_data)
    family_of(style.family).check_head("masked_lm", style)
    if new is not None:
        source = replace(source, name=new.name, facts=replace(source.facts, shape=new.shape))
    check_length(source, "--sequence-length", data.sequence_length)


def weight_hashes(*sources: ModelSource) -> dict[str, str]:
    """Return the SHA-256 of every weight file of some models; a resumed run must find the same."""
    return {str(path): file_sha256(path) for source in sources for path in weight_files(source.folder)}
