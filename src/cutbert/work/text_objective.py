"""Plain text as what a network is trained, cut and scored on: its masked tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np

from cutbert.bench.latency import NUM_LENGTHS
from cutbert.bench.settings import DEFAULT_LENGTH
from cutbert.data.batches import Batch
from cutbert.data.dataset import Examples
from cutbert.data.masking import Masking, masked_batch, masking_of
from cutbert.data.text import TextData, every_second, load_texts
from cutbert.data.text_settings import TextSettings
from cutbert.data.tokens import Tokens
from cutbert.errors import DataError
from cutbert.folders.load import Loaded, load_model, new_loaded
from cutbert.fronts.entry import Entry
from cutbert.fronts.score import score_points
from cutbert.model.task_model import TaskModel
from cutbert.shape.space import GridPoint
from cutbert.train.collating import SAMPLE_TOKENS, sample_rows
from cutbert.train.engine import Engine, make_engine
from cutbert.train.masked_lm import MASKED_ACCURACY, StepMasks, score_masked_lm
from cutbert.train.progress import say
from cutbert.train.run_folder import RunFolder
from cutbert.train.settings import TrainSettings
from cutbert.train.working_copy import frozen_copy
from cutbert.work.inputs import MASKED_LM, Inputs, weight_hashes
from cutbert.work.losses import Teacher, TextLosses
from cutbert.work.objective import Objective, OnPoint, save_network

LOGITS_AT_ONCE = 1 << 25  # in the batches of a sample: positions times vocabulary


@dataclass(frozen=True, eq=False)
class TextObjective:
    """Plain text with masked tokens; half of the held-out sequences are select, the others dev.

    The metric is the share of masked tokens that are predicted right; loss and perplexity are beside it.

    Args:
        inputs: what the run started from.
        loaded: model with a masked-LM head, tokenizer, provenance.
        engine: machine and processes.
        text: sequences to train on, and held out.
        masking: how tokens are masked.
    """

    inputs: Inputs
    loaded: Loaded
    engine: Engine
    text: TextData
    masking: Masking
    metric: str = MASKED_ACCURACY
    select_metric: str = MASKED_ACCURACY
    select_is_dev: bool = False

    @classmethod
    def prepare(cls, inputs: Inputs, train: TrainSettings, run: RunFolder) -> TextObjective:
        """Load or make a model with a masked-LM head, and pack the text into sequences of its tokens."""
        data, texts = inputs.data, inputs.texts
        assert isinstance(data, TextSettings) and texts is not None
        engine = make_engine(train)
        loaded = load_masked_lm(inputs, train.seed)
        masking = masking_of(
            loaded.tokenizer,
            inputs.model.name,
            vocab_size=loaded.model.shape.vocab_size,
            probability=data.mask_probability,
            whole_word=data.whole_word,
        )
        for note in (*loaded.notes, "reading the text into sequences (once: they are kept in the token cache)"):
            say(note, shown=engine.is_main)
        text = load_texts(texts, loaded.tokenizer, inputs.model.name, data.sequence_length)
        run.record(data=text.files, weights=weight_hashes(inputs.model) if inputs.new is None else inputs.new.hashes)
        for note in text.notes:
            say(note, shown=engine.is_main)
        loaded.model.to(engine.device)
        return cls(inputs, loaded, engine, text, masking)

    @property
    def train_tokens(self) -> Tokens:
        return self.text.train

    @property
    def lengths(self) -> list[int]:
        model = self.loaded.model
        return [min(DEFAULT_LENGTH, model.shape.num_positions - model.style.position_offset)] * NUM_LENGTHS

    @cached_property
    def losses(self) -> TextLosses:
        return TextLosses(StepMasks(self.train_tokens, self.masking))

    def teacher_and_tokens(self, change: Callable[[Examples], Examples] | None = None) -> tuple[Teacher, Tokens]:
        return Teacher(frozen_copy(self.loaded.model, self.engine.dtype)), self.train_tokens

    def sample(self, model: TaskModel, size: int, seed: int) -> list[Batch]:
        rows = sample_rows(len(self.train_tokens), size, seed)
        positions = min(SAMPLE_TOKENS, LOGITS_AT_ONCE // model.shape.vocab_size)
        at_once = max(1, positions // int(self.train_tokens.offsets[1]))
        parts = np.split(rows, np.arange(at_once, len(rows), at_once))
        return [masked_batch(self.train_tokens, part, self.masking, seed).to(self.engine.device) for part in parts]

    def score(
        self, run: RunFolder, model: TaskModel, points: Sequence[GridPoint], on_point: OnPoint | None = None
    ) -> list[Entry]:
        select, dev = every_second(self.text.dev, 0), every_second(self.text.dev, 1)
        scores_of = partial(score_masked_lm, masking=self.masking)
        return score_points(
            run, model, points, select=select, dev=dev, metric=self.metric, scores_of=scores_of, on_point=on_point
        )

    def save(self, run: RunFolder, model: TaskModel, entry: Entry | None, name: str) -> None:
        save_network(self, run, model, entry, name, self.text.files, {})


def load_masked_lm(inputs: Inputs, seed: int) -> Loaded:
    """Return a model with a masked-LM head, its own or a new one; or new weights of a shape."""
    if inputs.new is not None:
        return new_loaded(inputs.model, inputs.new.shape, MASKED_LM, seed=seed)
    loaded = load_model(inputs.model, MASKED_LM, seed=seed)
    if not loaded.has_new_head:
        return loaded
    note = f"{inputs.model} has no masked-LM head: a new one is trained with the rest"
    return replace(loaded, notes=(*loaded.notes, note))


def check_halves(objective: Objective) -> None:
    """Raise a DataError unless held-out text is enough for select and dev."""
    if isinstance(objective, TextObjective) and len(objective.text.dev) < 2:
        raise DataError(
            "held-out text must have at least 2 sequences, one for select and one for dev; give more by --dev"
        )
