"""A teacher of an embedding student of another width: what takes its vectors to the student's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cutbert.data.batches import plan_batches
from cutbert.data.reduction import reduction_of
from cutbert.data.tokens import Tokens
from cutbert.data.vectors import unit
from cutbert.model.task_model import TaskModel
from cutbert.train.collating import block_batch
from cutbert.train.vectors import keep_array, kept_array
from cutbert.work.losses import Teacher

ROWS = 2_048  # at most, whose vectors say how two models' directions lie to each other


def kept_reduction(
    path: Path, student: TaskModel, teacher: Teacher, tokens: Tokens, batch_size: int, seed: int
) -> NDArray[np.float32]:
    """Return what takes a teacher's vectors to a student's width, [student's, teacher's], as a file keeps it.

    Where the file is not there it is made from the first batches of the student's training, whose answers the teacher
    has to give in any case.

    Args:
        path: the file.
        student: in the training dtype, as it is before training.
        teacher: of the student.
        tokens: rows of the student's training, in its tokens.
        batch_size, seed: of the training.

    Raises:
        RunError: the file is damaged, or is of other models.
    """
    widths = (student.shape.hidden_size, teacher.model.shape.hidden_size)
    if not path.exists():
        ours, theirs = vectors_of_both(student, teacher, tokens, batch_size, seed)
        keep_array(path, reduction_of(theirs, ours))
    return kept_array(path, widths, f"{widths[0]} rows of {widths[1]} numbers, which reduce the teacher's vectors")


@torch.no_grad()
def vectors_of_both(
    student: TaskModel, teacher: Teacher, tokens: Tokens, batch_size: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return a student's and a teacher's vectors of the rows of the first batches, unit length; arguments as above."""
    device = next(student.parameters()).device
    ours, theirs = [], []
    for rows in plan_batches(tokens.lengths, batch_size, seed, 0)[: max(1, ROWS // batch_size)]:
        batch = block_batch(student, tokens, rows).to(device)
        own = student(batch.input_ids, batch.attention_mask, batch.token_type_ids, blocks=batch.blocks)
        for found, outputs in ((ours, own), (theirs, teacher.outputs(batch, rows))):
            assert outputs.logits is not None
            found.append(outputs.logits.float().cpu().numpy())
    return unit(np.concatenate(ours)), unit(np.concatenate(theirs))
