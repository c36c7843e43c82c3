"""What `fit` cuts candidates from: the model itself and students, with their teacher and the rows to judge them by."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cutbert.data.rows import Examples
from cutbert.data.tokens import Tokens
from cutbert.data.vectors import COSINE, SIMILARITY, VectorScorer
from cutbert.exporters.trimming import Trimming
from cutbert.folders.sentence import read_embedder
from cutbert.methods.fit_candidates import Candidate, Source
from cutbert.model.task_model import TaskModel
from cutbert.shape.cost import cost_of
from cutbert.shape.shape import EncoderShape
from cutbert.shape.source import ModelSource
from cutbert.shape.subnet import Subnet
from cutbert.surgery.extract import extract
from cutbert.surgery.repair import UncutSums, repair
from cutbert.train.evaluate import least_teacher_kl, predict_logits, score, similarity_error, teacher_kl
from cutbert.train.part_logits import PartLogits
from cutbert.train.progress import say
from cutbert.train.working_copy import frozen_copy
from cutbert.work.distill import DistillStep
from cutbert.work.losses import Teacher
from cutbert.work.objective import TaskObjective, load_for, share_tokens
from cutbert.work.student import StudentRecipe, recipe_for, student_step

REPAIR_ROWS, REPAIR_TOKENS = 256, 6000  # at most, for least squares: more take longer and bring little
FEWEST_REPAIR_ROWS = 8  # of however long texts: some choose the ridge
RIDGES = (0.03, 0.3, 3.0)  # where real cuts have their best one, few since each takes time
# Of select at most, for the damage of a part and for ranking: of long texts fewer rows say as much in the same time.
MOST_LOOK_ROWS, LOOK_MACS, FEWEST_LOOK_ROWS = 128, 8.5e10, 32  # multiply-adds: some 8,000 tokens of six layers of 384
JUDGED_ROWS, JUDGED_TOKENS, FEWEST_JUDGED_ROWS = 2000, 60_000, 128
LOOKS = ("whole", "part_logits", "sums")  # made again where they are asked for; not sent to other processes
ASKED_BATCHES = 3  # to see how long the teacher takes; their answers are kept


@dataclass(frozen=True, eq=False)
class TaughtSource:
    """A model that candidates are cut from, with its task and its teacher: the model itself, or a student.

    Args:
        objective: the task, in the model's tokens.
        teacher: in the training dtype.
        tokens: rows to distil on.
        judged: rows that networks are ranked by: of select, and held out of --unlabeled.
        answers: the teacher's, of each of these.
        source: what is cut.
        is_student: whether the model is another than the teacher's own.
        look_rows: of select, that parts of the model are looked at on, at most.
        damages: of parts of the model, as they were found: limits ask for the same ones.
    """

    objective: TaskObjective
    teacher: Teacher
    tokens: Tokens
    judged: tuple[Tokens, ...]
    answers: tuple[NDArray[np.float32], ...]
    source: Source
    is_student: bool = False
    look_rows: int = MOST_LOOK_ROWS
    damages: dict[Subnet, float] = field(default_factory=dict)

    @classmethod
    def of_model(cls, objective: TaskObjective, held_out: Sequence[Examples], seed: int, folder: Path) -> TaughtSource:
        """Return the model itself, with the teacher asked and the model's parts looked at.

        Args:
            objective: the task and the fine-tuned model.
            held_out: rows without labels, to rank networks by.
            seed: of the run.
            folder: the teacher's outputs are kept there.
        """
        teacher, tokens = objective.teacher_and_tokens()
        teacher = teacher.keeping(tokens, recipe_for(objective.data.head).plan.batch_size, seed, folder)
        rows = (judged_rows(objective), *held_out)
        judged = tuple(map(objective.tokenize, rows))
        answers = tuple(map(objective.teacher_logits, rows))
        return cls(objective, teacher, tokens, judged, answers, source_of(objective, seed))

    @classmethod
    def of_student(
        cls, model: TaughtSource, student: ModelSource, held_out: Sequence[Examples], seed: int, folder: Path
    ) -> TaughtSource:
        """Return a student, which learns from the model's teacher; it may have a tokenizer of its own."""
        data, old = model.objective.data, model.objective
        loaded = load_for(student, data, seed)
        loaded.model.to(old.engine.device)
        own, teacher, tokens = replace(old, loaded=loaded), model.teacher, model.tokens
        if old.sentence is not None:
            own = replace(own, sentence=read_embedder(student.name, student.folder).with_prompts_of(old.sentence))
        if not share_tokens(loaded, old.loaded):
            dev = replace(own.tokenize(data.dev), scorer=old.dev.scorer)
            select = dev if data.select_is_dev else replace(own.tokenize(data.select), scorer=old.select.scorer)
            own = replace(own, train_tokens=own.tokenize(data.train), dev=dev, select=select)
            tokens = own.tokenize(data.train if data.unlabeled is None else data.train.joined(data.unlabeled))
            others = model.tokens if teacher.tokens is None else teacher.tokens
            teacher = replace(teacher, tokens=others, has_states=False, state_pairs=None)
            teacher = teacher.keeping(tokens, recipe_for(data.head).plan.batch_size, seed, folder)
        judged = tuple(map(own.tokenize, (judged_rows(old), *held_out)))
        part = cls(own, teacher, tokens, judged, model.answers, Source.of_layers(loaded.model), is_student=True)
        student_step(own.losses, teacher, part.source.shape, part.recipe)  # says what cannot be compared
        return part

    def trimmed(self) -> tuple[TaughtSource, Trimming]:
        """Return the same with a vocabulary cut to the rows that are distilled on; only good for scores and saving."""
        objective, data = self.objective, self.objective.data
        trimming = Trimming.of(objective.loaded, self.tokens, objective.sentence)
        own = replace(objective, loaded=trimming.trimmed)
        dev = replace(own.tokenize(data.dev), scorer=objective.dev.scorer)
        select = dev
        if not objective.select_is_dev:
            select = replace(own.tokenize(data.select), scorer=objective.select.scorer)
        return replace(self, objective=replace(own, dev=dev, select=select)), trimming

    def forget_looks(self) -> None:
        """Free the states of the source on the rows that it was looked at on."""
        for name in LOOKS:
            self.__dict__.pop(name, None)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in LOOKS}

    @property
    def batches_left(self) -> int:
        """The batches for which the teacher is still to be asked; 0 where its answers are not kept."""
        return 0 if self.teacher.kept is None else self.teacher.kept.batches_left

    @cached_property
    def teacher_batch_s(self) -> float:
        """The seconds the teacher takes for a batch that it has not answered, 0 where none is left."""
        taken = [] if self.teacher.kept is None else self.teacher.kept.keep_ahead(ASKED_BATCHES)
        return fmean(taken) if taken else 0.0

    @property
    def recipe(self) -> StudentRecipe:
        """How its candidates are trained."""
        theirs, ours = self.teacher.model.shape.hidden_size, self.source.shape.hidden_size
        return recipe_for(self.objective.data.head, ours, is_cut=not self.is_student, has_width=ours == theirs)

    @cached_property
    def teacher_select(self) -> float:
        """The teacher's score on select, in float32."""
        return self.select_score_of(self.objective.teacher_logits(self.objective.data.select))

    def select_score(self, network: TaskModel) -> float:
        """Return a network's score on select, in float32."""
        return self.select_score_of(predict_logits(network, self.objective.select))

    def select_score_of(self, logits: NDArray[np.float32]) -> float:
        data = self.objective.data
        return score(data.head, data.metric, logits, self.objective.select).score

    def kl(self, network: TaskModel) -> float:
        """Return a network's divergence from the teacher on the rows that are judged, in the training dtype."""
        quick = self.in_training_dtype(network)
        ours = joined([predict_logits(quick, tokens) for tokens in self.judged])
        return self.distance(ours, joined(self.answers))

    def distance(self, ours: NDArray[np.float32], answers: NDArray[np.float32]) -> float:
        """Return the divergence of logits from the teacher's of the same rows; see `compared_by_similarity`.

        Of vectors it is the error; of classes, what is left of the divergence when logits are scaled for it.
        """
        scorer, head = self.objective.dev.scorer, self.objective.data.head
        if isinstance(scorer, VectorScorer) and scorer.beside_teacher == SIMILARITY:
            return similarity_error(ours, answers)
        return teacher_kl(head, ours, answers) if head.kind == "embedding" else least_teacher_kl(head, ours, answers)

    @cached_property
    def few(self) -> Tokens:
        """The rows that damage is judged on: the first of select."""
        tokens = int(LOOK_MACS / cost_of(self.source.shape, sequence_length=1).macs)
        lengths = self.judged[0].lengths[: self.look_rows]
        return self.judged[0].take(np.arange(rows_within(tokens, lengths, FEWEST_LOOK_ROWS)))

    def rows_looked_at_in(self, seconds: float) -> int:
        """Return how many rows the whole source runs in a time, between FEWEST_LOOK_ROWS and MOST_LOOK_ROWS."""
        first = self.judged[0].take(np.arange(min(FEWEST_LOOK_ROWS, len(self.judged[0]))))
        predict_logits(self.whole, first)  # the first run takes longer
        begun = time.monotonic()
        predict_logits(self.whole, first)
        row_s = (time.monotonic() - begun) / len(first)
        return min(MOST_LOOK_ROWS, max(FEWEST_LOOK_ROWS, int(seconds / row_s)))

    @cached_property
    def part_logits(self) -> PartLogits:
        """What parts of the source answer on them, in the training dtype."""
        return PartLogits.of(self.whole, self.few)

    def damage(self, network: TaskModel) -> float:
        """Return the divergence of a network on a few rows: quick, and enough to choose."""
        return self.damage_by(predict_logits(self.in_training_dtype(network), self.few))

    def damage_by(self, logits: NDArray[np.float32]) -> float:
        answers = self.answers[0][: len(logits)]
        return self.distance(logits, answers if answers.ndim == 2 else answers[:, : logits.shape[1]])

    def damage_of(self, candidate: Candidate) -> float:
        """Return the damage of a candidate as it is cut; a prefix is run in place, once."""
        if candidate.kept:
            return self.damage(self.source.cut(candidate))
        if candidate.subnet not in self.damages:
            self.damages[candidate.subnet] = self.damage_by(self.part_logits(candidate.subnet))
        return self.damages[candidate.subnet]

    def in_training_dtype(self, network: TaskModel) -> TaskModel:
        """Return a copy of a network in the training dtype, in which it is quicker."""
        return frozen_copy(network, self.objective.engine.dtype)

    @cached_property
    def whole(self) -> TaskModel:
        """The source in the training dtype."""
        return self.in_training_dtype(self.source.model)

    def repaired(self, candidate: Candidate) -> TaskModel:
        """Return a candidate's network with what the cut broke refitted; of a single row of training as it is cut."""
        network = self.source.cut(candidate)
        if sum(batch.num_rows for batch in self.source.batches) < 2:
            return network
        hidden = None if candidate.hidden is None else torch.tensor(candidate.hidden)
        options: dict[str, Any] = {"layers": candidate.layers, "hidden": hidden, "ridges": RIDGES}
        repair(self.whole, network, self.source.batches, sums=self.sums, **options)
        return network

    def narrowed(self, network: TaskModel, subnet: Subnet) -> TaskModel:
        """Return a part of a network that was cut from the source and trained, refitted to what the network answers.

        Args:
            network: in evaluation mode.
            subnet: a part of it, with all its layers.
        """
        part = extract(network, subnet)
        if sum(batch.num_rows for batch in self.source.batches) > 1:
            repair(network, part, self.source.batches, layers=range(part.shape.num_layers), ridges=RIDGES)
        return part

    @cached_property
    def sums(self) -> UncutSums:
        """What repairs aim at: the source's sums, in the training dtype, since they need not be exact."""
        return UncutSums(self.whole, self.source.batches, are_kept=True)

    def step(self, candidate: Candidate, shape: EncoderShape) -> DistillStep:
        """Return the training step of a candidate."""
        if self.is_student:
            return student_step(self.objective.losses, self.teacher, shape, self.recipe, is_main=False)
        hidden = None
        if candidate.hidden is not None:
            hidden = torch.tensor(candidate.hidden, device=self.objective.engine.device)
        return student_step(
            self.objective.losses, self.teacher, shape, kept=candidate.layers, hidden_units=hidden, is_main=False
        )


def compared_by_similarity(objective: TaskObjective, students: Sequence[ModelSource]) -> TaskObjective:
    """Return an objective under which networks are compared with the teacher by how alike texts are to them.

    So it is where a student's vectors have another width than the teacher's; else the objective is returned as it is.
    All networks of the run are then compared so, the model's own cuts too.
    """
    width = objective.loaded.model.shape.hidden_size
    others = [str(each) for each in students if each.shape.hidden_size != width]
    if objective.data.head.kind != "embedding" or not others:
        return objective
    say(
        f"{', '.join(others)}: vectors of another width than the model's {width}. Such a student learns which texts "
        "are alike to the model, not its vectors: an index of the model's vectors cannot be searched with it. All "
        f"networks are compared with the model by {SIMILARITY}, each text's correlation of cosines to the others"
    )
    data, by_cosine = objective.data, objective.data.own_select_metric or objective.data.metric
    metric = SIMILARITY if data.metric == COSINE else data.metric
    own = SIMILARITY if by_cosine == COSINE else by_cosine
    data = replace(data, metric=metric, own_select_metric=None if own == metric else own)
    return replace(objective, data=data, select=by_similarity(objective.select), dev=by_similarity(objective.dev))


def by_similarity(tokens: Tokens) -> Tokens:
    """Return the rows of an embedding model's data with a scorer that compares with a teacher of any width."""
    assert isinstance(tokens.scorer, VectorScorer)
    return replace(tokens, scorer=replace(tokens.scorer, beside_teacher=SIMILARITY))


def joined(logits: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return the logits of several splits as those of one; of tokens 0 after a row's own."""
    longest = max(each.shape[1] for each in logits)
    unpadded = ((0, 0),) * (logits[0].ndim - 2)
    return np.concatenate([np.pad(each, ((0, 0), (0, longest - each.shape[1]), *unpadded)) for each in logits])


def judged_rows(objective: TaskObjective) -> Examples:
    """Return the rows of select that networks are ranked by: all, or the first ones."""
    select, lengths = objective.data.select, objective.select.lengths
    windows = len(lengths) / len(select)  # of a question's text
    rows = round(rows_within(JUDGED_TOKENS, lengths, FEWEST_JUDGED_ROWS) / windows)
    rows = min(max(1, rows), JUDGED_ROWS)
    return select if rows >= len(select) else select.take(np.arange(rows))


def rows_within(most_tokens: int, lengths: NDArray[np.int64], fewest: int) -> int:
    """Return how many of the first rows have a number of tokens at most; the fewest in any case, or all there are."""
    within = int(np.searchsorted(np.cumsum(lengths), most_tokens, side="right"))
    return min(len(lengths), max(within, fewest))


def source_of(objective: TaskObjective, seed: int) -> Source:
    """Return an objective's model as what candidates are cut from, looked at on a few training rows without labels."""
    model = objective.loaded.model
    rows = min(REPAIR_ROWS, max(FEWEST_REPAIR_ROWS, int(REPAIR_TOKENS / objective.train_tokens.lengths.mean())))
    return Source.of(model, objective.sample(model, rows, seed))
