"""What a network is trained, cut and scored on, and that of a task of the user's; plain text is in `text_objective`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cutbert.bench.latency import sample_lengths
from cutbert.data.batches import Batch
from cutbert.data.dataset import Dataset, Examples
from cutbert.data.settings import DataSettings
from cutbert.data.tokens import Tokens, tokenize_rows
from cutbert.folders.load import Loaded, load_model
from cutbert.folders.provenance import extend_provenance
from cutbert.folders.save import save_model
from cutbert.folders.sentence import Sentence, read_embedder
from cutbert.fronts.entry import Entry
from cutbert.fronts.outputs import chance_fact, interval_fact
from cutbert.fronts.score import score_points
from cutbert.model.task_model import TaskModel
from cutbert.shape.shape import EncoderShape
from cutbert.shape.source import ModelSource
from cutbert.shape.space import GridPoint
from cutbert.train.collating import sample_batches
from cutbert.train.engine import Engine, make_engine
from cutbert.train.evaluate import predict_logits
from cutbert.train.loop import StepInfo
from cutbert.train.progress import say
from cutbert.train.run_folder import RunFolder
from cutbert.train.settings import TrainSettings
from cutbert.train.vectors import FOLDER, beside, keep_vectors, kept_vectors
from cutbert.train.working_copy import frozen_copy
from cutbert.work.distill import layer_map
from cutbert.work.inputs import Inputs, weight_hashes
from cutbert.work.label_spread import LabelSpread
from cutbert.work.losses import BatchLosses, TaskLosses, Teacher

OnPoint = Callable[[Entry], None]


class Objective(Protocol):
    """What methods ask of a task or of plain text."""

    @property
    def inputs(self) -> Inputs:
        """What the run started from."""
        ...

    @property
    def loaded(self) -> Loaded:
        """The uncut model, on the engine's device; fine-tuned once `work.finetune.ensure_finetuned` ran."""
        ...

    @property
    def engine(self) -> Engine:
        """Machine and processes."""
        ...

    @property
    def train_tokens(self) -> Tokens:
        """The rows to train on."""
        ...

    @property
    def metric(self) -> str:
        """Name of the primary metric."""
        ...

    @property
    def select_metric(self) -> str:
        """Name of the metric that choices are made by."""
        ...

    @property
    def select_is_dev(self) -> bool:
        """Whether choices are made on the rows that are reported."""
        ...

    @property
    def lengths(self) -> list[int]:
        """Tokens per text that latency is measured at."""
        ...

    def losses(self, batch: Batch, info: StepInfo) -> BatchLosses:
        """Return the losses of a step's micro-batch."""
        ...

    def teacher_and_tokens(self, change: Callable[[Examples], Examples] | None = None) -> tuple[Teacher, Tokens]:
        """Return the teacher, which is never updated, and the rows to distil on.

        Args:
            change: makes further rows out of those of a task; None for none.
        """
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


@dataclass(frozen=True, eq=False)
class TaskObjective:
    """A task with labels; or the vectors of an embedding model, its own teacher, on texts.

    Args:
        inputs: what the run started from.
        data: the rows.
        loaded: model, tokenizer, provenance.
        engine: machine and processes.
        train_tokens, select, dev: tokens of the splits; select is dev's own object where they are the same.
        sentence: of an embedding model, how states become vectors.
    """

    inputs: Inputs
    data: Dataset
    loaded: Loaded
    engine: Engine
    train_tokens: Tokens
    select: Tokens
    dev: Tokens
    sentence: Sentence | None = None

    @classmethod
    def prepare(
        cls, inputs: Inputs, train: TrainSettings, run: RunFolder, vectors: Path | None = None
    ) -> TaskObjective:
        """Load the model with a head that fits the task, and tokenise the splits.

        Args:
            inputs, train, run: of the run.
            vectors: folder of the teacher's vectors of an embedding model's data; None for the run's own, which the
                model makes where it is not there.
        """
        data, sentence = inputs.dataset, None
        assert data is not None
        if data.head.kind == "embedding":
            sentence = read_embedder(inputs.model.name, inputs.model.folder)
            data = data.prompted(sentence.prompts)
        engine = make_engine(train)
        loaded = load_for(inputs.model, data, train.seed)
        run.record(data=data.files, weights=weight_hashes(inputs.model))
        spread = LabelSpread.of(data)
        lengths = length_notes(loaded, inputs, is_given=run.settings.get("data", {}).get("max_length") is not None)
        norms = () if sentence is None else sentence.norm_notes(inputs.model.name)
        for note in (*data.notes, *loaded.notes, *lengths, *norms, *spread.notes(engine.dtype)):
            say(note, shown=engine.is_main)
        if data.select_is_dev:
            say("choices are made on the dev split, so dev scores are optimistic", shown=engine.is_main)
        loaded.model.to(engine.device)
        splits = {"train": data.train, "dev": data.dev} | ({} if data.select_is_dev else {"select": data.select})
        tokens = {name: tokenize(rows, loaded, inputs) for name, rows in splits.items()}
        for name, each in tokens.items():
            for note in each.notes:
                say(f"{name}: {note}", shown=engine.is_main)
        select = tokens["dev"] if data.select_is_dev else tokens["select"]
        made = cls(inputs, data, loaded, engine, train_tokens=tokens["train"], dev=tokens["dev"], select=select)
        if sentence is None:
            return made
        say("embedding: vectors are compared with the model's own, of select and dev", shown=engine.is_main)
        known: dict[str, Tokens] = {}
        for name in ("select", "dev"):
            path = (vectors or run.path / FOLDER) / f"{name}.npy"
            engine.make_once(path, partial(keep_vectors, path, loaded.model, tokens[name]))
            vectors_of = kept_vectors(path, tokens[name], loaded.model.shape.hidden_size)
            known[name] = beside(tokens[name], vectors_of)
        return replace(made, select=known["select"], dev=known["dev"], sentence=sentence)

    @property
    def metric(self) -> str:
        return self.data.metric

    @property
    def select_metric(self) -> str:
        return self.data.select_metric

    @property
    def select_is_dev(self) -> bool:
        return self.data.select_is_dev

    @property
    def lengths(self) -> list[int]:
        return sample_lengths(self.dev.lengths)

    def losses(self, batch: Batch, info: StepInfo) -> TaskLosses:
        return TaskLosses(self.data.head, batch, info, self.answers, self.label_variance)

    @cached_property
    def label_variance(self) -> float:
        """What squared errors of regression are divided by."""
        return LabelSpread.of(self.data).variance

    @cached_property
    def answers(self) -> Teacher | None:
        """What gives vectors in the place of labels; None where there are labels."""
        if self.data.head.kind != "embedding":
            return None
        return Teacher(frozen_copy(self.loaded.model, self.engine.dtype))

    def teacher_and_tokens(self, change: Callable[[Examples], Examples] | None = None) -> tuple[Teacher, Tokens]:
        """Return the teacher: the fine-tuned model, or --teacher, which may have a tokenizer of its own."""
        rows = self.data.train if self.data.unlabeled is None else self.data.train.joined(self.data.unlabeled)
        if change is not None:
            rows = change(rows)
        tokens = self.train_tokens if rows is self.data.train else self.tokenize(rows)
        teacher = self._teacher(rows)
        return replace(teacher, model=frozen_copy(teacher.model, self.engine.dtype)), tokens

    def _teacher(self, rows: Examples) -> Teacher:
        if self.inputs.models.teacher is None:
            return Teacher(self.loaded.model)
        other = load_model(self.inputs.models.teacher, self.data.head)
        ours, theirs, is_main = self.loaded.model.shape, other.model.shape, self.engine.is_main
        same_tokens = share_tokens(self.loaded, other)
        has_states, pairs = same_tokens and have_like_states(ours, theirs), None
        if not has_states:
            say(
                "the teacher's hidden states do not match the model's: only its logits are distilled",
                shown=is_main,
            )
        elif ours.num_layers != theirs.num_layers:
            pairs = layer_map(ours.num_layers, theirs.num_layers, "uniform")
            shown = ", ".join(f"{own} with {its}" for own, its in pairs)
            say(
                f"the teacher has {theirs.num_layers} layers, the model {ours.num_layers}: their hidden states are "
                f"compared at even distances ({shown}; 0 is the embeddings')",
                shown=is_main,
            )
        tokens = None if same_tokens else tokenize(rows, other, self.inputs)
        return Teacher(other.model.to(self.engine.device), tokens, has_states, pairs)

    def teacher_logits(self, rows: Examples) -> NDArray[np.float32]:
        """Return the teacher's logits of some rows, in float32; labels in the order of the task's."""
        other = self.inputs.models.teacher
        if other is None:
            return predict_logits(self.loaded.model, self.tokenize(rows))
        loaded = load_model(other, self.data.head)
        return predict_logits(loaded.model.to(self.engine.device), tokenize(rows, loaded, self.inputs))

    def tokenize(self, rows: Examples) -> Tokens:
        """Return the tokens of further rows."""
        return tokenize(rows, self.loaded, self.inputs)

    def sample(self, model: TaskModel, size: int, seed: int) -> list[Batch]:
        return sample_batches(model, self.train_tokens, size, seed, self.engine.device)

    def score(
        self, run: RunFolder, model: TaskModel, points: Sequence[GridPoint], on_point: OnPoint | None = None
    ) -> list[Entry]:
        return score_points(run, model, points, select=self.select, dev=self.dev, metric=self.metric, on_point=on_point)

    def save(self, run: RunFolder, model: TaskModel, entry: Entry | None, name: str) -> None:
        assert isinstance(self.inputs.data, DataSettings)
        task = {name: value for name, value in run.settings.get("data", {}).items() if value not in (None, [], False)}
        if not self.inputs.data.is_embedding:
            task.pop("objective", None)
        facts: dict[str, Any] = {"task": task, "max_length": self.inputs.data.length_limit}
        if entry is not None:
            facts |= interval_fact(run.path, entry.name, self.metric) | chance_fact(run.path, entry.name, self.metric)
        save_network(self, run, model, entry, name, self.data.files, facts, self.sentence)


def save_network(
    objective: Objective,
    run: RunFolder,
    model: TaskModel,
    entry: Entry | None,
    name: str,
    files: Mapping[str, str],
    facts: Mapping[str, Any],
    sentence: Sentence | None = None,
) -> None:
    """Write a network into a folder of a run.

    Args:
        objective, run, model, entry, name: as in `Objective.save`.
        files: hashes of the data.
        facts: what else its provenance says.
        sentence: of an embedding model, how states become vectors.
    """
    metric, loaded = objective.metric, objective.loaded
    scores = {} if entry is None else {metric: entry.score, f"select_{objective.select_metric}": entry.select_score}
    provenance = extend_provenance(loaded.provenance, run.line, data=files, scores=scores, facts=facts)
    save_model(run.path / name, model, loaded.tokenizer, provenance=provenance, sentence=sentence)


def load_for(source: ModelSource, data: Dataset, seed: int) -> Loaded:
    """Load a model with a head that fits a task, made from a seed where that is new; a new one begins at the labels."""
    loaded = load_model(source, data.head, seed=seed)
    if loaded.has_new_head:
        LabelSpread.of(data).begin(loaded.model)
    return loaded


def tokenize(rows: Examples, loaded: Loaded, inputs: Inputs) -> Tokens:
    """Return the tokens of a task's rows, cut at its longest input."""
    assert isinstance(inputs.data, DataSettings)
    return tokenize_rows(rows, loaded.tokenizer, loaded.source, inputs.data.length_limit)


def length_notes(loaded: Loaded, inputs: Inputs, *, is_given: bool) -> tuple[str, ...]:
    """Return a note where a model was trained on longer inputs than it gets here, or where it says how long they are.

    Args:
        loaded, inputs: the model and its data.
        is_given: whether the user said how long inputs are.
    """
    assert isinstance(inputs.data, DataSettings)
    before, now = loaded.provenance.get("max_length"), inputs.data.length_limit
    if inputs.data.is_embedding and not is_given:
        return (f"texts are cut at {now} tokens, as {loaded.source} cuts them; fewer take less time: --max-length N",)
    if before is None or before <= now:
        return ()
    return (f"{loaded.source} was trained on inputs of up to {before} tokens; here they are cut at --max-length {now}",)


def share_tokens(one: Loaded, other: Loaded) -> bool:
    """Whether two models read the same tokens: one vocabulary, and both or neither tell the texts of a pair apart."""
    has_types = (each.model.shape.num_token_types > 1 for each in (one, other))
    return one.tokenizer.get_vocab() == other.tokenizer.get_vocab() and len(set(has_types)) == 1


def have_like_states(one: EncoderShape, other: EncoderShape) -> bool:
    """Whether two encoders have the same hidden size: for the same tokens their states can be compared."""
    return one.hidden_size == other.hidden_size
