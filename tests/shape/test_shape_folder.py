"""Model folders read without weights: every family's config, ours, shape files, every mistake."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import transformers

from cutbert.errors import ModelError
from cutbert.model.style import EncoderStyle
from cutbert.shape.cost import cost_of
from cutbert.shape.folder import read_folder_shape
from cutbert.shape.head import HeadSpec
from cutbert.shape.shape import EncoderShape

SIZES = {
    "vocab_size": 50, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 40,
    "max_position_embeddings": 20, "type_vocab_size": 2, "layer_norm_eps": 1e-5, "hidden_dropout_prob": 0.2,
}  # fmt: skip
DISTIL_SIZES = {
    "vocab_size": 50, "dim": 24, "n_layers": 2, "n_heads": 4, "hidden_dim": 40, "max_position_embeddings": 20,
}  # fmt: skip
FAMILIES = {
    "Bert": SIZES,
    "Roberta": SIZES,
    "XLMRoberta": SIZES,
    "Camembert": SIZES,
    "Electra": {**SIZES, "embedding_size": 16},
    "DistilBert": DISTIL_SIZES,
}
HEADS = ("Model", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering", "ForMaskedLM")


def write(folder: Path, name: str, data: Any) -> Path:
    (folder / name).write_text(json.dumps(data))
    return folder


def bert_config(**changes: Any) -> dict[str, Any]:
    return {"model_type": "bert", "architectures": ["BertModel"], **SIZES, **changes}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("prefix", FAMILIES)
def test_params_are_those_of_the_stock_class(tmp_path: Path, prefix: str, head: str) -> None:
    config = getattr(transformers, f"{prefix}Config")(**FAMILIES[prefix], num_labels=3)
    if head == "ForQuestionAnswering":
        config.num_labels = 2
    model = getattr(transformers, prefix + head)(config)
    config.architectures = [prefix + head]
    config.save_pretrained(tmp_path)
    read = read_folder_shape(tmp_path)
    assert cost_of(read.shape, read.head).params == sum(p.numel() for p in model.parameters())
    style = EncoderStyle.from_json(read.style_data)
    assert style.position_offset == (style.pad_token_id + 1 if "oberta" in prefix or prefix == "Camembert" else 0)
    assert prefix == "DistilBert" or (style.layer_norm_eps, style.hidden_dropout) == (1e-5, 0.2)


def test_labels_and_kinds_of_sequence_heads(tmp_path: Path) -> None:
    def head_of(**changes: Any) -> HeadSpec:
        changes = {"architectures": ["BertForSequenceClassification"], **changes}
        return read_folder_shape(write(tmp_path, "config.json", bert_config(**changes))).head

    assert head_of() == HeadSpec("single_label", ("LABEL_0", "LABEL_1"))
    assert head_of(num_labels=3).num_outputs == 3
    assert head_of(id2label={"1": "b", "0": "a"}) == HeadSpec("single_label", ("a", "b"))
    many = {str(i): f"name {i}" for i in range(11)}
    assert head_of(id2label=many).labels == tuple(many.values()), "id 10 comes after 9"
    assert head_of(id2label={"0": "score"}) == HeadSpec("regression", ("score",))
    assert head_of(id2label={"0": "only"}, problem_type="single_label_classification").kind == "single_label"
    assert head_of(problem_type="multi_label_classification").kind == "multi_label"


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"architectures": None}, "pooler"),
        ({"architectures": ["BertForPreTraining"]}, "masked_lm"),
        ({"architectures": ["BertForQuestionAnswering"], "id2label": {"0": "a", "1": "b"}}, "span"),
        ({"architectures": ["ElectraForPreTraining"], "model_type": "electra", "embedding_size": 24}, "none"),
    ],
)
def test_heads_of_other_classes(tmp_path: Path, changes: dict[str, Any], kind: str) -> None:
    assert read_folder_shape(write(tmp_path, "config.json", bert_config(**changes))).head == HeadSpec(kind)  # type: ignore[arg-type]


def our_config() -> dict[str, Any]:
    shape = EncoderShape.uniform(hidden_size=8, num_layers=1, num_heads=2, intermediate_size=5, vocab_size=11)
    return {
        "model_type": "cutbert",
        "shape": shape.to_json(),
        "head": {"kind": "single_label", "labels": ["a", "b"]},
        "style": EncoderStyle(family="roberta").to_json(),
    }


def with_style(**changes: Any) -> dict[str, Any]:
    return {**our_config(), "style": our_config()["style"] | changes}


def test_our_own_config(tmp_path: Path) -> None:
    read = read_folder_shape(write(tmp_path, "config.json", our_config()))
    assert read.shape == EncoderShape.from_json(our_config()["shape"])
    assert read.head == HeadSpec("single_label", ("a", "b")) and read.family == "roberta"
    assert EncoderStyle.from_json(read.style_data) == EncoderStyle(family="roberta")


def test_a_shape_file_or_folder_has_neither_head_nor_family(tmp_path: Path) -> None:
    write(tmp_path, "shape.json", our_config()["shape"])
    for path in (tmp_path, tmp_path / "shape.json"):
        read = read_folder_shape(path)
        assert (read.shape.hidden_size, read.head, read.style_data, read.family) == (8, HeadSpec("none"), {}, None)


def test_a_run_folder_means_its_model(tmp_path: Path) -> None:
    write(tmp_path, "run.json", {})
    with pytest.raises(ModelError, match="a run must be finished to be used as a model"):
        read_folder_shape(tmp_path)
    (tmp_path / "model").mkdir()
    write(tmp_path / "model", "config.json", bert_config())
    assert read_folder_shape(tmp_path).shape.hidden_size == 24


@pytest.mark.parametrize(
    ("config", "messages"),
    [
        ([], ["must be a JSON object, got list"]),
        ({"model_type": "gpt2"}, ["model_type must be one of bert, roberta, .*, cutbert, got 'gpt2'"]),
        (
            {"model_type": "distilbert", **DISTIL_SIZES, "dim": "24", "n_heads": None, "n_layers": -1},
            ["dim must be an integer", "n_layers must be an integer of at least 0, got -1", "n_heads must be"],
        ),
        ({"model_type": "electra", **SIZES}, ["must have the key 'embedding_size', got none"]),
        (bert_config(hidden_size=25), ["hidden_size must be a multiple of num_heads, got 25 and 4"]),
        (bert_config(is_decoder=True), ["must be an encoder, got is_decoder"]),
        (bert_config(position_embedding_type="relative_key"), ["position_embedding_type must be 'absolute'"]),
        (bert_config(pad_token_id=-1), ["pad_token_id must be an integer of at least 0, got -1"]),
        (bert_config(pad_token_id=50), ["pad_token_id must lie below vocab_size 50, got 50"]),
        (bert_config(architectures=["BertForMultipleChoice"]), ["architectures must name Bert followed by one of"]),
        (
            bert_config(architectures=["BertForSequenceClassification"], problem_type="ranking"),
            ["problem_type must be one of single_label_classification, .*, got 'ranking'"],
        ),
        (
            bert_config(architectures=["BertForTokenClassification"], id2label={"0": "a", "2": "b"}),
            ["id2label must have the ids 0..1, got 0, 2"],
        ),
        ({"model_type": "cutbert"}, ["shape must be a JSON object, got None", "head must be", "style must be"]),
        ({**our_config(), "head": {"kind": "span"}}, ["head: missing key 'labels'"]),
        ({**our_config(), "head": {"kind": "token", "labels": "ab"}}, ["labels of a head must be a list of names"]),
        ({"model_type": ["bert"]}, [r"model_type must be one of .*, got \['bert'\]"]),
        (bert_config(architectures="BertModel"), ["architectures must be a list of class names, got 'BertModel'"]),
        (
            bert_config(architectures=["BertForTokenClassification"], id2label=["a", "b"]),
            [r"id2label must be an object of names by id, got \['a', 'b'\]"],
        ),
        (
            bert_config(architectures=["BertForTokenClassification"], num_labels="2"),
            ["num_labels must be an integer of at least 1, got '2'"],
        ),
        (
            bert_config(hidden_act=3, layer_norm_eps="x", hidden_dropout_prob=7),
            ["hidden_act must be the name", "layer_norm_eps must be a number", "hidden_dropout_prob must be a number"],
        ),
        (
            with_style(layer_norm_eps=None, head_activation=None, hidden_dropout="0.1", position_offset=0.5),
            [
                "head_activation must be the name",
                "eps must be a number in 0..1000, got None",
                "dropout must",
                "offset must",
            ],
        ),
        (with_style(pad_token_id=50), ["pad_token_id must lie below vocab_size 11, got 50"]),
        (bert_config(num_hidden_layers=1_000_000), ["num_layers must be at most 1000, got 1000000"]),
        (bert_config(hidden_size=10**18), [f"hidden_size must be at most 16,777,216, got {10**18}"]),
        (
            bert_config(architectures=["BertForTokenClassification"], num_labels=10**7),
            ["num_labels must be at most 131,072, got 10000000"],
        ),
    ],
)
def test_configs_that_cannot_be_read(tmp_path: Path, config: Any, messages: list[str]) -> None:
    with pytest.raises(ModelError) as caught:
        read_folder_shape(write(tmp_path, "config.json", config))
    assert len(caught.value.mistakes) == len(messages)
    for mistake, message in zip(caught.value.mistakes, messages, strict=True):
        assert str(tmp_path / "config.json") in mistake
        assert re.search(message, mistake)


def test_a_null_position_embedding_type_is_the_default(tmp_path: Path) -> None:
    read = read_folder_shape(write(tmp_path, "config.json", bert_config(position_embedding_type=None)))
    assert read.max_tokens == read.shape.num_positions


def test_the_longest_input_leaves_out_the_offset(tmp_path: Path) -> None:
    config = {"model_type": "roberta", **SIZES, "max_position_embeddings": 514}
    assert read_folder_shape(write(tmp_path, "config.json", config)).max_tokens == 512


def test_folders_that_are_no_models(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"must hold a config\.json or a shape\.json, got neither"):
        read_folder_shape(tmp_path)
    with pytest.raises(ModelError, match=r"a model must be a folder or a shape file, got .*/absent, which does not"):
        read_folder_shape(tmp_path / "absent")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config\.json: must be JSON"):
        read_folder_shape(tmp_path)


def test_sidecars_must_agree(tmp_path: Path) -> None:
    write(tmp_path, "config.json", our_config())
    write(tmp_path, "cutbert.json", {"format_version": 1})
    write(tmp_path, "shape.json", our_config()["shape"])
    assert read_folder_shape(tmp_path).shape.hidden_size == 8
    write(tmp_path, "shape.json", {**our_config()["shape"], "hidden_size": 9})
    with pytest.raises(ModelError, match=r"shape\.json must give the sizes that config\.json gives"):
        read_folder_shape(tmp_path)
    write(tmp_path, "cutbert.json", {"format_version": 2})
    with pytest.raises(ModelError, match="format_version must be 1, got 2"):
        read_folder_shape(tmp_path)


def test_the_ground_floor_loads_no_torch() -> None:
    names = ["shape", "subnet", "head", "cost", "space", "budget", "folder", "stock_config"]
    code = "".join(f"import cutbert.shape.{name}\n" for name in names)
    code += "import sys; print([m for m in ('torch', 'transformers', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
