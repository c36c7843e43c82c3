"""The backends that run a network, in a table, behind one small interface. Importing this loads no torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from cutbert.exporters.session import OnnxRunner

if TYPE_CHECKING:
    import onnx

    from cutbert.model.task_model import TaskModel
    from cutbert.train.runner import Runner


class Backend(Protocol):
    """One way to run a network.

    Args:
        name: as the user gives it.
        batch_tokens: largest number of tokens per batch when rows are scored.
    """

    name: str
    batch_tokens: int

    def load(self, network: TaskModel | Path, threads: int) -> Runner:
        """Return a runner of a network, given in memory or as the path of `stored`."""
        ...

    def load_new(self, network: TaskModel, threads: int) -> Runner:
        """Return a runner of a network with new weights, to time it: quicker, without what trained weights need."""
        ...

    def stored(self, folder: Path) -> Path:
        """Return the path in a model folder of the file or folder this backend loads; it need not exist."""
        ...

    def store(self, model: TaskModel, path: Path) -> None:
        """Write the file this backend loads, where a model folder has none."""
        ...


class TorchBackend:
    """torch on the network's device, in float32 or in bf16."""

    batch_tokens = 4096

    def __init__(self, name: str, dtype: str) -> None:
        self.name, self.dtype = name, dtype

    def load(self, network: TaskModel | Path, threads: int) -> Runner:
        import copy

        import torch

        from cutbert.folders.load import load_model
        from cutbert.train.runner import TorchRunner

        model = load_model(network).model if isinstance(network, Path) else network
        dtype = getattr(torch, self.dtype)
        if next(model.parameters()).dtype != dtype:
            model = copy.deepcopy(model).to(dtype)
        return TorchRunner(model.eval())

    def load_new(self, network: TaskModel, threads: int) -> Runner:
        return self.load(network, threads)

    def stored(self, folder: Path) -> Path:
        return folder

    def store(self, model: TaskModel, path: Path) -> None:
        raise AssertionError("a model folder is what torch loads")


class OnnxBackend:
    """ONNX Runtime on the CPU, in float32 or in int8; rows are scored one by one, as they are served."""

    batch_tokens = 1

    def __init__(self, name: str) -> None:
        self.name = name

    def load(self, network: TaskModel | Path, threads: int) -> Runner:
        return OnnxRunner(network if isinstance(network, Path) else self.graph(network), threads)

    def load_new(self, network: TaskModel, threads: int) -> Runner:
        return OnnxRunner(self.new_graph(network), threads)

    def stored(self, folder: Path) -> Path:
        from cutbert.exporters.folder import FLOAT_FILE, FOLDER

        return folder / FOLDER / FLOAT_FILE

    def store(self, model: TaskModel, path: Path) -> None:
        from cutbert.exporters.folder import save_graph

        save_graph(self.graph(model), path)

    def graph(self, model: TaskModel) -> onnx.ModelProto:
        from cutbert.exporters.graph import build_graph

        return build_graph(model)

    def new_graph(self, model: TaskModel) -> onnx.ModelProto:
        """Return the graph of a network with new weights."""
        return self.graph(model)


class Int8Backend(OnnxBackend):
    """ONNX Runtime in int8, with activation ranges found at run time unless the stored file fixes them."""

    def stored(self, folder: Path) -> Path:
        from cutbert.exporters.folder import FOLDER
        from cutbert.exporters.int8 import instruction_set, int8_file

        return folder / FOLDER / int8_file(instruction_set())

    def graph(self, model: TaskModel) -> onnx.ModelProto:
        from cutbert.exporters.balance import balanced
        from cutbert.exporters.int8 import instruction_set, quantize

        return quantize(balanced(super().graph(model), model), instruction_set())

    def new_graph(self, model: TaskModel) -> onnx.ModelProto:
        from cutbert.exporters.int8 import instruction_set, quantize

        return quantize(super().graph(model), instruction_set())  # new weights have no outliers


BACKENDS: dict[str, Backend] = {
    each.name: each
    for each in (
        TorchBackend("torch", "float32"),
        TorchBackend("torch-bf16", "bfloat16"),
        OnnxBackend("onnx"),
        Int8Backend("onnx-int8"),
    )
}
