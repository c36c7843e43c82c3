"""Peak memory and time of `cutbert predict` by rows of its file, for every format of files, in torch and ONNX Runtime.

Answers are written in the format of the texts (of .tsv.gz, .tsv). Vectors are written as .npy from a .tsv file, which
only ONNX Runtime does.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any, TextIO

from cutbert.data.dataset import load_dataset
from cutbert.data.rows import Rows
from cutbert.data.settings import DataSettings
from cutbert.exporters.folder import FLOAT_FILE, add_files
from cutbert.exporters.graph import build_graph
from cutbert.folders.load import load_model
from cutbert.folders.save import save_model
from cutbert.folders.sentence import MODULES_FILE, NORMALIZE, POOL, Sentence
from cutbert.model.task_model import TaskModel
from cutbert.shape.head import HeadSpec
from cutbert.shape.pooling import POOLING_FILE
from measure_analysis_memory import random_model
from recording import make_parser, names, numbers, parse, recorded, spread
from workload import add_inputs, model_of, option

VECTORS = "npy"
BACKENDS = ("torch", "onnx")
MODULES = [
    {"idx": i, "name": str(i), "path": f"{i}_{kind}" if i else "", "type": f"sentence_transformers.models.{kind}"}
    for i, kind in enumerate([*POOL, NORMALIZE])
]
COMMAND = """
import sys
from cutbert.cli.main import main
from cutbert.train.machine import own_peak_bytes
status = main(sys.argv[1:])
print(own_peak_bytes())
sys.exit(status)
"""


def main(argv: Sequence[str] | None = None) -> None:
    parser = make_parser(__file__, __doc__)
    add_inputs(parser)
    parser.add_argument("--rows", type=numbers, default=[20_000, 200_000], help="rows of the files")
    parser.add_argument("--formats", type=names, default=["tsv", "csv", "jsonl", "parquet", "tsv.gz", VECTORS])
    parser.add_argument("--backends", type=names, default=list(BACKENDS), help="that run the network, by commas")
    parser.add_argument("--layers", type=int, default=2, help="of the network, whose weights are new")
    parser.add_argument("--hidden-size", type=int, default=64, help="of the network, which may be small")
    parser.add_argument("--repeats", type=int, default=3, help="processes for each file")
    parser.add_argument("--name", default="predict_memory", help="of the record")
    args = parse(parser, argv)
    record = recorded(args.name, args, lambda: measure(args), seeds=[0])
    for row in record["files"]:
        print(f"{row['backend']} {row['format']} {row['rows']:,}: {row['peak']['median_bytes'] / 2**20:.0f} MiB")


def measure(args: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as work:
        classifier, embedder = Path(work) / "classifier", Path(work) / "embedder"
        save_networks(args, classifier, embedder)
        rows = load_dataset(DataSettings(task=args.task, data_dir=args.data_dir)).train
        assert isinstance(rows, Rows)
        files = []
        for format_name in args.formats:
            is_vectors = format_name == VECTORS
            path = Path(work) / f"texts.{'tsv' if is_vectors else format_name}"
            out = path.with_name(f"answers.{format_name.removesuffix('.gz')}")
            for num_rows in args.rows:
                write_texts(path, islice(cycle(rows.text), num_rows))
                for backend in args.backends:
                    if not (is_vectors and backend == "torch"):
                        model = embedder if is_vectors else classifier
                        measured = measure_file(args, model, backend, path, out)
                        files.append({"backend": backend, "format": format_name, "rows": num_rows, **measured})
    return {"layers": args.layers, "hidden_size": args.hidden_size, "files": files}


def save_networks(args: argparse.Namespace, classifier: Path, embedder: Path) -> None:
    """Write small networks that read the model's tokens, for two labels and for vectors, with their ONNX files."""
    given = load_model(model_of(args))
    network = random_model(args, given)
    bare = TaskModel(network.shape, network.style, HeadSpec("none"))
    sentence = Sentence("mean", True, None, {MODULES_FILE: MODULES, POOLING_FILE: {"pooling_mode_mean_tokens": True}})
    for folder, model, of_texts in ((classifier, network, None), (embedder, bare, sentence)):
        save_model(folder, model, given.tokenizer, provenance=given.provenance, sentence=of_texts)
        loaded = load_model(folder)
        add_files(folder, loaded, {FLOAT_FILE: build_graph(loaded.model)}, of_texts)


def write_texts(path: Path, texts: Iterator[str]) -> None:
    """Write texts as the column `text`, in the format of the file's name."""
    if path.suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.table({"text": list(texts)}), path)
        return
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt", encoding="utf-8", newline="") as file:
        write_lines(file, path.name, texts)


def write_lines(file: TextIO, name: str, texts: Iterator[str]) -> None:
    if ".jsonl" in name:
        file.writelines(json.dumps({"text": text}) + "\n" for text in texts)
    elif ".csv" in name:
        csv.writer(file).writerows([["text"], *([text] for text in texts)])
    else:
        file.writelines(text + "\n" for text in ("text", *texts))


def measure_file(args: argparse.Namespace, model: Path, backend: str, path: Path, out: Path) -> dict[str, Any]:
    """Answer a file in processes of their own, one after the other, each of which says what it held at most."""
    peaks, seconds = [], []
    words = ["predict", str(model), "--input", str(path), "--text", "text", "--out", str(out), "--backend", backend]
    for _ in range(args.repeats):
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", COMMAND, *words, *option("--threads", args.threads)],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True,
        )  # fmt: skip
        seconds.append(time.perf_counter() - start)
        peaks.append(int(done.stdout.splitlines()[-1]))
        out.unlink()
    return {"peak": spread(peaks, "bytes"), "time": spread(seconds, "s")}


if __name__ == "__main__":
    main()
