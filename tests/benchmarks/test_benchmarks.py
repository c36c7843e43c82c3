"""Every benchmark runs on 64 rows with a tiny network, and leaves a record with its header and its numbers."""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import onnx
import pytest
from benchmark_modules import BENCHMARKS, importable
from transformers import BertConfig, BertForSequenceClassification

import cutbert
from cutbert.api.sweeps import SWEPT
from cutbert.cli.main import main
from cutbert.exporters.graph import build_graph
from cutbert.shape.head import HeadSpec
from cutbert.shape.shape import EncoderShape
from cutbert.sweeps.expand import read_runs
from data.tiny_questions import squad_text
from known_times import take_known_memory, take_times_of_thread
from methods.tiny_task import fit_quickly, measure_quickly, time_by_macs
from tiny_runs import SHAPE, WORDS, save_tiny, save_tiny_embedder, tiny_model, tiny_rows, tiny_tokenizer
from tiny_sweeps import compute_here

HEADER = {"format_version", "name", "commit", "has_uncommitted_changes", "command", "started", "finished", "machine",
          "versions", "seeds"}  # fmt: skip
PLANS = sorted(path.name for path in (BENCHMARKS / "plans").glob("*.toml"))


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """Few latencies, and no process of Python for a training's memory."""
    with pytest.MonkeyPatch.context() as patch:
        measure_quickly(patch)
        take_known_memory(patch)
        yield


@pytest.fixture(scope="module")
def glue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny SST-2 in GLUE's layout: 64 training rows, 20 of dev."""
    folder = tmp_path_factory.mktemp("glue")
    (folder / "SST-2").mkdir()
    for name, count, seed in (("train", 64, 3), ("dev", 20, 4)):
        rows = tiny_rows(count, seed)
        assert rows.labels is not None
        lines = [f"{text}\t{label}" for text, label in zip(rows.text, rows.labels, strict=True)]
        (folder / "SST-2" / f"{name}.tsv").write_text("\n".join(["sentence\tlabel", *lines, ""]), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with a head for SST-2's labels."""
    head = HeadSpec("single_label", ("0", "1"))
    return save_tiny(tmp_path_factory.mktemp("teacher") / "model", tiny_model(head))


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory, glue: Path, teacher: Path) -> Path:
    """A finished run of dynabert on the tiny SST-2."""
    out = tmp_path_factory.mktemp("family") / "run"
    tiny = {"task": "sst2", "data_dir": str(glue), "epochs": 0.5, "threads": 1, "max_length": 16}
    with pytest.MonkeyPatch.context() as patch:
        time_by_macs(patch)
        cutbert.dynabert(str(teacher), out=str(out), width_mult=[1.0, 0.5], depths=[3, 1], **tiny)
    return out


def script_module(script: str) -> ModuleType:
    """Return a benchmark as a module."""
    with importable():
        return import_module(script)


def json_here(*words: str) -> dict[str, Any]:
    """Return the --json object of a command done in this process: what `cutbert_json` starts one for."""
    with redirect_stdout(io.StringIO()) as printed:
        assert main([*words, "--json"]) == 0
    return dict(json.loads(printed.getvalue().splitlines()[-1]))


def record_of(script: str, folder: Path, *words: object, name: str | None = None) -> dict[str, Any]:
    """Run a benchmark and return its record, whose header is complete."""
    measure = script_module(script).main
    measure([*map(str, words), "--records", str(folder), "--threads", "1"])
    path = folder / f"{name or script.removeprefix('measure_')}.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    assert set(record) >= HEADER
    assert record["command"].startswith(f"python benchmarks/{script}.py ")
    measure([*map(str, words), "--records", str(folder), "--threads", "1"])  # it is there, and not measured again
    assert json.loads(path.read_text(encoding="utf-8")) == record
    return dict(record)


@pytest.fixture
def inputs(glue: Path, teacher: Path) -> tuple[object, ...]:
    return ("--model", teacher, "--data-dir", glue)


@pytest.mark.slow
def test_step_time(tmp_path: Path, inputs: tuple[object, ...]) -> None:
    record = record_of("measure_step_time", tmp_path, *inputs, "--rounds", 1, "--batches", 1, "--square", 64)
    assert set(record["variants"]) == {"release_12", "ours_12", "ours_default"}
    assert record["variants"]["ours_12"]["subnets_per_step"] == 8  # of three layers
    assert record["times_faster_than_release"]["ours_12"]["median_ratio"] > 0


def test_finetune_step(tmp_path: Path, glue: Path) -> None:
    sizes = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "hidden_size": 8}
    BertForSequenceClassification(BertConfig(vocab_size=SHAPE.vocab_size, **sizes)).save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    words = ("--model", tmp_path / "model", "--task", "sst2", "--data-dir", glue)
    words = (*words, "--rounds", 1, "--batches", 1, "--base-batches", 0)
    seen = record_of("measure_finetune_step", tmp_path, *words)["networks"]["short_texts"]
    times = {name: seen[name]["median_s"] for name in ("ours", "plain", "trainer", "products")}
    for name in ("plain", "trainer"):
        ratio = seen[f"times_faster_than_{name}"]["median_ratio"]
        assert ratio == pytest.approx(times[name] / times["ours"], rel=1e-4)
    assert seen["share_of_time_in_products"]["median_share"] == pytest.approx(
        times["products"] / times["ours"], rel=1e-4
    )


def test_training_memory(tmp_path: Path, inputs: tuple[object, ...]) -> None:
    words = ("--steps", 1, "--repeats", 1, "--subnets", 4, "--questions", 0)
    record = record_of("measure_training_memory", tmp_path, *inputs, *words)
    assert record["by_subnets_per_step"]["4"]["training_peak"]["median_bytes"] > 0 and record["reader"] == {}


def test_training_memory_of_a_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script_module("measure_training_memory"), "cutbert_json", json_here)
    (tmp_path / "SQuAD").mkdir()
    for name, first in (("train", 0), ("dev", 20)):
        (tmp_path / "SQuAD" / f"{name}-v1.1.json").write_text(squad_text(first, 20), encoding="utf-8")
    asked = {"questions": 24, "eval_questions": 8, "gate_steps": 1}
    model = save_tiny(tmp_path / "model", tiny_model(shape=replace(SHAPE, num_positions=384)))
    args = argparse.Namespace(model=model, data_dir=tmp_path, threads=1, **asked)
    peaks = script_module("measure_training_memory").train_reader(args)["peak_bytes"]
    assert "finetune" in peaks["finetune"] and list(peaks["schubert"].values()) == sorted(peaks["schubert"].values())


@pytest.mark.slow
def test_fit(tmp_path: Path, inputs: tuple[object, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cutbert.methods.fit_plan.Clock.left_with", lambda self, candidates: 1.0)
    for module in ("fit_proposals", "fit_race"):
        monkeypatch.setattr(f"cutbert.methods.{module}.LEAST_ROUND_STEPS", 2)
    words = ("--tasks", "sst2", "--seeds", 0, "--shares", 1, "--time", 600, "--work", tmp_path / "runs")
    record = record_of("measure_fit", tmp_path, *inputs, *words)
    (row,) = record["summary"]
    assert row["fit"]["mean"] - row["layers"]["mean"] == pytest.approx(row["fit - layers"]["mean"])
    assert row["seeds"] == 1 and len(row["fit - uncut"]["by_seed"]) == 1


def test_mlm_speed(tmp_path: Path) -> None:
    words = ("--rounds", 1, "--steps", 1, "--batch-size", 2, "--layers", 1, "--hidden-size", 24, "--square", 64)
    record = record_of("measure_mlm_speed", tmp_path, *words)
    assert record["speed"]["median_tokens_per_s"] > 0 and record["share_of_matrix_rate"]["median_share"] > 0


def test_pilots_go_on_where_they_were(tmp_path: Path, glue: Path) -> None:
    model = save_tiny(tmp_path / "model", tiny_model(HeadSpec("none")))
    words = ["--model", model, "--data-dir", glue, "--tasks", "sst2", "--seeds", 0, "--steps-share", 0.02]
    words += ["--work", tmp_path / "work", "--teachers", tmp_path / "teachers", "--variants"]
    record_of("measure_pilots", tmp_path, *words, "as fit does it,layers matched by a matrix")
    again = "as fit does it,relations added,more rows,texts joined,mean of the weights,labels at the end"
    record = record_of("measure_pilots", tmp_path, *words, again, name="pilots")
    names = ["as fit does it", "layers matched by a matrix", *again.split(",")[1:]]
    assert [cell["variant"] for cell in record["cells"]] == names
    assert all(0 <= cell["select_kl"] < 1 for cell in record["cells"])
    assert {tuple(cell["kept"]) for cell in record["cells"]} == {(0, 1, 2)}


def test_analysis_memory(tmp_path: Path, inputs: tuple[object, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script_module("measure_analysis_memory"), "cutbert_json", json_here)
    record = record_of("measure_analysis_memory", tmp_path, *inputs, "--texts", 40, "--hidden-size", 24, "--layers", 2)
    assert record["peak_bytes"] > 0 and record["seconds"] > 0


def test_predict_memory(tmp_path: Path, inputs: tuple[object, ...]) -> None:
    words = ("--rows", "5", "--formats", "tsv.gz,npy", "--backends", "onnx", "--hidden-size", 24, "--repeats", 1)
    record = record_of("measure_predict_memory", tmp_path, *inputs, *words)
    measured = [(each["backend"], each["format"], each["rows"]) for each in record["files"]]
    assert measured == [("onnx", "tsv.gz", 5), ("onnx", "npy", 5)]
    assert all(each["peak"]["min_bytes"] > 0 for each in record["files"])


def test_runtime(tmp_path: Path, glue: Path, teacher: Path) -> None:
    exported = cutbert.export(teacher, out=tmp_path / "exported", onnx=True, threads=1)["out"]
    record = record_of("measure_runtime", tmp_path, exported, "--data-dir", glue, "--texts", 12, "--repeats", 1)
    (row,) = record["models"]
    assert record["texts"] == 12 and row["p50_over_session"] > 0 and row["one_by_one_over_together"] > 0
    assert set(row["per_text"]) >= {"together", "session together", "torch together"}


def test_trim_vocab(tmp_path: Path, glue: Path, teacher: Path) -> None:
    words = (teacher, "--data-dir", glue, "--max-train-samples", 8)
    (row,) = record_of("measure_trim_vocab", tmp_path, *words)["models"]
    whole, trimmed, saved = row["whole"], row["trimmed"], row["in_torch"]["bytes_saved"]
    assert trimmed["tokens"] < whole["tokens"] and saved > 0 and trimmed["file_bytes"] < whole["file_bytes"]
    assert row["metric"] == "accuracy" and 0 <= trimmed["score"] <= 1 and 0 <= whole["select_score"] <= 1


def test_serving(tmp_path: Path, glue: Path, teacher: Path) -> None:
    for name in ("fastapi", "uvicorn"):
        pytest.importorskip(name, reason=f"{name} is not installed: pip install 'cutbert[serve]'")
    out = cutbert.export(teacher, out=tmp_path / "exported", onnx=True, int8=True, gate=False, threads=1)["out"]
    words = ("--cut", out, "--uncut", out, "--data-dir", glue, "--clients", 3, "--processes", 1, "--requests", 5)
    servers = record_of("measure_serving", tmp_path, *words)["servers"]
    assert [each["name"] for each in servers] == ["cut int8", "uncut float32", "uncut int8"]
    assert all(0 < each["p50_ms"] <= each["p99_ms"] and each["requests_per_s"] > 0 for each in servers)
    assert all(each["server_processor_ms"] >= 0 for each in servers)


def test_timing_noise(tmp_path: Path, inputs: tuple[object, ...]) -> None:
    words = ("--backends", "torch", "--lengths", "4,8", "--rounds", 2, "--repeats", 1)
    record = record_of("measure_timing_noise", tmp_path, *inputs, *words)
    assert len(record["timings"]) == 3
    for each in record["timings"]:
        assert (each["warning"] is None) == each["quality"]["is_quiet"] and each["latencies"]["uncut_ms"] > 0


def test_cut_sizes(tmp_path: Path, inputs: tuple[object, ...]) -> None:
    record = record_of("measure_cut_sizes", tmp_path, *inputs, "--rounds", 1, "--kept", 16, "--lengths", 8)
    assert [row["dim"] for row in record["sizes"]] == ["h", "f", "k", "v", "all"]
    assert record["sizes"][0]["even"] == 12 and record["sizes"][0]["odd"] == 9
    assert record["hidden"][0]["kept"] == 16 and record["hidden"][0]["settled_kl"] >= 0


def test_repair(tmp_path: Path, inputs: tuple[object, ...]) -> None:
    record = record_of("measure_repair", tmp_path, *inputs, "--rows", 16, "--eval-rows", 8, name="repair_sst2")
    assert len(record["networks"]) == 6 and record["teacher"]["kl"] == 0
    for row in record["networks"]:
        assert 0.3 < row["macs_share"] < 0.75 and set(row["at"]) == {"cut", "repaired", "repaired_across_gaps"}
    units = record["networks"][0]
    assert units["layers"] == [0, 1, 2] and units["at"]["repaired"]["kl"] == units["at"]["repaired_across_gaps"]["kl"]


def test_latency_prediction(tmp_path: Path, family: Path) -> None:
    words = ("--run", family, "--backends", "torch", "--subnets", 2, "--rounds", 1)
    (backend,) = record_of("measure_latency_prediction", tmp_path, *words)["backends"]
    assert len(backend["subnets"]) == 2 and backend["error"]["count"] == 2


def test_runtime_rate(tmp_path: Path, family: Path) -> None:
    words = ("--run", family, "--batch-size", 2, "--lengths", 8, "--rounds", 1, "--square", 64)
    record = record_of("measure_runtime_rate", tmp_path, *words)
    assert {each["backend"] for each in record["passes"]} == {"torch", "torch-bf16", "onnx", "onnx-int8"}
    assert record["profiles"][0]["operators"]


def test_operators(tmp_path: Path, teacher: Path) -> None:
    words = ("--model", teacher, "--batch-sizes", 2, "--lengths", 8, "--rounds", 1, "--threads", 1)
    timings = record_of("measure_operators", tmp_path, *words)["timings"]
    assert len({(each["dtype"], each["variant"]) for each in timings}) == len(timings) == 20
    for each in timings:
        exact = not any(word in each["variant"] for word in ("FastGelu", "function", "one scale", "uint8"))
        if each["dtype"] == "float32" and exact:
            assert each["max_abs_diff"] < 1e-4


@pytest.mark.slow
def test_int8(tmp_path: Path, glue: Path, family: Path, teacher: Path) -> None:
    words = ("--run", family, "--teacher", teacher, "--task", "sst2", "--data-dir", glue, "--work", tmp_path / "picked")
    other = save_tiny(tmp_path / "kept=1", tiny_model(HeadSpec("single_label", ("0", "1"))))
    words = (*words, "--also", f"undivided={other}", "--backends", "torch,onnx-int8")
    record = record_of("measure_int8", tmp_path, *words, "--shares", 2, "--rounds", 1, name="int8_sst2")
    assert {row["name"] for row in record["networks"]} == {"teacher", "undivided", "1/2 of the multiply-adds"}
    assert len(record["networks"]) == 6


def test_onnx_parity(tmp_path: Path, family: Path) -> None:
    record = record_of("measure_onnx_parity", tmp_path, "--run", family, "--rows", 30, "--no-load-test")
    assert record["rows"] == {"dev": 20, "train": 10} and record["alone"]["max_abs_diff"] < record["limit"]


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of transformers' own class, with the vocabulary that drawn texts need."""
    folder = tmp_path_factory.mktemp("classifier")
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 32}
    config = BertConfig(vocab_size=1000, max_position_embeddings=32, **sizes)
    BertForSequenceClassification(config).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def test_rivals(tmp_path: Path, classifier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    words = [word for name in ("torchao int8 dynamic", "ONNX Runtime float32, dynamo") for word in ("--without", name)]
    words += ["--without", "torch bf16, compiled", "--model", str(classifier), "--sizes", "1x4,3x6"]
    record = record_of("measure_rivals", tmp_path, *words, "--rounds", 1, "--threads", 1)
    assert record["left_out"]["OpenVINO int8 static"] == "openvino is not installed"
    apart = {(each["name"], each["length"]): each["max_abs_diff"] for each in record["timings"]}
    assert {length for _, length in apart} == {4, 6}
    for name in ("cutbert float32", "ONNX Runtime float32", "ONNX Runtime float32, O2"):
        assert apart[name, 6] < 1e-4
    assert all(
        each["share_of_ours"]["median_ratio"] == 1 for each in record["timings"] if each["name"] == "cutbert int8"
    )


def test_session_options(tmp_path: Path, classifier: Path) -> None:
    words = ("--model", classifier, "--sizes", "1x4,3x6", "--rounds", 1, "--threads", 1)
    record = record_of("measure_session_options", tmp_path, *words)
    assert "no arena" in record["loads"] and len(record["timings"]) == 2 * len(record["loads"])
    assert all(each["speed"]["median_ratio"] == 1 for each in record["timings"] if each["options"] == "default")


@pytest.mark.slow
def test_families(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With our own graph in the place of the stock export, which needs another package."""

    def export(stock: Any, f: str, **_: Any) -> None:
        onnx.save(build_graph(sys.modules["measure_families"].own_model(stock)), f)

    monkeypatch.setattr("torch.onnx.export", export)
    sizes = ("--layers", 2, "--hidden-size", 24, "--vocab-size", 30, "--lengths", 8, "--rounds", 1)
    words = (*sizes, "--long", "8,400", "--ways", "onnx", "--kinds", "local")
    record = record_of("measure_families", tmp_path, *words)
    short = {each["name"]: each for each in record["short"]}
    assert list(short) == ["stock float32", "float32", "int8"] and short["float32"]["max_abs_diff"] < 1e-4
    assert [each["length"] for each in record["long"]] == [8, 400]
    assert all(each["time_ms"] > 0 and each["memory_bytes"] >= 0 for each in record["long"])


def test_search(tmp_path: Path, family: Path) -> None:
    cutbert.front(str(family), measure=True, backend="onnx", rounds=1, threads=1)
    words = (
        "--run",
        family,
        "--name",
        "tiny",
        "--work",
        tmp_path / "copies",
        "--seeds",
        0,
        "--trials",
        12,
        "--keep",
        2,
    )
    record = record_of("measure_search", tmp_path, *words, "--backend", "onnx", name="search_tiny")
    areas = record["searches"][0]["area"]["macs"]
    assert areas["searched"] >= areas["grid"] > 0


def test_samplers(tmp_path: Path) -> None:
    words = ("--problems", 1, "--seeds", 1, "--trials", 30, "--ours-only")
    record = record_of("measure_samplers", tmp_path, *words, name="search_samplers")
    assert record["mean_gain"]["0.0"]["ours"] >= 0


@pytest.mark.slow
def test_kills(tmp_path: Path, inputs: tuple[object, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is killed runs in processes of its own; what goes on to its end, in this one."""
    kills = script_module("measure_kills")
    killed = kills.completes

    def completes(words: list[str], limit: float | None) -> bool:
        return bool(json_here(*words[3:-1])) if limit is None else killed(words, limit)

    monkeypatch.setattr(kills, "completes", completes)
    monkeypatch.setattr(kills, "cutbert_json", json_here)
    monkeypatch.setattr(kills, "MOST_SECONDS", 1.0)
    compute_here(monkeypatch)
    words = (*inputs, "--kills", 1, "--epochs", 0.5)
    assert record_of("measure_kills", tmp_path, "run", *words, name="kill_resume")["all_equal"]
    words = (*words, "--tasks", "sst2", "--seeds", 0, "--no-ray")
    record = record_of("measure_kills", tmp_path, "sweep", *words, name="sweep_kills")
    assert record["lost"] == record["done_twice"] == 0 and record["runs"] == 2


@pytest.mark.slow
def test_kills_of_verbs(tmp_path: Path, teacher: Path) -> None:
    """In a process of its own, which forks before it has computed anything."""
    words = ["--model", teacher, "--records", tmp_path, "--work", tmp_path / "work", "--kills", 3, "--threads", 1]
    script = [sys.executable, BENCHMARKS / "measure_kills.py", "verbs", "--only", "predict, export in place", *words]
    done = subprocess.run([str(word) for word in script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "kills.json").read_text(encoding="utf-8"))
    assert record["kills"] == 3 and record["lost"] == record["left_over"] == 0
    assert set(record["by_command"]) == {"predict", "export in place"} and set(record) >= HEADER


def test_sentence_split(tmp_path: Path, glue: Path) -> None:
    script_module("sentence_split").main([str(glue), str(tmp_path / "held-out"), "--sentences", "2"])
    files = {
        name: (tmp_path / "held-out" / "SST-2" / f"{name}.tsv").read_text().splitlines() for name in ("train", "dev")
    }
    assert len(files["dev"]) == 3 and not set(files["dev"][1:]) & set(files["train"])


STUDY = """
[defaults]
threads = 1
max_length = 16
epochs = 0.5
[grid]
data = [{{name = "one", task = "sst2"}}, {{name = "two", task = "sst2", max_train_samples = 40}}]
seed = [0, 1]
[steps.teacher]
verb = "finetune"
model = "{teacher}"
[steps.family]
verb = "dynabert"
model = "{{teacher}}"
width_mult = [1.0, 0.5]
depths = [3, 1]
[steps.layers]
verb = "dynabert"
model = "{{teacher}}"
width_mult = [1.0]
stock = false
grid.depths = [1]
[steps.first]
verb = "depth"
model = "{teacher}"
axes = ["data"]
grid.depth = [1]
seeds = [0, 1]
[steps.picked]
verb = "pick"
model = "{{layers}}"
max_params = 1_000_000
[steps.tuned]
verb = "finetune"
model = "{{picked}}"
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, glue: Path, teacher: Path) -> dict[str, Any]:
    """The record of a small sweep."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "plan.toml").write_text(STUDY.format(teacher=teacher), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        compute_here(patch)
        time_by_macs(patch)
        done = cutbert.sweep(folder / "plan.toml", out=folder / "sweep", set=[f"data_dir={glue}"])
    assert {run["status"] for run in done["runs"]} == {"finished"}
    words = ("--against", "layers", "--against", "layers/1", "--shares", "0.5")
    return record_of("study", folder, folder / "sweep", *words, name="sweep")


@pytest.mark.slow
def test_study_gathers(study: dict[str, Any]) -> None:
    networks = {
        (each["group"]["data"], each["step"], *each["own"].values(), each["name"]): each for each in study["networks"]
    }
    whole, single = networks["one", "family", "w1.0-d1.0"], networks["one", "layers", "1", "w1.0-d0.3333"]
    assert whole["seeds"] == ["0", "1"] and len(whole["scores"]) == 2 and whole["macs"] > single["macs"]
    assert whole["kl_to_teacher"] >= 0 and len(whole["minus_teacher"]["by_seed"]) == 2
    assert networks["two", "first", "1", "depth-1"]["seeds"] == ["0", "1"]
    assert networks["two", "tuned", "1", "model"]["params"] == single["params"]
    assert study["unfinished"] == [] and study["runs"][0]["line"].startswith("cutbert finetune")
    assert study["seeds"] == [0, 1]


@pytest.mark.slow
def test_study_compares_at_equal_cost(study: dict[str, Any]) -> None:
    rows = {(each["group"]["data"], each["step"], each["name"]): each for each in study["networks"]}
    minus = rows["one", "family", "w1.0-d0.3333"]["minus"]
    assert minus["layers"]["no_more"]["title"] == minus["layers"]["at_least"]["title"] == "layers 1 w1.0-d0.3333"
    assert minus["layers/1"]["beside"]["difference"] == minus["layers"]["no_more"]["difference"]
    assert set(rows["one", "family", "w1.0-d1.0"]["minus"]["layers"]) == {"no_more"}  # no three layers are there
    means = {(each["network"], each["against"], each["side"]): each for each in study["mean_over_groups"]}
    mean = means["family w1.0-d0.3333", "layers", "no_more"]
    assert mean["difference"] == pytest.approx(sum(mean["differences"].values()) / 2)
    assert mean["differences"]["one"] == pytest.approx(minus["layers"]["no_more"]["difference"])
    within = {each["step"]: each for each in study["best_within"]}
    assert set(within["family"]["networks"]) == {"one", "two"} and within["family"]["minus_layers"]["low"] <= 1


BASE_SIZE = """
[defaults]
threads = 1
max_length = 16
model = "{{teacher}}"
[grid]
data = [{{name = "sst2", task = "sst2", epochs = 0.5}}]
seed = [0]
[steps.teacher]
verb = "finetune"
model = "{teacher}"
[steps.undivided]
verb = "undivided"
num_ffn = 0
[steps.family]
verb = "dynabert"
backend = "onnx-int8"
width_mult = [1.0, 0.5]
depths = [3, 1]
[steps.plain]
verb = "fit"
kinds = ["layers"]
max_latency_share = [1.0]
time = 600
"""


@pytest.mark.slow
def test_base_size(tmp_path: Path, glue: Path, teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plan.toml").write_text(BASE_SIZE.format(teacher=teacher), encoding="utf-8")
    fit_quickly(monkeypatch)
    monkeypatch.setattr("cutbert.methods.fit_plan.Clock.left_with", lambda self, candidates: 0.3)
    compute_here(monkeypatch)
    done = cutbert.sweep(tmp_path / "plan.toml", out=tmp_path / "sweep", set=[f"data_dir={glue}"])
    assert {run["status"] for run in done["runs"]} == {"finished"}
    sweep = (tmp_path / "sweep", "--data-dir", glue, "--shares", 1)
    words = (*sweep, "--work", tmp_path / "picked", "--rounds", 2)
    record = record_of("measure_base_size", tmp_path, *words, name="base_size")
    (task,) = record["tasks"]
    rows = task["networks"]
    (whole,) = (row for row in rows if row["method"] == "teacher")
    assert whole["share"] == 1 and [row["limit"] for row in rows if row["method"] == "plain"] == [1]
    for share, methods in task["under"].items():
        for method, found in methods.items():
            row = rows[found["network"]]
            assert row["method"] == method and row["limit"] in (float(share), None) and row["steps"] >= 0
            assert found["minus_teacher"]["mean"] == pytest.approx(row["score"] - whole["score"], abs=0.02)
            assert method == "plain" or "plain" not in methods or found["minus_plain"]["low"] <= 1


@pytest.mark.parametrize("plan", PLANS)
def test_a_plan_expands(plan: str) -> None:
    runs = read_runs(BENCHMARKS / "plans" / plan, (), SWEPT, Path("out"))
    assert len({run.name for run in runs}) == len(runs) > 1


def test_the_readme_names_every_script_and_plan() -> None:
    text = (BENCHMARKS / "README.md").read_text(encoding="utf-8")
    names = [*PLANS, *(path.name for path in BENCHMARKS.glob("*.py"))]
    assert [name for name in names if f"`{name}`" not in text] == []


@pytest.mark.slow
def test_embedding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cutbert.methods.fit_plan.Clock.left_with", lambda self, candidates: 1.0)
    for module in ("fit_proposals", "fit_race"):
        monkeypatch.setattr(f"cutbert.methods.{module}.LEAST_ROUND_STEPS", 2)
    data = embedding_data(tmp_path / "data")
    model = save_tiny_embedder(tmp_path / "model")
    words = ("--model", model, "--data-dir", data, "--shares", 1, "--time", 600, "--work", tmp_path / "runs")
    record = record_of("measure_embedding", tmp_path, *words)
    (row,) = record["cells"][0]["compared"]
    for part in ("fit", "layers"):  # of a limit of the uncut model's own time, either may be that model
        assert {"name", "share", "steps", "ndcg@10", "ndcg@10_teacher_index", "spearman", "cosine"} <= set(row[part])
    assert row["uncut onnx"]["cosine"] == pytest.approx(1, abs=1e-4)
    for other, scores in (("layers", row["layers"]), ("uncut", row["uncut onnx-int8"])):
        for metric in ("ndcg@10", "spearman"):
            gap = row[f"fit - {other}"][metric]
            assert gap["mean"] == pytest.approx(row["fit"][metric] - scores[metric], abs=0.02)
            assert gap["low"] <= gap["mean"] <= gap["high"]


@pytest.mark.slow
def test_an_embedding_student(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cutbert.methods.fit_plan.Clock.left_with", lambda self, candidates: 1.0)
    monkeypatch.setattr(script_module("measure_embedding_student"), "ROOM", 2.0)
    take_times_of_thread(monkeypatch)
    sizes = {"num_heads": 2, "intermediate_size": 16, "vocab_size": 20, "num_positions": 128}
    large, little = (EncoderShape.uniform(num_layers=n, hidden_size=h, **sizes) for n, h in ((8, 24), (2, 12)))
    model, small = save_tiny_embedder(tmp_path / "model", large), save_tiny_embedder(tmp_path / "small", little)
    words = ("--model", model, "--student", small, "--data-dir")
    words = (*words, embedding_data(tmp_path / "data"), "--time", 600, "--work", tmp_path / "runs")
    (cell,) = record_of("measure_embedding_student", tmp_path, *words)["cells"]
    for name in ("taught", "untaught"):
        assert set(cell[name]) == {"latency_ms", "spearman", "ndcg@10", "mrr@10"}
    for name in ("spearman", "ndcg@10", "mrr@10"):
        difference = cell["differences"][name]
        assert difference["mean"] == pytest.approx(cell["taught"][name] - cell["untaught"][name], abs=0.02)


@pytest.mark.slow
def test_a_tagger_and_a_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit_quickly(monkeypatch)
    monkeypatch.setattr("cutbert.methods.fit_plan.Clock.left_with", lambda self, candidates: 0.3)
    (tmp_path / "SQuAD").mkdir()
    for part, count in (("train", 40), ("dev", 12)):
        paragraphs = []
        for i in range(count):
            one, other = WORDS[i % 10], WORDS[(3 * i + 1) % 10]
            context = f"{one.title()} is a {other.title()} {one.title()} film. It is {i} {other} and {one}."
            answer = {"text": other, "answer_start": context.index(f" {other} ") + 1}
            asked = {"id": str(i), "question": f"{one} film", "answers": [answer]}
            paragraphs.append({"context": context, "qas": [asked]})
        text = json.dumps({"data": [{"paragraphs": paragraphs}]})
        (tmp_path / "SQuAD" / f"{part}-v1.1.json").write_text(text, encoding="utf-8")
    sizes = {"num_heads": 2, "intermediate_size": 16, "vocab_size": 20, "num_positions": 400}
    shape = EncoderShape.uniform(num_layers=2, hidden_size=12, **sizes)
    model = save_tiny(tmp_path / "model", tiny_model(HeadSpec("pooler"), shape=shape))
    words = ("--model", model, "--data-dir", tmp_path, "--share", 1, "--time", "600,600", "--paragraphs", 12)
    cells = record_of("measure_per_token", tmp_path, *words, "--work", tmp_path / "runs")["cells"]
    assert [cell["task"] for cell in cells] == ["tagger", "reader"]
    for cell in cells:
        assert cell["difference"]["mean"] == pytest.approx(cell["cut"]["f1"] - cell["uncut"]["f1"])
        assert cell["predicted_f1"] == pytest.approx(cell["measured_f1"]) and cell["cut"]["latency_ms"] > 0
    sentences = (tmp_path / "runs" / "data" / "dev.conll").read_text(encoding="utf-8").split("\n\n")
    first = [line.split() for line in sentences[0].split("\n")]
    assert [tag for _, tag in first] == ["O", "O", "O", "B-NAME", "I-NAME", "O", "O"]
    assert [tag for _, tag in (line.split() for line in sentences[1].split("\n"))][2] == "B-NUMBER"


def embedding_data(folder: Path) -> Path:
    """Write a little STS-B and SQuAD."""
    texts = [f"{one} {other}" for one in WORDS for other in WORDS]
    (folder / "STS-B").mkdir(parents=True)
    (folder / "SQuAD").mkdir()
    for part, some in (("train", texts[:60]), ("dev", texts[60:])):
        rows = [f"{one}\t{other}\t{i % 5}" for i, (one, other) in enumerate(zip(some[::2], some[1::2], strict=True))]
        lines = "\n".join(["sentence1\tsentence2\tscore", *rows])
        (folder / "STS-B" / f"{part}.tsv").write_text(lines + "\n", encoding="utf-8")
        paragraphs = [{"context": f"{text}. {text}", "qas": [{"question": text}]} for text in some[:15]]
        squad = json.dumps({"data": [{"paragraphs": paragraphs}]})
        (folder / "SQuAD" / f"{part}-v1.1.json").write_text(squad, encoding="utf-8")
    return folder
