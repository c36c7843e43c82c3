"""An ONNX graph in int8: weights per channel, activations by their range at run time or by a calibrated one."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static

# Flags of a processor and the ending by which files made for it are known, best first.
INSTRUCTIONS = (("avx512_vnni", "avx512_vnni"), ("avx_vnni", "avx_vnni"), ("avx512_f", "avx512"), ("avx2", "avx2"))
WITH_INT8_DOT = ("avx512_vnni", "avx_vnni", "arm64")
QUANTIZED = ["MatMul", "Gather"]  # the token table is half of a small model's file, and costs no time in int8

Feeds = dict[str, NDArray[np.int64]]


def instruction_set() -> str:
    """Return what this processor computes int8 with, as the ending of a file's name."""
    found = torch.cpu.get_capabilities()
    if found.get("architecture") in ("aarch64", "arm64"):
        return "arm64"
    return next((ending for flag, ending in INSTRUCTIONS if found.get(flag)), "generic")


def int8_file(instructions: str) -> str:
    """Return the name of the int8 file for a set of instructions, as other exporters have it."""
    return f"model_qint8_{instructions}.onnx"


def has_int8_dot(instructions: str) -> bool:
    """Return whether a set of instructions has products of 8-bit integers summed in 32 bits."""
    return instructions in WITH_INT8_DOT


def quantize(model: onnx.ModelProto, instructions: str, calibration: Sequence[Feeds] | None = None) -> onnx.ModelProto:
    """Return a graph of `build_graph` in int8; the given one is left as it is.

    Without int8 products of its own a processor adds pairs of products in 16 bits, which may overflow: weights have
    7 bits there.

    Args:
        model: the graph in float32.
        instructions: of `instruction_set`.
        calibration: inputs whose ranges activations get, each a batch; None for ranges found at run time.
    """
    common: dict[str, Any] = {
        "op_types_to_quantize": QUANTIZED,
        "per_channel": True,
        "weight_type": QuantType.QInt8,
        "reduce_range": not has_int8_dot(instructions),
    }
    with tempfile.TemporaryDirectory() as scratch, quiet():
        source, target = Path(scratch) / "float32.onnx", Path(scratch) / "int8.onnx"
        onnx.save(with_types(model), source)
        if calibration is None:
            options: dict[str, Any] = {"MatMulConstBOnly": True, "DefaultTensorType": TensorProto.FLOAT}
            quantize_dynamic(source, target, extra_options=options, **common)
        else:
            # Products alone are calibrated, and give float32: what follows them is float32 anyway.
            options = {"OpTypesToExcludeOutputQuantization": QUANTIZED, "DefaultTensorType": TensorProto.FLOAT}
            quantize_static(
                source,
                target,
                Batches(calibration),
                quant_format=QuantFormat.QDQ,
                activation_type=QuantType.QUInt8,
                extra_options=options,
                **common,
            )
        quantized = onnx.load(target)
    del quantized.graph.value_info[:]  # it may speak of types that are no more
    return quantized


def with_types(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy that says which inputs of products are float32: shape inference stops at fused operators."""
    typed = onnx.ModelProto()
    typed.CopyFrom(model)
    weights = {each.name for each in model.graph.initializer}
    inputs = {name for node in model.graph.node if node.op_type == "MatMul" for name in node.input} - weights
    typed.graph.value_info.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in sorted(inputs)
    )
    return typed


class Batches(CalibrationDataReader):
    """Hands the calibration's batches out one by one."""

    def __init__(self, batches: Sequence[Feeds]) -> None:
        self.batches = iter(batches)

    def get_next(self) -> Feeds | None:
        return next(self.batches, None)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the quantiser's advice about its own steps from the user."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
