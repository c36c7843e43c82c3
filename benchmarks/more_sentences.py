"""Finished runs on a part of SST-2, scored on whole sentences of the rows they have not seen; paired differences.

GLUE's dev set has 872 rows, too few to tell networks apart that lie one point from each other. Runs on a sample of the
training rows leave thousands of labelled sentences over. A sentence counts where no row that the runs were trained or
chosen on holds three words of it in a row, or more. No choice was made on these sentences.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alternatives import numbers, place
from cutbert.data.dataset import load_dataset
from cutbert.data.rows import Rows
from cutbert.data.settings import DataSettings
from cutbert.data.tokens import tokenize_rows
from cutbert.fronts.paired import compare
from cutbert.hub.load import load_model
from cutbert.train.machine import num_threads
from cutbert.train.progress import progress_bar
from cutbert.train.run_folder import RunFolder
from cutbert.train.runner import TorchRunner, run_rows
from recording import make_parser, recorded
from sentence_split import SHORTEST_LEAK, parts, whole_sentences

TASK, METRIC = "sst2", "accuracy"
EVAL_TOKENS = 4096  # per batch


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--data-dir", required=True, help="folder of the GLUE tasks")
    parser.add_argument("--name", default="cuts", help="of the record: more_sentences_NAME")
    parser.add_argument("--run", action="append", required=True, help="NAME=FOLDER, with {seed}; repeat")
    parser.add_argument(
        "--against", action="append", required=True, help="NAME of a run that the others are compared with"
    )
    parser.add_argument("--seeds", type=numbers, default=[0, 1, 2], help="by commas")
    args = parser.parse_args()
    record = recorded(f"more_sentences_{args.name}", args, lambda: measure(args), seeds=args.seeds)
    for each in record["networks"]:
        told = [
            f"minus {name} {100 * found['difference']:+.2f} [{100 * found['low']:+.2f}, {100 * found['high']:+.2f}]"
            for name, found in each["minus"].items()
        ]
        print(f"{each['name']}: {100 * each['score']:.2f} ± {100 * each['score_sd']:.2f}", *told, sep="; ")


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Score every network on the same sentences, and compare."""
    runs = {
        name: [place(folder, TASK, seed) for seed in args.seeds]
        for name, _, folder in (each.partition("=") for each in args.run)
    }
    rows = unseen_sentences(args, [run for each in runs.values() for run in each])
    assert rows.labels is not None
    truth = rows.labels.astype(np.float64)
    answers: dict[str, list[NDArray[np.float64]]] = {name: [] for name in runs}
    with num_threads(args.threads), progress_bar("networks", len(runs) * len(args.seeds)) as bar:
        for name, folders in runs.items():
            for folder in folders:
                answers[name].append(answered(folder, rows))
                bar(sum(map(len, answers.values())))
    networks = []
    for name, found in answers.items():
        scores = [float(np.mean(each == truth)) for each in found]
        minus = {
            rival: compare(METRIC, found, answers[rival], truth).to_json() for rival in args.against if rival != name
        }
        spread = float(np.std(scores, ddof=1)) if len(scores) > 1 else 0.0
        networks.append(
            {"name": name, "scores": scores, "score": float(np.mean(scores)), "score_sd": spread, "minus": minus}
        )
    return {"task": TASK, "metric": METRIC, "rows": len(rows), "positive": int(truth.sum()), "networks": networks}


def unseen_sentences(args: argparse.Namespace, runs: list[Path]) -> Rows:
    """Return the training file's whole sentences of which the runs have read no part of some length."""
    seen: set[tuple[str, ...]] = set()
    found = [RunFolder.read(run).settings["data"] for run in runs]
    for data in {str(each): each for each in found}.values():
        dataset = load_dataset(DataSettings(**data))
        for split in (dataset.train, dataset.select):
            assert isinstance(split, Rows)
            seen |= {tuple(text.split()) for text in split.text}
    lines = (Path(args.data_dir) / "SST-2" / "train.tsv").read_text(encoding="utf-8").splitlines()[1:]
    texts, labels = zip(*(line.split("\t") for line in lines), strict=True)
    words = [tuple(text.split()) for text in texts]
    taken = [
        row
        for row in whole_sentences(words)
        if not any(len(part) >= SHORTEST_LEAK and part in seen for part in parts(words[row]))
    ]
    return Rows([texts[row] for row in taken], labels=np.array([int(labels[row]) for row in taken]))


def answered(run: Path, rows: Rows) -> NDArray[np.float64]:
    """Return a network's class of every row."""
    loaded = load_model(str(run))
    limit = DataSettings(**RunFolder.read(run).settings["data"]).length_limit
    tokens = tokenize_rows(rows, loaded.tokenizer, loaded.source, limit)
    logits = run_rows(TorchRunner(loaded.model.eval()), loaded.model, tokens, max_tokens=EVAL_TOKENS)
    return logits.argmax(axis=1).astype(np.float64)


if __name__ == "__main__":
    main()
