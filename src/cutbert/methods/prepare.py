"""What every method does first: check, read, load, tokenise, and say what a user should know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from cutbert.data.dataset import Dataset, Rows, load_dataset
from cutbert.data.settings import DataSettings
from cutbert.data.tokens import Tokens, tokenize_rows
from cutbert.errors import InputError, Mistakes
from cutbert.hub.load import Loaded, load_model
from cutbert.hub.source import find_source
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

    def tokenize(self, rows: Rows, max_length: int) -> Tokens:
        """Return the tokens of further rows."""
        return tokenize_rows(rows, self.loaded.tokenizer, self.loaded.source, max_length)


def check_inputs(*settings: Checked, models: tuple[str, ...]) -> Dataset:
    """Check settings, model folders and data files, and return the rows; nothing expensive has run yet.

    Raises:
        InputError: every mistake found, together.
    """
    mistakes = Mistakes()
    for each in settings:
        with mistakes.collect():
            each.check()
    for model in models:
        with mistakes.collect():
            read_folder_shape(find_source(model).folder)
    data: Dataset | None = None
    with mistakes.collect():
        data = next(load_dataset(each) for each in settings if isinstance(each, DataSettings))
    unique = Mistakes()
    unique.extend(dict.fromkeys(mistakes.found))
    unique.check(InputError)
    assert data is not None
    return data


def prepare(model: str, data: Dataset, max_length: int, train: TrainSettings, run: RunFolder) -> Prepared:
    """Load a model with a head that fits the data, and tokenise the splits."""
    engine = make_engine(train)
    loaded = load_model(model, data.head, seed=train.seed)
    run.record(data=data.files, weights=loaded.provenance["base_sha256"])
    for note in (*data.notes, *loaded.notes):
        say(note, shown=engine.is_main)
    if data.select_is_dev:
        say("choices are made on the dev split, so dev scores are optimistic", shown=engine.is_main)
    loaded.model.to(engine.device)
    splits = [data.train, data.dev] if data.select_is_dev else [data.train, data.dev, data.select]
    tokens = [tokenize_rows(rows, loaded.tokenizer, loaded.source, max_length) for rows in splits]
    return Prepared(data, loaded, engine, train=tokens[0], dev=tokens[1], select=tokens[-1])
