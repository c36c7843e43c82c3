"""Exported folders answer in the loaders themselves as the model does here, to 1e-4."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layout_models import (
    FREE,
    NEW,
    PAIRS,
    SHAPES,
    STOCK,
    TEXTS,
    add_modules,
    bert_tokenizer,
    family_tokenizer,
    save_layout_model,
)
from random_models import HEADS, own_answer

import cutbert
from cutbert.exporters.int8 import instruction_set, int8_file
from cutbert.exporters.session import OnnxRunner
from cutbert.folders.loaders import TEXT
from cutbert.model.task_model import TaskModel
from cutbert.runtime import load

RUNNERS = Path(__file__).parent / "loaders"
OPTIMUM = "CUTBERT_OPTIMUM_PYTHON"
NODE = "CUTBERT_NODE_MODULES"
INT8 = int8_file(instruction_set())
LONGEST = 30  # tokens, of the sentence-transformers folder
ONNX = {"backend": "onnx", "model_kwargs": {"subfolder": "onnx", "file_name": "model.onnx"}}
FAMILIES = [family for family in SHAPES if family not in ("bert", "nomic_bert", "gte")]
WORD_PAIRS = (("good film", "bad"), ("dull", "very fine"))
WORD_TEXTS = ("good film", "dull")
VECTORS = {"vec": ("none", FREE), "vec_stock": ("pooler", STOCK)}
ORT_CLASSES = {
    "single_label": "ORTModelForSequenceClassification",
    "token": "ORTModelForTokenClassification",
    "span": "ORTModelForQuestionAnswering",
    "masked_lm": "ORTModelForMaskedLM",
}
TASKS = {
    "single_label": "text-classification",
    "token": "token-classification",
    "span": "question-answering",
    "masked_lm": "fill-mask",
}


@pytest.fixture(scope="module")
def models() -> dict[str, TaskModel]:
    return {}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, models: dict[str, TaskModel]) -> Path:
    """A folder of models, each in all layouts that serve it: heads of a free shape, and two embedding models."""
    root = tmp_path_factory.mktemp("layouts")
    everywhere = ("transformers.js", "optimum")
    kinds = {kind: (kind, FREE) for kind in (*TASKS, "regression")} | {"stock": ("single_label", STOCK)} | VECTORS
    for name, (kind, shape) in kinds.items():
        pooling = "mean" if kind == "single_label" and shape is FREE else "cls"
        models[name] = save_layout_model(root / "src" / name, HEADS[kind], shape, pooling)
        layouts = list(everywhere)
        if name in VECTORS:
            add_modules(root / "src" / name, pooling="mean" if name == "vec" else "cls", normalize=name == "vec")
            layouts += ["sentence-transformers", "fastembed"]
        elif HEADS[kind].is_sequence:
            layouts += ["sentence-transformers", *(["fastembed"] if kind == "regression" else [])]
        options: dict[str, Any] = {"layouts": layouts, "onnx": True, "int8": True, "gate": False, "threads": 1}
        cutbert.export(root / "src" / name, out=root / name, **options)
    for family in FAMILIES:
        kind = HEADS["single_label"]
        models[family] = save_layout_model(root / "src" / family, kind, SHAPES[family], "mean", family)
        cutbert.export(root / "src" / family, out=root / family, layouts="default", onnx=True, threads=1)
    for family in NEW:
        name = f"vec-{family}"
        models[name] = save_layout_model(root / "src" / name, HEADS["none"], SHAPES[family], "cls", family)
        add_modules(root / "src" / name)
        cutbert.export(root / "src" / name, out=root / name, layouts="default", onnx=True, threads=1)
    return root


def family_answer(model: TaskModel, family: str) -> np.ndarray:
    """Return the logits of two pairs of words in a family's own tokens."""
    return own_answer(model, family_inputs(family, *map(list, zip(*WORD_PAIRS, strict=True))))


def family_vectors(model: TaskModel, family: str) -> np.ndarray:
    """Return the mean over tokens with a norm of 1 of words in a family's own tokens."""
    inputs = family_inputs(family, list(WORD_TEXTS))
    return normed_means(own_answer(model, inputs), inputs[1])


def family_inputs(family: str, *sides: list[str]) -> list[np.ndarray]:
    """Return ids, mask and types in a family's own tokens."""
    found = family_tokenizer(family)(*sides, padding=True, return_tensors="np")
    ids, mask = (found[name].astype(np.int64) for name in ("input_ids", "attention_mask"))
    return [ids, mask, np.array(found.get("token_type_ids", np.zeros_like(ids)), dtype=np.int64)]


def normed_means(states: np.ndarray, mask: np.ndarray) -> np.ndarray:
    means = (states * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
    return means / np.linalg.norm(means, axis=1, keepdims=True)


def encoded(texts: Any, longest: int = 40) -> list[np.ndarray]:
    """Return ids, mask and types of texts or pairs, as our tokenizer makes them."""
    ones, others = (list(texts), None) if isinstance(texts[0], str) else map(list, zip(*texts, strict=True))
    found = bert_tokenizer()(ones, others, padding=True, truncation=True, max_length=longest, return_tensors="np")
    return [found[name].astype(np.int64) for name in ("input_ids", "attention_mask", "token_type_ids")]


def vectors(model: TaskModel, name: str, texts: Any = TEXTS) -> np.ndarray:
    """Return the vectors of texts: the mean over tokens with a norm of 1, or the first token's states."""
    inputs = encoded(texts, LONGEST)
    states = own_answer(model, inputs)
    if name != "vec":
        return states[:, 0]
    return normed_means(states, inputs[1])


def close(got: Any, wanted: np.ndarray, atol: float = 1e-4) -> None:
    np.testing.assert_allclose(np.array(got), wanted, atol=atol)


def at_tokens(got: Any, wanted: np.ndarray, texts: Any, longest: int = 40) -> None:
    """Compare outputs of every token; what stands at padding is nobody's business."""
    real = encoded(texts, longest)[1].astype(bool)
    close(np.array(got)[real], wanted[real])


@pytest.fixture(scope="module")
def optimum_python() -> str:
    python = os.environ.get(OPTIMUM)
    if not python:
        pytest.skip(
            f"{OPTIMUM} names no Python with optimum-onnx, sentence-transformers and fastembed, which want another "
            "transformers than ours; tests/exporters/loaders/install.sh makes one"
        )
    return python


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the script for transformers.js and the package beside it."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    modules = os.environ.get(NODE)
    if not modules:
        pytest.skip(
            f"{NODE} names no node_modules with @huggingface/transformers; tests/exporters/loaders/install.sh makes it"
        )
    place = tmp_path_factory.mktemp("node")
    shutil.copy(RUNNERS / "run_loaders.mjs", place)
    (place / "node_modules").symlink_to(Path(modules).resolve())
    return place


def run_python(python: str, jobs: list[dict[str, Any]]) -> list[Any]:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return run([python, str(RUNNERS / "run_loaders.py")], jobs, environment | {"HF_HUB_OFFLINE": "1"})


def run(command: list[str], jobs: list[dict[str, Any]], environment: dict[str, str] | None = None) -> list[Any]:
    done = subprocess.run(command, input=json.dumps(jobs), capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def card_lines(folder: Path, language: str) -> str:
    """Return the first lines of code in a language on a model's card."""
    return (folder / "README.md").read_text().partition(f"```{language}\n")[2].partition("```")[0]


def run_lines(node: Path, lines: str, models: Path) -> str:
    """Return what lines of JavaScript print that load models of a folder by their names."""
    script = node / "lines.mjs"
    place = f"env.allowRemoteModels = false;\nenv.localModelPath = {json.dumps(str(models))};\n"
    script.write_text(f"import {{ env }} from '@huggingface/transformers';\n{place}{lines}")
    done = subprocess.run(["node", str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.loaders
def test_transformers_js(folder: Path, models: dict[str, TaskModel], node: Path) -> None:
    names = [*TASKS, "stock", "regression"]
    ones, others = map(list, zip(*PAIRS, strict=True))
    jobs: list[dict[str, Any]] = [
        {"folder": name, "task": TASKS.get(name, "text-classification"), "texts": ones, "others": others}
        for name in names
    ]
    jobs += [
        {
            "folder": name,
            "task": "feature-extraction",
            "texts": list(TEXTS[:2]),  # of one that is too long it leaves the closing [SEP] out
            "options": {"pooling": "mean" if name == "vec" else "cls", "normalize": name == "vec"},
        }
        for name in VECTORS
    ]
    sides = dict(zip(("texts", "others"), map(list, zip(*WORD_PAIRS, strict=True)), strict=True))
    command = ["node", str(node / "run_loaders.mjs"), str(folder)]
    whole = run(command, [{**job, "dtype": kind} for kind in ("fp32", "q8") for job in jobs])
    of_families = [{"folder": family, "task": TASKS["single_label"], "dtype": "fp32", **sides} for family in FAMILIES]
    for family, found in zip(FAMILIES, run(command, of_families), strict=True):
        close(found["logits"], family_answer(models[family], family))
    pooled = {"texts": WORD_TEXTS, "options": {"pooling": "mean", "normalize": True}}
    of_new = [{"folder": f"vec-{family}", "task": "feature-extraction", "dtype": "fp32", **pooled} for family in NEW]
    for family, found in zip(NEW, run(command, of_new), strict=True):
        close(found, family_vectors(models[f"vec-{family}"], family))
    inputs = encoded(PAIRS)
    for name, found in zip(names, whole, strict=False):
        wanted = own_answer(models[name], inputs)
        if name == "span":
            at_tokens(found["start"], wanted[..., 0], PAIRS)
            at_tokens(found["end"], wanted[..., 1], PAIRS)
        elif wanted.ndim == 3:
            at_tokens(found["logits"], wanted, PAIRS)
        else:
            close(found["logits"], wanted)
    first = own_answer(models["single_label"], encoded([PAIRS[0][0]]))[0]
    assert whole[0]["label"] == HEADS["single_label"].labels[int(first.argmax())]
    for name, found in zip(VECTORS, whole[len(names) :], strict=False):
        close(found, vectors(models[name], name, TEXTS[:2]))
    script = card_lines(folder / "regression", "js").replace("FOLDER", "regression").replace("q8", "fp32")
    answer = json.loads(run_lines(node, script, folder))
    close(answer, own_answer(models["regression"], encoded([("a question", TEXT)])))
    script = card_lines(folder / "masked_lm", "js").replace("FOLDER", "masked_lm")
    assert "score: " in run_lines(node, script, folder)
    for name, found in zip(names, whole[len(jobs) :], strict=False):  # int8 answers as its file does here
        runner = OnnxRunner(folder / name / "onnx" / "model_quantized.onnx", 1)
        if "logits" in found and np.ndim(found["logits"]) == 2:
            close(found["logits"], runner(*inputs), atol=1e-2)


@pytest.mark.slow
@pytest.mark.loaders
def test_python_loaders(folder: Path, models: dict[str, TaskModel], optimum_python: str) -> None:
    """One process for all: most of the time goes into loading libraries."""
    jobs: list[dict[str, Any]] = []
    wanted: list[Any] = []

    def expect(answer: Any, **job: Any) -> None:
        jobs.append({**job, "folder": str(folder / job["folder"])})
        wanted.append(answer)

    pairs = encoded(PAIRS)
    ones, others = map(list, zip(*PAIRS, strict=True))
    int8 = {"backend": "onnx", "model_kwargs": {"subfolder": "onnx", "file_name": INT8}}
    for name in VECTORS:
        own, job = vectors(models[name], name), {"folder": name, "texts": list(TEXTS)}
        for options in ({"backend": "onnx"}, ONNX):
            expect(own, loader="sentence_transformer", options=options, **job)
        alone = load(folder / name, backend="onnx-int8", batch_size=1, threads=1)  # as ranges are those of a batch
        assert alone.session.path.name == INT8
        expect(np.stack(alone(TEXTS)), loader="sentence_transformer", options=int8, call={"batch_size": 1}, **job)
        pooling = "MEAN" if name == "vec" else "CLS"
        named = {"file": "onnx/model.onnx", "dim": 24, "pooling": pooling, "normalize": name == "vec"}
        expect(own, loader="fastembed_vectors", **job, **named)
    prompted = vectors(models["vec"], "vec", ["a film dull"])
    model = load(folder / "vec", backend="onnx", threads=1)
    close(model(["dull"], prompt_name="query"), prompted)
    for name in ("query", "document", None):
        job = {"folder": "vec", "texts": list(TEXTS), "call": {"prompt_name": name}}
        expect(np.stack(model(TEXTS, prompt_name=name)), loader="sentence_transformer", options=ONNX, **job)
    expect(
        vectors(models["vec_stock"], "vec_stock"),
        loader="sentence_transformer", folder="vec_stock", texts=list(TEXTS), options={},
    )  # fmt: skip
    for name in ("single_label", "stock", "regression"):
        answers = own_answer(models[name], pairs)
        answers = answers[:, 0] if name == "regression" else answers
        expect(answers, loader="cross_encoder", folder=name, texts=PAIRS, options=ONNX)
    answers = own_answer(models["stock"], pairs)
    expect(answers, loader="cross_encoder", folder="stock", texts=PAIRS, options={})
    job = {"folder": "stock", "texts": ones, "others": others, "class": "AutoModelForSequenceClassification"}
    expect({"logits": answers}, loader="transformers", **job)
    scores = own_answer(models["regression"], pairs)[:, 0]
    expect(scores, loader="fastembed_scores", folder="regression", texts=PAIRS, file="onnx/model.onnx")
    place = {"subfolder": "onnx", "file_name": "model.onnx"}
    for name, kind in ORT_CLASSES.items():
        own = own_answer(models[name], pairs)
        outputs = {"start_logits": own[..., 0], "end_logits": own[..., 1]} if name == "span" else {"logits": own}
        job = {"folder": name, "texts": ones, "others": others, "class": kind, "outputs": list(outputs)}
        expect(outputs, loader="optimum", options=place, **job)
    sides = dict(zip(("texts", "others"), map(list, zip(*WORD_PAIRS, strict=True)), strict=True))
    for family in FAMILIES:
        own = {"logits": family_answer(models[family], family)}
        job = {"folder": family, "class": ORT_CLASSES["single_label"], "outputs": ["logits"], **sides}
        expect(own, loader="optimum", options=place, **job)
        if family in NEW:
            expect(own["logits"], loader="cross_encoder", folder=family, texts=WORD_PAIRS, options=ONNX)
    for family in NEW:
        own, job = family_vectors(models[f"vec-{family}"], family), {"folder": f"vec-{family}", "texts": WORD_TEXTS}
        expect(own, loader="fastembed_vectors", file="onnx/model.onnx", dim=24, pooling="MEAN", normalize=True, **job)
        if family not in ("nomic_bert", "gte"):
            expect(own, loader="sentence_transformer", options=ONNX, **job)
    states = own_answer(models["vec"], encoded(TEXTS, LONGEST))
    job = {"folder": "vec", "texts": list(TEXTS), "class": "ORTModelForFeatureExtraction"}
    expect({"last_hidden_state": states}, loader="optimum", options=place, outputs=["last_hidden_state"], **job)

    for job, answer, got in zip(jobs, wanted, run_python(optimum_python, jobs), strict=True):
        if isinstance(answer, np.ndarray):
            close(got, answer)
        else:
            for name, own in answer.items():
                if job["folder"].endswith("vec"):
                    at_tokens(got[name], own, TEXTS, LONGEST)
                elif own.ndim == 3 or name.endswith("_logits"):
                    at_tokens(got[name], own, PAIRS)
                else:
                    close(got[name], own)


def test_plain_onnxruntime(folder: Path, models: dict[str, TaskModel]) -> None:
    """The example in the folder prints the vectors, with neither torch nor cutbert installed."""
    script = (
        "import sys; sys.modules.update(dict.fromkeys(('torch', 'cutbert', 'transformers', 'onnx'))); import runpy;"
    )
    for name in VECTORS:
        path = folder / name / "onnx" / "example.py"
        code = f"{script}sys.argv = ['example.py', *{list(TEXTS)!r}]; runpy.run_path({str(path)!r})"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        close(json.loads(done.stdout), vectors(models[name], name))
