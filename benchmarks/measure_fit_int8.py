"""What int8 costs the networks that `measure_fit.py` left, cut and uncut: the exported int8 file less float32, on dev.

Both sides have the same weights: those of the model folder, answered by torch in float32, and the int8 file, whose
answers `fit` has stored. It goes on where it was stopped, and looks again where more seeds are there.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cutbert.data.dataset import load_dataset
from cutbert.data.rows import Rows
from cutbert.data.settings import DataSettings
from cutbert.files import read_json, write_json
from cutbert.folders.load import load_model
from cutbert.fronts.outputs import answers_of
from cutbert.fronts.paired import METRICS, AnswerValues, compare
from cutbert.train.machine import num_threads
from cutbert.train.progress import say
from cutbert.train.runner import TorchRunner
from measure_onnx_parity import BATCH_TOKENS, answers, real_rows
from recording import header, make_parser, now, parse

NETWORKS = ("uncut", "fit", "layers")


def main(argv: Sequence[str] | None = None) -> None:
    parser = make_parser(__file__, __doc__)
    parser.add_argument("--fit", type=Path, required=True, help="the record of measure_fit.py, of one limit; only read")
    parser.add_argument("--work", type=Path, default=Path("runs/fit"), help="folder of its runs; only read")
    parser.add_argument("--data-dir", help="folder of the GLUE tasks; None for the hub's")
    args = parse(parser, argv)
    cells = read_json(args.fit)["cells"]
    path = args.records / "fit_int8.json"
    record = dict(read_json(path)) if path.is_file() and not args.again else None
    seeds = sorted({cell["seed"] for cell in cells})
    if record is None:
        record = {**header("fit_int8", args, seeds), "cells": []}
    done = {(cell["task"], cell["seed"]) for cell in record["cells"]}
    for cell in cells:
        if (cell["task"], cell["seed"]) not in done:
            record["cells"].append(measure(cell, args))
            record |= {"seeds": seeds, "finished": now(), "summary": summary(record["cells"])}
            write_json(path, record)
            say(json.dumps(record["cells"][-1]["scores"]))
    for row in record.get("summary", ()):
        print(json.dumps(row))


def measure(cell: Mapping[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """Return the answers of every network of a task and seed, in float32 and in int8."""
    task, (found,) = cell["task"], cell["compared"]
    folder = args.work / f"{task}-{cell['seed']}"
    stored = {name: read_json(args.work / found[name]["outputs"]) for name in NETWORKS}
    truth = stored["uncut"]["labels"]
    result: dict[str, Any] = {"task": task, "seed": cell["seed"], "metric": found["metric"], "labels": digits(truth)}
    result["int8"] = {name: digits(answers_of(each)) for name, each in stored.items()}
    folders = {"uncut": folder / "teacher", "fit": folder / "fit", "layers": folder / "layers"}
    result["float32"] = {name: digits(float32(path, task, truth, args)) for name, path in folders.items()}
    result["scores"] = {name: {kind: score_of(result, kind, name) for kind in ("float32", "int8")} for name in NETWORKS}
    return result


def float32(folder: Path, task: str, truth: Sequence[int], args: argparse.Namespace) -> AnswerValues:
    """Return the class that torch gives to each row of dev.

    Raises:
        SystemExit: dev is not what `fit` was scored on.
    """
    loaded = load_model(str(folder))
    data = DataSettings(task=task, data_dir=args.data_dir)
    dataset = load_dataset(data)
    assert isinstance(dataset.dev, Rows)
    if dataset.dev.labels is None or list(dataset.dev.labels) != list(truth):
        raise SystemExit(f"{folder} was scored on other rows than dev of {task} in {args.data_dir}")
    rows = {"dev": real_rows(dataset, loaded, data.length_limit, len(truth))["dev"]}
    with num_threads(args.threads):
        logits = answers(TorchRunner(loaded.model), loaded, rows, BATCH_TOKENS)
    return np.asarray(logits.argmax(axis=1), dtype=np.float64)


def digits(classes: AnswerValues) -> str:
    """Return the class of each row as one digit."""
    return "".join(str(int(each)) for each in classes)


def classes_of(text: str) -> AnswerValues:
    return np.array([int(each) for each in text], dtype=np.float64)


def score_of(cell: Mapping[str, Any], kind: str, name: str) -> float:
    return float(METRICS[cell["metric"]](classes_of(cell[kind][name]), classes_of(cell["labels"])))


def summary(cells: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return for each task and network what int8 is less float32: paired, with its interval over rows, by seed."""
    by_task: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for cell in cells:
        by_task[cell["task"]].append(cell)
    rows = []
    for task, found in by_task.items():
        truth = classes_of(found[0]["labels"])
        for name in NETWORKS:
            int8, full = ([classes_of(cell[kind][name]) for cell in found] for kind in ("int8", "float32"))
            paired = compare(found[0]["metric"], int8, full, truth)
            gap = {"mean": paired.difference, "low": paired.low, "high": paired.high, "by_seed": list(paired.by_seed)}
            rows.append({"task": task, "network": name, "seeds": len(found), "int8 - float32": gap})
    return rows


if __name__ == "__main__":
    main()
