"""How near the embedding models that `fit` takes are to the uncut one, beside plain layers of the same time.

Texts to learn from are those of the data folder's training files, without labels. Two runs of `fit` start from the
model, under limits that are shares of its int8 latency, for the same time: one may try everything, the other whole
layers alone. Choices are made on held-out training text; compared is dev, of the exported int8 file: STS-B's pairs,
and SQuAD's dev questions over its paragraphs; what fit takes less plain layers and less the uncut int8 file is paired,
query by query and pair by pair. Runs are resumed, and the record is written again after each seed.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cutbert.data.vectors import NDCG, SPEARMAN
from cutbert.files import read_json, replacing_folder
from cutbert.fronts.leaderboard import Leaderboard
from cutbert.fronts.outputs import stored_difference
from cutbert.train.progress import say
from fit_beside_layers import RIVALS, facts_of, run_both
from measure_fit import outputs_name
from recording import make_parser, measure_seeds, numbers, parse, record_so_far, shares
from workload import model_of

MAX_LENGTH = 128  # tokens at which all texts are cut, the uncut model's too
TASKS = ("SST-2", "CoLA", "MRPC", "RTE", "QNLI", "QQP", "WNLI", "STS-B", "SUBJ")
TEXT_COLUMNS = {"sentence", "sentence1", "sentence2", "question", "question1", "question2", "#1 String", "#2 String"}
END = re.compile(r"(?<=[.!?]) +(?=[A-Z\"'(])")
SHOWN = ("name", "kind", "backend", "score", "select_score", "metrics", "latency_ms", "steps", "kl", "chosen", "limit")


def main(argv: Sequence[str] | None = None) -> None:
    parser = make_parser(__file__, __doc__)
    parser.add_argument("--model", help="what is fitted; None for MiniLM of the installed package")
    parser.add_argument(
        "--data-dir", type=Path, default=os.environ.get("CUTBERT_DATA"), help="folder of GLUE, SQuAD and wikitext-2"
    )
    parser.add_argument("--seeds", type=numbers, default=[0], help="by commas")
    parser.add_argument("--shares", type=shares, default=[1 / 2, 1 / 3], help="of the uncut int8 latency, by commas")
    parser.add_argument("--time", type=float, default=3000.0, help="seconds of a run of fit")
    parser.add_argument("--texts", type=int, help="learn from a random part of the texts, at most this many")
    parser.add_argument("--queries", type=int, default=2000, help="dev questions; None for all")
    parser.add_argument("--work", type=Path, default=Path("runs/embedding"), help="folder of the runs")
    parser.add_argument("--name", default="embedding", help="of the record")
    args = parse(parser, argv)
    about = {"time_s": args.time, "shares": args.shares, "cells": []}
    record = record_so_far(args.name, args, args.seeds, lambda: about)
    measure_seeds(record, args, measure)
    for cell in record["cells"]:
        for row in cell["compared"]:
            print(json.dumps(row))


def measure(seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Run fit and its rival with one seed."""
    data = write_data(args.data_dir, args.work / "data")
    folders = {name: args.work / f"{name}-{seed}" for name in RIVALS}
    options = {
        **data,
        "objective": "embedding",
        "task": "stsb",
        "data_dir": args.data_dir,
        "max_train_samples": args.texts,
        "max_eval_samples": args.queries,
        "max_length": MAX_LENGTH,
        "max_latency_share": args.shares,
        "time": args.time,
        "threads": args.threads,
        "seed": seed,
    }
    boards = run_both(model_of(args), folders, **options)
    return {"seed": seed, **facts_of(folders, boards, SHOWN), "compared": compared(folders, boards, len(args.shares))}


def compared(folders: dict[str, Path], boards: dict[str, Leaderboard], num_limits: int) -> list[dict[str, Any]]:
    """Return for each limit all scores of what both took, and of the uncut model in int8 and in float32.

    With them fit less plain layers and less the uncut model on the same backend, with 95 % intervals over rows.
    """
    rows = []
    for number in range(num_limits):
        uncut = {f"uncut {each.backend}": each.metrics for each in boards["fit"] if each.kind == "teacher"}
        row: dict[str, Any] = {"limit": number + 1, **uncut}
        stored = {}
        for name, board in boards.items():
            entry = board.chosen[number]
            assert board.uncut is not None
            share = entry.latency_ms / board.uncut.latency_ms
            row[name] = {"name": entry.name, "share": share, "steps": entry.steps, **entry.metrics}
            stored[name] = read_json(folders[name] / "predictions" / outputs_name(entry, number + 1))
        stored["uncut"] = read_json(folders["fit"] / "predictions" / f"uncut-{boards['fit'].backend}.json")
        for other in ("layers", "uncut"):
            both = stored["fit"], stored[other]
            row[f"fit - {other}"] = {metric: stored_difference(*both, metric) for metric in (NDCG, SPEARMAN)}
        rows.append(row)
    return rows


# The files


def write_data(data: Path, folder: Path) -> dict[str, str]:
    """Write texts to learn from, and SQuAD's dev as retrieval; return the paths by option of fit."""
    if not folder.is_dir():
        with replacing_folder(folder) as aside:
            texts = dict.fromkeys(text for text in training_texts(data) if text)
            (aside / "train.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
            write_retrieval(squad(data, "dev"), aside)
        say(f"{len(texts):,} texts to learn from in {folder}")
    names = {"train": "train.txt", "queries": "queries.jsonl", "corpus": "corpus.jsonl", "relevant": "relevant.tsv"}
    return {option: str(folder / name) for option, name in names.items()}


def training_texts(data: Path) -> Iterator[str]:
    """Yield every text of the training files, one line each; long ones as sentences too."""
    for task in TASKS:
        path = data / task / "train.tsv"
        if path.is_file():
            yield from columns_of(path, task)
    for question, context in squad(data, "train"):
        yield one_line(question)
        yield one_line(context)
        yield from sentences(context)
    wiki = data / "wikitext-2" / "train.txt"
    for line in wiki.read_text(encoding="utf-8").split("\n") if wiki.is_file() else ():
        yield from sentences(line)


def columns_of(path: Path, task: str) -> Iterator[str]:
    """Yield the texts of one file of GLUE: the columns that its header names, CoLA's fourth."""
    lines = path.read_text(encoding="utf-8-sig").split("\n")
    names = lines[0].split("\t")
    places = [3] if task == "CoLA" else [i for i, name in enumerate(names) if name in TEXT_COLUMNS]
    for line in lines[task != "CoLA" :]:
        fields = line.split("\t")
        yield from (one_line(fields[place]) for place in places if place < len(fields))


def squad(data: Path, part: str) -> Iterator[tuple[str, str]]:
    """Yield question and paragraph of every question of SQuAD v1.1."""
    for path in sorted((data / "SQuAD").glob(f"{part}*v1.1.json*")):
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
            articles = json.load(file)["data"]
        for article in articles:
            for paragraph in article["paragraphs"]:
                yield from ((each["question"], paragraph["context"]) for each in paragraph["qas"])


def write_retrieval(pairs: Iterator[tuple[str, str]], folder: Path) -> None:
    """Write questions and their paragraphs in BEIR's layout; a question asked of several paragraphs has all of them."""
    questions: dict[str, str] = {}
    corpus: dict[str, str] = {}
    relevant = []
    for question, context in pairs:
        asked = questions.setdefault(one_line(question), f"q{len(questions)}")
        found = corpus.setdefault(one_line(context), f"p{len(corpus)}")
        relevant.append(f"{asked}\t{found}\t1")
    for name, texts in (("queries", questions), ("corpus", corpus)):
        rows = [json.dumps({"_id": key, "text": text}) for text, key in texts.items()]
        (folder / f"{name}.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    lines = ["query-id\tcorpus-id\tscore", *dict.fromkeys(relevant)]
    (folder / "relevant.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def sentences(text: str) -> list[str]:
    return [one_line(each) for each in END.split(text.strip()) if len(each) > 10]


def one_line(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    main()
