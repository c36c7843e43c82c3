"""The plans of the papers' tables: they expand to what the tables have, and run with tiny models and few steps."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from tiny_plan import make_plan

import cutbert
from cutbert.api.sweeps import SWEPT
from cutbert.shape.head import HeadSpec
from cutbert.sweeps.expand import read_runs
from known_times import take_known_memory
from methods.tiny_task import time_by_macs
from tiny_runs import WORDS, save_tiny, tiny_model, tiny_rows
from tiny_sweeps import compute_here

TEXTS = {"train": "text", "dev": "held-out"}
SMALL = ("epochs=0.1", "threads=1", "max_length=16", "sequence_length=16")
PLANS = Path(__file__).parents[2] / "benchmarks" / "plans"
STEPS = {
    "dynabert": {"teacher": 16, "family": 16},
    "schubert": {"cut": 25, "base": 6, "tuned": 150},
    "depth": {"depth": 8},
    "undivided": {"base": 1, "new": 6, "base_tuned": 3, "tuned": 18},
}


@pytest.mark.parametrize("paper", STEPS)
def test_a_plan_has_the_runs_of_its_table(paper: str) -> None:
    runs = read_runs(PLANS / f"paper_{paper}.toml", (), SWEPT, Path("out"))
    assert Counter(run.step for run in runs) == STEPS[paper]


def own_data(folder: Path, more: str = "") -> str:
    """Return the setting that puts a plan on tiny files of our own."""
    files = ", ".join(f"{name} = '{folder}/{name}.tsv'" for name in ("train", "select", "dev"))
    return f"grid.data=[{{name = 'own', {files}, text = 'text', label = 'label'{more}}}]"


@pytest.mark.usefixtures("here")
def test_dynabert_runs(tmp_path: Path) -> None:
    make_plan(tmp_path)
    (tmp_path / "words").write_text(f"{WORDS[0]}\t{WORDS[1]}\n")
    sets = [
        f"grid.base=[{{name = 'tiny', model = '{tmp_path}/base'}}]",
        own_data(tmp_path, ", augment_rounds = 1"),
        "family.augment=words",
        f"family.augment_words={tmp_path}/words",
        "family.augment_model=",
        "epochs=0.1",
        "threads=1",
        "max_length=16",
    ]
    done = cutbert.sweep(PLANS / "paper_dynabert.toml", out=tmp_path / "out", set=sets)
    assert [run["status"] for run in done["runs"]] == ["finished"] * 2
    networks = {row["network"] for row in done["table"] if row["step"] == "family"}
    assert "teacher" in networks and len(networks) > 4  # a network of three layers has fewer depths than the paper's


@pytest.mark.usefixtures("here")
def test_depth_runs(tmp_path: Path) -> None:
    make_plan(tmp_path)
    sets = [
        f"model={tmp_path}/base",
        own_data(tmp_path),
        "depth.seeds=[0]",
        "epochs=0.1",
        "threads=1",
        "max_length=16",
    ]
    done = cutbert.sweep(PLANS / "paper_depth.toml", out=tmp_path / "out", set=sets)
    assert [run["status"] for run in done["runs"]] == ["finished"]
    assert 0 <= done["runs"][0]["score"] <= 1


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let sweeps compute in this process, with known bytes and few latencies."""
    compute_here(monkeypatch)
    take_known_memory(monkeypatch)
    time_by_macs(monkeypatch)


def text_sets(folder: Path, *steps: str) -> list[str]:
    """Return the settings that put a plan on a tiny masked LM, and its steps on text on a tiny text."""
    make_plan(folder)
    save_tiny(folder / "lm", tiny_model(HeadSpec("masked_lm")))
    for name, seed in (("text", 7), ("held-out", 8)):
        (folder / f"{name}.txt").write_text("\n\n".join(tiny_rows(60, seed).text) + "\n", encoding="utf-8")
    files = [f"{step}.{name}={folder}/{file}.txt" for step in steps for name, file in TEXTS.items()]
    return [*files, f"model={folder}/lm", own_data(folder), *SMALL]


@pytest.mark.usefixtures("here")
def test_schubert_runs(tmp_path: Path) -> None:
    sets = [
        *text_sets(tmp_path, "cut"),
        "cut.grid.cut=[{name = 'all', budget = 'params=0.9'}, {name = 'f', budget = 'params=0.9', dims = 'f'}]",
        "cut.gate_steps=2",
        "cut.multiple_of=1",
    ]
    done = cutbert.sweep(PLANS / "paper_schubert.toml", out=tmp_path / "out", set=sets)
    assert [run["status"] for run in done["runs"]] == ["finished"] * 5
    assert {run["values"]["cut.cut"] for run in done["runs"] if run["step"] == "tuned"} == {"all", "f"}


@pytest.mark.usefixtures("here")
def test_undivided_runs(tmp_path: Path) -> None:
    shape = tmp_path / "lm" / "shape.json"
    sets = [
        *text_sets(tmp_path, "base", "new"),
        f"base.from_scratch={shape}",
        f"new.from_scratch={shape}",
        "new.grid.kept=[{name = '1', num_ffn = 1}, {name = '1-equal', num_ffn = 1, equal_params = true}]",
    ]
    done = cutbert.sweep(PLANS / "paper_undivided.toml", out=tmp_path / "out", set=sets)
    assert [run["status"] for run in done["runs"]] == ["finished"] * 6
    assert Counter(run["step"] for run in done["runs"]) == {"base": 1, "new": 2, "base_tuned": 1, "tuned": 2}
