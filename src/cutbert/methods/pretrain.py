"""Trains a network of any shape as a masked LM on plain text; next-sentence prediction is left out."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cutbert.data.masking import Masking, masking_of
from cutbert.data.text import TextData, TextSources, find_texts, load_texts
from cutbert.data.text_settings import TextSettings
from cutbert.errors import InputError, Mistakes
from cutbert.files import file_sha256
from cutbert.hub.families import family_of
from cutbert.hub.load import Loaded, load_model, new_loaded
from cutbert.hub.provenance import extend_provenance
from cutbert.hub.save import save_model
from cutbert.hub.source import find_source
from cutbert.methods.prepare import weight_hashes
from cutbert.methods.pretrain_settings import PretrainSettings
from cutbert.methods.recipes import override_plan
from cutbert.model.style import EncoderStyle
from cutbert.shape.folder import read_folder_shape, read_shape_file
from cutbert.shape.head import HeadSpec
from cutbert.shape.shape import EncoderShape
from cutbert.train.checkpoint import Position
from cutbert.train.counting import counter
from cutbert.train.engine import Engine, make_engine
from cutbert.train.loop import train_stage
from cutbert.train.masked_lm import check_token_table, evaluate_masked_lm, masked_lm_stage
from cutbert.train.progress import progress_bar, say
from cutbert.train.run_folder import RunFolder
from cutbert.train.settings import StagePlan, TrainSettings

MASKED_LM = HeadSpec("masked_lm")

# All values are our choice. No dropout, since one pass over much text does not overfit (Lan et al. 2020, ALBERT,
# 1909.11942, section 4.8, and Geiping and Goldstein 2022, 2212.14034, drop it too), and attention is faster without.
PRETRAIN = StagePlan(
    name="pretrain",
    epochs=1.0,
    batch_size=32,
    learning_rate=1e-4,
    warmup_ratio=0.06,
    weight_decay=0.01,
    schedule="linear",
    dropout=0.0,
    token_table="dense",
)
FROM_SCRATCH = replace(PRETRAIN, learning_rate=5e-4)


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


def pretrain(
    model: str, data: TextSettings, train: TrainSettings, settings: PretrainSettings, run: RunFolder
) -> dict[str, Any]:
    """Train a masked LM and store it in the run's `model/`.

    Args:
        model: hub id, model folder or run folder; from scratch only its tokenizer and style are taken.
        data: the text, and how it is masked.
        train: training flags.
        settings: of the method.
        run: opened run folder.

    Returns:
        The result with the keys out, loss, perplexity, tokens, seconds, tokens_per_s.

    Raises:
        InputError: mistakes in settings, model or text, all together, before anything is made.

    Source:
        Devlin et al. 2019 (1810.04805), section 3.1, without next-sentence prediction, as Liu et al. 2019
        (1907.11692); plans are our choice.
    """
    sources, shape = check_text_inputs(model, data, train, settings)
    with run.start():
        prepared = prepare_text(model, shape, sources, data, train, settings, run)
        plan = override_plan(PRETRAIN if shape is None else FROM_SCRATCH, train)
        stage = masked_lm_stage(plan, prepared.text.train, prepared.masking)
        with run.timing("train"):
            position = train_stage(prepared.loaded.model, stage, prepared.engine, train, run)
        if prepared.engine.is_main:
            finish(prepared, position, run)
        prepared.engine.accelerator.wait_for_everyone()
    return RunFolder.read(run.path).result or {}


def check_text_inputs(
    model: str, data: TextSettings, train: TrainSettings, settings: PretrainSettings
) -> tuple[TextSources, EncoderShape | None]:
    """Check settings, model, shape file and text files; return the text's sources and the new shape, if any.

    Raises:
        InputError: every mistake found, together.
    """
    mistakes = Mistakes()
    sources: TextSources | None = None
    shape: EncoderShape | None = None
    with mistakes.collect():
        train.check()
    with mistakes.collect():
        check_token_table(train.token_table)
    with mistakes.collect():
        shape = None if settings.from_scratch is None else read_shape_file(Path(settings.from_scratch)).shape
        check_model(model, shape, data.sequence_length)
    with mistakes.collect():
        sources = find_texts(data)
    mistakes.check(InputError)
    assert sources is not None
    return sources, shape


def check_model(model: str, shape: EncoderShape | None, sequence_length: int) -> None:
    """Raise an InputError unless a model, or a new shape in its style, can be a masked LM of such sequences."""
    facts = read_folder_shape(find_source(model).folder)
    style = EncoderStyle.from_json(facts.style_data)
    family_of(style.family).check_head("masked_lm", style)
    positions = (facts if shape is None else replace(facts, shape=shape)).max_tokens
    if sequence_length > positions:
        what = model if shape is None else "the shape file"
        raise InputError(
            f"--sequence-length must be at most {positions}, the positions of {what}, got {sequence_length}"
        )


def prepare_text(
    model: str,
    shape: EncoderShape | None,
    sources: TextSources,
    data: TextSettings,
    train: TrainSettings,
    settings: PretrainSettings,
    run: RunFolder,
) -> PreparedText:
    """Load or make the model with its masked-LM head, and pack the text."""
    engine = make_engine(train)
    if shape is None:
        loaded = load_model(model, MASKED_LM, seed=train.seed)
        weights = weight_hashes(model)
    else:
        loaded = new_loaded(model, shape, MASKED_LM, seed=train.seed)
        weights = {str(settings.from_scratch): file_sha256(Path(str(settings.from_scratch)))}
    for note in loaded.notes:
        say(note, shown=engine.is_main)
    if shape is None and loaded.has_new_head:
        say(f"{model} has no masked-LM head: a new one is trained with the rest", shown=engine.is_main)
    tokenizer = loaded.tokenizer
    masking = masking_of(
        tokenizer,
        model,
        vocab_size=loaded.model.shape.vocab_size,
        probability=data.mask_probability,
        whole_word=data.whole_word,
    )
    say("reading the text into sequences (once: they are kept in the token cache)", shown=engine.is_main)
    text = load_texts(sources, tokenizer, model, data.sequence_length)
    for note in text.notes:
        say(note, shown=engine.is_main)
    run.record(data=text.files, weights=weights)
    loaded.model.to(engine.device)
    return PreparedText(loaded, engine, text, masking)


def finish(prepared: PreparedText, position: Position, run: RunFolder) -> None:
    """Measure the loss on held-out text, write model/, and store the result."""
    model, dev = prepared.loaded.model, prepared.text.dev
    with run.timing("score"), progress_bar("held-out text", len(dev)) as bar:
        loss = evaluate_masked_lm(model, dev, prepared.masking, on_batch=counter(bar))
    found = {"loss": loss, "perplexity": math.exp(min(loss, 700.0))}
    provenance = extend_provenance(prepared.loaded.provenance, run.line, data=prepared.text.files, scores=found)
    save_model(run.path / "model", model, prepared.loaded.tokenizer, provenance=provenance)
    rate = position.tokens / position.seconds if position.seconds else 0.0
    run.finish({"out": str(run.path), **found, "tokens": position.tokens, "seconds": run.seconds, "tokens_per_s": rate})
