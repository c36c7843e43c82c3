"""From a folder to the callable of its kind."""

from __future__ import annotations

from pathlib import Path

from cutbert.errors import ModelError
from cutbert.lengths import MOST_SPECIAL_TOKENS, position_mistakes
from cutbert.runtime.folder import Folder
from cutbert.runtime.readers import Reader
from cutbert.runtime.runner import BATCH_SIZE, BATCH_TOKENS, Model, Network, Session
from cutbert.runtime.taggers import Tagger
from cutbert.runtime.texts import Labeller, Scorer
from cutbert.runtime.vectors import STATES, Embedder, has_modules

LENGTH_OF_QUESTIONS = 384  # of a reader whose training is not recorded
BY_KIND: dict[str, type[Model]] = {
    "single_label": Labeller,
    "multi_label": Labeller,
    "regression": Scorer,
    "token": Tagger,
    "span": Reader,
}


def load(
    folder: str | Path,
    *,
    backend: str = "auto",
    file: str | None = None,
    threads: int | None = None,
    max_length: int | None = None,
    batch_size: int = BATCH_SIZE,
    batch_tokens: int = BATCH_TOKENS,
    has_unanswerable: bool | None = None,
) -> Model:
    """Load an exported folder, by cutbert or by another tool: config.json, tokenizer.json and an ONNX file.

    Args:
        folder: the model folder.
        backend: `onnx` (float32), `onnx-int8`, or `auto`: int8 where it is there.
        file: the ONNX file to run, as a path in the folder, where it holds several; None for that of `backend`.
        threads: CPU threads; None for all cores.
        max_length: longest input in tokens; None for what the model was trained on, else what the folder names.
        batch_size, batch_tokens: the most in a batch, padding counted. Int8 finds ranges of activations in a whole
            batch: batch_size 1 gives the bits of inputs served one by one.
        has_unanswerable: whether a reader may answer that a text holds no answer; None for what is recorded of its
            training (SQuAD v2), else False.

    Returns:
        A `Labeller`, `Scorer`, `Tagger`, `Reader` or `Embedder`: called with a list of inputs it returns a list of
        answers; its `stream` takes and yields any number of them in bounded memory.

    Raises:
        ModelError: the folder cannot be run.
    """
    opened = Folder.read(Path(folder))
    for name, value, least in (
        ("batch_size", batch_size, 1),
        ("batch_tokens", batch_tokens, 1),
        ("threads", threads, 1),
        ("max_length", max_length, MOST_SPECIAL_TOKENS),
    ):
        if value is not None and value < least:
            raise ModelError(f"{name} must be at least {least}, got {value}")
    if max_length is not None and (wrong := [*position_mistakes("max_length", max_length, opened.positions, folder)]):
        raise ModelError(*wrong)
    if file is not None and backend != "auto":
        raise ModelError(f"backend must not be given with file, got {backend} and {file}")
    session = Session(opened.graph(backend) if file is None else opened.named_graph(file), threads)
    model = model_of(opened, session, max_length, batch_size, batch_tokens)
    if has_unanswerable is not None:
        if not isinstance(model, Reader):
            raise ModelError(f"has_unanswerable must be given for a reader, got a {type(model).__name__}")
        model.has_unanswerable = has_unanswerable
    return model


def model_of(folder: Folder, session: Network, max_length: int | None, batch_size: int, batch_tokens: int) -> Model:
    """Return the callable of a folder's kind, whatever runs its network; arguments and errors as in `load`."""
    kind, longest = kind_of(folder, session), max_length or folder.longest
    if kind is Reader and max_length is None and "max_length" not in folder.record:
        longest = min(LENGTH_OF_QUESTIONS, longest)
    return kind(folder, session, longest, batch_size, batch_tokens)


def kind_of(folder: Folder, session: Network) -> type[Model]:
    """Return the class of a folder's kind, by its config and, where that names none, by its network's outputs.

    The config of an embedding model may name the masked LM that it was made from, as all-mpnet-base-v2's does.
    """
    if folder.kind in BY_KIND:
        kind = BY_KIND[folder.kind]
        wanted = "start_logits" if kind is Reader and "logits" not in session.outputs else "logits"
        if wanted in session.outputs:
            return kind
    elif "start_logits" in session.outputs:
        return Reader
    elif set(STATES) & set(session.outputs) and (folder.kind != "masked_lm" or has_modules(folder.path)):
        return Embedder
    raise ModelError(
        f"{folder.path} must label, score, tag, answer or embed texts, got a head of kind {folder.kind} with the "
        f"outputs {', '.join(session.outputs)}"
    )
