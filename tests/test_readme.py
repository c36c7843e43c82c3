"""What README and docs tell people to type is understood by the real command line, and the quick start runs."""

from __future__ import annotations

import ast
import dataclasses
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import cutbert
from checked_calls import check_only
from cutbert.api.table import VERBS
from cutbert.cli import main as command_line
from cutbert.model.style import EncoderStyle
from cutbert.model.task_model import TaskModel
from known_times import take_times_of_thread
from tiny_runs import HEAD, SHAPE, WORDS, save_tiny

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"


def blocks(page: Path, language: str = "") -> list[str]:
    """Return the fenced code blocks of a page in one language."""
    return blocks_of(page.read_text(encoding="utf-8"), language)


def blocks_of(text: str, language: str = "") -> list[str]:
    """Return the fenced code blocks of a text in one language."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [block for name, block in fenced if name == language]


def commands(text: str) -> list[str]:
    """Return the cutbert commands of a code block, one a line."""
    return [line for line in text.splitlines() if line.startswith("cutbert ")]


def all_commands() -> list[str]:
    return list(dict.fromkeys(line for page in PAGES for block in blocks(page) for line in commands(block)))


def section(page: Path, title: str) -> str:
    """Return the text below a heading of the second level."""
    return page.read_text(encoding="utf-8").split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_there_are_commands_to_check() -> None:
    verbs = {line.split()[1] for line in all_commands()}
    methods = {"fit", "dynabert", "schubert", "undivided", "depth", "search"}
    assert verbs >= methods | {"finetune", "front", "pick", "export"}


@pytest.mark.parametrize("line", all_commands())
def test_commands_are_understood(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = check_only(monkeypatch)
    monkeypatch.chdir(tmp_path)
    words = shlex.split(line)
    assert command_line.main(words[1:]) == 0
    assert seen == [words[1]]


def test_every_verb_is_in_the_index() -> None:
    table = section(ROOT / "docs" / "index.md", "Verbs")
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(VERBS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def slugs(page: Path) -> set[str]:
    """Return the anchors that GitHub gives a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_anchors_lead_to_headings(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]*)#([^)]+)\)", page.read_text(encoding="utf-8"))
    assert [(to, anchor) for to, anchor in links if anchor not in slugs(page.parent / to if to else page)] == []


def test_named_records_exist() -> None:
    records = {path.stem for path in (ROOT / "benchmarks" / "records").glob("*.json")}
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    log = (ROOT / "docs" / "log.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(\w+_\w+)\.json`", text)) | set(re.findall(r"`(\w+_\w+)`", log))  # the log omits .json
    of_models = {"tokenizer_config", "config_sentence_transformers", "sentence_bert_config"}
    assert sorted(named - of_models - records) == []


def test_results_are_what_the_records_say() -> None:
    script = ROOT / "benchmarks" / "figures.py"
    done = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_names_exist(page: Path) -> None:
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "cutbert":
                assert hasattr(cutbert, node.attr)
            if isinstance(node, ast.ImportFrom) and node.module == "cutbert":
                assert all(hasattr(cutbert, alias.name) for alias in node.names)


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    pages = (*PAGES, ROOT / "CONTRIBUTING.md")
    named = {name for page in pages for name in re.findall(r"`make (\w+)", page.read_text(encoding="utf-8"))}
    assert named >= {"demo", "test"}
    assert [name for name in sorted(named) if not re.search(rf"^{name}:", makefile, re.MULTILINE)] == []


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 150


@pytest.mark.slow
def test_quick_start_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    # One thread: on a busy machine, threads that wait for each other make a tiny model take minutes.
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0}, raising=False)
    monkeypatch.setattr("cutbert.methods.fit_plan.Clock.left_with", lambda self, candidates: 1.5)  # not its 20 minutes
    take_times_of_thread(monkeypatch)
    make_inputs(tmp_path)
    for title in ("Quick start", "One method"):
        (block,) = blocks_of(section(ROOT / "README.md", title))
        for line in commands(block):
            assert command_line.main(shlex.split(line)[1:]) == 0, capsys.readouterr().err
    from_python, in_transformers = blocks(ROOT / "README.md", "python")
    for block in (from_python, in_transformers):
        exec(compile(block, "README.md", "exec"), {})
    made = ("runs/fit/model/onnx/example.py", "runs/fit/report.html", "small/model.safetensors")
    assert [name for name in made if not (tmp_path / name).is_file()] == []


def make_inputs(folder: Path) -> None:
    """Write what the quick start takes for granted: a tiny model where the hub id says, and tiny data."""
    shape = dataclasses.replace(SHAPE, num_positions=128, layers=SHAPE.layers * 2)  # so that a half can be kept
    (save_tiny(folder / HUB_ID, TaskModel(shape, EncoderStyle(family="bert"), HEAD)) / "cutbert.json").unlink()
    texts = [f"{first} {second} film,{('books', 'films')[i % 2]}" for first in WORDS for i, second in enumerate(WORDS)]
    (folder / "train.csv").write_text("\n".join(["body,topic", *texts, ""]), encoding="utf-8")
    task = folder / "glue" / "SST-2"
    task.mkdir(parents=True)
    for name, count in (("train", 60), ("dev", 20)):
        rows = [f"{WORDS[i % len(WORDS)]} {WORDS[i // len(WORDS)]} film\t{i % 2}" for i in range(count)]
        (task / f"{name}.tsv").write_text("\n".join(["sentence\tlabel", *rows, ""]), encoding="utf-8")
