"""Operators for the same network side by side: norm, GELU, attention, products, in float32 and int8, in turn.

The base is the graph that export writes for the first layers; every variant replaces one of its operators, on the same
weights. Times on one thread are the processor's, which other work on the machine hardly changes, those on several the
clock's. `speed` is how many times faster than the base a variant is, round by round; `max_abs_diff` is from the base of
its own dtype. The record is written again after every size, so a stopped benchmark goes on where it was.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType, quantize_dynamic

from cutbert.exporters.graph import build_graph
from cutbert.exporters.int8 import QUANTIZED, instruction_set, quantize, with_types
from cutbert.exporters.session import OnnxRunner
from cutbert.files import scratch_folder
from cutbert.folders.load import load_model
from cutbert.surgery.extract import with_layers
from cutbert.train.machine import num_threads, package_version
from cutbert.train.progress import progress_bar
from operator_variants import VARIANTS, one_attention_operator, one_int8_attention_operator
from recording import clock_name, clock_of, make_parser, names, numbers, parse, record_so_far, spread, write_part

SEED = 0
BASE = "exported"
TOKENS_TIMED = 600  # of a variant in one round, at least
INT8_KINDS = {
    "one scale per weight": {"weight_type": QuantType.QInt8, "per_channel": False},
    "weights in uint8": {"weight_type": QuantType.QUInt8, "per_channel": True},
}


def main(argv: Sequence[str] | None = None) -> None:
    parser = make_parser(__file__, __doc__)
    parser.add_argument("--model", required=True, help="model folder of plain BERT layers; only read")
    parser.add_argument("--name", default="operators", help="of the record; another processor has one of its own")
    parser.add_argument("--dtypes", type=names, default=["int8", "float32"], help="by commas")
    parser.add_argument("--batch-sizes", type=numbers, default=[1, 32], help="by commas")
    parser.add_argument("--lengths", type=numbers, default=[16, 40, 128], help="tokens of the longest text, by commas")
    parser.add_argument("--layers", type=int, default=1, help="of the model that are timed, from the first")
    parser.add_argument("--rounds", type=int, default=8)
    args = parse(parser, argv)
    record = record_so_far(args.name, args, [SEED], lambda: {**about(args), "timings": []})
    done = {size_of(each) for each in record["timings"]}
    for dtype in args.dtypes:
        todo = [size for size in product([dtype], args.batch_sizes, args.lengths) if size not in done]
        for timings in measure(todo, args):
            record["timings"] += timings
            write_part(record, args)
    for each in record["timings"]:
        at = f"{each['dtype']}, {each['batch_size']} x {each['length']}"
        speed, spent = each["speed"]["median_ratio"], each["time"]["median_ms"]
        print(f"{at}: {each['variant']}: {spent:.2f} ms, {speed:.3f} of {BASE}")


def about(args: argparse.Namespace) -> dict[str, Any]:
    """Return what the record says of the model and of the clock."""
    with num_threads(args.threads) as threads:
        return {
            "model": Path(args.model).name,
            "layers": args.layers,
            "onnxruntime": package_version("onnxruntime"),
            "instructions": instruction_set(),
            "shape": load_model(args.model).model.shape.to_json(),
            "threads_used": threads,
            "clock": clock_name(threads),
        }


def size_of(timing: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(timing[name] for name in ("dtype", "batch_size", "length"))


def measure(sizes: Sequence[tuple[str, int, int]], args: argparse.Namespace) -> Iterator[list[dict[str, Any]]]:
    """Build every variant of the sizes' dtype, and time them in turn: yields a size's timings at a time."""
    if not sizes:
        return
    dtype = sizes[0][0]
    model = with_layers(load_model(args.model).model.eval(), range(args.layers))
    with num_threads(args.threads) as threads:
        graphs = (float_graphs if dtype == "float32" else int8_graphs)(build_graph(model))
        runners = {name: OnnxRunner(graph, threads) for name, graph in graphs.items()}
        for _, batch_size, length in sizes:
            feeds = drawn_feeds(model.shape.vocab_size, batch_size, length)
            at = {"dtype": dtype, "batch_size": batch_size, "length": length}
            yield [{**at, **each} for each in timed(runners, feeds, args.rounds, threads)]


def float_graphs(graph: onnx.ModelProto) -> dict[str, onnx.ModelProto]:
    """Return the base and every variant in float32, by name."""
    variants = {name: rewrite(graph) for name, rewrite in VARIANTS.items()}
    return {BASE: graph, **variants, "Attention": one_attention_operator(graph)}


def int8_graphs(graph: onnx.ModelProto) -> dict[str, onnx.ModelProto]:
    """Return the base and every variant in int8, by name."""
    graphs = {BASE: quantize(graph, instruction_set())}
    graphs |= {name: quantize(rewrite(graph), instruction_set()) for name, rewrite in VARIANTS.items()}
    graphs["QAttention"] = one_int8_attention_operator(graphs[BASE])
    return graphs | {name: quantized(graph, **options) for name, options in INT8_KINDS.items()}


def quantized(graph: onnx.ModelProto, **options: Any) -> onnx.ModelProto:
    """Return a graph quantised by ONNX Runtime with other options than the exporter's."""
    with scratch_folder() as scratch:
        onnx.save(with_types(graph), scratch / "float32.onnx")
        extra = {"MatMulConstBOnly": True, "DefaultTensorType": onnx.TensorProto.FLOAT}
        quantize_dynamic(
            scratch / "float32.onnx",
            scratch / "int8.onnx",
            op_types_to_quantize=QUANTIZED,
            extra_options=extra,
            **options,
        )
        made = onnx.load(scratch / "int8.onnx")
    del made.graph.value_info[:]
    return made


def drawn_feeds(vocab_size: int, batch_size: int, length: int) -> dict[str, NDArray[np.int64]]:
    """Return a batch of drawn tokens: the first text as long as said, others a third of it at least."""
    draw = np.random.default_rng(SEED)
    lengths = draw.integers(max(1, length // 3), length + 1, batch_size)
    lengths[0] = length
    mask = (np.arange(length) < lengths[:, None]).astype(np.int64)
    return {"input_ids": draw.integers(vocab_size, size=(batch_size, length)), "attention_mask": mask}


def timed(
    runners: dict[str, OnnxRunner], feeds: dict[str, NDArray[np.int64]], rounds: int, threads: int
) -> list[dict[str, Any]]:
    """Return the times of every variant in a batch, and how much faster than the base it is."""
    batch_size, length = feeds["input_ids"].shape
    passes, clock = max(1, TOKENS_TIMED // feeds["input_ids"].size), clock_of(threads)
    answers = {name: first_tokens(runner(**feeds)) for name, runner in runners.items()}
    times: dict[str, list[float]] = {name: [] for name in runners}
    order = random.Random(SEED)
    with progress_bar(f"{batch_size} x {length}", rounds) as bar:
        for done in range(rounds):
            for name in order.sample(list(runners), len(runners)):
                runners[name](**feeds)
                begun = clock()
                for _ in range(passes):
                    runners[name](**feeds)
                times[name].append(1000 * (clock() - begun) / passes)
            bar(done + 1)
    base = np.asarray(times[BASE])
    return [
        {
            "variant": name,
            "time": spread(values, "ms"),
            "speed": spread(base / np.asarray(values), "ratio"),
            "max_abs_diff": float(np.abs(answers[name] - answers[BASE]).max()),
        }
        for name, values in times.items()
    ]


def first_tokens(output: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return logits as they are, of states those of the first tokens, which are never padding."""
    return output[:, 0] if output.ndim == 3 else output


if __name__ == "__main__":
    main()
