"""The same classifier in other runtimes and by other recipes, each as something that answers a batch with its logits.

Rivals that need a package which is not installed are named with that package; nothing is installed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import TensorProto
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.transformers.fusion_options import FusionOptions
from onnxruntime.transformers.optimizer import optimize_model
from torch import nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from cutbert.exporters.graph import build_graph
from cutbert.exporters.int8 import instruction_set, quantize
from cutbert.exporters.session import OnnxRunner
from cutbert.folders.load import load_model
from cutbert.train.runner import Runner

Feeds = dict[str, NDArray[np.int64]]
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
OURS = "cutbert int8"
EXACT = "torch float32"  # whose logits the others are compared with
OPSET = 18
CALIBRATION = (32, 32)  # texts and tokens that fix static ranges
DYNAMIC_GROUP = "DYNAMIC_QUANTIZATION_GROUP_SIZE"  # OpenVINO's: inputs of products rounded in groups; 0 for not at all


class Rivals:
    """One model folder, and what makes each rival of it.

    Args:
        model: a folder that transformers reads; without a classifier it gets a random one.
        work: an existing folder for files.
        threads: of every rival.
        draw: returns a batch of inputs of a batch size and a length.
    """

    def __init__(self, model: str, work: Path, threads: int, draw: Callable[[int, int], Feeds]) -> None:
        self.folder, self.work, self.threads, self.draw = work / "model", work, threads, draw
        torch.manual_seed(0)
        AutoModelForSequenceClassification.from_pretrained(model).save_pretrained(self.folder)
        AutoTokenizer.from_pretrained(model).save_pretrained(self.folder)
        self.makers: dict[str, tuple[str | None, Callable[[], Runner]]] = {
            "cutbert float32": (None, lambda: self.ours(is_int8=False)),
            OURS: (None, lambda: self.ours(is_int8=True)),
            "ONNX Runtime float32": (None, lambda: self.onnx(self.exported())),
            "ONNX Runtime float32, O2": (None, lambda: self.onnx(self.optimized("O2"))),
            "ONNX Runtime float32, O3": (None, lambda: self.onnx(self.optimized("O3"))),
            "ONNX Runtime float32, dynamo": ("onnxscript", lambda: self.onnx(self.exported_by_dynamo())),
            "ONNX Runtime int8, one scale per weight": (None, lambda: self.onnx(self.dynamic(self.exported()))),
            "ONNX Runtime int8, avx512_vnni": (None, lambda: self.onnx(self.avx512_vnni(self.exported()))),
            "ONNX Runtime int8, O2, avx512_vnni": (None, lambda: self.onnx(self.avx512_vnni(self.optimized("O2")))),
            "ONNX Runtime int8, O3, avx512_vnni": (None, lambda: self.onnx(self.avx512_vnni(self.optimized("O3")))),
            "ONNX Runtime int8, O3, one scale": (None, lambda: self.onnx(self.dynamic(self.optimized("O3")))),
            "OpenVINO float32": ("openvino", lambda: self.openvino()),
            "OpenVINO bf16": ("openvino", lambda: self.openvino(precision="bf16")),
            "OpenVINO int8 weights": ("nncf", lambda: self.openvino("compressed", DYNAMIC_GROUP, 0)),
            "OpenVINO int8 dynamic": ("nncf", lambda: self.openvino("compressed", DYNAMIC_GROUP, 32)),
            "OpenVINO int8 static": ("nncf", lambda: self.openvino("quantized")),
            EXACT: (None, lambda: torch_runner(self.network())),
            "torch bf16": (None, lambda: torch_runner(self.network().to(torch.bfloat16))),
            "torch bf16, compiled": (None, self.compiled),
            "torch int8 dynamic": (None, self.torch_dynamic),
            "torchao int8 dynamic": ("torchao", self.torchao),
        }

    def missing(self, name: str) -> str | None:
        """Return the package a rival lacks, None where it can be made."""
        package = self.makers[name][0]
        needed = [package] if package != "nncf" else ["openvino", "nncf"]
        return next((each for each in needed if each is not None and find_spec(each) is None), None)

    def make(self, name: str) -> Runner:
        return self.makers[name][1]()

    def network(self, attention: str = "sdpa") -> nn.Module:
        network: nn.Module = AutoModelForSequenceClassification.from_pretrained(
            self.folder, attn_implementation=attention, dtype=torch.float32
        )
        return network.eval()

    def ours(self, *, is_int8: bool) -> Runner:
        """Return what export writes."""
        graph = build_graph(load_model(str(self.folder)).model.eval())
        return OnnxRunner(quantize(graph, instruction_set()) if is_int8 else graph, self.threads)

    def onnx(self, path: Path) -> Runner:
        return OnnxRunner(path, self.threads)

    def exported(self) -> Path:
        """Return the file of torch's tracing export, which optimum uses too."""
        axes = {name: {0: "batch", 1: "length"} for name in INPUTS} | {"logits": {0: "batch"}}
        return self.export("exported", args=self.example(), dynamo=False, dynamic_axes=axes)

    def exported_by_dynamo(self) -> Path:
        """Return the file of torch's newer export, in which ONNX Runtime's optimizer finds no attention."""
        size = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length")}
        kwargs = dict(zip(INPUTS, self.example(), strict=True))
        shapes = dict.fromkeys(INPUTS, size)
        return self.export(
            "dynamo", args=(), kwargs=kwargs, dynamo=True, dynamic_shapes=shapes, external_data=False, verbose=False
        )

    def export(self, name: str, **options: Any) -> Path:
        path = self.work / f"{name}.onnx"
        if not path.is_file():
            names: dict[str, Any] = {"input_names": list(INPUTS), "output_names": ["logits"], "opset_version": OPSET}
            torch.onnx.export(self.network("eager"), f=str(path), **names, **options)
        return path

    def example(self) -> tuple[torch.Tensor, ...]:
        feeds = self.draw(2, 8)
        return tuple(torch.from_numpy(feeds[name]) for name in INPUTS)

    def optimized(self, level: str) -> Path:
        """Return the export through ONNX Runtime's transformers optimizer, with optimum's settings of O2 or O3."""
        path = self.work / f"{level}.onnx"
        if not path.is_file():
            config = load_model(str(self.folder)).model.shape
            options = FusionOptions("bert")
            options.enable_gelu_approximation = level == "O3"
            heads = config.layers[0].num_heads
            made = optimize_model(str(self.exported()), "bert", heads, config.hidden_size, options, opt_level=2)
            made.save_model_to_file(str(path))
        return path

    def dynamic(self, source: Path) -> Path:
        """Return a file quantised as ONNX Runtime does by default: a scale for each weight."""
        return self.quantized(source, "one_scale", per_channel=False)

    def avx512_vnni(self, source: Path) -> Path:
        """Return a file quantised as optimum's `avx512_vnni(is_static=False)`: a scale for each output channel."""
        return self.quantized(source, "avx512_vnni", per_channel=True)

    def quantized(self, source: Path, name: str, *, per_channel: bool) -> Path:
        path = source.with_name(f"{source.stem}_{name}.onnx")
        options = {"DefaultTensorType": TensorProto.FLOAT}  # shape inference stops at fused operators
        quantize_dynamic(
            str(source), str(path), per_channel=per_channel, weight_type=QuantType.QInt8, extra_options=options
        )
        return path

    def openvino(
        self, kind: str = "float", option: str | None = None, value: Any = None, *, precision: str = "f32"
    ) -> Runner:
        """Return the export in OpenVINO, in int8 as nncf makes it."""
        import openvino

        model = openvino.Core().read_model(self.exported())
        if kind != "float":
            import nncf

            if kind == "compressed":
                model = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_ASYM)
            else:
                texts, tokens = CALIBRATION
                rows = nncf.Dataset([self.draw(1, tokens) for _ in range(texts)])
                model = nncf.quantize(model, rows, model_type=nncf.ModelType.TRANSFORMER, subset_size=texts)
        given = {} if option is None else {option: value}
        return openvino_runner(model, self.threads, {"INFERENCE_PRECISION_HINT": precision, **given})

    def compiled(self) -> Runner:
        return torch_runner(torch.compile(self.network().to(torch.bfloat16), dynamic=True))

    def torch_dynamic(self) -> Runner:
        return torch_runner(torch.ao.quantization.quantize_dynamic(self.network(), {nn.Linear}, torch.qint8))

    def torchao(self) -> Runner:
        from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

        network = self.network()
        quantize_(network, Int8DynamicActivationInt8WeightConfig())
        return torch_runner(network)


class FeedsRunner:
    """Runs a batch by a function of its named inputs, without those that are None.

    Args:
        answer: takes the feeds, int64 [B, S] each, and returns logits [B, C].
    """

    def __init__(self, answer: Callable[[Feeds], NDArray[np.float32]]) -> None:
        self.answer = answer

    def __call__(
        self,
        input_ids: NDArray[np.int64],
        attention_mask: NDArray[np.int64] | None = None,
        token_type_ids: NDArray[np.int64] | None = None,
    ) -> NDArray[np.float32]:
        given = zip(INPUTS, (input_ids, attention_mask, token_type_ids), strict=True)
        return self.answer({name: array for name, array in given if array is not None})


def torch_runner(network: Callable[..., Any]) -> Runner:
    """Return what runs a network of transformers in torch."""

    @torch.inference_mode()
    def answer(feeds: Feeds) -> NDArray[np.float32]:
        logits = network(**{name: torch.from_numpy(each) for name, each in feeds.items()}).logits
        array: NDArray[np.float32] = logits.float().numpy()
        return array

    return FeedsRunner(answer)


def openvino_runner(model: Any, threads: int, settings: Mapping[str, Any]) -> Runner:
    """Return what runs a network in OpenVINO, set to answer one request as fast as it can.

    Args:
        model: OpenVINO's.
        threads: of the processor.
        settings: more of OpenVINO's settings.
    """
    import openvino

    common = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
    request = openvino.Core().compile_model(model, "CPU", {**common, **settings}).create_infer_request()
    return FeedsRunner(lambda feeds: np.array(request.infer(feeds, share_inputs=True)[0]))
