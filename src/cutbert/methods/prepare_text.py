"""What every method that trains on plain text does first: check, load with a masked-LM head, pack, say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from cutbert.data.masking import Masking, masking_of
from cutbert.data.text import TextData, TextSources, find_texts, load_texts
from cutbert.data.text_settings import TextSettings
from cutbert.errors import InputError, Mistakes
from cutbert.hub.families import family_of
from cutbert.hub.load import Loaded, load_model, new_loaded
from cutbert.hub.source import find_source
from cutbert.methods.prepare import Checked, weight_hashes
from cutbert.model.style import EncoderStyle
from cutbert.shape.folder import read_folder_shape
from cutbert.shape.head import HeadSpec
from cutbert.shape.shape import EncoderShape
from cutbert.train.engine import Engine, make_engine
from cutbert.train.masked_lm import check_token_table
from cutbert.train.progress import say
from cutbert.train.run_folder import RunFolder
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
    hashes: dict[str, str]


@dataclass(frozen=True)
class PreparedText:
    """A model with a masked-LM head and text in its tokens, ready to train.

    Args:
        loaded: model (on the engine's device), tokenizer, provenance.
        engine: machine and processes.
        text: sequences to train on, and held out.
        masking: how tokens are hidden.
    """

    loaded: Loaded
    engine: Engine
    text: TextData
    masking: Masking


def check_text_inputs(
    model: str,
    data: TextSettings,
    train: TrainSettings,
    *settings: Checked,
    new: NewShape | None = None,
    choices: Callable[[], None] | None = None,
) -> TextSources:
    """Check settings, model, shape file and text files, and return where the text is; nothing expensive has run yet.

    Args:
        model: hub id, model folder or run folder.
        data: the text.
        train: training flags.
        settings: further ones that know their ranges.
        new: sizes of new weights, of which the model gives tokenizer and style; None for its own weights.
        choices: raises what stands against the method's own settings on this model; asked where both are sound by
            themselves.

    Raises:
        InputError: every mistake found, together.
    """
    mistakes = Mistakes()
    with mistakes.collect():
        train.check()
    sound = [mistakes.passes(each.check) for each in settings]
    with mistakes.collect():
        check_token_table(train.token_table)
    fits = mistakes.passes(partial(check_model, model, new, data.sequence_length))
    if choices is not None and fits and all(sound):
        with mistakes.collect():
            choices()
    sources: TextSources | None = None
    with mistakes.collect():
        sources = find_texts(data)
    mistakes.check(InputError)
    assert sources is not None
    return sources


def check_model(model: str, new: NewShape | None, sequence_length: int) -> None:
    """Raise an InputError unless a model, or a new shape in its style, can be a masked LM of such sequences."""
    facts = read_folder_shape(find_source(model).folder)
    style = EncoderStyle.from_json(facts.style_data)
    family_of(style.family).check_head("masked_lm", style)
    if new is not None:
        facts = replace(facts, shape=new.shape)
    if sequence_length > facts.max_tokens:
        raise InputError(
            f"--sequence-length must be at most {facts.max_tokens}, the positions of {new.name if new else model}, "
            f"got {sequence_length}"
        )


def prepare_text(
    model: str,
    sources: TextSources,
    data: TextSettings,
    train: TrainSettings,
    run: RunFolder,
    *,
    new: NewShape | None = None,
) -> PreparedText:
    """Load or make a model with a masked-LM head, and pack the text into sequences of its tokens."""
    engine = make_engine(train)
    loaded = load_masked_lm(model, new, train.seed)
    weights = weight_hashes(model) if new is None else new.hashes
    masking = masking_of(
        loaded.tokenizer,
        model,
        vocab_size=loaded.model.shape.vocab_size,
        probability=data.mask_probability,
        whole_word=data.whole_word,
    )
    for note in (*loaded.notes, "reading the text into sequences (once: they are kept in the token cache)"):
        say(note, shown=engine.is_main)
    text = load_texts(sources, loaded.tokenizer, model, data.sequence_length)
    run.record(data=text.files, weights=weights)
    for note in text.notes:
        say(note, shown=engine.is_main)
    loaded.model.to(engine.device)
    return PreparedText(loaded, engine, text, masking)


def load_masked_lm(model: str, new: NewShape | None, seed: int) -> Loaded:
    """Return a model with a masked-LM head, its own or a new one; or new weights of a shape."""
    if new is not None:
        return new_loaded(model, new.shape, MASKED_LM, seed=seed)
    loaded = load_model(model, MASKED_LM, seed=seed)
    if not loaded.has_new_head:
        return loaded
    note = f"{model} has no masked-LM head: a new one is trained with the rest"
    return replace(loaded, notes=(*loaded.notes, note))
