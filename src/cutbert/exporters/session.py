"""Runs an ONNX file in ONNX Runtime on the CPU. Loads no torch, so that memory is measured as on a server.

Axes: B batch, S sequence, C classes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cutbert.lacks import library_errors

if TYPE_CHECKING:
    from onnx import ModelProto


class OnnxRunner:
    """A loaded ONNX network; a call runs one batch and returns its first output, the logits.

    Args:
        model: a file, or a model in memory.
        threads: within one operator.

    Raises:
        ModelError: ONNX Runtime cannot load it.
    """

    def __init__(self, model: Path | ModelProto, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        source = str(model) if isinstance(model, Path) else model.SerializeToString()
        self.name = str(model) if isinstance(model, Path) else "the graph"
        with library_errors(f"{self.name}: ONNX Runtime cannot load it", self.name):
            self.session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        self.inputs = tuple(each.name for each in self.session.get_inputs())
        self.outputs = [each.name for each in self.session.get_outputs()][:1]

    def __call__(
        self,
        input_ids: NDArray[np.int64],
        attention_mask: NDArray[np.int64] | None = None,
        token_type_ids: NDArray[np.int64] | None = None,
    ) -> NDArray[np.float32]:
        feeds: dict[str, Any] = {
            "input_ids": input_ids,
            "attention_mask": np.ones_like(input_ids) if attention_mask is None else attention_mask,
            "token_type_ids": np.zeros_like(input_ids) if token_type_ids is None else token_type_ids,
        }
        feeds = {name: feeds[name] for name in self.inputs}
        with library_errors(f"{self.name}: ONNX Runtime cannot run it", self.name):
            logits: NDArray[np.float32] = self.session.run(self.outputs, feeds)[0]
        return logits
