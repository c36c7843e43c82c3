"""Exported folders answer through the runtime as the networks do in torch, with nothing else installed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx.shape_inference import infer_shapes
from scipy.special import expit, softmax

import cutbert
from cutbert.data.answers import AnswerScorer
from cutbert.data.entities import TagScorer, entities
from cutbert.data.questions import Questions
from cutbert.data.rows import Rows
from cutbert.data.sentences import Sentences
from cutbert.data.subwords import encode_words
from cutbert.data.tokens import Tokens, plain_engine, tokenize_rows
from cutbert.data.windows import encode_windows
from cutbert.errors import InputError, ModelError
from cutbert.exporters.folder import add_files
from cutbert.exporters.graph import build_graph
from cutbert.folders.load import load_model
from cutbert.folders.sentence import read_sentence
from cutbert.runtime import Embedder, Labeller, Model, Reader, Scorer, Tagger, load
from cutbert.runtime.runner import packed
from cutbert.runtime.vectors import modules_of
from cutbert.shape.head import HeadSpec
from cutbert.train.evaluate import predict_logits
from tiny_runs import save_tiny, save_tiny_embedder, tiny_model, tiny_rows, tiny_tokenizer

TAGS = ("B-X", "I-X", "E-X", "S-Y", "O")
HEADS: dict[str, HeadSpec] = {
    "single_label": HeadSpec("single_label", ("neg", "pos")),
    "multi_label": HeadSpec("multi_label", ("a", "b", "c")),
    "regression": HeadSpec("regression", ("stars",)),
    "token": HeadSpec("token", TAGS),
    "span": HeadSpec("span"),
    "none": HeadSpec("none"),
    "masked_lm": HeadSpec("masked_lm"),
}
KINDS = {"single_label": Labeller, "multi_label": Labeller, "regression": Scorer, "token": Tagger, "span": Reader}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return a folder with float32 ONNX for each kind of head."""
    root = tmp_path_factory.mktemp("runtime")
    found = {}
    for kind, head in HEADS.items():
        found[kind] = save_tiny(root / kind, tiny_model(head))
        loaded = load_model(found[kind])
        add_files(found[kind], loaded, {"model.onnx": build_graph(loaded.model)})
    return found


@pytest.mark.parametrize("kind", ["single_label", "multi_label", "regression"])
def test_texts_are_answered_in_their_order_as_by_torch(folders: dict[str, Path], kind: str) -> None:
    rows, model, steps = tiny_rows(40), load(folders[kind], threads=1, batch_tokens=60), []
    assert type(model) is KINDS[kind] and model.session.outputs == ("logits",)
    logits = predict_logits(tiny_model(HEADS[kind]), tokenize_rows(rows, tiny_tokenizer(), "tiny", 128, cache=False))
    found = model(rows.text, on_progress=steps.append)
    assert sum(steps) == 40 and max(steps) > 1
    if kind == "regression":
        np.testing.assert_allclose([each["label"] for each in found], logits[:, 0], atol=1e-5)
    else:
        chances = expit(logits) if kind == "multi_label" else softmax(logits, axis=1)
        np.testing.assert_allclose([list(each["probabilities"].values()) for each in found], chances, atol=1e-5)
        names = HEADS[kind].labels
        wanted = [
            [name for name, chance in zip(names, row, strict=True) if chance >= 0.5]
            if kind == "multi_label"
            else names[row.argmax()]
            for row in chances
        ]
        assert [each["label"] for each in found] == wanted
    streamed = [each["label"] for each in model.stream(iter(rows.text), window=7)]
    whole = [each["label"] for each in found]
    assert streamed == (pytest.approx(whole, abs=1e-6) if kind == "regression" else whole)


def test_pairs_are_answered_as_by_torch(folders: dict[str, Path]) -> None:
    rows = tiny_rows(12)
    pairs = Rows(rows.text, rows.text[::-1])
    tokens = tokenize_rows(pairs, tiny_tokenizer(), "tiny", 128, cache=False)
    found = load(folders["regression"], threads=1)(list(zip(rows.text, rows.text[::-1], strict=True)))
    wanted = predict_logits(tiny_model(HEADS["regression"]), tokens)[:, 0]
    np.testing.assert_allclose([each["label"] for each in found], wanted, atol=1e-5)


def padded_logits(head: HeadSpec, arrays: dict[str, Any]) -> np.ndarray:
    tokens = Tokens(arrays["ids"], arrays["offsets"], arrays.get("pair_starts"))
    return predict_logits(tiny_model(head), tokens)


def test_a_tagger_gives_the_labels_and_entities_that_are_scored(folders: dict[str, Path]) -> None:
    rows = tiny_rows(30)
    words = [text.split() for text in rows.text]
    sentences = Sentences(words, None, TAGS)
    arrays = encode_words(sentences, plain_engine(tiny_tokenizer(), "tiny", 128, pairs=False))
    ids = TagScorer(sentences, arrays).labels(padded_logits(HEADS["token"], arrays))
    found = load(folders["token"], threads=1)(words)
    assert [label for each in found for label in each["labels"]] == [TAGS[i] for i in ids]
    counts = np.array([len(each) for each in words])
    firsts = np.concatenate([[0], np.cumsum(counts)])
    types = {"X": 0, "Y": 1}
    ours = {
        (firsts[row] + each["start"], firsts[row] + each["end"] - 1, types[each["label"]])
        for row, answer in enumerate(found)
        for each in answer["entities"]
    }
    assert ours == entities(TAGS, ids, counts.tolist()) and len(ours) > 10


def test_entities_of_a_text_have_its_characters(folders: dict[str, Path]) -> None:
    text = "  good film,\tnot a bad book. "
    (answer,) = load(folders["token"], threads=1)([text])
    assert answer["words"] == ["good", "film", ",", "not", "a", "bad", "book", "."]
    for each in answer["entities"]:
        assert text[each["start"] : each["end"]] == each["text"] and each["text"].strip() == each["text"]


@pytest.mark.parametrize("has_unanswerable", [False, True])
def test_a_reader_gives_the_answers_that_are_scored(folders: dict[str, Path], has_unanswerable: bool) -> None:
    """Over several windows of long texts; of SQuAD v2, where no answer may be the answer."""
    rows = tiny_rows(12)
    contexts = [" ".join(rows.text[i:] + rows.text[:i]) for i in range(12)]
    model = load(folders["span"], threads=1, max_length=32)
    assert isinstance(model, Reader)
    model.has_unanswerable = has_unanswerable
    questions = Questions(rows.text, contexts, None, None, has_unanswerable, model.stride)
    engine = plain_engine(tiny_tokenizer(), "tiny", 32, pairs=True)
    arrays = encode_windows(questions, engine, 32)
    assert len(arrays["ids"]) > 12 * 32
    wanted = AnswerScorer(questions, arrays).answers(padded_logits(HEADS["span"], arrays))
    found = model(list(zip(rows.text, contexts, strict=True)))
    assert [each["answer"] for each in found] == wanted
    for context, each in zip(contexts, found, strict=True):
        assert context[each["start"] : each["end"]] == each["answer"]
        scores = [one["score"] for one in each["best"]]
        assert scores == sorted(scores, reverse=True) and len(scores) == model.num_best


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_vectors_are_pooled_and_normalised(folders: dict[str, Path], tmp_path: Path, pooling: str) -> None:
    folder = tmp_path / "vectors"
    folder.mkdir()
    for path in folders["none"].rglob("*"):
        target = folder / path.relative_to(folders["none"])
        target.mkdir(exist_ok=True) if path.is_dir() else target.write_bytes(path.read_bytes())
    with pytest.raises(ModelError, match="must say how a text's states become its vector"):
        load(folder)
    modules = ["Transformer", "Pooling", "Normalize"]
    (folder / "modules.json").write_text(json.dumps([{"type": f"sentence_transformers.models.{m}"} for m in modules]))
    (folder / "1_Pooling").mkdir()
    flags = {f"pooling_mode_{name}_token{'s' * (name == 'mean')}": name == pooling for name in ("cls", "mean")}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(flags))
    assert read_sentence(folder) is not None
    texts, model = tiny_rows(9).text, load(folder, threads=1)
    assert isinstance(model, Embedder)
    found, _ = predicted(folder, tmp_path / "vectors.npy", tiny_rows(9))
    np.testing.assert_allclose(found, np.stack(model(texts)), atol=1e-6)
    together, alone = np.stack(model(texts)), np.stack([model([text])[0] for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    (folder / "modules.json").write_text(json.dumps([{"type": "Transformer"}]))
    with pytest.raises(ModelError, match="modules must be Transformer, Pooling and at most Normalize, got Transformer"):
        load(folder)


def test_batches_hold_the_rows_once_and_stay_within_their_limits() -> None:
    lengths = [int(n) for n in np.random.default_rng(0).integers(1, 50, 200)]
    batches = list(packed(lengths, 8, 100))
    assert sorted(row for batch in batches for row in batch) == list(range(200))
    assert all(len(batch) <= 8 for batch in batches)
    assert all(len(batch) == 1 or max(lengths[row] for row in batch) * len(batch) <= 100 for batch in batches)


def test_words_keep_their_marks_and_spans_are_listed_once(folders: dict[str, Path]) -> None:
    assert load(folders["token"])(["हिन्दी Cafe\u0301!"])[0]["words"] == ["हिन्दी", "Cafe\u0301", "!"]
    long = " ".join(str(i % 7) for i in range(200))
    best = load(folders["span"])([("a b", long)])[0]["best"]
    assert len({(each["start"], each["end"]) for each in best}) == len(best) > 1


def test_inputs_that_are_no_texts_are_refused(folders: dict[str, Path]) -> None:
    model = load(folders["single_label"])
    with pytest.raises(InputError, match="inputs must be a list of texts, got one text, 'a b'"):
        model("a b")
    with pytest.raises(InputError, match="input 1 must be a text or a pair of texts"):
        model(["a", "\ud800"])
    with pytest.raises(InputError, match="window must be at least 1, got 0"):
        list(model.stream(["a"], window=0))
    with pytest.raises(InputError, match="texts must be a list of texts, got one text, 'a b'"):
        cutbert.predict(folders["single_label"], texts="a b")


def test_what_cannot_be_run_is_one_error(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"must hold config.json, tokenizer.json and an ONNX file, got no config.json"):
        load(tmp_path)
    shutil.copytree(folders["single_label"], tmp_path / "run" / "model")
    with pytest.raises(ModelError, match=r"run is the folder of a run: its network is in .*run/model, which can be"):
        load(tmp_path / "run")
    with pytest.raises(ModelError, match=r"must hold an ONNX file for onnx-int8 .*, got none; cutbert export writes"):
        load(folders["span"], backend="onnx-int8")
    with pytest.raises(ModelError, match="backend must be one of auto, onnx, onnx-int8, got 'torch'"):
        load(folders["span"], backend="torch")
    with pytest.raises(ModelError, match="must label, score, tag, answer or embed texts, got a head of kind masked_lm"):
        load(folders["masked_lm"])
    with pytest.raises(ModelError, match="max_length must be at most"):
        load(folders["span"], max_length=10**5)
    with pytest.raises(ModelError, match="threads must be at least 1, got 0"):
        load(folders["span"], threads=0)
    for kind, given, wanted in (
        ("single_label", 3, "input 1 must be a text or a pair of texts, got 3"),
        ("token", 3, "input 1 must be a text or a list of words, got 3"),
        ("span", "alone", "input 1 must be a pair of a question and a text, got 'alone'"),
    ):
        model: Model = load(folders[kind], threads=1)
        good: object = ("a", "film") if kind == "span" else "a film"
        with pytest.raises(InputError, match=wanted):
            model([good, given])
    (tmp_path / "config.json").write_text("[]")
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match=r"config.json: must be a JSON object, got list"):
        load(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config.json: must be JSON"):
        load(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.onnx").write_text("no graph")
    with pytest.raises(ModelError, match=r"model.onnx: ONNX Runtime cannot load it"):
        load(tmp_path)


@pytest.mark.parametrize(("operator", "options"), [("SequenceConstruct", {}), ("Cast", {"to": TensorProto.STRING})])
def test_an_output_without_numbers_is_refused(
    folders: dict[str, Path], tmp_path: Path, operator: str, options: dict[str, int]
) -> None:
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ("rows", "tokens"))
    node = helper.make_node(operator, ["input_ids"], ["logits"], **options)
    graph = helper.make_graph([node], "graph", [ids], [helper.make_empty_tensor_value_info("logits")])
    typed = infer_shapes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    folder = shutil.copytree(folders["single_label"], tmp_path / "model")
    (path,) = folder.rglob("*.onnx")
    path.write_bytes(typed.SerializeToString())
    with pytest.raises(ModelError, match="the output logits must be a tensor of floating-point numbers"):
        load(folder, threads=1)(["good"])


@pytest.mark.parametrize(
    ("kind", "name", "change", "match"),
    [
        ("token", "config.json", lambda d: d.update(id2label={"0": "O"}), "must have the sizes 1, 4, 1 here"),
        ("span", "config.json", lambda d: d.update(max_position_embeddings="x"), "must name the number of positions"),
        (
            "span",
            "config.json",
            lambda d: d.update(max_position_embeddings=-(10**30)),
            "must name the number of positions",
        ),
        (
            "span",
            "cutbert.json",
            lambda d: d.update(task={"stride": "x"}),
            "stride must be a whole number of at least 0",
        ),
        (
            "single_label",
            "tokenizer.json",
            lambda d: d["model"]["vocab"].update(film=10**6),
            "ONNX Runtime cannot run it",
        ),
        ("single_label", "tokenizer.json", lambda d: d["model"].update(vocab={}), "the tokenizer cannot be"),
    ],
)
def test_damaged_folders_are_one_error(
    folders: dict[str, Path], kind: str, name: str, change: Any, match: str, tmp_path: Path
) -> None:
    folder = shutil.copytree(folders[kind], tmp_path / "model")
    data = json.loads((folder / name).read_text())
    change(data)
    (folder / name).write_text(json.dumps(data))
    given = ("very", "a film") if kind == "span" else "a film"
    with pytest.raises(ModelError, match=match):
        load(folder, threads=1)([given])


@pytest.mark.parametrize("text", ['{"a":' * 50_000, "{", "3", "[3]", '[{"type": [[]]}]'])
def test_modules_that_are_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "modules.json").write_text(text)
    with pytest.raises(ModelError, match=r"modules\.json: m"):
        modules_of(tmp_path)


@pytest.mark.parametrize(("prompts", "found"), [({"q": "a film "}, "a film "), ({"q": 3}, ""), ({}, ""), (["q"], "")])
def test_a_prompt_is_text_or_none(folders: dict[str, Path], prompts: Any, found: str, tmp_path: Path) -> None:
    folder = save_tiny_embedder(tmp_path / "m")
    loaded = load_model(folder)
    add_files(folder, loaded, {"model.onnx": build_graph(loaded.model)})
    path = folder / "config_sentence_transformers.json"
    for default in ("q", ["q"], None):
        path.write_text(json.dumps({"prompts": prompts, "default_prompt_name": default}))
        model = load(folder, threads=1)
        assert isinstance(model, Embedder) and model.prompt == (found if default == "q" else "")


def test_a_prompt_is_asked_for_by_name(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = save_tiny_embedder(tmp_path / "m")
    loaded = load_model(folder)
    add_files(folder, loaded, {"model.onnx": build_graph(loaded.model)})
    prompts = {"query": "a film ", "document": "very ", "plain": ""}
    path = folder / "config_sentence_transformers.json"
    path.write_text(json.dumps({"prompts": prompts, "default_prompt_name": "document"}))
    texts, model = tiny_rows(9).text, load(folder, threads=1)
    path.unlink()
    plain = load(folder, threads=1)
    for name, prompt in (*prompts.items(), (None, "very ")):
        wanted = np.stack(plain([prompt + text for text in texts]))
        np.testing.assert_array_equal(np.stack(model(texts, prompt_name=name)), wanted)
        np.testing.assert_allclose(list(model.stream(iter(texts), window=2, prompt_name=name)), wanted, atol=1e-5)
    with pytest.raises(InputError, match="prompt_name must be one of query, document, plain, got 'passage'"):
        model(texts, prompt_name="passage")
    with pytest.raises(InputError, match="must not be given with a model that has no prompts, got 'query'"):
        plain(texts, prompt_name="query")
    with pytest.raises(InputError, match="prompt_name is for embedding models, got 'query' for a Scorer"):
        load(folders["regression"])(texts, prompt_name="query")
    path.write_text(json.dumps({"prompts": prompts}))
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode": "mean", "include_prompt": false}')
    model = load(folder, threads=1)
    with pytest.raises(ModelError, match="include_prompt must be true for a text to have a prompt, got false"):
        model(texts, prompt_name="query")
    assert len(model(texts)) == 9


def test_the_file_is_the_one_asked_for(folders: dict[str, Path], tmp_path: Path) -> None:
    from cutbert.runtime.folder import Folder

    (tmp_path / "onnx").mkdir()
    for name in ("model.onnx", "onnx/model.onnx", "onnx/model_quantized.onnx"):
        (tmp_path / name).touch()
    folder = Folder(tmp_path, {}, {})
    names = {backend: folder.graph(backend).name for backend in ("auto", "onnx", "onnx-int8")}
    assert names == {"auto": "model_quantized.onnx", "onnx": "model.onnx", "onnx-int8": "model_quantized.onnx"}
    for name in ("a", "b"):
        (tmp_path / "onnx" / f"model_qint8_{name}.onnx").touch()
    with pytest.raises(
        ModelError, match=r"must hold one ONNX file for onnx-int8, got onnx/model_qint8_a.onnx, onnx/"
    ) as e:
        folder.graph()
    assert "load(file=...) runs the one it names; backend onnx runs the float32 file" in str(e.value)
    assert folder.graph("onnx") == tmp_path / "onnx" / "model.onnx"
    assert folder.named_graph("onnx/model_qint8_b.onnx").name == "model_qint8_b.onnx"
    with pytest.raises(ModelError, match=r"file must be the path of an ONNX file in .*, got 'b.onnx', which is not"):
        load(folders["single_label"], file="b.onnx")
    with pytest.raises(ModelError, match=r"backend must not be given with file, got onnx and b.onnx"):
        load(folders["single_label"], file="b.onnx", backend="onnx")
    given = load(folders["single_label"], file="onnx/model.onnx", threads=1)(["good"])
    assert given == load(folders["single_label"], backend="onnx", threads=1)(["good"])


def test_a_strangers_config_is_read_as_transformers_does(tmp_path: Path) -> None:
    from cutbert.runtime.folder import Folder

    def read(**config: object) -> tuple[str | None, tuple[str, ...], int]:
        folder = Folder(tmp_path, config, {})
        return folder.kind, folder.labels, folder.longest

    bert = {"architectures": ["BertForSequenceClassification"], "max_position_embeddings": 64}
    assert read(**bert) == ("single_label", ("LABEL_0", "LABEL_1"), 64)
    assert read(**bert, id2label={"0": "score"}) == ("regression", ("score",), 64)
    assert read(**bert, problem_type="multi_label_classification")[0] == "multi_label"
    roberta = {"model_type": "roberta", "pad_token_id": 1, "max_position_embeddings": 514}
    assert read(**roberta) == (None, ("LABEL_0", "LABEL_1"), 512)
    (tmp_path / "tokenizer_config.json").write_text('{"model_max_length": 1e30}')
    assert read(**roberta)[2] == 512
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 128}')
    assert read(**roberta)[2] == 128
    with pytest.raises(ModelError, match="id2label must have the keys 0 to 0"):
        read(**bert, id2label={"1": "score"})


def test_nothing_else_need_be_installed(folders: dict[str, Path]) -> None:
    script = """
import sys
ALLOWED = {"numpy", "onnxruntime", "tokenizers", "cutbert", "huggingface_hub"} | set(sys.stdlib_module_names)
OURS = {f"cutbert.{name}" for name in "errors lacks lengths parsing printable spans".split()} | {"cutbert"}
REFUSED = ("torch", "transformers", "datasets", "pandas", "scipy", "sklearn", "pyarrow", "onnx", "filelock", "rich",
           "typer", "accelerate", "safetensors", "huggingface_hub")
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in REFUSED:
            raise ImportError(name)
sys.meta_path.insert(0, Absent())
from cutbert.runtime import load
print(load(sys.argv[1], threads=1)(["a fine film"])[0]["label"])
others = [name for name in sys.modules if name.startswith("cutbert")]
assert all(name in OURS or name.startswith("cutbert.runtime") for name in others), others
"""
    done = subprocess.run([sys.executable, "-c", script, folders["single_label"]], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in ("neg", "pos")


def predicted(folder: Path, out: Path, rows: Rows, **options: Any) -> Any:
    """Return what `predict` writes, and its result."""
    pairs = rows.text_pair or rows.text
    lines = [{"text": text, "other": other} for text, other in zip(rows.text, pairs, strict=True)]
    texts = out.with_name("texts.jsonl")
    texts.write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = cutbert.predict(folder, input=texts, text="text", out=out, threads=1, **options)
    if out.suffix == ".npy":
        return np.load(out), result
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert [{name: each.pop(name) for name in ("text", "other")} for each in found] == lines
    return found, result


def test_predict_runs_every_kind_from_its_onnx_file_and_in_torch(folders: dict[str, Path], tmp_path: Path) -> None:
    rows = tiny_rows(20)
    by_torch = {}
    for kind in ("single_label", "token", "span"):
        pair = {"text_pair": "other"} if kind == "span" else {}
        given: list[Any] = list(zip(rows.text, rows.text, strict=True)) if pair else rows.text
        found, result = predicted(folders[kind], tmp_path / f"{kind}.jsonl", rows, **pair)
        assert found == load(folders[kind], threads=1, max_length=None)(given)
        assert result["backend"] == "onnx" and result["rows"] == 20
        by_torch[kind], result = predicted(folders[kind], tmp_path / f"t-{kind}.jsonl", rows, backend="torch", **pair)
        assert result["backend"] == "torch"
        for name in ("label", "words", "labels", "entities", "answer", "start", "end"):
            assert [each.get(name) for each in by_torch[kind]] == [each.get(name) for each in found]
    by_onnx, _ = predicted(folders["single_label"], tmp_path / "onnx.jsonl", rows, backend="onnx", batch_size=1)
    assert [each["label"] for each in by_torch["single_label"]] == [each["label"] for each in by_onnx]
    with pytest.raises(InputError, match=r"--out must end in .jsonl or .parquet or .conll with a head of kind token"):
        predicted(folders["token"], tmp_path / "out.csv", rows)
    with pytest.raises(InputError, match="--text-pair must name the column of the texts that answer the questions"):
        predicted(folders["span"], tmp_path / "out.jsonl", rows)
    with pytest.raises(InputError, match="--text-pair must not be given with a tagger"):
        predicted(folders["token"], tmp_path / "out.jsonl", rows, text_pair="other")
    with pytest.raises(InputError, match="must label, score, tag, answer or embed texts to predict, got a head"):
        predicted(folders["masked_lm"], tmp_path / "out.jsonl", rows, backend="torch")
    with pytest.raises(InputError, match="must say how a text's states become its vector"):
        predicted(folders["none"], tmp_path / "out.jsonl", rows, backend="torch")
    assert not (tmp_path / "out.jsonl").exists() and not (tmp_path / "out.csv").exists()
