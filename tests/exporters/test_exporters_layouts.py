"""Layouts hold what their loaders' rules ask for, say how they are loaded, and refuse what cannot be served."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import pytest
from layout_models import FREE, MARKS, NEW, SHAPES, STOCK, add_modules, bert_tokenizer, save_layout_model
from random_models import HEADS, own_answer, random_inputs
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

import cutbert
from cutbert.cli.main import main
from cutbert.errors import InputError, MissingError, ModelError
from cutbert.exporters.graph import build_graph
from cutbert.exporters.int8 import instruction_set, int8_file
from cutbert.exporters.layouts import TABLE, resolved, triton_config, triton_name
from cutbert.exporters.session import OnnxRunner
from cutbert.exporters.settings import ExportSettings, LayoutName, layout_mistakes
from cutbert.folders.loaders import LOADERS, LoaderFacts, transformers_js
from cutbert.folders.save import stand_in
from cutbert.folders.sentence import read_cross_encoder
from cutbert.runtime import load
from cutbert.runtime.folder import ACTIVATIONS, Folder
from cutbert.shape.folder import read_folder_shape
from cutbert.shape.ingredients import Ingredients
from cutbert.shape.shape import EncoderShape, LayerShape
from cutbert.shape.stock_config import STOCK_FAMILIES
from tiny_runs import save_tiny, tiny_rows, write_tsv

INT8 = int8_file(instruction_set())
FAST: dict[str, Any] = {"gate": False, "threads": 1}


def write(folder: Path, kind: str, layouts: str, **options: Any) -> dict[str, Any]:
    """Write a tiny model, export it to folder/out, and return the --json object."""
    shape = options.pop("shape", FREE)
    save_layout_model(folder / "m", HEADS[kind], shape, options.pop("pooling", "cls"))
    if options.pop("modules", kind in ("none", "pooler")):
        add_modules(folder / "m")
    return cutbert.export(folder / "m", layouts=layouts, out=folder / "out", threads=1, **options).to_json()


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_every_loader_has_its_line() -> None:
    assert set(LOADERS) == set(TABLE) == {*get_args(LayoutName)} - {"default"}


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("span", ("transformers.js", "optimum")),
        ("single_label", ("transformers.js", "sentence-transformers", "optimum")),
        ("regression", ("transformers.js", "sentence-transformers", "optimum", "fastembed")),
        ("pooler", ("transformers.js", "optimum")),  # of a folder that does not say how vectors are made
    ],
)
def test_the_default_is_for_all_that_share_a_folder(kind: str, wanted: tuple[str, ...]) -> None:
    assert resolved(("default",), "bert", HEADS[kind], None) == wanted
    assert resolved(("triton", "default", "optimum"), "bert", HEADS[kind], None)[0] == "triton"
    assert sorted(resolved(("optimum", "default"), "bert", HEADS[kind], None)) == sorted(wanted)


@pytest.mark.parametrize(
    ("layouts", "given", "wanted"),
    [
        (("optimum",), {}, (True, False)),
        (("transformers.js",), {}, (True, True)),
        (("transformers.js",), {"onnx": True}, (True, False)),
        (("tei",), {}, (False, True)),
        (("default",), {}, (True, True)),
        (("tei", "triton"), {}, (True, True)),
        (("tei",), {"onnx": True}, (True, False)),
        ((), {"int8": True}, (False, True)),
    ],
)
def test_loaders_choose_their_files(layouts: Any, given: dict[str, bool], wanted: tuple[bool, bool]) -> None:
    settings = ExportSettings(layouts=layouts, **given)
    assert (settings.wants_float, settings.wants_int8) == wanted


def test_one_folder_serves_several_loaders(tmp_path: Path) -> None:
    layouts = "default,triton"
    found = write(tmp_path, "single_label", layouts, pooling="mean", onnx=True, int8=True, gate=False)
    out = tmp_path / "out"
    both = [str(out / "onnx" / name) for name in ("model.onnx", INT8)]
    assert found["layouts"] == {
        "transformers.js": [both[0], str(out / "onnx" / "model_quantized.onnx")],
        "sentence-transformers": both,
        "optimum": both,
        "triton": [str(out / f"triton/{name}/1/model.onnx") for name in ("out", "out_int8")],
    }
    assert found["out"] == str(out) and len(found["files"]) == len(set(found["files"])) == 5
    assert not (out / "model.safetensors").exists()
    card = (out / "README.md").read_text()
    for words in ("pipeline('text-classification', 'FOLDER'", 'CrossEncoder("FOLDER", backend="onnx"', "tritonserver"):
        assert words in card
    assert "AutoModelForSequenceClassification.from_pretrained" not in card
    assert read(out / "cutbert.json")["layouts"]["optimum"] == ["onnx/model.onnx", f"onnx/{INT8}"]


def test_a_free_shape_has_the_familys_config_and_its_own_sizes(tmp_path: Path) -> None:
    write(tmp_path, "single_label", "optimum", pooling="mean")
    out = tmp_path / "out"
    config = AutoConfig.from_pretrained(out)
    assert (config.model_type, config.architectures) == ("bert", ["BertForSequenceClassification"])
    assert (config.hidden_size, config.num_hidden_layers, config.intermediate_size) == (24, 3, 17)
    assert (config.max_position_embeddings, config.pad_token_id, config.problem_type) == (
        40, 0, "single_label_classification",
    )  # fmt: skip
    assert config.id2label == dict(enumerate(HEADS["single_label"].labels))
    with pytest.raises(OSError, match="no file named"):  # plain transformers would build another network
        AutoModelForSequenceClassification.from_pretrained(out)
    facts = read_folder_shape(out)
    assert (facts.shape, facts.head, facts.style_data["pooling"]) == (FREE, HEADS["single_label"], "mean")
    assert cutbert.cost(out)["params"] == cutbert.cost(tmp_path / "m")["params"]
    with pytest.raises(InputError, match="must hold weights"):
        cutbert.export(out, onnx=True, threads=1)


@pytest.mark.parametrize("family", NEW)
def test_other_families_in_every_layout_that_serves_them(tmp_path: Path, family: str) -> None:
    """The config is the family's own, and says what it is made of; the tokenizer gives what the graph takes."""
    shape = SHAPES[family]
    save_layout_model(tmp_path / "m", HEADS["none"], shape, "cls", family)
    add_modules(tmp_path / "m")
    layouts = ("default", "tei", "triton")
    cutbert.export(tmp_path / "m", layouts=layouts, onnx=True, out=tmp_path / "out", threads=1)
    out = tmp_path / "out"
    config = AutoConfig.from_pretrained(out)
    assert (config.model_type, config.hidden_size, config.num_hidden_layers) == (family, 24, 3)
    assert STOCK_FAMILIES[family].ingredients(read(out / "config.json")) == shape.ingredients
    assert config.architectures == [f"{STOCK_FAMILIES[family].prefix}Model"]
    check_tei(out)
    takes = [each.name for each in OnnxRunner(out / "onnx" / "model.onnx", 1).session.get_inputs()]
    assert set(AutoTokenizer.from_pretrained(out)("a film", "a book").keys()) == set(takes)
    assert ("token_type_ids" in takes) == (family in ("nomic_bert", "gte"))
    assert read_folder_shape(out).shape == shape
    served = {"transformers.js", "sentence-transformers", "optimum", "fastembed", "tei", "triton"}
    lacking = {"nomic_bert": {"sentence-transformers", "optimum"}}
    lacking["gte"] = {*lacking["nomic_bert"], "transformers.js"}
    assert set(read(out / "cutbert.json")["layouts"]) == served - lacking.get(family, set())


@pytest.mark.parametrize(
    ("family", "kind", "layout"),
    [
        ("modernbert", "span", "transformers.js"),
        ("nomic_bert", "single_label", "transformers.js"),
        ("nomic_bert", "regression", "sentence-transformers"),
        ("nomic_bert", "token", "optimum"),
        ("gte", "token", "optimum"),
    ],
)
def test_families_that_a_loader_has_no_class_for(tmp_path: Path, family: str, kind: str, layout: str) -> None:
    save_layout_model(tmp_path / "m", HEADS[kind], SHAPES[family], "cls", family)
    message = f"--for {layout} must be given a model that its loader has a class for, got {family} with {kind}"
    with pytest.raises(InputError, match=message):
        cutbert.export(tmp_path / "m", layouts=layout, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_stock_shape_keeps_its_weights(tmp_path: Path) -> None:
    write(tmp_path, "single_label", "optimum", shape=STOCK)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    assert "cutbert" not in read(tmp_path / "out" / "config.json")
    own = save_layout_model(tmp_path / "again", HEADS["single_label"], STOCK)
    inputs = random_inputs(STOCK, (7, 7))
    theirs = model.eval()(**{name: model.dummy_inputs["input_ids"].new_tensor(each) for name, each in zip(
        ("input_ids", "attention_mask", "token_type_ids"), inputs, strict=True)}).logits  # fmt: skip
    np.testing.assert_allclose(theirs.detach().numpy(), own_answer(own, inputs), atol=1e-5)


@pytest.mark.parametrize(("layers", "heads"), [((4, 3), 4), ((5, 1), 4), ((0,), 1), ((), 1), ((13,), 12)])
def test_a_stand_in_has_heads_that_divide_its_width(layers: tuple[int, ...], heads: int) -> None:
    shape = EncoderShape(24, tuple(LayerShape(count, 2, 3, 7) for count in layers), 9, 12)
    found = stand_in(shape)
    assert found.is_stock and found.layers[0].num_heads == heads
    assert (found.hidden_size, found.num_layers) == (24, max(1, len(layers)))
    local = Ingredients(window=1, local_layers=(True,) * len(layers), rotary_bases=(9.0, 9.0), has_position_table=False)
    odd = tuple(LayerShape(count, 2, 3, 7) for count in layers)
    found = stand_in(EncoderShape(25, odd, 9, 12, ingredients=local))
    assert found.ingredients.rotary_bases == (9.0, 9.0) and found.ingredients.is_local(0) == bool(layers)


def test_the_tokenizer_is_known_everywhere(tmp_path: Path) -> None:
    """Its class is one of all versions of transformers; texts are cut where the sentence-transformers folder says."""
    write(tmp_path, "none", "optimum")
    out = tmp_path / "out"
    config = read(out / "tokenizer_config.json")
    assert (config["tokenizer_class"], config["model_max_length"]) == ("BertTokenizer", 30)
    assert not {"backend", "is_local"} & config.keys()
    assert read(out / "special_tokens_map.json")["pad_token"] == "[PAD]"
    assert read(out / "tokenizer.json")["truncation"] is None
    text = "a good, goodish film"
    assert AutoTokenizer.from_pretrained(out)(text)["input_ids"] == bert_tokenizer()(text)["input_ids"]


def test_further_special_tokens_have_the_key_that_all_versions_read(tmp_path: Path) -> None:
    save_layout_model(tmp_path / "m", HEADS["single_label"], SHAPES["electra"], family="electra")
    cutbert.export(tmp_path / "m", layouts="optimum", onnx=True, out=tmp_path / "out", threads=1)
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        data = read(tmp_path / "out" / name)
        assert data["additional_special_tokens"] == list(MARKS) and "extra_special_tokens" not in data
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert set(MARKS) <= set(tokenizer.all_special_tokens)
    assert tokenizer("a dull film")["input_ids"] == bert_tokenizer()("a dull film")["input_ids"]


def test_pooling_and_normalisation_are_kept(tmp_path: Path) -> None:
    write(tmp_path, "none", "sentence-transformers")
    out, source = tmp_path / "out", tmp_path / "m"
    assert read(out / "modules.json") == read(source / "modules.json")
    prompts = "config_sentence_transformers.json"
    assert read(out / prompts) == read(source / prompts)
    pooling = read(out / "1_Pooling" / "config.json")
    assert pooling["word_embedding_dimension"] == FREE.hidden_size
    assert [name for name, value in pooling.items() if value is True] == ["pooling_mode_mean_tokens"]
    assert read(out / "sentence_bert_config.json") == {"do_lower_case": False, "max_seq_length": 30}
    check_tei(out)  # in float32 the folder serves there too
    card = (out / "README.md").read_text()
    assert 'SentenceTransformer("FOLDER", backend="onnx"' in card and "vectors /= np.linalg.norm" in card


def test_a_prefix_of_vectors_is_given_or_refused(tmp_path: Path) -> None:
    write(tmp_path, "none", "sentence-transformers", onnx=True)
    place, source = "config_sentence_transformers.json", tmp_path / "m"
    whole = load(tmp_path / "out", threads=1)(["a good film"])[0]
    named = read(source / place)
    (source / place).write_text(json.dumps({**named, "truncate_dim": 7}))
    out = tmp_path / "prefix"
    cutbert.export(source, layouts=["sentence-transformers", "transformers.js"], onnx=True, out=out, threads=1)
    np.testing.assert_array_equal(load(out, threads=1)(["a good film"])[0], whole[:7])
    assert read(out / place)["truncate_dim"] == 7
    assert ".slice(null, [0, 7])" in (out / "README.md").read_text()
    assert "vectors = vectors[:, :7]" in (out / "onnx" / "example.py").read_text()
    for layout in ("fastembed", "tei"):
        with pytest.raises(InputError, match=f"--for {layout} must be given a model of whole vectors, got truncate"):
            cutbert.export(source, layouts=layout, onnx=True, out=tmp_path / "no", threads=1)
    (out / place).write_text('{"truncate_dim": "7"}')
    with pytest.raises(ModelError, match="truncate_dim must be a whole number above 0, got '7'"):
        load(out, threads=1)
    (source / place).write_text('{"truncate_dim": true}')
    with pytest.raises(InputError, match="truncate_dim must be a whole number above 0, got True"):
        cutbert.export(source, layouts="optimum", onnx=True, out=tmp_path / "no", threads=1)


def test_what_a_cross_encoder_does_with_its_output_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, "regression", "sentence-transformers")
    key, identity = "sentence_transformers", {"activation_fn": "torch.nn.modules.linear.Identity"}
    assert read(tmp_path / "out" / "config.json")[key] == identity
    assert "applies a sigmoid to its output, and nothing to this folder's" in said(capsys)
    sigmoid, config = "torch.nn.modules.activation.Sigmoid", tmp_path / "m" / "config.json"
    own, plain = {"activation_fn": sigmoid}, read(config)
    old = {"sbert_ce_default_activation_function": sigmoid}
    for more, wanted in (
        ({key: own}, own),
        (old, own),
        ({key: {"version": "3.4", "activation_fn": None}, **old}, {"version": "3.4", **own}),
        ({key: own, "sbert_ce_default_activation_function": identity["activation_fn"]}, own),
    ):
        config.write_text(json.dumps({**plain, **more}))
        assert read_cross_encoder(tmp_path / "m") == wanted
        assert Folder.read(tmp_path / "m").activation is ACTIVATIONS["Sigmoid"]
    cutbert.export(tmp_path / "m", layouts="sentence-transformers", out=tmp_path / "other", threads=1)
    assert read(tmp_path / "other" / "config.json")[key] == own and "sigmoid" not in said(capsys)


def test_lines_for_transformers_js_give_the_number_itself() -> None:
    def lines(kind: str) -> str:
        return transformers_js(LoaderFacts(HEADS[kind], None, FREE, False, ("onnx/model.onnx",)))[1]

    assert "text_pair: [" in lines("regression") and ".logits.tolist()" in lines("regression")
    assert "pipeline('text-classification', 'FOLDER'" in lines("single_label")
    assert "pipe.tokenizer.mask_token" in lines("masked_lm") and "[MASK]" not in lines("masked_lm")


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().err.split())


def test_a_plain_export_of_an_embedding_model_keeps_them_too(tmp_path: Path) -> None:
    save_layout_model(tmp_path / "m", HEADS["none"])
    add_modules(tmp_path / "m", normalize=False)
    cutbert.export(tmp_path / "m", onnx=True, out=tmp_path / "out", threads=1)
    assert read(tmp_path / "out" / "modules.json") == read(tmp_path / "m" / "modules.json")
    assert "norm" not in (tmp_path / "out" / "onnx" / "example.py").read_text()


def check_tei(folder: Path) -> None:
    """The rules in the server's own code: router/src/lib.rs and backends/ort/src/lib.rs."""
    config = read(folder / "config.json")
    assert isinstance(config["model_type"], str) and all(isinstance(name, str) for name in config["architectures"])
    for name in ("max_position_embeddings", "pad_token_id", "hidden_size", "num_hidden_layers"):
        assert isinstance(config[name], int)
    file = folder / "model.onnx"
    session = OnnxRunner(file if file.exists() else folder / "onnx" / "model.onnx", 1).session
    assert {each.name for each in session.get_inputs()} <= {"input_ids", "attention_mask", "token_type_ids"}
    outputs = [each.name for each in session.get_outputs()]
    if config["architectures"][0].endswith("Classification"):
        assert "logits" in outputs and len(config["id2label"]) == len(config["label2id"])
    else:
        assert "last_hidden_state" in outputs
        pooling = read(folder / "1_Pooling" / "config.json")
        for name in ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens"):
            assert isinstance(pooling[f"pooling_mode_{name}"], bool)
        assert pooling["pooling_mode_cls_token"] or pooling["pooling_mode_mean_tokens"]
    assert read(folder / "sentence_bert_config.json")["max_seq_length"] > 0
    assert read(folder / "tokenizer_config.json").get("padding_side", "right") in ("left", "right")
    assert (folder / "tokenizer.json").is_file()


def test_tei_takes_int8_as_its_model_onnx(tmp_path: Path) -> None:
    found = write(tmp_path, "single_label", "tei", gate=False)
    out = tmp_path / "out"
    assert found["files"] == [str(out / "model.onnx")] and not (out / "onnx").exists()
    kinds = {each.data_type for each in onnx.load(out / "model.onnx").graph.initializer}
    assert onnx.TensorProto.INT8 in kinds
    check_tei(out)
    assert "localhost:8080/predict" in (out / "README.md").read_text()


def test_int8_of_a_layout_passes_its_gate(tmp_path: Path) -> None:
    """As ever; a tokenizer of no class of its own is named as all versions of transformers know it."""
    model, rows = save_tiny(tmp_path / "m"), tiny_rows(60)
    data = {name: [str(write_tsv(tmp_path / f"{name}.tsv", rows))] for name in ("train", "dev")}
    named = {**data, "text": "text", "label": "label", "threads": 1}
    found = cutbert.export(model, layouts="tei", max_drop=100.0, out=tmp_path / "out", **named).to_json()
    stored = read(tmp_path / "out" / "cutbert.json")
    assert stored["int8"]["select_score_after"] == found["select_score_after"]
    assert stored["layouts"] == {"tei": ["model.onnx"]}
    assert read(tmp_path / "out" / "tokenizer_config.json")["tokenizer_class"] == "PreTrainedTokenizerFast"


@pytest.mark.parametrize(
    ("kind", "family", "line"), [("none", "distilbert", "/embed"), ("regression", "bert", "/rerank")]
)
def test_tei_in_float32(tmp_path: Path, kind: str, family: str, line: str) -> None:
    save_layout_model(tmp_path / "m", HEADS[kind], SHAPES[family], "cls", family)
    if kind == "none":
        add_modules(tmp_path / "m", pooling="cls", normalize=False)
    found = cutbert.export(tmp_path / "m", layouts="tei", onnx=True, out=tmp_path / "out", threads=1)
    assert found["files"] == [str(tmp_path / "out" / "onnx" / "model.onnx")]
    check_tei(tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert line in card and ('"normalize": false' in card) == (kind == "none")


@pytest.mark.parametrize("kind", ["single_label", "pooler", "span"])
def test_triton_config_says_what_the_graph_takes(tmp_path: Path, kind: str) -> None:
    """Triton's rules: the folder bears the model's name, its versions are numbers, and a batch axis of Triton's own
    is left out of the sizes of every tensor."""
    write(tmp_path, kind, "triton")
    place = tmp_path / "out" / "triton" / "out"
    assert {path.name for path in place.iterdir()} == {"1", "config.pbtxt"}
    text = (place / "config.pbtxt").read_text()
    assert re.search(r'^name: "out"$', text, re.M) and re.search(r'^backend: "onnxruntime"$', text, re.M)
    assert int(re.search(r"^max_batch_size: (\d+)$", text, re.M)[1]) > 0
    session = OnnxRunner(place / "1" / "model.onnx", 1).session
    tensors = re.findall(r'\{ name: "(\w+)" data_type: (\w+) dims: \[ ([-\d, ]+) \] \}', text)
    values = [*session.get_inputs(), *session.get_outputs()]
    assert [name for name, _, _ in tensors] == [each.name for each in values]
    for (_, dtype, dims), value in zip(tensors, values, strict=True):
        assert dtype == {"tensor(int64)": "TYPE_INT64", "tensor(float)": "TYPE_FP32"}[value.type]
        assert [int(size) for size in dims.split(",")] == [
            size if isinstance(size, int) else -1 for size in value.shape[1:]
        ]
        assert not isinstance(value.shape[0], int)
    assert text.count("[") == text.count("]") and text.count("{") == text.count("}")


def test_names_in_triton_are_the_folders(tmp_path: Path) -> None:
    model = save_layout_model(tmp_path / "m", HEADS["span"])
    assert triton_config("x", build_graph(model)).startswith('name: "x"\n')
    cutbert.export(tmp_path / "m", layouts="triton", out=tmp_path / "a model's", threads=1)
    assert [path.name for path in (tmp_path / "a model's" / "triton").iterdir()] == ["a_model_s"]
    cutbert.export(tmp_path / "m", layouts="triton", onnx=True, out=tmp_path / "x_int8", threads=1)
    found = {backend: list(Folder.read(tmp_path / "x_int8").candidates(backend)) for backend in ("onnx", "onnx-int8")}
    assert found == {"onnx": [[], [tmp_path / "x_int8/triton/x/1/model.onnx"]], "onnx-int8": [[], [], []]}
    assert triton_name(tmp_path / "_int8") == "model"


def test_openvino_reads_the_graph(tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino", reason="OpenVINO is not installed: pip install 'cutbert[openvino]'")
    found = write(tmp_path, "span", "openvino")
    folder = tmp_path / "out" / "openvino"
    assert found["files"] == [str(folder / "openvino_model.xml")]
    assert {path.name for path in folder.iterdir()} == {"openvino_model.xml", "openvino_model.bin"}
    model = openvino.compile_model(folder / "openvino_model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    inputs = random_inputs(FREE, (9, 5, 1))
    names = ("input_ids", "attention_mask", "token_type_ids")
    got = model(dict(zip(names, inputs, strict=True)))[model.output("logits")]
    own, real = own_answer(save_layout_model(tmp_path / "again", HEADS["span"]), inputs), inputs[1].astype(bool)
    np.testing.assert_allclose(got[real], own[real], atol=1e-4)


def test_without_openvino_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingError, match=r"--for openvino must have OpenVINO: pip install 'cutbert\[openvino\]'"):
        write(tmp_path, "span", "openvino")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("kind", "layout", "message"),
    [
        ("span", "tei", "--for tei must be given an embedding model or one with a head of whole texts, got a head of "),
        ("token", "sentence-transformers", r"--for sentence-transformers must .* got a head of kind token \(neg, pos"),
        ("single_label", "fastembed", "--for fastembed must be given an embedding model or one with a head of one out"),
        ("pooler", "tei", r"--for tei must be given a model that says how a text's states become its vector \(modules"),
    ],
)
def test_what_a_loader_cannot_serve_is_refused(tmp_path: Path, kind: str, layout: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        write(tmp_path, kind, layout, onnx=True, modules=False)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("family", "kind"), [("gte", "token"), ("nomic_bert", "single_label"), ("gte", "none")])
def test_the_default_is_refused_where_it_serves_nobody(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], family: str, kind: str
) -> None:
    save_layout_model(tmp_path / "m", HEADS[kind], SHAPES[family], "cls", family)
    words = ["export", str(tmp_path / "m"), "--for", "default", "--onnx", "--out", str(tmp_path / "out")]
    assert main(words) == 2 and not (tmp_path / "out").exists()
    (line,) = capsys.readouterr().err.splitlines()
    others = [*(["tei"] if kind == "single_label" else []), "triton", "openvino"]
    for part in (
        "--for default must be given a model that transformers.js, sentence-transformers, optimum or fastembed serves",
        f"none of them serves {family} with a head of kind {kind}",
        f"; {' or '.join(f'--for {name}' for name in others)} does, and --onnx or --int8 without --for writes",
    ):
        assert part in line
    assert main([*words[:3], others[0], *words[4:]]) == 0


def test_modules_that_no_layout_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_layout_model(tmp_path / "m", HEADS["none"])
    add_modules(tmp_path / "m", more=("Dense",))
    message = "modules after an encoder must be Transformer, Pooling and at most Normalize, got Transformer, Pooling, N"
    with pytest.raises(InputError, match=message):
        cutbert.export(tmp_path / "m", layouts="sentence-transformers", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    cutbert.export(tmp_path / "m", onnx=True, out=tmp_path / "out", threads=1)
    assert f"{message}ormalize, Dense: the encoder alone is written" in capsys.readouterr().err
    add_modules(tmp_path / "m", pooling="max")
    with pytest.raises(InputError, match="--for fastembed must be given a model with the pooling cls or mean, got 'ma"):
        cutbert.export(tmp_path / "m", layouts="fastembed", out=tmp_path / "other")
    (tmp_path / "m" / "modules.json").write_text("{}")
    with pytest.raises(InputError, match=r"modules\.json: must be a list of JSON objects, got \{\}"):
        cutbert.export(tmp_path / "m", layouts="fastembed", out=tmp_path / "other")


def test_mistakes_come_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_layout_model(tmp_path / "m", HEADS["span"])
    words = ["export", str(tmp_path / "m"), "--for", "tei,optimum,openvino", "--int8", "--no-gate"]
    assert main(words) == 2
    lines = [line.removeprefix("cutbert: error: ") for line in capsys.readouterr().err.splitlines()]
    assert [line.split(":")[0] for line in lines] == [
        "--for must come with --out",
        "--for openvino must come with --onnx",
        "--for tei must be alone or with --onnx beside optimum",
        "--for tei must be given an embedding model or one with a head of whole texts, got a head of kind span",
    ]
    for layout, message in (
        ("tei", "--for tei alone must come with --onnx or with --int8, got both"),
        ("openvino", "--for openvino alone must come without --int8"),
    ):
        both = ["--onnx", "--int8", "--no-gate", "--out", str(tmp_path / "both")]
        assert main([*words[:2], "--for", layout, *both]) == 2 and message in capsys.readouterr().err
        assert not list(layout_mistakes(ExportSettings(layouts=(layout, "triton"), onnx=True, int8=True)))
    assert main([*words[:2], "--for", "bert"]) == 2
    assert "--for must be one of default, transformers.js, sentence-transformers, optimum," in capsys.readouterr().err
    with pytest.raises(InputError, match="--for tei with --onnx needs no int8"):
        save_layout_model(tmp_path / "c", HEADS["single_label"])
        cutbert.export(tmp_path / "c", layouts="tei", out=tmp_path / "out")
