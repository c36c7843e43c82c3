"""A teacher's outputs, computed once for each row and kept in a file, since training sees rows again.

Axes: N rows, B rows of a batch, T positions of a batch, H hidden units, C labels.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cutbert.data.batches import Batch
from cutbert.data.tokens import Tokens
from cutbert.files import scratch_folder
from cutbert.model.task_model import TaskModel, TaskOutput
from cutbert.train.collating import block_batch
from cutbert.train.progress import say

MOST_BYTES = 2 << 30
DISK_SHARE = 4  # of the free space on the disk, at most 1 / DISK_SHARE is taken


class KeptOutputs:
    """What a teacher answers for rows that training sees again: in later passes, and with other networks.

    A row's outputs are those of its batch in the first pass, whenever they are asked for. They do not hang on what was
    asked before, so that a run that goes on, or trains elsewhere, makes the same weights. Batches of the first pass
    beyond MOST_BYTES, and later batches with any row of these, are computed each time.

    Args:
        model: the teacher, with a head for whole texts, on the CPU.
        tokens: the rows, in its tokens.
        batches: rows of each batch of the first pass, each row once.
        has_states: whether hidden states are kept beside the logits.
        folder: where the files are made; they have no names, so that nothing is left of them.
    """

    def __init__(
        self,
        model: TaskModel,
        tokens: Tokens,
        batches: Sequence[NDArray[np.int64]],
        folder: Path,
        *,
        has_states: bool,
    ) -> None:
        self.model, self.tokens, self.batches, self.folder, self.has_states = model, tokens, batches, folder, has_states

    def __reduce__(self) -> tuple[object, ...]:
        """Return how it is unpickled: as one that has kept nothing yet."""
        make = partial(KeptOutputs, has_states=self.has_states)
        return make, (self.model, self.tokens, self.batches, self.folder)

    @property
    def has_room(self) -> bool:
        """Whether the outputs for all rows are within MOST_BYTES."""
        shape = self.model.shape
        per_token = (shape.num_layers + 1) * shape.hidden_size * self.model.encoder.layers_dtype.itemsize
        return not self.has_states or int(self.tokens.lengths.sum()) * per_token <= MOST_BYTES

    @property
    def batches_left(self) -> int:
        """The batches of the first pass whose outputs have room and are not kept yet."""
        return int(self._store.num_batches - self._store.is_done.sum())

    @torch.no_grad()
    def keep_ahead(self, count: int) -> list[float]:
        """Keep the outputs for further batches of the first pass, the next ones, and return the seconds each took."""
        store, taken = self._store, []
        for index in np.flatnonzero(~store.is_done[: store.num_batches])[:count]:
            begun = time.monotonic()
            self._keep(int(index))
            taken.append(time.monotonic() - begun)
        return taken

    @torch.no_grad()
    def __call__(self, batch: Batch, rows: NDArray[np.int64]) -> TaskOutput:
        """Return the teacher's outputs for a batch.

        Args:
            batch: the rows, in the teacher's tokens where it has states; it gives the layout.
            rows: their indices, [B].

        Returns:
            logits [B, C]; hidden states in the batch's layout, 0 at padding, or none.
        """
        store, wanted = self._store, np.unique(self._store.batch_of[rows])
        if wanted[-1] >= store.num_batches:
            return self._outputs(batch if self.has_states else self._batch(rows))
        for index in wanted[~store.is_done[wanted]]:
            self._keep(int(index))
        logits = store.logits[torch.from_numpy(rows)]
        if not self.has_states:
            return TaskOutput(logits, (), None)
        places, tokens = real_positions(batch), torch.from_numpy(store.tokens_of(rows))
        states = []
        for table in store.states:
            state = table.new_zeros(batch.input_ids.numel(), table.shape[1])
            states.append(state.index_copy_(0, places, table[tokens]).view(*batch.input_ids.shape, -1))
        return TaskOutput(logits, tuple(states), None)

    def _keep(self, index: int) -> None:
        """Compute and keep the outputs for a batch of the first pass."""
        first = self._batch(self.batches[index])
        self._store.keep(index, self.batches[index], first, self._outputs(first))

    def _batch(self, rows: NDArray[np.int64]) -> Batch:
        return block_batch(self.model, self.tokens, rows)

    def _outputs(self, batch: Batch) -> TaskOutput:
        outputs: TaskOutput = self.model(
            batch.input_ids, batch.attention_mask, batch.token_type_ids, blocks=batch.blocks
        )
        return outputs

    @cached_property
    def _store(self) -> Store:
        first = self._batch(self.batches[0])
        outputs = self._outputs(first)
        assert outputs.logits is not None
        states = outputs.hidden_states if self.has_states else ()
        store = Store(self.tokens.lengths, self.batches, outputs.logits, states, self.folder)
        if store.num_batches:
            store.keep(0, self.batches[0], first, outputs)
        return store


class Store:
    """The files, and where in them a row is.

    Args:
        lengths: tokens of each row, [N].
        batches: rows of each batch of the first pass.
        logits: of some batch, [B, C]; gives size and dtype.
        states: of some batch, [T, H] each; give sizes and dtypes.
        folder: where the files are made.
    """

    def __init__(
        self,
        lengths: NDArray[np.int64],
        batches: Sequence[NDArray[np.int64]],
        logits: Tensor,
        states: Sequence[Tensor],
        folder: Path,
    ) -> None:
        self.lengths = lengths
        self.batch_of = np.empty(len(lengths), dtype=np.int64)
        for index, rows in enumerate(batches):
            self.batch_of[rows] = index
        order = np.concatenate(batches)
        self.starts = np.empty(len(lengths), dtype=np.int64)
        self.starts[order] = np.cumsum(lengths[order]) - lengths[order]
        self.is_done = np.zeros(len(batches), dtype=bool)
        ends = np.cumsum([int(lengths[rows].sum()) for rows in batches])
        of_token = sum(state.shape[-1] * state.element_size() for state in states)
        folder.mkdir(parents=True, exist_ok=True)
        room = min(MOST_BYTES, shutil.disk_usage(folder).free // DISK_SHARE)
        self.num_batches = int(np.searchsorted(ends * max(1, of_token), room, side="right"))
        self.logits = logits.new_empty(len(lengths), *logits.shape[1:])
        size = int(ends[self.num_batches - 1]) if self.num_batches else 0
        self.states: list[Tensor] = []
        try:
            self.states = [nameless(folder, size, state) for state in states] if size else []
        except OSError as error:
            say(f"a teacher's outputs are computed again in each pass, since they cannot be kept: {error.strerror}")
            self.num_batches = 0

    def keep(self, index: int, rows: NDArray[np.int64], batch: Batch, outputs: TaskOutput) -> None:
        """Keep the outputs for a batch of the first pass."""
        assert outputs.logits is not None
        self.logits[torch.from_numpy(rows)] = outputs.logits
        tokens, places = torch.from_numpy(self.tokens_of(rows)), real_positions(batch)
        for table, state in zip(self.states, outputs.hidden_states, strict=False):
            table[tokens] = state.flatten(0, -2)[places]
        self.is_done[index] = True

    def tokens_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the places of rows' tokens in the files, row by row."""
        lengths = self.lengths[rows]
        within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return np.repeat(self.starts[rows], lengths) + within


def real_positions(batch: Batch) -> Tensor:
    """Return the positions of a batch's tokens in its flat layout, without padding; row by row."""
    if batch.attention_mask is None:
        return torch.arange(batch.input_ids.numel())
    return batch.attention_mask.flatten().nonzero().flatten()


def nameless(folder: Path, num_tokens: int, like: Tensor) -> Tensor:
    """Return a tensor [num_tokens, H] in a file that has no name, of the size and dtype of a state.

    Raises:
        OSError: the disk has no room.
    """
    size = num_tokens * like.shape[-1]
    with scratch_folder(folder) as scratch:
        path = scratch / "states"
        with path.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, size * like.element_size())
        return torch.from_file(str(path), shared=True, size=size, dtype=like.dtype).view(num_tokens, -1)
