"""Trains a network of any shape as a masked LM on plain text; next-sentence prediction is left out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from cutbert.data.text_settings import TextSettings
from cutbert.errors import InputError, Mistakes
from cutbert.files import file_sha256
from cutbert.hub.provenance import extend_provenance
from cutbert.hub.save import save_model
from cutbert.methods.prepare_text import NewShape, PreparedText, check_text_inputs, prepare_text
from cutbert.methods.pretrain_settings import PretrainSettings
from cutbert.methods.recipes import override_plan
from cutbert.shape.folder import read_shape_file
from cutbert.shape.paper_shapes import paper_shape
from cutbert.train.checkpoint import Position
from cutbert.train.counting import counter
from cutbert.train.loop import train_stage
from cutbert.train.masked_lm import masked_lm_stage, masked_outcomes
from cutbert.train.progress import progress_bar
from cutbert.train.run_folder import RunFolder
from cutbert.train.settings import StagePlan, TrainSettings

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
    mistakes, new = Mistakes(), None
    with mistakes.collect():
        new = new_shape(settings)
    with mistakes.collect():
        sources = check_text_inputs(model, data, train, settings, new=new)
    mistakes.check(InputError)
    with run.start():
        prepared = prepare_text(model, sources, data, train, run, new=new)
        plan = override_plan(FROM_SCRATCH if settings.is_new else PRETRAIN, train)
        position = train_masked_lm(prepared, plan, train, run)
        if prepared.engine.is_main:
            run.finish({"out": str(run.path), **held_out(prepared, position, run), "seconds": run.seconds})
        prepared.engine.accelerator.wait_for_everyone()
    return RunFolder.read(run.path).result or {}


def new_shape(settings: PretrainSettings) -> NewShape | None:
    """Return the sizes of new weights, or None where the model's own weights go on.

    Raises:
        InputError: no such file or name, or a file without a shape.
    """
    if settings.from_paper is not None:
        return NewShape(f"--from-paper {settings.from_paper}", paper_shape(settings.from_paper), {})
    if settings.from_scratch is None:
        return None
    path = Path(settings.from_scratch)
    shape = read_shape_file(path).shape
    return NewShape(settings.from_scratch, shape, {settings.from_scratch: file_sha256(path)})


def train_masked_lm(prepared: PreparedText, plan: StagePlan, train: TrainSettings, run: RunFolder) -> Position:
    """Train the prepared model on its text, in place."""
    stage = masked_lm_stage(plan, prepared.text.train, prepared.masking)
    with run.timing("train"):
        return train_stage(prepared.loaded.model, stage, prepared.engine, train, run)


def held_out(prepared: PreparedText, position: Position, run: RunFolder) -> dict[str, float]:
    """Measure the loss on held-out text, write model/, and return what the result says of the training."""
    model, dev = prepared.loaded.model, prepared.text.dev
    with run.timing("score"), progress_bar("held-out text", len(dev)) as bar:
        outcomes = masked_outcomes(model, dev, prepared.masking, on_batch=counter(bar))
    found = {"loss": outcomes.loss, "perplexity": outcomes.perplexity}
    provenance = extend_provenance(prepared.loaded.provenance, run.line, data=prepared.text.files, scores=found)
    save_model(run.path / "model", model, prepared.loaded.tokenizer, provenance=provenance)
    rate = position.tokens / position.seconds if position.seconds else 0.0
    return {**found, "tokens": position.tokens, "tokens_per_s": rate}
