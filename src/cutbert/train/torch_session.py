"""A model folder in torch behind the runtime's callables, so that texts become answers as with its ONNX files.

Axes: B batch, S sequence.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cutbert.data.batches import MAX_TOKENS
from cutbert.data.tokens import bare_engine
from cutbert.folders.load import load_model
from cutbert.folders.provenance import FILE_NAME
from cutbert.model.task_model import TaskModel
from cutbert.runtime.folder import Folder, optional_object, read_object
from cutbert.runtime.load import model_of
from cutbert.runtime.runner import Model, Outputs, padded
from cutbert.runtime.vectors import STATES
from cutbert.shape.source import ModelSource
from cutbert.train.engine import make_engine
from cutbert.train.predict_settings import VECTOR_KINDS, AnswerSettings
from cutbert.train.runner import TorchRunner, products_for
from cutbert.train.settings import TrainSettings


class TorchSession:
    """A network in torch, on its own device, as a `runtime.runner.Network`.

    Args:
        model: the network, in evaluation mode.
        path: of its folder, for messages.
    """

    def __init__(self, model: TaskModel, path: Path) -> None:
        self.path, self.runner = path, TorchRunner(model)
        self.outputs: tuple[str, ...] = (STATES[0] if model.head_spec.kind in VECTOR_KINDS else "logits",)
        self.has_types = model.shape.num_token_types > 1

    def __call__(self, encodings: Sequence[Any], pad_id: int) -> tuple[Outputs, NDArray[np.int64]]:
        ids, mask, types = padded(encodings, pad_id)
        with products_for(self.runner.model):
            values = self.runner(ids, None if mask.all() else mask, types if self.has_types else None)
        return {self.outputs[0]: values}, mask


def torch_model(source: ModelSource, settings: AnswerSettings) -> Model:
    """Return the callable that runs a model folder in torch, in batches of float32, which change no answer."""
    config, record = read_object(source.folder / "config.json"), optional_object(source.folder / FILE_NAME)
    engine = make_engine(TrainSettings(device=settings.device, threads=settings.threads))
    loaded = load_model(source)
    session = TorchSession(loaded.model.to(engine.device), source.folder)
    folder = Folder(source.folder, config, record, bare_engine(loaded.tokenizer, loaded.source).to_str())
    return model_of(folder, session, settings.max_length, MAX_TOKENS, MAX_TOKENS)
