"""The plans of the papers' tables: they expand to what the tables have, and run with tiny models and few steps."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path

import pytest
from tiny_plan import make_plan

import cutbert
from cutbert.api.sweeps import SWEPT, kinds_of
from cutbert.sweeps.expand import read_runs
from tiny_runs import WORDS

PAPERS = Path(__file__).parents[2] / "benchmarks" / "papers"
STEPS = {
    "dynabert": {"teacher": 16, "family": 16},
    "schubert": {"cut": 25, "base": 6, "tuned": 150},
    "depth": {"depth": 8},
    "undivided": {"base": 1, "new": 6, "base_tuned": 3, "tuned": 18},
}


@pytest.mark.parametrize("paper", sorted(path.stem for path in PAPERS.glob("*.toml")))
def test_a_plan_has_the_runs_of_its_table(paper: str) -> None:
    verbs = {verb.__name__: partial(kinds_of, verb) for verb in SWEPT}
    runs = read_runs(PAPERS / f"{paper}.toml", (), verbs, Path("out"))
    assert Counter(run.step for run in runs) == STEPS[paper]


def own_data(folder: Path, more: str = "") -> str:
    """Return the setting that puts a plan on tiny files of our own."""
    files = ", ".join(f"{name} = '{folder}/{name}.tsv'" for name in ("train", "select", "dev"))
    return f"grid.data=[{{name = 'own', {files}, text = 'text', label = 'label'{more}}}]"


@pytest.mark.slow
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
    done = cutbert.sweep(PAPERS / "dynabert.toml", out=tmp_path / "out", set=sets)
    assert [run["status"] for run in done["runs"]] == ["finished"] * 2
    networks = {row["network"] for row in done["table"] if row["step"] == "family"}
    assert "teacher" in networks and len(networks) > 4  # a network of three layers has fewer depths than the paper's


@pytest.mark.slow
def test_depth_runs(tmp_path: Path) -> None:
    make_plan(tmp_path)
    sets = [f"model={tmp_path}/base", own_data(tmp_path), "depth.seeds=[0]", "epochs=0.1", "threads=1", "max_length=16"]
    done = cutbert.sweep(PAPERS / "depth.toml", out=tmp_path / "out", set=sets)
    assert [run["status"] for run in done["runs"]] == ["finished"]
    assert 0 <= done["runs"][0]["score"] <= 1
