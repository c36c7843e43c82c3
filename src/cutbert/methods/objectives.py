"""What a network is cut and trained for: a task of the user's, or the masked tokens of plain text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch

from cutbert.bench.latency import NUM_LENGTHS, sample_lengths
from cutbert.bench.settings import DEFAULT_LENGTH
from cutbert.data.batches import Batch, collate
from cutbert.data.masking import Masking, draw_masks
from cutbert.data.text import TextSources
from cutbert.data.text_settings import TextSettings
from cutbert.data.tokens import Tokens
from cutbert.errors import DataError, InputError, Mistakes, ModelError
from cutbert.fronts.front import Entry
from cutbert.fronts.score import score_points
from cutbert.hub.load import Loaded
from cutbert.hub.provenance import extend_provenance
from cutbert.hub.save import save_model
from cutbert.hub.source import find_source
from cutbert.methods.finetune import save_trained
from cutbert.methods.prepare import Checked, Prepared
from cutbert.methods.prepare_text import PreparedText, check_text_inputs
from cutbert.methods.samples import MAX_TOKENS, sample_batches, sample_rows
from cutbert.model.task_model import TaskModel
from cutbert.shape.folder import read_folder_shape
from cutbert.shape.head import IGNORED
from cutbert.shape.space import GridPoint
from cutbert.train.engine import Engine
from cutbert.train.masked_lm import MASKED_ACCURACY, score_masked_lm
from cutbert.train.run_folder import RunFolder
from cutbert.train.settings import TrainSettings

LOGITS_AT_ONCE = 1 << 25  # of a sample's batches: positions times vocabulary
OnPoint = Callable[[Entry], None]


class Objective(Protocol):
    """What methods ask of a task or of plain text."""

    @property
    def loaded(self) -> Loaded:
        """The uncut model, trained for this."""
        ...

    @property
    def engine(self) -> Engine:
        """Machine and processes."""
        ...

    @property
    def metric(self) -> str:
        """Name of the primary metric."""
        ...

    @property
    def select_is_dev(self) -> bool:
        """Whether choices are made on the rows that are reported."""
        ...

    @property
    def lengths(self) -> list[int]:
        """Tokens per text that latency is measured at."""
        ...

    def sample(self, model: TaskModel, size: int, seed: int) -> list[Batch]:
        """Return a random sample of training rows in padded batches, with labels where there are any."""
        ...

    def score(
        self, run: RunFolder, model: TaskModel, points: Sequence[GridPoint], on_point: OnPoint | None = None
    ) -> list[Entry]:
        """Score subnets of a network on select and dev."""
        ...

    def save(self, run: RunFolder, model: TaskModel, entry: Entry | None, name: str) -> None:
        """Write a network into a folder of the run, with where it comes from and its scores."""
        ...


@dataclass(frozen=True)
class TaskObjective:
    """A task with labels."""

    prepared: Prepared

    @property
    def loaded(self) -> Loaded:
        return self.prepared.loaded

    @property
    def engine(self) -> Engine:
        return self.prepared.engine

    @property
    def metric(self) -> str:
        return self.prepared.data.metric

    @property
    def select_is_dev(self) -> bool:
        return self.prepared.data.select_is_dev

    @property
    def lengths(self) -> list[int]:
        return sample_lengths(self.prepared.dev.lengths)

    def sample(self, model: TaskModel, size: int, seed: int) -> list[Batch]:
        return sample_batches(model, self.prepared.train, size, seed, self.engine.device)

    def score(
        self, run: RunFolder, model: TaskModel, points: Sequence[GridPoint], on_point: OnPoint | None = None
    ) -> list[Entry]:
        select, dev = self.prepared.select, self.prepared.dev
        return score_points(run, model, points, select=select, dev=dev, metric=self.metric, on_point=on_point)

    def save(self, run: RunFolder, model: TaskModel, entry: Entry | None, name: str) -> None:
        save_trained(self.prepared, model, entry, run, name)


@dataclass(frozen=True)
class TextObjective:
    """Plain text with masked tokens; half of the held-out sequences are select, the others dev.

    The metric is the share of masked tokens that are the most likely ones; the loss and the perplexity are beside it.
    """

    prepared: PreparedText
    metric: str = MASKED_ACCURACY
    select_is_dev: bool = False

    @property
    def loaded(self) -> Loaded:
        return self.prepared.loaded

    @property
    def engine(self) -> Engine:
        return self.prepared.engine

    @property
    def lengths(self) -> list[int]:
        model = self.loaded.model
        return [min(DEFAULT_LENGTH, model.shape.num_positions - model.style.position_offset)] * NUM_LENGTHS

    def sample(self, model: TaskModel, size: int, seed: int) -> list[Batch]:
        tokens, masking = self.prepared.text.train, self.prepared.masking
        rows = sample_rows(len(tokens), size, seed)
        positions = min(MAX_TOKENS, LOGITS_AT_ONCE // model.shape.vocab_size)
        at_once = max(1, positions // int(tokens.offsets[1]))
        parts = np.split(rows, np.arange(at_once, len(rows), at_once))
        return [masked_batch(tokens, part, masking, seed).to(self.engine.device) for part in parts]

    def score(
        self, run: RunFolder, model: TaskModel, points: Sequence[GridPoint], on_point: OnPoint | None = None
    ) -> list[Entry]:
        held_out = self.prepared.text.dev
        select, dev = every_second(held_out, 0), every_second(held_out, 1)
        scores_of = partial(score_masked_lm, masking=self.prepared.masking)
        return score_points(
            run, model, points, select=select, dev=dev, metric=self.metric, scores_of=scores_of, on_point=on_point
        )

    def save(self, run: RunFolder, model: TaskModel, entry: Entry | None, name: str) -> None:
        scores = {} if entry is None else {self.metric: entry.score, f"select_{self.metric}": entry.select_score}
        files = self.prepared.text.files
        provenance = extend_provenance(self.loaded.provenance, run.line, data=files, scores=scores)
        save_model(run.path / name, model, self.loaded.tokenizer, provenance=provenance)


def masked_batch(tokens: Tokens, rows: np.ndarray, masking: Masking, seed: int) -> Batch:
    """Return rows of one length as a batch with masked tokens, which are its labels."""
    masks = draw_masks(tokens, rows, masking, np.random.default_rng([seed, int(rows[0])]))
    masked = masks.apply(collate(tokens, rows, pad_token_id=masking.pad_id, use_token_types=False), rows)
    labels = torch.full_like(masked.batch.input_ids, IGNORED).flatten()
    labels[masked.positions] = masked.targets
    return replace(masked.batch, labels=labels.view_as(masked.batch.input_ids))


def every_second(tokens: Tokens, first: int) -> Tokens:
    """Return every second row of rows of one length."""
    S = int(tokens.offsets[1])
    ids = np.asarray(tokens.ids).reshape(-1, S)[first::2]
    return Tokens(ids.reshape(-1), np.arange(len(ids) + 1, dtype=np.int64) * S)


def check_text(
    model: str,
    data: TextSettings,
    train: TrainSettings,
    settings: Checked,
    mistakes: Mistakes,
    choices: Callable[[], object],
) -> TextSources:
    """Check what methods on plain text ask for, and return where the text is.

    Args:
        model, data, train, settings: the command's.
        mistakes: those already found.
        choices: as of `check_text_inputs`.

    Raises:
        InputError: these mistakes and those already found, together.
    """

    def all_choices() -> None:
        own = Mistakes()
        with own.collect():
            check_masked_lm(model)
        with own.collect():
            choices()
        own.check(InputError)

    with mistakes.collect():
        sources = check_text_inputs(model, data, train, settings, choices=all_choices)
    mistakes.check(InputError)
    return sources


def options_of_tasks(settings: Any, names: Sequence[str]) -> list[str]:
    """Return a mistake for each option that was given and means nothing on plain text."""
    defaults = {each.name: each.default for each in fields(settings)}
    given = [name for name in names if getattr(settings, name) != defaults[name]]
    return [f"--{name.replace('_', '-')} is for --objective task" for name in given]


def check_halves(prepared: PreparedText) -> None:
    """Raise a DataError unless the held-out text is enough for select and dev."""
    if len(prepared.text.dev) < 2:
        raise DataError(
            "held-out text must have at least 2 sequences, one for select and one for dev; give more by --dev"
        )


def check_masked_lm(model: str) -> None:
    """Raise a ModelError unless a model has a masked-LM head, which masked tokens cannot do without."""
    kind = read_folder_shape(find_source(model).folder).head.kind
    if kind != "masked_lm":
        raise ModelError(
            f"--objective mlm must start from a model with a masked-LM head, got {kind} in {model}; "
            f"cutbert pretrain trains one"
        )
