"""How good a tagger and a reader of half the int8 latency are, from `fit` to the answers of `predict`.

The tagger learns names and numbers in the sentences of SQuAD's paragraphs, which a rule tags by capitals and digits
(`tagged_sentences.py`), so that CoNLL files of our own come out; a tokenizer that lowers case leaves the words alone to
know a name by. The reader learns SQuAD's questions. `fit` makes the teacher too, all in its time. Then `predict`
answers dev from the exported int8 file, one input at a time: the F1 of what it wrote must be that of `measure`. Runs
are resumed, and the record is written again after each task.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import cutbert
from cutbert.data.answers import normalized, right_answers, word_f1
from cutbert.data.questions import read_articles, read_squad, task_files
from cutbert.data.settings import STRIDE
from cutbert.data.tasks import QUESTION_TASKS
from cutbert.files import read_json, replacing_folder
from cutbert.fronts.outputs import stored_difference
from measure_fit import SHOWN, outputs_name
from recording import make_parser, names, numbers, parse, record_so_far, shares, write_part
from tagged_sentences import tagged, tagged_f1
from workload import model_of

BACKEND, SQUAD = "onnx-int8", QUESTION_TASKS["squad"]


def main(argv: Sequence[str] | None = None) -> None:
    parser = make_parser(__file__, __doc__)
    parser.add_argument("--model", help="what is fitted; None for MiniLM of the installed package")
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("CUTBERT_DATA"), help="folder of SQuAD")
    parser.add_argument("--tasks", type=names, default=["tagger", "reader"], help="by commas")
    parser.add_argument("--seeds", type=numbers, default=[0], help="by commas")
    parser.add_argument("--share", type=float, default=0.5, help="the limit: of the uncut int8 latency")
    parser.add_argument("--time", type=shares, default=[480.0, 480.0], help="seconds of fit, of each task by commas")
    parser.add_argument("--rows", type=int, help="learn from a random part of the rows, at most this many")
    parser.add_argument("--paragraphs", type=int, default=150, help="of dev, spread over its articles")
    parser.add_argument("--work", type=Path, default=Path("runs/per-token"), help="folder of the runs")
    args = parse(parser, argv)
    about = {"time_s": args.time, "share": args.share, "paragraphs": args.paragraphs, "cells": []}
    record = record_so_far("per_token", args, args.seeds, lambda: about)
    done = {(cell["task"], cell["seed"]) for cell in record["cells"]}
    for seed in args.seeds:
        for task, seconds in zip(args.tasks, args.time, strict=True):
            if (task, seed) not in done:
                record["cells"].append(measure(task, seed, seconds, args))
                write_part(record, args)
    for cell in record["cells"]:
        print(json.dumps({name: cell[name] for name in ("task", "seed", "uncut", "cut", "difference", "predicted_f1")}))


def measure(task: str, seed: int, seconds: float, args: argparse.Namespace) -> dict[str, Any]:
    """Return the scores of what `fit` cut under the limit, and the F1 of what `predict` answers with it."""
    data = write_data(args.data_dir, args.work / "data", args.paragraphs)
    options: dict[str, Any] = {"task": "squad", "data_dir": str(data)}
    if task == "tagger":
        files = {part: str(data / f"{part}.conll") for part in ("train", "dev")}
        options = {**files, "tagging": True, "text": "0", "label": "1"}
    out, machine = args.work / f"{task}-{seed}", {"threads": args.threads}
    limits = {"max_latency_share": args.share, "time": seconds, "max_train_samples": args.rows}
    run = cutbert.fit(model_of(args), out=out, seed=seed, **limits, **machine, **options)
    board = run.leaderboard
    (cut,), uncut = board.chosen, board.uncut
    assert uncut is not None
    measured = cutbert.measure(out, backend=BACKEND, rounds=1, **machine, **options)["models"][0]
    dev = data / ("dev.conll" if task == "tagger" else f"{SQUAD.folder}/dev-{SQUAD.version}.json")
    answers = args.work / f"{task}-{seed}-answers{dev.suffix}"
    answers.unlink(missing_ok=True)
    columns = {"text": "0"} if task == "tagger" else {}
    cutbert.predict(out, input=str(dev), out=str(answers), backend=BACKEND, batch_size=1, **machine, **columns)
    predicted = tagged_f1(answers) if task == "tagger" else answered_f1(dev, answers)
    if abs(predicted - measured["score"]) > 1e-9:
        raise SystemExit(f"{out}: F1 of predict must be that of measure, {measured['score']}, got {predicted}")
    ours, theirs = (read_json(out / "predictions" / outputs_name(entry, 1)) for entry in (cut, uncut))
    return {
        "task": task,
        "seed": seed,
        "uncut": {"f1": uncut.score, "latency_ms": uncut.latency_ms},
        "cut": {"name": cut.name, "f1": cut.score, "latency_ms": cut.latency_ms, "steps": cut.steps},
        "difference": stored_difference(ours, theirs, "f1"),
        "measured_f1": measured["score"],
        "predicted_f1": predicted,
        "measured": board.measured,
        "seconds": read_json(out / "run.json")["timings"],
        "leaderboard": [{key: value for key, value in each.to_json().items() if key in SHOWN} for each in board],
    }


def write_data(root: Path, folder: Path, paragraphs: int) -> Path:
    """Write SQuAD's train part and a sample of dev's paragraphs, as questions and as tagged sentences."""
    if not folder.is_dir():
        with replacing_folder(folder) as aside:
            (aside / SQUAD.folder).mkdir()
            for part, path in task_files(Path(root), SQUAD).items():
                found = [each for article in read_articles(path) for each in article["paragraphs"]]
                found = found if part == "train" else found[:: -(-len(found) // paragraphs)]
                text = json.dumps({"version": "1.1", "data": [{"title": part, "paragraphs": found}]})
                (aside / SQUAD.folder / f"{part}-{SQUAD.version}.json").write_text(text, encoding="utf-8")
                lines = [[f"{word} {tag}" for word, tag in each] for each in tagged([p["context"] for p in found])]
                blocks = "".join("\n".join(each) + "\n\n" for each in lines)
                (aside / f"{part}.conll").write_text(blocks, encoding="utf-8")
    return folder


def answered_f1(dev: Path, answers: Path) -> float:
    """Return the mean F1 of answers by question, in SQuAD's format."""
    questions, given = read_squad(dev, SQUAD, STRIDE, []), read_json(answers)
    assert questions.ids is not None and questions.answers is not None
    return fmean(
        max(word_f1(normalized(given[name]), each, False) for each in right_answers(right, False))
        for name, right in zip(questions.ids, questions.answers, strict=True)
    )


if __name__ == "__main__":
    main()
