"""What a run starts from, found and checked once: a model, further models, and a task's rows or plain text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cutbert.data.dataset import Dataset, load_dataset
from cutbert.data.settings import DataSettings
from cutbert.data.text import TextSources, find_texts
from cutbert.data.text_settings import TextSettings
from cutbert.errors import InputError, Mistakes, ModelError
from cutbert.files import file_sha256
from cutbert.hub.families import family_of
from cutbert.hub.source import ModelSource, find_model
from cutbert.hub.weights import weight_files
from cutbert.model.style import EncoderStyle
from cutbert.settings import Settings
from cutbert.shape.folder import read_shape_file
from cutbert.shape.head import HeadSpec
from cutbert.shape.shape import EncoderShape
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
    def of_file(cls, path: str, change: Callable[[EncoderShape], EncoderShape] = lambda shape: shape) -> NewShape:
        """Return the sizes that a shape file holds, changed by a method.

        Raises:
            InputError: no such file, a file without a shape, or a shape that cannot be changed so.
        """
        shape = change(read_shape_file(Path(path)).shape)
        return cls(path, shape, {path: file_sha256(Path(path))})


@dataclass(frozen=True, eq=False)
class Inputs:
    """A model and data, found and checked.

    Args:
        model: the model.
        data: settings of the data.
        head: the head that the data asks for.
        dataset: rows of a task; None for plain text.
        texts: where plain text is; None for a task.
        others: further models, by the setting that names them; those that are not given are left out.
        new: sizes of new weights, for which the model gives tokenizer and style; None for its own weights.
    """

    model: ModelSource
    data: DataSettings | TextSettings
    head: HeadSpec
    dataset: Dataset | None = None
    texts: TextSources | None = None
    others: Mapping[str, ModelSource] = field(default_factory=dict)
    new: NewShape | None = None

    @property
    def teacher(self) -> ModelSource | None:
        """The teacher that --teacher names."""
        return self.others.get("teacher")

    @property
    def is_text(self) -> bool:
        return isinstance(self.data, TextSettings)


Choices = Callable[[Inputs], None]


def check_inputs(
    model: str,
    data: DataSettings | TextSettings,
    *settings: Settings,
    others: Mapping[str, str | None] | None = None,
    new: NewShape | None = None,
    choices: Choices | None = None,
    task_options: Sequence[str] = (),
) -> Inputs:
    """Find and check what a run starts from; nothing expensive has run yet.

    Args:
        model: hub id, model folder or run folder.
        data: the task, or plain text.
        settings: training flags and the method's own, which come last.
        others: further models by the setting that names them; None where it names none.
        new: sizes of new weights, for which the model gives tokenizer and style; None for its own weights.
        choices: raises what stands against the method's own settings on these models and rows; asked where each of
            them is sound by itself.
        task_options: the method's options that mean nothing on plain text.

    Raises:
        InputError: every mistake found, together.
    """
    mistakes = Mistakes()
    if isinstance(data, TextSettings):
        mistakes.extend(f"{each} is for --objective task" for each in settings[-1].given(*task_options))
        for each in settings:
            with mistakes.collect():
                check_token_table(each.token_table if isinstance(each, TrainSettings) else None)
    sound = [mistakes.passes(each.check) for each in settings]
    named = {"model": model} | {name: value for name, value in (others or {}).items() if value is not None}
    sources: dict[str, ModelSource] = {}
    for name, value in named.items():
        with mistakes.collect():
            source = find_model(value)
            check_fit(source, data, new)
            sources[name] = source
    dataset: Dataset | None = None
    texts: TextSources | None = None
    with mistakes.collect():
        if isinstance(data, TextSettings):
            texts = find_texts(data)
        else:
            dataset = load_dataset(data)
    inputs: Inputs | None = None
    if sources.keys() == named.keys() and (dataset is not None or isinstance(data, TextSettings)):
        head = MASKED_LM if dataset is None else dataset.head
        inputs = Inputs(sources.pop("model"), data, head, dataset, texts, sources, new)
        if choices is not None and (not sound or sound[-1]):
            with mistakes.collect():
                choices(inputs)
    mistakes.check(InputError)
    assert inputs is not None
    return inputs


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


def check_length(source: ModelSource, option: str, length: int) -> None:
    """Raise an InputError unless a model has positions for a number of tokens."""
    room = source.facts.max_tokens
    if length > room:
        raise InputError(f"{option} must be at most {room}, the positions of {source}, got {length}")


def check_masked_lm(inputs: Inputs) -> None:
    """Raise a ModelError where masked tokens are to be predicted by a model without a trained head for them."""
    kind = inputs.model.head.kind
    if inputs.is_text and kind != "masked_lm":
        raise ModelError(
            f"--objective mlm must start from a model with a masked-LM head, got {kind} in {inputs.model}; "
            f"cutbert pretrain trains one"
        )


def weight_hashes(*sources: ModelSource) -> dict[str, str]:
    """Return the SHA-256 of every weight file of some models; a resumed run must find the same."""
    return {str(path): file_sha256(path) for source in sources for path in weight_files(source.folder)}
