"""A plan of tiny runs on tiny files, each a matter of seconds, and what a sweep of it leaves behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cutbert.data.rows import Rows
from cutbert.folders.save import save_model
from cutbert.shape.head import HeadSpec
from tiny_runs import PROVENANCE, tiny_model, tiny_rows, tiny_tokenizer, write_tsv

PLAN = """
[defaults]
train = "{folder}/train.tsv"
select = "{folder}/select.tsv"
dev = "{folder}/dev.tsv"
text = "text"
label = "label"
max_length = 16
batch_size = 8
threads = 1
precision = "float32"
checkpoint_seconds = 0

[grid]
seed = [0, 1]

[steps.teacher]
verb = "finetune"
model = "{folder}/base"
epochs = {epochs}
learning_rate = 3e-3

[steps.student]
verb = "finetune"
model = "{{teacher}}"
grid.learning_rate = [1e-3, 1e-4]
"""


def make_plan(folder: Path, *, epochs: float = 1.0, text: str = PLAN) -> Path:
    """Write a tiny model, tiny files and a plan on them: six runs, four of which use the two others."""
    save_model(folder / "base", tiny_model(HeadSpec("pooler")), tiny_tokenizer(), provenance=PROVENANCE)
    rows = {"train": tiny_rows(41, 3), "select": tiny_rows(16, 4), "dev": tiny_rows(18, 5)}
    rows["select"] = Rows([f"{each} or" for each in rows["select"].text], labels=rows["select"].labels)
    for name, each in rows.items():
        write_tsv(folder / f"{name}.tsv", each)
    path = folder / "plan.toml"
    path.write_text(text.format(folder=folder, epochs=epochs), encoding="utf-8")
    return path


def scores(data: dict[str, Any]) -> dict[str, float]:
    return {run["name"]: run["score"] for run in data["runs"]}
