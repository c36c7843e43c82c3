"""One of everything a command may read, tiny: models, runs, a sweep, data in every format; and the commands that do."""

from __future__ import annotations

import csv
import json
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
import torch
from safetensors.torch import load_file

from cutbert.bench.settings import LatencySettings
from cutbert.cli.main import main
from cutbert.exporters.folder import add_files
from cutbert.exporters.graph import build_graph
from cutbert.folders.load import load_model
from cutbert.folders.save import save_model
from cutbert.fronts.leaderboard import Leaderboard
from cutbert.fronts.measure import timed_table
from cutbert.methods.fit_plan import PLAN as FIT_PLAN
from cutbert.model.style import EncoderStyle
from cutbert.model.task_model import TaskModel
from cutbert.shape.cost import cost_of
from cutbert.shape.head import HeadSpec
from cutbert.shape.shape import EncoderShape, LayerShape
from cutbert.train.run_folder import RunFolder
from known_times import take_known_times
from tiny_runs import (
    HEAD,
    PROVENANCE,
    WORDS,
    save_tiny,
    save_tiny_embedder,
    tiny_leaderboard,
    tiny_model,
    tiny_rows,
    tiny_tokenizer,
)
from tiny_sweeps import compute_here

FREE = EncoderShape(24, (LayerShape(2, 5, 4, 0), LayerShape(0, 0, 0, 13)), vocab_size=20, num_positions=128)
QUICK = "--batch-size 8 --max-length 16 --threads 1 --precision float32"
OWN = "--train data/train.tsv --dev data/dev.tsv --text text --label label"
FAST = "--batch-size 8 --threads 1 --epochs 0.2"
PLAN = """
[defaults]
train = "data/train.tsv"
dev = "data/dev.tsv"
text = "text"
label = "label"
max_length = 16
batch_size = 8
threads = 1
epochs = 0.2
precision = "float32"

[grid]
seed = [0]

[steps.teacher]
verb = "finetune"
model = "base"

[steps.student]
verb = "finetune"
model = "{teacher}"
needs.cores = 1
grid.learning_rate = [1e-3]
"""
# What is served from ONNX beside labels of texts, by folder.
SERVED = {
    "tagger": HeadSpec("token", ("B-X", "I-X", "O")),
    "reader": HeadSpec("span"),
    "scorer": HeadSpec("regression", ("score",)),
}
# Of each verb a command that ends soon and reads most of what it can; in the world's folder.
COMMANDS = {
    "finetune": f"finetune base --out out {OWN} {QUICK} --epochs 0.2",
    "dynabert": f"dynabert model --out out {OWN} {QUICK} --epochs 0.2 --depths 2 --width-mult 0.5",
    "schubert": f"schubert model --out out {OWN} {QUICK} --epochs 0.2 --budget params_encoder=0.5 --gate-steps 2",
    "undivided": f"undivided model --out out {OWN} {QUICK} --epochs 0.2 --ffn-every 3",
    "depth": f"depth base --out out {OWN} {QUICK} --epochs 0.2 --depth 1",
    "pretrain": f"pretrain model --out out --train data/text.txt --sequence-length 9 {FAST}",
    "sweep": "sweep plan.toml --out out",
    "front": "front run --measure --rounds 1 --length 4 --threads 1",
    "pick": "pick run --max-params 100000 --out out",
    "search": "search run --max-macs 30000 --trials 3 --keep 1 --threads 1",
    "report": "report run fit --out page.html",
    "predict": "predict model --input data/dev.tsv --text text --out out.csv --threads 1",
    "measure": f"measure model {OWN} --rounds 1 --length 4 --threads 1",
    "analyze": f"analyze model {OWN} --num-examples 8 --probe-examples 8 --importance-samples 8 --max-length 16",
    "cost": "cost model",
    "export": f"export model --int8 --out out {OWN} --threads 1 --max-drop 100",
}


def make_world(path: Path) -> Path:
    """Write everything into a folder, which must be the working directory."""
    save_tiny(path / "model")
    save_tiny(path / "base", tiny_model(HeadSpec("pooler")))
    save_model(
        path / "free", TaskModel(FREE, EncoderStyle(family="bert"), HEAD), tiny_tokenizer(), provenance=PROVENANCE
    )
    (path / "shape.json").write_text(json.dumps(FREE.to_json()))
    (path / "plan.toml").write_text(PLAN)
    (path / "words.txt").write_text("film book\nfine dull bad\n")
    copies = ("pickled", "sharded", "sentences", "teacher")
    for name in copies:
        shutil.copytree(path / "model", path / name)
    weights = load_file(path / "model" / "model.safetensors")
    torch.save(weights, path / "pickled" / "pytorch_model.bin")
    (path / "pickled" / "model.safetensors").unlink()
    shard = path / "sharded" / "model-1.safetensors"
    (path / "sharded" / "model.safetensors").rename(shard)
    index = {"metadata": {}, "weight_map": dict.fromkeys(weights, shard.name)}
    (path / "sharded" / "model.safetensors.index.json").write_text(json.dumps(index))
    (path / "sentences" / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 24, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}
    (path / "sentences" / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    kinds = {"": "Transformer", "1_Pooling": "Pooling"}
    modules = [{"path": folder, "type": f"sentence_transformers.models.{kind}"} for folder, kind in kinds.items()]
    (path / "sentences" / "modules.json").write_text(json.dumps(modules))
    write_data(path / "data")
    write_served(path)
    run(f"export model --int8 --out onnx {OWN} --threads 1 --max-drop 100")
    run(f"dynabert model --out run {OWN} {QUICK} --epochs 0.2 --depths 2 --width-mult 0.5")
    run("pick run --max-params 100000 --out picked")
    run(COMMANDS["search"] + " --max-latency-ms 1000")
    run("sweep plan.toml --out sweep")
    write_fit(path / "fit")
    return path


def run(command: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        compute_here(patch)
        assert main(command.split()) == 0, command


def write_fit(path: Path) -> None:
    """Write a finished run of fit with its leaderboard."""
    fit = RunFolder.open(path, "fit", {"model": "model", "train": {"seed": 0}})
    board: Leaderboard = replace(tiny_leaderboard(), notes=())
    with fit.start():
        board.save(path)
        fit.log(stage="max-2ms", step=1, loss=0.5)
        (path / FIT_PLAN).write_text(json.dumps(plan_of_fit()))
        fit.finish({"out": str(path), "leaderboard": [each.to_json() for each in board], "seconds": 1.0})


def plan_of_fit() -> dict[str, Any]:
    """Return decisions of a run of fit."""
    with pytest.MonkeyPatch.context() as patch:
        take_known_times(patch, lambda shape, length: cost_of(shape, HEAD, length).macs / 1e6)
        table = timed_table(tiny_model(), ("a", "f", "h"), [4, 6], LatencySettings(rounds=1, threads=1))
    look = {"table": table.to_json(), "tokenizer_ms": 0.01, "build_s": 0.1, "row_ms": 0.1, "step_s": 0.1}
    return {"look": look, "at_once": 1, "time_limit_s": 60.0, "limit-1-ms": {"layers-0": 0.1}, "limit-1-last": [[0, 9]]}


def write_served(path: Path) -> None:
    """Write a folder with float32 ONNX for each kind of answers."""
    folders = [save_tiny(path / name, tiny_model(head)) for name, head in SERVED.items()]
    for folder in (*folders, save_tiny_embedder(path / "vectors")):
        loaded = load_model(folder)
        add_files(folder, loaded, {"model.onnx": build_graph(loaded.model)})
    config = path / "scorer" / "config.json"
    sigmoid = {"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Sigmoid"}}
    config.write_text(json.dumps({**json.loads(config.read_text()), **sigmoid}))


def write_data(folder: Path) -> None:
    """Write the same rows in every format, words with labels, questions, pairs, retrieval, and plain text."""
    folder.mkdir()
    for name, count, seed in (("train", 40, 3), ("dev", 16, 4)):
        rows = tiny_rows(count, seed)
        table = {"text": rows.text, "label": [HEAD.labels[each] for each in rows.labels]}
        pairs = list(zip(*table.values(), strict=True))
        lines = ["text\tlabel", *("\t".join(each) for each in pairs)]
        (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n")
        with (folder / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([["text", "label"], *pairs])
        (folder / f"{name}.jsonl").write_text(
            "".join(json.dumps(dict(zip(table, each, strict=True))) + "\n" for each in pairs)
        )
        pyarrow.parquet.write_table(pyarrow.table(table), folder / f"{name}.parquet")
        tagged = "\n\n".join(
            "\n".join(f"{word} {'B-X' if word == 'film' else 'O'}" for word in text.split()) for text in rows.text
        )
        (folder / f"{name}.conll").write_text(tagged + "\n")
    random_word = random.Random(0)
    (folder / "text.txt").write_text("".join(" ".join(random_word.choices(WORDS, k=9)) + "\n" for _ in range(60)))
    context = "a very fine film and a dull book"
    asked = [{"id": str(i), "question": "film", "answers": [{"text": "fine", "answer_start": 7}]} for i in range(6)]
    squad = {
        "version": "1.1",
        "data": [{"title": "t", "paragraphs": [{"context": f"{context} {i}", "qas": asked} for i in range(3)]}],
    }
    (folder / "squad").mkdir()
    for name in ("train", "dev"):
        (folder / "squad" / f"{name}-v1.1.json").write_text(json.dumps(squad))
    write_pairs(folder)


def write_pairs(folder: Path) -> None:
    """Write pairs with a number, in groups, and queries with a corpus in BEIR's layout."""
    texts = tiny_rows(24, 5).text
    rows = [{"a": texts[i], "b": texts[i + 12], "score": i % 4, "group": f"g{i // 3}"} for i in range(12)]
    with (folder / "pairs.csv").open("w", newline="") as file:
        csv.writer(file).writerows([list(rows[0]), *(each.values() for each in rows)])
    found = {"queries": texts[:4], "corpus": texts[4:], "groups": rows}
    for name, each in found.items():
        lines = [row if isinstance(row, dict) else {"_id": f"{name[0]}{i}", "text": row} for i, row in enumerate(each)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    relevant = [f"q{i}\tc{2 * i}\t1" for i in range(4)]
    (folder / "relevant.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *relevant]) + "\n")
