"""Embedding models through every method: the model is its own teacher, and folders say how vectors are made."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_task import QUICK, command_words, fit_quickly, time_by_macs

import cutbert
from cutbert.bench.measure import load_candidate
from cutbert.cli.main import main
from cutbert.data.batches import Batch
from cutbert.data.dataset import load_dataset
from cutbert.data.settings import DataSettings
from cutbert.data.tokens import tokenize_rows
from cutbert.data.vectors import VectorTexts
from cutbert.errors import InputError
from cutbert.exporters.gate import longest_input
from cutbert.folders.load import load_model
from cutbert.folders.sentence import LENGTH_FILE, PROMPTS_FILE, read_sentence
from cutbert.runtime import load
from cutbert.shape.head import HeadSpec
from cutbert.shape.pooling import FLAG, POOLING_FILE
from cutbert.shape.shape import EncoderShape
from cutbert.shape.source import Models, find_model
from cutbert.surgery.importance import measure_importance
from cutbert.train.collating import padded_batch
from cutbert.train.evaluate import predict_logits, similarity_error, teacher_kl
from cutbert.train.losses import logit_loss
from cutbert.train.run_folder import RunFolder
from cutbert.train.settings import TrainSettings
from cutbert.work.inputs import check_inputs
from cutbert.work.objective import TaskObjective
from known_times import take_known_memory
from tiny_runs import WORDS, save_tiny, save_tiny_embedder, tiny_model, tiny_tokenizer

VECTORS = HeadSpec("embedding")
METRICS = ("ndcg@10", "mrr@10", "spearman", "pearson")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bare encoder with the modules of sentence-transformers."""
    return save_tiny_embedder(tmp_path_factory.mktemp("embedder") / "model")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Texts to learn from, pairs and retrieval."""
    folder, draw = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    texts = [" ".join(draw.choice(WORDS, size)) for size in draw.integers(1, 9, 70)]
    (folder / "train.txt").write_text("\n".join(texts), encoding="utf-8")
    rows = [f"{texts[i]} or,{texts[i + 1]},{i % 4}" for i in range(12)]
    (folder / "dev.csv").write_text("\n".join(["a,b,score", *rows]), encoding="utf-8")
    for name, count in (("queries", 4), ("corpus", 14)):
        lines = [json.dumps({"_id": f"{name[0]}{i}", "text": texts[i + count]}) for i in range(count)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    lines = ["query-id\tcorpus-id\tscore", *(f"q{i}\tc{2 * i}\t1" for i in range(4))]
    (folder / "relevant.tsv").write_text("\n".join(lines), encoding="utf-8")
    paths = {"train": "train.txt", "dev": "dev.csv", "relevant": "relevant.tsv"}
    paths |= {name: f"{name}.jsonl" for name in ("queries", "corpus")}
    files = {name: str(folder / path) for name, path in paths.items()}
    return {"objective": "embedding", **files, "text": "a", "text_pair": "b", "label": "score"}


@pytest.fixture(scope="module")
def family(model: Path, data: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> cutbert.api.Run:
    with pytest.MonkeyPatch.context() as patch:
        time_by_macs(patch)
        widths = {"width_mult": [1.0, 0.5], "depth_mult": [1.0, 0.5]}
        return cutbert.dynabert(model, out=tmp_path_factory.mktemp("family") / "run", **data, **widths, **QUICK)


def test_the_teacher_is_the_model_itself(family: cutbert.api.Run) -> None:
    teacher, *cut = (family.front.teacher, *family.front)
    metrics = {*METRICS, "ndcg@10_teacher_index", "cosine"}
    assert set(teacher.metrics) == metrics and family["metric"] == "ndcg@10"
    assert teacher.select_score == pytest.approx(1) and teacher.metrics["cosine"] == pytest.approx(1)
    assert teacher.metrics["ndcg@10_teacher_index"] == pytest.approx(teacher.score)
    assert family.front.own_select_metric == "cosine" and not (family.path / "teacher").exists()
    assert all(0 < each.metrics["cosine"] < 1 for each in cut if each.depth_mult == 0.5)
    assert "dev: ndcg@10, select: cosine in points" in str(family.front)


def test_vectors_are_those_of_the_formulas(family: cutbert.api.Run, model: Path) -> None:
    for folder in (model, family.path / "model"):
        sentence = read_sentence(folder)
        assert sentence is not None and (sentence.pooling, sentence.normalize) == ("mean", True)
        assert sentence.prompts.query == "a film "
        loaded = load_model(folder, VECTORS)
        tokens = tokenize_rows(VectorTexts(["a film", "good", "a very dull book and"]), loaded.tokenizer, "tiny", 16)
        for i, vector in enumerate(predict_logits(loaded.model, tokens)):
            ids = torch.from_numpy(tokens.ids[tokens.offsets[i] : tokens.offsets[i + 1]].astype(np.int64))[None]
            mean = load_model(folder).model(ids).hidden_states[-1][0].mean(0)
            np.testing.assert_allclose(vector, (mean / mean.norm()).detach().numpy(), atol=1e-5)


def test_picked_measured_and_exported(family: cutbert.api.Run, data: dict[str, Any], tmp_path: Path) -> None:
    picked = family.pick(max_params=family.front["w0.5-d0.5"].params)
    folder = tmp_path / "picked"
    picked.save_pretrained(folder)
    assert read_sentence(folder) is not None and load_model(folder).model.head_spec == HeadSpec("none")
    result = cutbert.export(folder, onnx=True, int8=True, max_drop=100.0)
    small = cutbert.export(folder, onnx=True, trim_vocab=True, out=tmp_path / "trimmed")["trimmed_vocabulary"]
    assert small["tokens"] <= small["tokens_before"] and small["select_score_after"] == pytest.approx(1, abs=1e-4)
    assert result["metric"] == "ndcg@10" and result["select_score_metric"] == "cosine"
    assert result["select_score_before"] == pytest.approx(1) and result["select_score_after"] > 0.8
    measured = cutbert.measure(folder, backend=["torch", "onnx"], rounds=1, **data)["models"]
    for each in measured:
        assert each["score"] == pytest.approx(picked.entry.score, abs=1e-5)
        assert "cosine" not in each["metrics"]
    with pytest.raises(InputError, match="must be measured on pairs with a number"):
        cutbert.measure(folder, objective="embedding", train=data["train"])


def test_nothing_is_learned_to_measure(
    model: Path, data: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    take_known_memory(monkeypatch)
    retrieval = {name: data[name] for name in ("queries", "corpus", "relevant")}
    pairs = {name: data[name] for name in ("dev", "text", "text_pair", "label")}
    quick = {"rounds": 1, "throughput_batch_size": 2, "threads": 1, "backend": "onnx"}
    wanted = cutbert.measure(model, **data, **quick)["models"][0]["metrics"]
    for part in (retrieval, pairs):
        assert main(["measure", str(model), *command_words({"objective": "embedding", **part, **quick}), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)["models"][0]["metrics"]
        assert found and found == {name: pytest.approx(wanted[name]) for name in found}
    assert main(["measure", str(model), "--objective", "embedding"]) == 2
    assert "data to score vectors on must be given: --dev FILE" in capsys.readouterr().err
    words = command_words({"objective": "embedding", **retrieval})
    assert main(["fit", str(model), "--out", "run", "--max-drop", "1", *words]) == 2
    assert "texts to learn from must be given" in capsys.readouterr().err


def test_texts_are_cut_where_the_model_cuts_them(
    model: Path, data: dict[str, Any], family: cutbert.api.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "dev.csv").write_text(f"a,b,score\n{'a film ' * 90},good,1\ngood,dull,2\n")
    long = {**data, "dev": [str(tmp_path / "dev.csv")], "train": [data["train"]]}
    source, given = find_model(model), DataSettings(**long, max_length=16)
    cut = check_inputs(Models(find_model(family.path)), DataSettings(**long), None)
    assert cut.data.max_length == 16  # which it was trained on
    assert check_inputs(Models(source), given, None).data == given
    inputs = check_inputs(Models(source), DataSettings(**long), None)
    dev = load_candidate(source, load_dataset(DataSettings(**long)), DataSettings(**long)).dev
    assert dev is not None and dev.lengths.max() == 60
    assert "norms" not in capsys.readouterr().err
    plain = shutil.copytree(model, tmp_path / "plain")
    (plain / "modules.json").write_text(json.dumps(json.loads((plain / "modules.json").read_text())[:2]))
    (plain / PROMPTS_FILE).write_text('{"similarity_fn_name": "dot"}')
    load_candidate(find_model(plain), load_dataset(DataSettings(**long)), DataSettings(**long))
    note = f"{plain} compares vectors by dot, which their norms change"
    assert note in " ".join(capsys.readouterr().err.split())
    sentence = read_sentence(plain)
    assert sentence is not None and note in sentence.norm_notes(str(plain))[0]
    for _ in range(2):  # the second as a run that was stopped
        run = RunFolder.open(tmp_path / "run", "dynabert", {"data": long})
        with run.start():
            objective = TaskObjective.prepare(inputs, TrainSettings(threads=1), run)
        assert objective.dev.lengths.max() == 60
        assert f"texts are cut at 60 tokens, as {model} cuts them" in " ".join(capsys.readouterr().err.split())
    objective.save(run, objective.loaded.model, None, "model")
    for folder, length in ((run.path / "model", 60), (family.path / "model", 16)):
        assert json.loads((folder / "cutbert.json").read_text())["max_length"] == length
        assert json.loads((folder / LENGTH_FILE).read_text())["max_seq_length"] == length
        sentence = read_sentence(folder)
        assert longest_input(load_model(folder), DataSettings(objective="embedding"), sentence) == length
    assert longest_input(load_model(model), DataSettings(objective="embedding"), read_sentence(model)) == 60


def test_a_repaired_pick_is_compared_with_the_first_teacher(family: cutbert.api.Run) -> None:
    entry = family.front["w0.5-d0.5"]
    repaired = family.pick(max_params=entry.params, repair=True)
    assert repaired.repaired is not None and set(repaired.entry.metrics) == set(entry.metrics)
    if not repaired.repaired.repaired.is_repaired:
        assert repaired.entry.metrics == pytest.approx(entry.metrics, abs=1e-5)


@pytest.fixture(scope="module")
def fitted(model: Path, data: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> cutbert.api.Run:
    with pytest.MonkeyPatch.context() as patch:
        fit_quickly(patch)
        options = {"max_latency_share": 1.0, "max_params": 14_000, "time": 600.0, "rounds": 2, "candidates": 2}
        out = tmp_path_factory.mktemp("fit") / "run"
        return cutbert.fit(model, out=out, threads=1, max_length=16, kinds=["layers"], **options, **data)


def test_fit_ends_with_a_file_that_gives_vectors(fitted: cutbert.api.Run) -> None:
    board = fitted.leaderboard
    assert board.metric == "ndcg@10" and board.own_select_metric == "cosine"
    assert board.uncut is not None and board.uncut.select_score > 0.9
    assert all("cosine" in each.metrics for each in board)
    folder = fitted.path / "model"
    assert read_sentence(folder) is not None
    done = subprocess.run(
        [sys.executable, folder / "onnx" / "example.py", "a good film", "dull"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    vectors = np.array(json.loads(done.stdout))
    assert vectors.shape == (2, 24)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_a_student_of_another_width_learns_how_alike_texts_are(
    model: Path,
    data: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fit_quickly(monkeypatch)
    shape = EncoderShape.uniform(
        hidden_size=12, num_layers=2, num_heads=2, intermediate_size=16, vocab_size=20, num_positions=128
    )
    student = save_tiny_embedder(tmp_path / "student", shape)
    pooling = json.loads((student / POOLING_FILE).read_text())
    (student / POOLING_FILE).write_text(json.dumps({**pooling, FLAG + "mean_tokens": False, FLAG + "cls_token": True}))
    (student / "config_sentence_transformers.json").unlink()
    tiny_tokenizer(WORDS[::-1]).save_pretrained(student)  # so that the teacher has tokens of its own
    options = {"max_latency_share": 1.0, "max_params": 5_000, "time": 600.0, "rounds": 2, "backend": "onnx"}
    run = cutbert.fit(
        model, out=tmp_path / "run", threads=1, max_length=16, student=student, kinds=["student"], **options, **data
    )
    assert "an index of the model's vectors cannot be searched with it" in " ".join(capsys.readouterr().err.split())
    board, (chosen,) = run.leaderboard, run.leaderboard.chosen
    assert board.own_select_metric == "similarity" and board.uncut is not None
    assert (
        board.uncut.metrics["similarity"] == pytest.approx(1, abs=1e-4)
        and "ndcg@10_teacher_index" in board.uncut.metrics
    )
    assert chosen.kind == "student" and set(chosen.metrics) == {*METRICS, "similarity"}
    sentence = read_sentence(run.path / "model")
    assert sentence is not None and sentence.pooling == "cls" and sentence.prompts.query == "a film "
    texts = judged_texts(data)
    ours, theirs = (np.array(load(each, threads=1)(texts)) for each in (run.path / "model", export_of(model, tmp_path)))
    alike = [
        np.corrcoef(np.delete(one @ ours.T, i), np.delete(other @ theirs.T, i))[0, 1]
        for i, (one, other) in enumerate(zip(ours, theirs, strict=True))
    ]
    assert ours.shape[1] == 12  # the tiny model's vectors are nearly one, so that rounding counts
    assert chosen.metrics["similarity"] == pytest.approx(np.mean(alike), abs=0.05)


def judged_texts(data: dict[str, Any]) -> list[str]:
    """Return the texts of dev, queries with their prompt."""
    pairs = [line.split(",")[:2] for line in Path(data["dev"]).read_text().split("\n")[1:]]
    rows = {name: map(json.loads, Path(data[name]).read_text().split("\n")) for name in ("queries", "corpus")}
    queries, corpus = ([row["text"] for row in rows[name]] for name in ("queries", "corpus"))
    judged = dict.fromkeys(text for pair in pairs[1:] for text in pair)
    return [*judged, *(f"a film {text}" for text in queries), *corpus]


def export_of(model: Path, folder: Path) -> Path:
    """Return the model's folder with an ONNX file."""
    cutbert.export(model, onnx=True, out=folder / "exported")
    return folder / "exported"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("verb", "options"),
    [
        ("schubert", {"budget": "params=0.9", "rounds": 1, "dims": ["f", "a"]}),
        ("undivided", {"ffn_every": 3}),
        ("depth", {"depth": 1}),
    ],
)
def test_other_methods(
    verb: str,
    options: dict[str, Any],
    model: Path,
    data: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    time_by_macs(monkeypatch)
    run = getattr(cutbert, verb)(model, out=tmp_path / "run", **options, **data, **QUICK)
    assert run["metric"] == "ndcg@10"
    assert read_sentence(run.path / "model") is not None


@pytest.mark.slow
def test_search(family: cutbert.api.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    time_by_macs(monkeypatch)
    shutil.copytree(family.path, tmp_path / "run")
    with pytest.raises(InputError, match=r"--objective must be what .*run learned, embedding, got task"):
        cutbert.search(tmp_path / "run", max_params=14_000, objective="task")
    found = cutbert.search(tmp_path / "run", max_params=14_000, objective="embedding", trials=4, threads=1)
    assert found["metric"] == "ndcg@10" and all(each["metrics"]["cosine"] < 1 for each in found["subnets"])


# Losses


def test_the_loss_is_that_of_unit_vectors() -> None:
    draw = torch.Generator().manual_seed(0)
    ours, theirs = (torch.randn(5, 7, generator=draw) for _ in range(2))
    cosines = torch.nn.functional.cosine_similarity(ours, theirs)
    assert logit_loss(VECTORS, ours, theirs).item() == pytest.approx((2 - 2 * cosines).sum().item(), rel=1e-5)
    assert logit_loss(VECTORS, 3 * ours, ours).item() == pytest.approx(0, abs=1e-6)
    assert teacher_kl(VECTORS, ours.numpy(), theirs.numpy()) == pytest.approx((2 - 2 * cosines).mean().item())


def test_vectors_of_other_widths_are_compared_by_their_cosines() -> None:
    draw = torch.Generator().manual_seed(0)
    ours, theirs = (torch.randn(5, width, generator=draw) for width in (7, 9))
    cosines = [[torch.cosine_similarity(one, two, dim=0) for one in each for two in each] for each in (ours, theirs)]
    wanted = sum((one - other) ** 2 for one, other in zip(*cosines, strict=True)) / 4
    assert logit_loss(VECTORS, ours, theirs).item() == pytest.approx(float(wanted), rel=1e-5)
    assert similarity_error(ours.numpy(), theirs.numpy()) == pytest.approx(float(wanted) / 5, rel=1e-5)
    turn = torch.linalg.qr(torch.randn(9, 7, generator=draw))[0]
    assert logit_loss(VECTORS, 3 * ours, ours @ turn.T).item() == pytest.approx(0, abs=1e-6)
    assert logit_loss(VECTORS, ours[:1], theirs[:1]).item() == 0


def test_units_that_change_no_vector_have_no_importance(model: Path) -> None:
    network = load_model(model, VECTORS).model
    with torch.no_grad():
        network.encoder.layers[1].feed_forward.down.weight[:, 3] = 0.0
    tokens = tokenize_rows(VectorTexts(["a film", "good", "a dull book"]), tiny_tokenizer(), "tiny", 16)
    batches: list[Batch] = [padded_batch(network, tokens, [0, 1, 2])]
    neurons = measure_importance(network, batches).neurons[1]
    assert neurons[3] == 0 and (neurons > 0).sum() == len(neurons) - 1


# What is refused


def refused(model: Path, data: dict[str, Any], out: Path, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        cutbert.dynabert(model, out=out, **{**data, **options}, **QUICK)
    assert not out.exists() or not (out / "model").exists()
    return "\n".join(caught.value.mistakes)


def test_models_without_vectors(model: Path, data: dict[str, Any], tmp_path: Path) -> None:
    plain = save_tiny(tmp_path / "plain", tiny_model(HeadSpec("none")))
    assert "must have a model that says how a text's states become its vector" in refused(plain, data, tmp_path / "run")
    largest = shutil.copytree(model, tmp_path / "largest")
    (largest / "1_Pooling" / "config.json").write_text('{"pooling_mode_max_tokens": true}')
    assert "with the pooling cls or mean, got 'max_tokens'" in refused(largest, data, tmp_path / "run")
    (largest / "1_Pooling" / "config.json").write_text('{"pooling_mode": "mean", "include_prompt": false}')
    assert "pools its prompts too" in refused(largest, data, tmp_path / "run")
    shutil.copy(model / "1_Pooling" / "config.json", largest / "1_Pooling")
    prompts = json.loads((model / PROMPTS_FILE).read_text())
    (largest / PROMPTS_FILE).write_text(json.dumps({**prompts, "truncate_dim": 8}))
    assert f"a model of whole vectors, and {PROMPTS_FILE} of" in refused(largest, data, tmp_path / "run")
    modules = json.loads((model / "modules.json").read_text())
    modules[2]["type"] = "sentence_transformers.models.Dense"
    (largest / "modules.json").write_text(json.dumps(modules))
    assert "modules after an encoder must be" in refused(largest, data, tmp_path / "run")


def test_options_of_tasks(model: Path, data: dict[str, Any], tmp_path: Path) -> None:
    assert "--teacher must not be given with --objective embedding" in refused(
        model, data, tmp_path / "run", teacher=str(model)
    ) or "--teacher is for --objective task" in refused(model, data, tmp_path / "run", teacher=str(model))
    assert "--augment is for --objective task" in refused(model, data, tmp_path / "run", augment="words")
    with pytest.raises(InputError, match="must leave the hidden size, which is that of the vectors, as it is"):
        cutbert.schubert(model, out=tmp_path / "run", budget="params=0.9", **data, **QUICK)
