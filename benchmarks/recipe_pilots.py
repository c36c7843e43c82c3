"""Tries variants of the default recipe on a sample of SST-2, scored on whole sentences held out of training.

    python benchmarks/sentence_split.py GLUE_DIR OUT
    cutbert finetune MODEL --task sst2 --data-dir OUT --out TEACHER
    python benchmarks/recipe_pilots.py TEACHER --data-dir OUT [--rows 10000] [--only NAME ...]

Every variant starts from the same teacher, fine-tuned on all rows of that split, and imitates it on the same rows.
Beside accuracy a record holds the mean KL(teacher || subnet), which a thousand sentences tell apart far better.
Finished variants are not run again, so a stopped plan goes on. The task's own dev set is not touched.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cutbert.data.settings import DataSettings
from cutbert.files import write_json
from cutbert.methods.distil import Teacher
from cutbert.methods.dynabert import family, rewired, train_family
from cutbert.methods.objectives import TaskObjective
from cutbert.methods.prepare import check_inputs, prepare
from cutbert.methods.recipes import Recipe, resolve_recipe
from cutbert.methods.settings import DynabertSettings
from cutbert.train.evaluate import predict_logits, score
from cutbert.train.machine import describe_machine, describe_versions
from cutbert.train.run_folder import RunFolder
from cutbert.train.settings import TrainSettings

RECORDS = Path(__file__).parent / "records"

# Settings of dynabert and of training, by variant; what is not named is the default recipe's, without stock shapes.
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "rate-1e-4-hidden-10": ({"hidden_weight": 10.0}, {"learning_rate": 1e-4}),
    "rate-2e-4-hidden-10": ({"hidden_weight": 10.0}, {"learning_rate": 2e-4}),
    "rate-4e-4-hidden-10": ({"hidden_weight": 10.0}, {"learning_rate": 4e-4}),
    "rate-2e-4-hidden-1": ({"hidden_weight": 1.0}, {"learning_rate": 2e-4}),
    "rate-2e-4-hidden-30": ({"hidden_weight": 30.0}, {"learning_rate": 2e-4}),
    "rate-3e-4-hidden-30": ({"hidden_weight": 30.0}, {"learning_rate": 3e-4}),
    "rate-4e-4-hidden-30": ({"hidden_weight": 30.0}, {"learning_rate": 4e-4}),
    "rate-3e-4-hidden-100": ({"hidden_weight": 100.0}, {"learning_rate": 3e-4}),
    "rate-2e-5": ({}, {"learning_rate": 2e-5}),
    "no-hidden-loss": ({"hidden_weight": 0.0}, {}),
    "logits-3": ({"logit_weight": 3.0}, {}),
    "temperature-3": ({"temperature": 3.0}, {}),
    "dropout-0.1": ({}, {"dropout": 0.1}),
    "two-subnets": ({"subnets_per_step": 2}, {}),
    "three-subnets": ({"subnets_per_step": 3}, {}),
    "all-subnets": ({"subnets_per_step": 0}, {}),
    "stock-too": ({"stock": True}, {}),
    "token-rows": ({}, {"token_table": "rows"}),
    "cosine": ({}, {"schedule": "cosine"}),
    "batch-64": ({}, {"batch_size": 64, "learning_rate": 4e-4}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("teacher")
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--records", type=Path, default=RECORDS)
    parser.add_argument("--only", nargs="*", default=list(VARIANTS))
    options = parser.parse_args()
    for name in options.only:
        path = options.records / f"pilot-sst2-{options.rows}-{options.epochs:g}-{options.seed}-{name}.json"
        if not path.exists():
            record = pilot(name, options)
            write_json(path, record)
            print(
                f"{name:15s} mean {record['mean_score']:.4f} smallest {record['smallest_score']:.4f} "
                f"KL mean {record['mean_kl']:.4f} largest net {record['kls']['w1.0-d1.0']:.4f} "
                f"smallest {record['smallest_kl']:.4f} {record['training_s']:.0f} s",
                flush=True,
            )


def pilot(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Train one variant and return its record."""
    own, training = VARIANTS[name]
    data = DataSettings(task="sst2", data_dir=options.data_dir, max_train_samples=options.rows)
    settings = DynabertSettings(**{"stock": False, **own})
    train = TrainSettings(seed=options.seed, epochs=options.epochs, checkpoint_seconds=1e9, **training)
    recipe: Recipe = resolve_recipe(settings, train, data.length_limit)
    dataset = check_inputs(data, train, settings, models=(options.teacher,))
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder.open(Path(folder) / "run", "dynabert", {"variant": name}, line="")
        with run.start():
            prepared = prepare(options.teacher, dataset, data.length_limit, train, run)
            model = prepared.loaded.model
            points = family(model.shape, settings, recipe)
            supernet = rewired(TaskObjective(prepared), settings, recipe.layer_rule, train.seed, run)
            begun = time.monotonic()
            train_family(
                supernet,
                Teacher(model, None, True),
                points,
                recipe,
                prepared.train,
                prepared.engine,
                replace(train, precision=recipe.precision),
                run,
            )
            seconds = time.monotonic() - begun
    held_out = prepared.dev  # whole sentences of the training file: see sentence_split.py
    teacher_logits = predict_logits(model, held_out)
    scores, kls = {}, {}
    for point in (point for point in points if point.width_mult is not None):
        logits = predict_logits(supernet, held_out, subnet=point.subnet)
        scores[point.name] = score(dataset.head, dataset.metric, logits, held_out).score
        kls[point.name] = mean_kl(teacher_logits, logits)
    return {
        "variant": name,
        "settings": {"dynabert": own, "train": training},
        "training_rows": options.rows,
        "epochs": options.epochs,
        "seed": options.seed,
        "metric": dataset.metric,
        "split": "whole sentences held out of SST-2's training rows",
        "mean_score": statistics.mean(scores.values()),
        "smallest_score": list(scores.values())[-1],
        "teacher_score": score(dataset.head, dataset.metric, teacher_logits, held_out).score,
        "mean_kl": statistics.mean(kls.values()),
        "smallest_kl": list(kls.values())[-1],
        "scores": scores,
        "kls": kls,
        "training_s": seconds,
        "command": sys.argv,
        "commit": subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip(),
        "machine": describe_machine(torch.get_num_threads()),
        "versions": describe_versions(),
    }


def mean_kl(teacher: np.ndarray, student: np.ndarray) -> float:
    """Return the mean KL(teacher || student) of two networks' logits, [N, C] each, in nats."""
    log_p, log_q = (torch.from_numpy(logits).float().log_softmax(-1) for logits in (teacher, student))
    return float((log_p.exp() * (log_p - log_q)).sum(-1).mean())


if __name__ == "__main__":
    main()
