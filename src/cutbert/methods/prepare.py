"""What every method does first: check, read, load, tokenise, and say what a user should know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from cutbert.data.dataset import Dataset, Examples, load_dataset
from cutbert.data.settings import DataSettings
from cutbert.data.tokens import Tokens, tokenize_rows
from cutbert.errors import InputError, Mistakes
from cutbert.files import file_sha256
from cutbert.hub.load import Loaded, load_model
from cutbert.hub.source import find_source
from cutbert.hub.weights import weight_files
from cutbert.shape.folder import read_folder_shape
from cutbert.train.engine import Engine, make_engine
from cutbert.train.progress import say
from cutbert.train.run_folder import RunFolder
from cutbert.train.settings import TrainSettings


class Checked(Protocol):
    """Settings that know their own ranges."""

    def check(self) -> None: ...


@dataclass(frozen=True)
class Prepared:
    """A model and its task, ready to train.

    Args:
        data: the rows.
        loaded: model (on the engine's device), tokenizer, provenance.
        engine: machine and processes.
        train, select, dev: tokens of the splits; select is dev's own object where they are the same.
    """

    data: Dataset
    loaded: Loaded
    engine: Engine
    train: Tokens
    select: Tokens
    dev: Tokens

    def tokenize(self, rows: Examples, max_length: int) -> Tokens:
        """Return the tokens of further rows."""
        return tokenize_rows(rows, self.loaded.tokenizer, self.loaded.source, max_length)


def check_inputs(
    data: DataSettings,
    *settings: Checked,
    models: tuple[str, ...],
    choices: Callable[[Dataset], None] | None = None,
) -> Dataset:
    """Check settings, model folders and data files, and return the rows; nothing expensive has run yet.

    Args:
        data: the task.
        settings: those that know their own ranges, the method's own last.
        models: hub ids, model folders or run folders.
        choices: raises what stands against the method's own settings on these models and rows; asked where each of
            the three is sound by itself.

    Raises:
        InputError: every mistake found, together.
    """
    mistakes = Mistakes()
    sound = [mistakes.passes(each.check) for each in settings]
    fitting = [mistakes.passes(partial(check_length, model, data.length_limit)) for model in models]
    dataset: Dataset | None = None
    with mistakes.collect():
        dataset = load_dataset(data)
    if choices is not None and dataset is not None and sound[-1] and all(fitting):
        with mistakes.collect():
            choices(dataset)
    mistakes.check(InputError)
    assert dataset is not None
    return dataset


def check_length(model: str, max_length: int) -> None:
    """Raise an InputError unless a model can be read and has positions for `max_length` tokens."""
    facts = read_folder_shape(find_source(model).folder)
    positions = facts.shape.num_positions - int((facts.style_data or {}).get("position_offset", 0))
    if max_length > positions:
        raise InputError(f"--max-length must be at most {positions}, the positions of {model}, got {max_length}")


def weight_hashes(*models: str) -> dict[str, str]:
    """Return the SHA-256 of every weight file of the models; a resumed run must find the same."""
    return {str(path): file_sha256(path) for model in models for path in weight_files(find_source(model).folder)}


def prepare(model: str, data: Dataset, max_length: int, train: TrainSettings, run: RunFolder) -> Prepared:
    """Load a model with a head that fits the data, and tokenise the splits."""
    engine = make_engine(train)
    loaded = load_model(model, data.head, seed=train.seed)
    run.record(data=data.files, weights=weight_hashes(model))
    for note in (*data.notes, *loaded.notes):
        say(note, shown=engine.is_main)
    if data.select_is_dev:
        say("choices are made on the dev split, so dev scores are optimistic", shown=engine.is_main)
    loaded.model.to(engine.device)
    splits = {"train": data.train, "dev": data.dev} | ({} if data.select_is_dev else {"select": data.select})
    tokens = {name: tokenize_rows(rows, loaded.tokenizer, loaded.source, max_length) for name, rows in splits.items()}
    for name, each in tokens.items():
        for note in each.notes:
            say(f"{name}: {note}", shown=engine.is_main)
    select = tokens["dev"] if data.select_is_dev else tokens["select"]
    return Prepared(data, loaded, engine, train=tokens["train"], dev=tokens["dev"], select=select)
