"""An ONNX graph in int8: weights per channel, activations by ranges found at run time or calibrated."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static

from cutbert.files import scratch_folder, temporary_files_in
from cutbert.lacks import check_room, naming_lacks

# A processor's flag and the suffix of files made for it, best first.
INSTRUCTIONS = (("avx512_vnni", "avx512_vnni"), ("avx_vnni", "avx_vnni"), ("avx512_f", "avx512"), ("avx2", "avx2"))
WITH_INT8_DOT = ("avx512_vnni", "avx_vnni", "arm64")
COPIES = 4  # of the float32 graph, that the quantiser writes at a time, generously
LARGEST, LARGEST_7_BITS = 127, 64  # of weights; with 7 bits ONNX Runtime's quantiser takes 64, not 63
QUANTIZED = ["MatMul", "Gather"]  # Gather: the token table is half of a small model's file, and int8 costs it no time

Feeds = dict[str, NDArray[np.int64]]


def instruction_set() -> str:
    """Return the instructions this processor computes int8 with, as the suffix of a file's name."""
    capabilities = torch.cpu.get_capabilities()
    if capabilities.get("architecture") in ("aarch64", "arm64"):
        return "arm64"
    return next((suffix for flag, suffix in INSTRUCTIONS if capabilities.get(flag)), "generic")


def int8_file(instructions: str) -> str:
    """Return the name of the int8 file for a set of instructions, as optimum and sentence-transformers name it."""
    return f"model_qint8_{instructions}.onnx"


def has_int8_dot(instructions: str) -> bool:
    """Return whether a set of instructions multiplies 8-bit integers and adds the products in 32 bits."""
    return instructions in WITH_INT8_DOT


def quantize(model: onnx.ModelProto, instructions: str, calibration: Sequence[Feeds] | None = None) -> onnx.ModelProto:
    """Return a graph of `build_graph` in int8; the given graph is not changed.

    A processor without int8 dot products adds pairs of products in 16 bits, which may overflow: there weights get
    7 bits (`reduce_range`).

    Args:
        model: the graph in float32.
        instructions: of `instruction_set`.
        calibration: batches of inputs that fix the activations' ranges; None for ranges found at run time.
    """
    reduce_range = not has_int8_dot(instructions)
    common: dict[str, Any] = {
        "op_types_to_quantize": QUANTIZED,
        "weight_type": QuantType.QInt8,
        "reduce_range": reduce_range,
    }
    with scratch_folder() as scratch, naming_lacks(scratch), temporary_files_in(scratch), quiet():
        check_room(str(scratch), COPIES * model.ByteSize())
        source, target = scratch / "float32.onnx", scratch / "int8.onnx"
        onnx.save(with_types(model), source)
        if calibration is None:
            options: dict[str, Any] = {"MatMulConstBOnly": True, "DefaultTensorType": TensorProto.FLOAT}
            quantize_dynamic(source, target, extra_options=options, **common)
        else:
            # Only the inputs of products are quantised, not their outputs: what follows is float32 anyway.
            options = {"OpTypesToExcludeOutputQuantization": QUANTIZED, "DefaultTensorType": TensorProto.FLOAT}
            quantize_static(
                source,
                target,
                Batches(calibration),
                quant_format=QuantFormat.QDQ,
                activation_type=QuantType.QUInt8,
                extra_options=options,
                per_channel=True,
                **common,
            )
        quantized = onnx.load(target)
    if calibration is None:
        give_channels_scales(quantized.graph, model.graph, LARGEST_7_BITS if reduce_range else LARGEST)
    del quantized.graph.value_info[:]  # stale: it may name types from before quantisation, which onnx then refuses
    put_in_order(quantized.graph)
    return quantized


def give_channels_scales(quantized: onnx.GraphProto, graph: onnx.GraphProto, largest: int) -> None:
    """Give each output of a product a scale of its own, in a graph that was quantised with one scale a matrix.

    The quantiser does the same with `per_channel`, to the bit, in a Python loop over all outputs of all products:
    half of a minute for twelve layers of 768 units.

    Args:
        quantized: the graph in int8; changed.
        graph: the graph in float32 that it was made of.
        largest: the largest weight in int8.
    """
    products = {node.input[1] for node in graph.node if node.op_type == "MatMul"}
    made = {each.name: each for each in quantized.initializer}
    for weight in graph.initializer:
        if weight.name in products:
            values = numpy_helper.to_array(weight)
            scales = 2.0 * np.abs(values).max(0).astype(np.float64) / (2 * largest)
            scales = np.where(scales < np.finfo(np.float32).tiny, 1.0, scales).astype(np.float32)
            levels = np.clip(np.round(values / scales), -128, 127).astype(np.int8)
            parts = {"quantized": levels, "scale": scales, "zero_point": np.zeros(scales.shape, np.int8)}
            for part, array in parts.items():
                name = f"{weight.name}_{part}"
                made[name].CopyFrom(numpy_helper.from_array(array, name))


def put_in_order(graph: onnx.GraphProto) -> None:
    """Put nodes behind those that they read: the quantiser's own order overlooks what branches of an `If` read."""
    waiting, ordered = list(graph.node), list[onnx.NodeProto]()
    made_later = {name for node in waiting for name in node.output}
    while waiting:
        still: list[onnx.NodeProto] = []
        for node in waiting:
            if reads(node) & made_later:
                still.append(node)
            else:
                ordered.append(node)
                made_later -= set(node.output)
        waiting = still
    del graph.node[:]
    graph.node.extend(ordered)


def reads(node: onnx.NodeProto) -> set[str]:
    """Return the names that a node reads, and the nodes of its branches."""
    inner = (each for attribute in node.attribute for each in attribute.g.node)
    return set(node.input).union(*map(reads, inner))


def with_types(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy that declares the inputs of products float32: shape inference stops at fused operators."""
    typed = onnx.ModelProto()
    typed.CopyFrom(model)
    weights = {each.name for each in model.graph.initializer}
    inputs = {name for node in model.graph.node if node.op_type == "MatMul" for name in node.input} - weights
    typed.graph.value_info.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in sorted(inputs)
    )
    return typed


class Batches(CalibrationDataReader):
    """Yields the calibration batches one by one, as onnxruntime asks for them."""

    def __init__(self, batches: Sequence[Feeds]) -> None:
        self.batches = iter(batches)

    def get_next(self) -> Feeds | None:
        return next(self.batches, None)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the quantiser's warnings about its own steps."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
