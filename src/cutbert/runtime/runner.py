"""Inputs of any number through one session: sorted by length into batches, answered in their own order.

Axes: B batch, S sequence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Tokenizer

from cutbert.errors import InputError, ModelError
from cutbert.lacks import library_errors
from cutbert.parsing import is_encodable
from cutbert.runtime.folder import Folder

BATCH_SIZE = 32
BATCH_TOKENS = 512  # padding counted; larger batches took no less time a text where this was measured
WINDOW = 2048  # inputs that are sorted together, and in memory at a time

Answer = dict[str, Any]
Outputs = dict[str, NDArray[np.float32]]
OnProgress = Callable[[int], object]


class Network(Protocol):
    """A loaded network, whatever runs it; a call runs one batch and returns its outputs by name.

    Args:
        path: of its file or folder, for messages.
        outputs: their names.
    """

    path: Path
    outputs: tuple[str, ...]

    def __call__(self, encodings: Sequence[Any], pad_id: int) -> tuple[Outputs, NDArray[np.int64]]:
        """Return the outputs of a batch and its attention mask [B, S].

        Args:
            encodings: of tokenizers, padded here.
            pad_id: token of padding.
        """
        ...


class Session:
    """A loaded ONNX file, as a `Network`.

    Args:
        path: of the file.
        threads: within one operator; None for ONNX Runtime's choice, a thread for each core.

    Raises:
        ModelError: ONNX Runtime cannot load it.
    """

    def __init__(self, path: Path, threads: int | None) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.log_severity_level = 3
        with library_errors(f"{path}: ONNX Runtime cannot load it", path):
            self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.path = path
        self.inputs = tuple(each.name for each in self.session.get_inputs())
        self.outputs = tuple(each.name for each in self.session.get_outputs())
        unknown = set(self.inputs) - {"input_ids", "attention_mask", "token_type_ids"}
        if unknown:
            raise ModelError(f"{path}: inputs must be those of a text encoder, got also {', '.join(sorted(unknown))}")

    def __call__(self, encodings: Sequence[Any], pad_id: int) -> tuple[Outputs, NDArray[np.int64]]:
        """Return the outputs of a batch and its attention mask.

        Raises:
            ModelError: ONNX Runtime cannot run it, as on tokens that the network does not have.
        """
        ids, mask, types = padded(encodings, pad_id)
        feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
        with library_errors(f"{self.path}: ONNX Runtime cannot run it", self.path):
            values = self.session.run(None, {name: feeds[name] for name in self.inputs})
        return dict(zip(self.outputs, values, strict=True)), mask


def padded(encodings: Sequence[Any], pad_id: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the tokens of a batch, its attention mask and its token types, [B, S] each."""
    longest = max(len(each.ids) for each in encodings)
    ids = np.full((len(encodings), longest), pad_id, dtype=np.int64)
    mask, types = np.zeros_like(ids), np.zeros_like(ids)
    for row, each in enumerate(encodings):
        size = len(each.ids)
        ids[row, :size], mask[row, :size], types[row, :size] = each.ids, 1, each.type_ids
    return ids, mask, types


class Model:
    """A model that answers inputs; each kind says how an input is encoded and what its outputs mean.

    Args:
        folder: with the model's files.
        session: what runs its network.
        max_length: longest input in tokens, special tokens included.
        batch_size: most inputs (of a reader: windows) in a batch. In int8 ranges of activations are those of a whole
            batch, so that answers depend a little on its neighbours; 1 gives the bits of inputs served one by one.
        batch_tokens: most tokens in a batch, padding counted.
    """

    def __init__(self, folder: Folder, session: Network, max_length: int, batch_size: int, batch_tokens: int) -> None:
        self.folder, self.session, self.max_length = folder, session, max_length
        self.batch_size, self.batch_tokens = batch_size, batch_tokens
        self.engine = self.make_engine()
        self.num_cut = 0  # inputs that were cut since the model was loaded

    def __call__(
        self, inputs: Sequence[Any], on_progress: OnProgress | None = None, *, prompt_name: str | None = None
    ) -> list[Any]:
        """Return one answer for each input, in their order.

        Args:
            inputs: of the model's kind, in any number.
            on_progress: called after each batch with the number of its rows.
            prompt_name: of an embedding model, which of its folder's prompts comes before each text, such as `query`;
                None for the folder's default, which may be none. As in sentence-transformers' encode(prompt_name=).

        Raises:
            InputError: an input that is not of the model's kind, or a prompt that the model does not have.
        """
        return list(self.stream(inputs, on_progress, prompt_name=prompt_name))

    def stream(
        self,
        inputs: Iterable[Any],
        on_progress: OnProgress | None = None,
        window: int = WINDOW,
        *,
        prompt_name: str | None = None,
    ) -> Iterator[Any]:
        """Yield one answer for each input, in their order, as `__call__`; `window` inputs at a time are in memory."""
        if isinstance(inputs, str):
            raise InputError(f"inputs must be a list of texts, got one text, {inputs!r:.80}")
        if window < 1:
            raise InputError(f"window must be at least 1, got {window}")
        prompt, remaining, first = self.prompt_of(prompt_name), iter(inputs), 0
        while chunk := list(islice(remaining, window)):
            for row, each in enumerate(chunk, first):
                self.check_input(each, row)
            if prompt:
                chunk = [prompt + each if isinstance(each, str) else each for each in chunk]
            yield from self.answer_all(chunk, on_progress)
            first += len(chunk)

    def answer_all(self, inputs: Sequence[Any], on_progress: OnProgress | None) -> Iterator[Any]:
        """Yield the answers to inputs that are sorted together."""
        path = self.folder.path / "tokenizer.json"
        with library_errors(f"{path}: the tokenizer cannot be used", path):
            groups = self.encode(inputs)
        rows = [encoding for group in groups for encoding in group]
        results: list[Any] = [None] * len(rows)
        for batch in packed([len(row.ids) for row in rows], self.batch_size, self.batch_tokens):
            outputs, mask_BS = self.session([rows[i] for i in batch], self.folder.pad_id)
            for i, result in zip(batch, self.rows_of(outputs, mask_BS), strict=True):
                results[i] = result
            if on_progress is not None:
                on_progress(len(batch))
        place = 0
        for each, group in zip(inputs, groups, strict=True):
            yield self.answer(each, group, results[place : place + len(group)])
            place += len(group)

    # What a kind may say otherwise

    def make_engine(self) -> Tokenizer:
        """Return the folder's tokenizer, which cuts at the longest input and does not pad."""
        path = self.folder.path / "tokenizer.json"
        with library_errors(f"{path}: the tokenizer cannot be read", path):
            stored = self.folder.tokenizer
            engine = Tokenizer.from_file(str(path)) if stored is None else Tokenizer.from_str(stored)
        engine.no_padding()
        with library_errors(f"{path}: the tokenizer cannot cut at {self.max_length} tokens", path):
            engine.enable_truncation(self.max_length, strategy="longest_first")
        return engine

    def check_input(self, given: Any, row: int) -> None:
        """Raise an InputError unless an input is a text or a pair of texts."""
        if not (is_text(given) or is_pair(given)):
            raise InputError(f"input {row} must be a text or a pair of texts, got {given!r:.80}")

    def prompt_of(self, name: str | None) -> str:
        """Return what comes before each text where a prompt is asked for by name, or none is.

        Raises:
            InputError: a prompt that the model does not have.
        """
        if name is not None:
            raise InputError(f"prompt_name is for embedding models, got {name!r} for a {type(self).__name__}")
        return ""

    def encode(self, inputs: Sequence[Any]) -> list[list[Any]]:
        """Return the encodings of each input, at least one."""
        texts = [each if isinstance(each, str) else tuple(each) for each in inputs]
        encodings = self.engine.encode_batch(texts)
        self.num_cut += sum(len(each.overflowing) > 0 for each in encodings)
        return [[each] for each in encodings]

    def output(
        self, outputs: Outputs, name: str, mask_BS: NDArray[np.int64], *sizes: int | None
    ) -> NDArray[np.float32]:
        """Return an output of a batch.

        Args:
            outputs: by name.
            name: of the one.
            mask_BS: of the batch's tokens; what is at padding does not count.
            sizes: that it must have, None for any; of one number or more for each token those of the mask come first.

        Raises:
            ModelError: it is no tensor of numbers, has other sizes, or holds what is no number.
        """
        values = outputs[name]
        if not (isinstance(values, np.ndarray) and np.issubdtype(values.dtype, np.floating)):
            got = values.dtype if isinstance(values, np.ndarray) else type(values).__name__
            raise ModelError(
                f"{self.session.path}: the output {name} must be a tensor of floating-point numbers, got {got}"
            )
        has_sizes = values.ndim == len(sizes) and all(
            size in (None, real) for size, real in zip(sizes, values.shape, strict=True)
        )
        if not has_sizes:
            wanted = ", ".join("any" if size is None else str(size) for size in sizes)
            raise ModelError(
                f"{self.session.path}: the output {name} must have the sizes {wanted} here, got {values.shape}"
            )
        if not np.isfinite(values[mask_BS > 0] if sizes[:2] == mask_BS.shape else values).all():
            raise ModelError(f"{self.session.path}: the output {name} must be finite, got infinity or NaN")
        return values

    def rows_of(self, outputs: Outputs, mask_BS: NDArray[np.int64]) -> Iterable[Any]:
        """Return what is kept of a batch's outputs, for each row."""
        raise NotImplementedError

    def answer(self, given: Any, encodings: Sequence[Any], results: Sequence[Any]) -> Any:
        """Return the answer to an input from what is kept of its encodings' outputs."""
        raise NotImplementedError


def is_text(value: Any) -> bool:
    """Return whether a value is a text that a tokenizer takes."""
    return isinstance(value, str) and is_encodable(value)


def is_pair(value: Any) -> bool:
    """Return whether a value is a pair of texts."""
    return isinstance(value, tuple | list) and len(value) == 2 and all(is_text(each) for each in value)


def packed(lengths: Sequence[int], batch_size: int, batch_tokens: int) -> Iterator[list[int]]:
    """Yield the rows of batches, longest first: at most `batch_size`, and of `batch_tokens` with padding, or one row.

    >>> list(packed([3, 9, 4, 4], batch_size=2, batch_tokens=12))
    [[1], [2, 3], [0]]
    """
    batch: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and (len(batch) == batch_size or lengths[batch[0]] * (len(batch) + 1) > batch_tokens):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
