"""`analyze` end to end on tiny models: numbers that other code gives too, pictures, run folders, refusals."""

from __future__ import annotations

import json
import math
import sys
import weakref
from pathlib import Path
from shutil import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import cutbert
from cutbert.analysis.cka import cka
from cutbert.analysis.report import labelled_batches
from cutbert.analysis.rows import read_representations
from cutbert.cli.main import main
from cutbert.data.tokens import tokenize_rows
from cutbert.errors import InputError, MissingError, RunError
from cutbert.folders.load import load_model
from cutbert.folders.save import save_model
from cutbert.model.style import EncoderStyle
from cutbert.model.task_model import TaskModel
from cutbert.shape.head import HeadSpec
from cutbert.shape.shape import EncoderShape, LayerShape
from kills import killed_before
from tiny_runs import PROVENANCE, save_tiny, tiny_model, tiny_rows, tiny_tokenizer, write_tsv

FREE = EncoderShape(16, (LayerShape(2, 4, 6, 9), LayerShape(1, 3, 3, 0), LayerShape(0, 0, 0, 7)), 20, 64, 2)
LAYERS = ["layer0", "layer1", "layer2"]
WHOLE: dict[str, Any] = {"probe_examples": 30, "importance_samples": 20}
PROBE_KEYS = {"score", "control", "selectivity", "train_score", "control_train_score", "strength"}


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("task")
    files = {name: write_tsv(folder / f"{name}.tsv", tiny_rows(60, seed)) for name, seed in (("train", 1), ("dev", 2))}
    sizes = {"num_examples": 40, "batch_size": 10, "probe_examples": 0, "importance_samples": 0}
    return {**files, "text": "text", "label": "label", "threads": 1, **sizes}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("model") / "m")


@pytest.fixture(scope="module")
def free(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A masked LM of a free shape: no head for the task, sub-layers missing."""
    torch.manual_seed(1)
    network = TaskModel(FREE, EncoderStyle(family="bert"), HeadSpec("masked_lm"))
    folder = tmp_path_factory.mktemp("free") / "m"
    save_model(folder, network, tiny_tokenizer(), provenance=PROVENANCE)
    return folder


def test_one_model(model: Path, task: dict[str, Any], tmp_path: Path) -> None:
    out, task = tmp_path / "look", {**task, **WHOLE}
    found = cutbert.analyze(model, out=out, **task).to_json()
    assert found["layers"] == LAYERS and "layers_against" not in found
    for matrix in (found["cka"], *found["cka_sites"].values()):
        values = np.array(matrix)
        assert values.shape == (3, 3) and np.allclose(values, values.T) and np.allclose(np.diag(values), 1)
    assert set(found["cka_sites"]) == {"attention", "feed_forward"} and len(found["cka_embeddings"]) == 3
    assert list(found["probe"]) == LAYERS and all(set(each) == PROBE_KEYS for each in found["probe"].values())
    assert list(found["probe_sites"]["attention"]) == LAYERS and set(found["probe_embeddings"]) == PROBE_KEYS
    assert list(found["importance"]) == LAYERS
    assert found["num_examples"] == 40 and found["num_rows"] <= 160 and found["notes"] == []
    assert json.loads((out / "analysis.json").read_text()) == found
    names = ["cka.svg", "cka_attention.svg", "cka_feed_forward.svg", "probe.svg", "importance.svg"]
    assert found["pictures"] == names
    for name in names:
        text = (out / name).read_text(encoding="utf-8")
        assert text.startswith("<?xml") and all(f">{layer}<" in text for layer in LAYERS)
    before = (out / "run.json").read_bytes()
    assert cutbert.analyze(model, out=out, **task).to_json() == found
    assert (out / "run.json").read_bytes() == before


def test_numbers_are_those_of_all_rows_at_once(model: Path, task: dict[str, Any]) -> None:
    """With `exact` rows are all texts of train, in whatever order: what `cka` gives of them read in one piece."""
    options = {**task, "num_examples": 60, "select": "dev"}
    loaded = load_model(model)
    tokens = tokenize_rows(tiny_rows(60, 1), loaded.tokenizer, "tiny", 64, cache=False)
    rows = read_representations(loaded.model, tokens, np.arange(60), sites=("layer", "attention"), rows=("mean",))[
        "mean"
    ]
    at = {kind: [x for site, x in rows.items() if site.kind == kind] for kind in ("layer", "attention")}
    for estimator, kernel in (("exact", "linear"), ("biased", "linear"), ("exact", "rbf")):
        found = cutbert.analyze(model, rows="mean", estimator=estimator, kernel=kernel, **options)
        assert "probe" not in found.data and "importance" not in found.data and "out" not in found.data
        for key, kind in ((found["cka"], "layer"), (found["cka_sites"]["attention"], "attention")):
            wanted = cka(at[kind][0], at[kind][2], kernel=kernel, biased=estimator == "biased")
            assert key[0][2] == pytest.approx(wanted, abs=1e-4)


def test_two_models_of_other_shapes(model: Path, free: Path, task: dict[str, Any], tmp_path: Path) -> None:
    found = cutbert.analyze(model, against=free, out=tmp_path / "two", pictures="png", **{**task, **WHOLE})
    assert found["layers_against"] == LAYERS and found["model"] == str(model) and found["against"] == str(free)
    assert np.array(found["cka"]).shape == (3, 3) and not np.allclose(np.diag(found["cka"]), 1)
    assert np.array(found["cka_sites"]["attention"]).shape == (3, 2)
    assert found["site_layers_against"] == {"attention": LAYERS[:2], "feed_forward": ["layer0", "layer2"]}
    assert list(found["probe_against"]) == LAYERS and "importance_against" not in found.data
    assert (tmp_path / "two" / "probe.png").read_bytes().startswith(b"\x89PNG")
    other = cutbert.analyze(free, against=model, **{**task, "importance_samples": 20})
    assert np.allclose(np.array(other["cka"]), np.array(found["cka"]).T)
    assert other["notes"] == [f"no importance: {free} has no head for this task; fine-tune it first"]


def test_a_model_against_itself_is_itself(model: Path, task: dict[str, Any]) -> None:
    alone, twice = cutbert.analyze(model, **task), cutbert.analyze(model, against=model, **task)
    assert np.allclose(alone["cka"], twice["cka"]) and "probe" not in alone.data


def test_the_first_token_is_the_same_before_the_first_layer(model: Path, task: dict[str, Any]) -> None:
    found = cutbert.analyze(model, rows="cls", **task)
    assert found["cka_embeddings"] == [None, None, None]
    assert all(0 < value <= 1 + 1e-9 for value in found["cka"][0])
    json.dumps(found.to_json(), allow_nan=False)


def test_other_splits_and_more_probe_texts(model: Path, task: dict[str, Any]) -> None:
    """Probes are trained on training texts, whichever rows CKA is measured on."""
    select = cutbert.analyze(model, split="select", rows="mean", **task)
    dev = cutbert.analyze(model, split="dev", rows="mean", **{**task, "probe_examples": 50})
    assert select["num_rows"] < 10 < dev["num_rows"] == 40 < dev["probe_examples"] == 50
    assert all(0 <= probe["score"] <= 1 for probe in dev["probe"].values())


@pytest.mark.parametrize("kind", ["regression", "multi_label", "tagging"])
def test_other_labels(kind: str, task: dict[str, Any], tmp_path: Path) -> None:
    rows = tiny_rows(60, 1)
    options = {name: value for name, value in task.items() if name not in ("train", "dev", "label", "text")} | WHOLE
    if kind == "tagging":
        lines = [
            "\n".join(f"{word}\t{'B-X' if word == 'film' else 'O'}" for word in text.split()) for text in rows.text
        ]
        (tmp_path / "t.conll").write_text("\n\n".join(lines) + "\n")
        own: dict[str, Any] = {"tagging": True, "text": "0", "label": "-1"}
        files = {"train": tmp_path / "t.conll", "dev": copy(tmp_path / "t.conll", tmp_path / "d.conll")}
        head = HeadSpec("token", ("B-X", "O"))
    else:
        labels = [f"{i / 7:.2f}" if kind == "regression" else ("a,b", "a", "b", "")[i % 4] for i in range(60)]
        text = "text\tlabel\n" + "".join(f"{a}\t{b}\n" for a, b in zip(rows.text, labels, strict=True))
        (tmp_path / "t.tsv").write_text(text)
        own = {
            "text": "text",
            "label": "label",
            **({"regression": True} if kind == "regression" else {"multi_label": ","}),
        }
        files = {"train": tmp_path / "t.tsv", "dev": copy(tmp_path / "t.tsv", tmp_path / "d.tsv")}
        head = HeadSpec("regression", ("score",)) if kind == "regression" else HeadSpec("multi_label", ("a", "b"))
    found = cutbert.analyze(save_tiny(tmp_path / "m", tiny_model(head)), **options, **own, **files, select="dev")
    assert ("probe" in found.data) == (kind != "tagging")
    if kind == "tagging":
        assert "no probes: the task's labels are not of whole texts" in found["notes"]
        assert list(found["importance"]) == LAYERS


class Float64Alive(TorchDispatchMode):
    """Notes the most bytes that tensors of float64 held at a time: nothing but CKA computes in it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.dtype == torch.float64:
            self.now += result.nbytes
            self.most = max(self.most, self.now)
            weakref.finalize(result, self.free, result.nbytes)
        return result

    def free(self, size: int) -> None:
        self.now -= size


def test_memory_does_not_grow_with_the_texts(model: Path, task: dict[str, Any]) -> None:
    """Whatever the number of texts, what CKA holds is as large as a minibatch needs, and gone by the next one."""
    most = []
    for count in (20, 60):
        with Float64Alive() as alive:
            cutbert.analyze(model, **{**task, "rows": "mean", "num_examples": count})
        most.append(alive.most)
    assert 0 < most[1] <= 1.05 * most[0]


def test_importance_batches_hold_every_row_once(model: Path) -> None:
    loaded = load_model(model)
    tokens = tokenize_rows(tiny_rows(23), loaded.tokenizer, "tiny", 64, cache=False)
    batches = list(labelled_batches(loaded.model, tokens))
    assert sum(batch.num_rows for batch in batches) == 23
    assert sum(int(batch.labels.sum()) for batch in batches) == int(tokens.labels.sum())


def test_without_matplotlib(model: Path, task: dict[str, Any], tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(
        MissingError, match=r"--pictures svg: pictures need matplotlib: pip install 'cutbert\[report\]'"
    ):
        cutbert.analyze(model, out=tmp_path / "a", pictures="svg", **task)
    assert not (tmp_path / "a").exists()
    found = cutbert.analyze(model, out=tmp_path / "b", **task)
    assert "pictures" not in found.data and (tmp_path / "b" / "analysis.json").is_file()
    assert "no pictures, numbers only: pictures need matplotlib" in capsys.readouterr().err


def test_a_killed_run_is_done_anew(model: Path, task: dict[str, Any], tmp_path: Path) -> None:
    with killed_before(tmp_path / "a" / "analysis.json"):
        cutbert.analyze(model, out=tmp_path / "a", **task)
    assert not (tmp_path / "a" / "analysis.json").exists()
    again, other = (cutbert.analyze(model, out=tmp_path / name, **task).to_json() for name in ("a", "b"))
    times = ("out", "seconds")
    assert {k: v for k, v in again.items() if k not in times} == {k: v for k, v in other.items() if k not in times}


def test_mistakes_come_together_and_make_nothing(
    model: Path, task: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["analyze", str(model), "--train", str(task["train"]), "--dev", "none.tsv", "--text", "text"]
    words += ["--label", "label", "--num-examples", "3", "--bandwidth", "0.2", "--out", str(tmp_path / "o")]
    of_settings = ("--num-examples must be at least 8, got 3", "--bandwidth must come with --kernel rbf")
    against = ["--against", str(tmp_path / "gone")]  # a model that cannot be used is refused before data is read
    for more, texts in (([], (*of_settings, "none.tsv")), (against, (*of_settings, "gone"))):
        assert main([*words, *more]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == len(texts) and all(line.startswith("cutbert: error: ") for line in lines)
        for text in texts:
            assert any(text in line for line in lines), lines
    assert not (tmp_path / "o").exists()


def test_another_verbs_folder_is_refused(model: Path, task: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="is not empty and holds no run"):
        cutbert.analyze(model, out=tmp_path, **task)


def test_tokens_of_two_vocabularies_are_refused(model: Path, task: dict[str, Any], tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.post_processor = None
    save_model(tmp_path / "m", tiny_model(), tokenizer, provenance=PROVENANCE)
    with pytest.raises(InputError, match=r"--rows tokens must compare the same tokens, but .* cut texts differently"):
        cutbert.analyze(model, against=tmp_path / "m", out=tmp_path / "o", **task)
    assert not (tmp_path / "o").exists()
    values = np.array(cutbert.analyze(model, against=tmp_path / "m", rows="mean", **task)["cka"])
    assert values.shape == (3, 3) and not math.isnan(values.sum())


def test_a_length_beyond_the_positions_is_refused(free: Path, task: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"--max-length must be at most 64, the positions of .*, got 65"):
        cutbert.analyze(free, max_length=65, **task)


def test_the_human_view(model: Path, free: Path, task: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    options = {**task, **WHOLE, "against": free}
    words = [word for name, value in options.items() for word in ("--" + name.replace("_", "-"), str(value))]
    assert main(["analyze", str(model), *words]) == 0
    shown = capsys.readouterr().out
    for text in (
        "CKA of layer outputs (linear",
        "columns",
        "embeddings",
        "memorised",
        "importance: first-order change",
    ):
        assert text in shown
    assert shown.count("\nembeddings") == 2  # the other model has its probes too
