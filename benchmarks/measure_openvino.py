"""OpenVINO beside ONNX Runtime: one model's exported files on both, batch 1 over the task's lengths, interleaved.

Float32, bf16 where OpenVINO chooses it, int8 with ranges found at run time and on training rows. Needs openvino: pip
install openvino.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import cutbert
from cutbert.data.dataset import load_dataset
from cutbert.data.rows import Rows
from cutbert.data.settings import DataSettings
from cutbert.exporters.folder import FLOAT_FILE, FOLDER
from cutbert.exporters.int8 import instruction_set, int8_file
from cutbert.exporters.session import OnnxRunner
from cutbert.hub.load import load_model
from cutbert.train.machine import num_threads, package_version
from cutbert.train.progress import progress_bar
from cutbert.train.run_folder import RunFolder
from cutbert.train.runner import Runner
from recording import make_parser, parse, recorded, spread

SEED = 0
CALIBRATIONS = ("dynamic", "static")
BASE = "ONNX Runtime int8 dynamic"  # what the others are shares of: our onnx-int8 backend


def main(argv: Sequence[str] | None = None) -> None:
    parser = make_parser(__file__, __doc__)
    parser.add_argument("--run", type=Path, required=True, help="finished run folder on texts with labels; only read")
    parser.add_argument("--texts", type=int, default=100, help="of dev, drawn at random")
    parser.add_argument("--rounds", type=int, default=12)
    args = parse(parser, argv)
    record = recorded("openvino_latency", args, lambda: measure(args), seeds=[SEED])
    for each in record["runners"]:
        share = each["share_of_onnx_int8"]
        print(f"{each['name']}: {each['p50']['median_ms']:.2f} ms, {share['median_ratio']:.2f} of {BASE}")


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Export, load everything, and time them in turn."""
    feeds = real_feeds(args)
    with tempfile.TemporaryDirectory() as work, num_threads(args.threads) as threads:
        runners = runners_of(exported(args, Path(work)), threads)
        answers = {name: [runner(**feed) for feed in feeds] for name, runner in runners.items()}
        times: dict[str, list[float]] = {name: [] for name in runners}
        with progress_bar("latency", args.rounds) as bar:
            for done in range(args.rounds):
                for name, runner in runners.items():
                    times[name].append(median_ms(runner, feeds))
                bar(done + 1)
    base, uncut = np.asarray(times[BASE]), answers["ONNX Runtime float32"]
    return {
        "run": str(args.run),
        "openvino": package_version("openvino"),
        "onnxruntime": package_version("onnxruntime"),
        "texts": len(feeds),
        "runners": [
            {
                "name": name,
                "p50": spread(values, "ms"),
                "share_of_onnx_int8": spread(np.asarray(values) / base, "ratio"),
                "max_abs_diff": max(
                    float(np.abs(one - other).max()) for one, other in zip(answers[name], uncut, strict=True)
                ),
            }
            for name, values in times.items()
        ],
    }


def real_feeds(args: argparse.Namespace) -> list[dict[str, NDArray[np.int64]]]:
    """Return the inputs of texts of dev, one by one, at their own lengths."""
    data = DataSettings(**RunFolder.read(args.run).settings["data"])
    rows, tokenizer = load_dataset(data).dev, load_model(str(args.run)).tokenizer
    assert isinstance(rows, Rows)
    drawn = np.random.default_rng(SEED).permutation(len(rows))[: args.texts]
    taken = rows.take(np.sort(drawn))
    pairs = [taken.text] if taken.text_pair is None else [taken.text, taken.text_pair]
    return [
        {name: np.asarray([ids], dtype=np.int64) for name, ids in tokenizer(*each, truncation=True).items()}
        for each in zip(*pairs, strict=True)
    ]


def exported(args: argparse.Namespace, work: Path) -> dict[str, Path]:
    """Return the files of the run's model by dtype; ranges are found on what it was trained on."""
    files: dict[str, Path] = {}
    data = RunFolder.read(args.run).settings["data"]
    for calibration in CALIBRATIONS:
        out = work / calibration
        given = (
            {name: data[name] for name in ("task", "data_dir", "max_train_samples")} if calibration == "static" else {}
        )
        cutbert.export(str(args.run), onnx=True, int8=True, calibration=calibration, gate=False, out=str(out), **given)
        files |= {"float32": out / FOLDER / FLOAT_FILE}
        files |= {f"int8 {calibration}": out / FOLDER / int8_file(instruction_set())}
    return files


def runners_of(files: Mapping[str, Path], threads: int) -> dict[str, Runner]:
    """Return what runs each file, in ONNX Runtime and in OpenVINO."""
    runners: dict[str, Runner] = {f"ONNX Runtime {name}": OnnxRunner(path, threads) for name, path in files.items()}
    runners |= {f"OpenVINO {name}": OpenVinoRunner(path, threads, "f32") for name, path in files.items()}
    return runners | {"OpenVINO bf16": OpenVinoRunner(files["float32"], threads, "bf16")}


class OpenVinoRunner:
    """One file in OpenVINO, set to answer one request as fast as it can; a call returns the logits.

    Args:
        path: an .onnx file.
        threads: of the processor.
        precision: dtype of what is not int8: f32 or bf16.
    """

    def __init__(self, path: Path, threads: int, precision: str) -> None:
        import openvino

        core = openvino.Core()
        settings = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
        settings |= {"INFERENCE_PRECISION_HINT": precision}
        self.request = core.compile_model(core.read_model(path), "CPU", settings).create_infer_request()

    def __call__(
        self,
        input_ids: NDArray[np.int64],
        attention_mask: NDArray[np.int64] | None = None,
        token_type_ids: NDArray[np.int64] | None = None,
    ) -> NDArray[np.float32]:
        given = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}
        feeds = {name: array for name, array in given.items() if array is not None}
        return np.array(self.request.infer(feeds, share_inputs=True)[0])


def median_ms(runner: Runner, feeds: list[dict[str, NDArray[np.int64]]]) -> float:
    """Return the median time of one text."""
    seconds = []
    for feed in feeds:
        begun = time.perf_counter()
        runner(**feed)
        seconds.append(time.perf_counter() - begun)
    return 1000 * float(np.median(seconds))


if __name__ == "__main__":
    main()
