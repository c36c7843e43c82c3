"""Trains a network of any shape as a masked LM on plain text; next-sentence prediction is left out."""

from __future__ import annotations

from typing import Any

from cutbert.data.text_settings import TextSettings
from cutbert.errors import InputError, Mistakes
from cutbert.folders.provenance import extend_provenance
from cutbert.folders.save import save_model
from cutbert.methods.pretrain_settings import PretrainSettings
from cutbert.shape.paper_shapes import paper_shape
from cutbert.shape.source import Models
from cutbert.train.checkpoint import Position
from cutbert.train.masked_lm import masked_outcomes
from cutbert.train.progress import counter, progress_bar
from cutbert.train.run_folder import RunFolder
from cutbert.train.settings import TrainSettings
from cutbert.work.finetune import train_on_labels
from cutbert.work.inputs import Inputs, NewShape, check_inputs
from cutbert.work.objective import Objective
from cutbert.work.plans import FROM_SCRATCH, MASKED_LM
from cutbert.work.run import carry_out
from cutbert.work.text_objective import TextObjective


def pretrain(
    models: Models, data: TextSettings, train: TrainSettings, settings: PretrainSettings, run: RunFolder
) -> dict[str, Any]:
    """Train a masked LM and store it in the run's `model/`.

    Args:
        models: the model; from scratch only its tokenizer and style are taken.
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
        new = None if new is None else new.made_as(models.model)
    inputs: Inputs | None = None
    with mistakes.collect():
        inputs = check_inputs(models, data, settings, train=train, new=new)
    mistakes.check(InputError)
    assert inputs is not None

    def method(objective: Objective) -> None:
        assert isinstance(objective, TextObjective)
        plan = FROM_SCRATCH if settings.is_new else MASKED_LM
        with run.timing("train"):
            position = train_on_labels(objective, objective.loaded.model, plan.overridden(train), train, run)
        if objective.engine.is_main:
            run.finish({"out": str(run.path), **measure_and_save(objective, position, run), "seconds": run.seconds})

    return carry_out(inputs, train, run, method)


def new_shape(settings: PretrainSettings) -> NewShape | None:
    """Return the sizes of new weights, or None where the model's own weights go on.

    Raises:
        InputError: no such file or name, or a file without a shape.
    """
    if settings.from_paper is not None:
        return NewShape(f"--from-paper {settings.from_paper}", paper_shape(settings.from_paper))
    return None if settings.from_scratch is None else NewShape.of_file(settings.from_scratch)


def measure_and_save(objective: TextObjective, position: Position, run: RunFolder) -> dict[str, float]:
    """Measure the loss on held-out text, write model/, and return what the result says of the training."""
    model, dev = objective.loaded.model, objective.text.dev
    with run.timing("score"), progress_bar("held-out text", len(dev)) as bar:
        outcomes = masked_outcomes(model, dev, objective.masking, on_batch=counter(bar))
    scores = {"loss": outcomes.loss, "perplexity": outcomes.perplexity}
    provenance = extend_provenance(objective.loaded.provenance, run.line, data=objective.text.files, scores=scores)
    save_model(run.path / "model", model, objective.loaded.tokenizer, provenance=provenance)
    rate = position.tokens / position.seconds if position.seconds else 0.0
    return {**scores, "tokens": position.tokens, "tokens_per_s": rate}
