"""Vectors of one width brought to another, so that a student learns a teacher's vectors although its own are others.

Axes: N texts, T width of the teacher's vectors, S width of the student's.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def reduction_of(teacher_NT: NDArray[np.float32], student_NS: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what takes a teacher's vectors to a student's width, as near to the student's own as a turn can.

    Its rows are at right angles and have unit length, where T is the larger width; else its columns. So the products of
    reduced vectors are those of the teacher's within the S directions that are kept, and none is stretched. A student
    that learned these vectors can search an index of the teacher's once that is reduced too.

    Args:
        teacher_NT, student_NS: both models' vectors of the same texts, unit length.

    Returns:
        [S, T]; reduced vectors are `teacher_NT @ reduction.T`.

    Source:
        Schönemann 1966, the orthogonal Procrustes problem, here between two widths. sentence-transformers' reduction of
        a teacher's vectors for a smaller student (examples of model distillation) keeps their principal components in
        its place, which lie in directions that the student has never used: our departure.

    >>> ours, theirs = np.eye(2, dtype=np.float32), np.array([[0, 1, 0], [1, 0, 0]], dtype=np.float32)
    >>> reduction_of(theirs, ours) @ theirs.T
    array([[1., 0.],
           [0., 1.]], dtype=float32)
    """
    left, _, right = np.linalg.svd(student_NS.astype(np.float64).T @ teacher_NT, full_matrices=False)
    return np.asarray(left @ right, dtype=np.float32)
