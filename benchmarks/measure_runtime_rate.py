"""How near forward passes at batch 32 come to this machine's matrix rate: torch and ONNX Runtime, by dtype.

The rate of a type is the fastest product seen in it, by torch or by ONNX Runtime, at a large square or at the model's
own sizes. Work is the model's multiply-adds; in int8 those of attention itself stay float32. ONNX Runtime's own
profile says which operators take the time.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from cutbert.bench.backends import BACKENDS, OnnxBackend
from cutbert.folders.load import load_model
from cutbert.model.task_model import TaskModel
from cutbert.shape.cost import cost_of
from cutbert.train.machine import num_threads, package_version
from cutbert.train.progress import progress_bar
from matrix_rate import SQUARE, MatrixRates, rate_of
from recording import clock_name, clock_of, make_parser, numbers, parse, recorded, spread

TYPES = {"torch": "float32", "torch-bf16": "bf16", "onnx": "float32", "onnx-int8": "int8"}
PRODUCTS = {"float32": ("MatMul", np.float32, np.float32), "int8": ("MatMulInteger", np.uint8, np.int8)}
SEED = 0
OPSET, IR_VERSION = 20, 10
KERNEL = "_kernel_time"


def main(argv: Sequence[str] | None = None) -> None:
    parser = make_parser(__file__, __doc__)
    parser.add_argument("--run", type=Path, required=True, help="run or model folder; only read")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--square", type=int, default=SQUARE, help="size of the largest matrix product")
    parser.add_argument("--lengths", type=numbers, default=[32, 128], help="tokens of every text, by commas")
    parser.add_argument("--rounds", type=int, default=8)
    args = parse(parser, argv)
    record = recorded("runtime_rate", args, lambda: measure(args), seeds=[SEED])
    for each in record["passes"]:
        share, speed = each["share_of_matrix_rate"]["median_share"], each["macs_per_s"]["median_macs_per_s"]
        print(f"{each['backend']}, {each['length']} tokens: {speed / 1e9:.1f} G multiply-adds a second, {share:.1%}")
    for each in record["profiles"]:
        told = ", ".join(f"{one['name']} {one['share']:.0%}" for one in each["operators"][:5])
        print(f"{each['backend']}, {each['length']} tokens: {told}")


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Time passes beside products, round by round, then profile."""
    model = load_model(str(args.run)).model.eval()
    draw = np.random.default_rng(SEED)
    batches = {length: draw.integers(model.shape.vocab_size, size=(args.batch_size, length)) for length in args.lengths}
    with num_threads(args.threads) as threads:
        rates = Rates(model, args.batch_size * max(args.lengths), threads, args.square)
        seconds = time_passes(model, batches, rates, args.rounds, threads)
        profiles = [
            {"backend": name, "length": length, **profiled(BACKENDS[name], model, batch, threads, args.rounds)}
            for name in BACKENDS
            if name.startswith("onnx")
            for length, batch in batches.items()
        ]
    return {
        "run": str(args.run),
        "onnxruntime": package_version("onnxruntime"),
        "shape": model.shape.to_json(),
        "batch_size": args.batch_size,
        "rounds": args.rounds,
        "threads_used": threads,
        "clock": clock_name(threads),
        "matrix_rate": rates.to_json(),
        "passes": [described(model, *key, times, args.batch_size, rates) for key, times in seconds.items()],
        "profiles": profiles,
    }


class Rates:
    """The fastest matrix products of this machine by dtype: torch's, and ONNX Runtime's at the same sizes.

    Args:
        model: gives its own sizes.
        num_tokens: in a batch.
        threads: of ONNX Runtime; torch's are set, and the clock with them.
        square: size of the largest product.
    """

    def __init__(self, model: TaskModel, num_tokens: int, threads: int, square: int) -> None:
        self.torch = MatrixRates(model.shape, num_tokens, square, clock_of(threads))
        self.products = {
            (kind, name): onnx_product(kind, *size, threads)
            for kind in PRODUCTS
            for name, size in self.torch.sizes.items()
        }
        self.rates: dict[tuple[str, str], list[float]] = {key: [] for key in self.products}

    def measure(self) -> None:
        """Time every product a few times and keep each one's best."""
        self.torch.measure()
        for key, product in self.products.items():
            self.rates[key].append(rate_of(product, self.torch.sizes[key[1]], self.torch.clock))

    def best(self, kind: str) -> float:
        """Return the highest rate seen in a dtype, in multiply-adds per second."""
        seen = [max(values) for key, values in self.rates.items() if key[0] == kind]
        return max([*seen, *([] if kind == "int8" else [self.torch.best(kind)])])

    def to_json(self) -> dict[str, Any]:
        onnx_rates: dict[str, dict[str, Any]] = defaultdict(dict)
        for (kind, name), values in self.rates.items():
            onnx_rates[kind][name] = spread(values, "macs_per_s")
        best = {f"best_{kind}_macs_per_s": self.best(kind) for kind in dict.fromkeys(TYPES.values())}
        return {**best, "torch": self.torch.to_json(), "onnx": dict(onnx_rates)}


def onnx_product(kind: str, rows: int, inner: int, columns: int, threads: int) -> Callable[[], Any]:
    """Return a product by constant weights in ONNX Runtime, ready to run; in int8 its sums are int32.

    Inputs and outputs stay where they are, so that nothing but the product is timed.
    """
    operator, dtype, weight_dtype = PRODUCTS[kind]
    draw = np.random.default_rng(SEED)
    x = draw.integers(0, 100, (rows, inner)).astype(dtype)
    weight = draw.integers(-60, 60, (inner, columns)).astype(weight_dtype)
    out = np.int32 if kind == "int8" else np.float32
    graph = helper.make_graph(
        [helper.make_node(operator, ["x", "weight"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)],
        [
            helper.make_tensor_value_info(
                "y", TensorProto.INT32 if kind == "int8" else TensorProto.FLOAT, (rows, columns)
            )
        ],
        [numpy_helper.from_array(weight, "weight")],
    )
    opset = [helper.make_opsetid("", OPSET)]
    session = session_of(helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION), threads)
    binding = session.io_binding()
    binding.bind_ortvalue_input("x", onnxruntime.OrtValue.ortvalue_from_numpy(x))
    binding.bind_ortvalue_output("y", onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros((rows, columns), out)))
    return lambda: session.run_with_iobinding(binding)


def session_of(model: onnx.ModelProto, threads: int, profile: Path | None = None) -> onnxruntime.InferenceSession:
    """Return a session on the CPU as our own runner has it, with a profile where one is wanted."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, str(profile)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def time_passes(
    model: TaskModel, batches: Mapping[int, NDArray[np.int64]], rates: Rates, rounds: int, threads: int
) -> dict[tuple[str, int], list[float]]:
    """Return the seconds of every pass by backend and length; a round times products, then all in shuffled order."""
    runners = {name: BACKENDS[name].load(model, threads) for name in TYPES}
    seconds: dict[tuple[str, int], list[float]] = {(name, length): [] for name in runners for length in batches}
    order, clock = random.Random(SEED), clock_of(threads)
    with progress_bar("rounds", rounds) as bar:
        for done in range(rounds):
            rates.measure()
            for name, length in order.sample(list(seconds), len(seconds)):
                runners[name](batches[length])
                begun = clock()
                runners[name](batches[length])
                seconds[name, length].append(clock() - begun)
            bar(done + 1)
    return seconds


def described(
    model: TaskModel, backend: str, length: int, seconds: list[float], batch_size: int, rates: Rates
) -> dict[str, Any]:
    """Return the seconds of one pass and the share of the matrix rate they reach."""
    macs = batch_size * cost_of(model.shape, model.head_spec, length).macs
    reached = macs / np.array(seconds)
    return {
        "backend": backend,
        "length": length,
        "type": TYPES[backend],
        "macs": macs,
        "pass": spread(seconds, "s"),
        "macs_per_s": spread(reached, "macs_per_s"),
        "share_of_matrix_rate": spread(reached / rates.best(TYPES[backend]), "share"),
    }


def profiled(backend: Any, model: TaskModel, batch: NDArray[np.int64], threads: int, passes: int) -> dict[str, Any]:
    """Return which operators take a pass's time, as shares of it, by ONNX Runtime's own profile."""
    assert isinstance(backend, OnnxBackend)
    with tempfile.TemporaryDirectory() as work:
        session = session_of(backend.graph(model), threads, Path(work) / "profile")
        feeds = {"input_ids": batch, "attention_mask": np.ones_like(batch), "token_type_ids": np.zeros_like(batch)}
        feeds = {each.name: feeds[each.name] for each in session.get_inputs()}
        for _ in range(passes):
            session.run(None, feeds)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    whole = sum(each["dur"] for each in events if each["name"] == "model_run")
    spent: dict[str, list[int]] = defaultdict(list)
    for each in events:
        if each.get("cat") == "Node" and each["name"].endswith(KERNEL):
            spent[each["args"]["op_name"]].append(each["dur"])
    operators = sorted(spent.items(), key=lambda item: -sum(item[1]))
    return {
        "passes": passes,
        "profiled_pass_s": whole / passes / 1e6,
        "operators": [
            {"name": name, "share": round(sum(durations) / whole, 4), "calls_per_pass": len(durations) / passes}
            for name, durations in operators
        ],
        "outside_operators_share": round(1 - sum(map(sum, spent.values())) / whole, 4),
    }


if __name__ == "__main__":
    main()
