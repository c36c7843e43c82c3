"""Saving: stock classes where they hold the network, ours elsewhere, whole or not at all."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file

from cutbert.errors import ModelError
from cutbert.folders.families import FAMILIES
from cutbert.folders.load import load_model
from cutbert.folders.save import loads_stock, save_model
from cutbert.model.style import EncoderStyle
from cutbert.model.task_model import TaskModel
from cutbert.shape.folder import read_folder_shape
from cutbert.shape.head import HEAD_KINDS, HeadKind, HeadSpec
from cutbert.shape.shape import EncoderShape
from cutbert.shape.stock_config import STOCK_FAMILIES
from tiny_free import PROVENANCE, free_model, free_shape, save_free, style_of
from tiny_stock import (
    PREFIXES,
    ROBERTA_LIKE,
    VOCAB_SIZE,
    WITHOUT_SPAN,
    randomise,
    save_tiny,
    tiny_batch,
    tiny_tokenizer,
)

LABELS = ("a", "b", "c")


def spec_of(kind: HeadKind) -> HeadSpec:
    if kind == "regression":
        return HeadSpec(kind, ("score",))
    return HeadSpec(kind, LABELS if kind in ("single_label", "multi_label", "token") else ())


def stock_shape_of(family: str) -> EncoderShape:
    return EncoderShape.uniform(
        hidden_size=12,
        num_layers=2,
        num_heads=3,
        intermediate_size=10,
        vocab_size=VOCAB_SIZE,
        num_positions=18,
        num_token_types=free_shape(family).num_token_types,
        embedding_size=8 if family == "electra" else None,
        ingredients=free_shape(family).ingredients.of_layers((0, 1)),
    )


def model_type(folder: Path) -> str:
    return json.loads((folder / "config.json").read_text())["model_type"]


@pytest.mark.parametrize(
    ("family", "kind"),
    [
        (family, kind)
        for family in PREFIXES
        for kind in HEAD_KINDS
        if kind != "embedding" and (kind != "pooler" or STOCK_FAMILIES[family].bare == "pooler")
        if kind != "span" or family not in WITHOUT_SPAN
    ],
)
def test_free_round_trip(tmp_path: Path, family: str, kind: HeadKind) -> None:
    model = save_free(tmp_path, spec_of(kind), family)
    assert model_type(tmp_path) == "cutbert"
    loaded = load_model(tmp_path)
    assert loaded.notes == () and loaded.provenance == PROVENANCE
    assert (loaded.model.shape, loaded.model.style, loaded.model.head_spec) == (model.shape, model.style, spec_of(kind))
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], tensor)
    facts = read_folder_shape(tmp_path)
    assert (facts.shape, facts.head, facts.family) == (model.shape, spec_of(kind), family)
    assert EncoderStyle.from_json(facts.style_data) == model.style


@pytest.mark.parametrize(
    ("family", "shape_change", "style_change", "kind"),
    [
        ("bert", {"num_token_types": 0}, {}, "none"),
        ("bert", {"embedding_size": 6}, {}, "none"),
        ("bert", {}, {"position_offset": 2}, "none"),
        ("bert", {}, {"head_activation": "gelu"}, "single_label"),
        ("roberta", {}, {"position_offset": 0}, "none"),
        ("roberta", {}, {"activation": "relu"}, "masked_lm"),
        ("electra", {}, {"activation": "relu"}, "masked_lm"),
        ("electra", {"num_token_types": 0}, {}, "none"),
        ("distilbert", {"num_token_types": 2}, {}, "none"),
        ("distilbert", {"embedding_size": 6}, {}, "none"),
        ("distilbert", {}, {"layer_norm_eps": 1e-5}, "none"),
    ],
)
def test_what_a_stock_class_cannot_hold(
    family: str, shape_change: dict[str, Any], style_change: dict[str, Any], kind: HeadKind
) -> None:
    shape, style = stock_shape_of(family), style_of(family)
    assert loads_stock(TaskModel(shape, style, spec_of(kind)))
    changed = TaskModel(replace(shape, **shape_change), replace(style, **style_change), spec_of(kind))
    assert not loads_stock(changed)
    assert not loads_stock(free_model(spec_of(kind), family))


def test_a_stock_shape_a_class_cannot_hold_is_saved_as_ours(tmp_path: Path) -> None:
    shape = replace(stock_shape_of("distilbert"), num_token_types=2)
    model = TaskModel(shape, style_of("distilbert"), HeadSpec("token", LABELS)).eval()
    randomise(model)
    save_model(tmp_path, model, tiny_tokenizer("distilbert"), provenance=PROVENANCE)
    assert model_type(tmp_path) == "cutbert"
    again = transformers.AutoModelForTokenClassification.from_pretrained(tmp_path).eval()
    batch = tiny_batch("bert")
    assert torch.equal(again(**batch).logits, model(**batch).logits)


def test_every_family_has_its_tables() -> None:
    assert list(FAMILIES) == list(STOCK_FAMILIES)


def test_fewer_and_thinner_layers_load_without_cutbert(tmp_path: Path) -> None:
    model = TaskModel(stock_shape_of("bert"), style_of("bert"), HeadSpec("single_label", LABELS)).eval()
    randomise(model)
    save_model(tmp_path / "model", model, tiny_tokenizer(), provenance=PROVENANCE)
    code = (
        "import sys; sys.modules['cutbert'] = None\n"
        "import torch, transformers\n"
        "folder = sys.argv[1]\n"
        "tokenizer = transformers.AutoTokenizer.from_pretrained(folder)\n"
        "model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()\n"
        "batch = tokenizer(['a fine film', 'dull'], padding=True, return_tensors='pt')\n"
        "torch.save((dict(batch), model(**batch).logits.detach(), model.config.id2label), sys.argv[2])\n"
    )
    out = tmp_path / "out.pt"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "model"), str(out)], check=True, capture_output=True)
    batch, logits, labels = torch.load(out)
    assert torch.allclose(model(**batch).logits, logits, atol=1e-6)
    assert labels == dict(enumerate(LABELS))


def test_files_of_a_folder(tmp_path: Path) -> None:
    save_free(tmp_path, HeadSpec("single_label", LABELS), "roberta")
    found = {path.name for path in tmp_path.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= found
    assert json.loads((tmp_path / "shape.json").read_text()) == free_shape("roberta").to_json()
    assert json.loads((tmp_path / "cutbert.json").read_text()) == PROVENANCE
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architectures"] == ["CutbertForSequenceClassification"]
    assert config["problem_type"] == "single_label_classification"
    assert config["label2id"] == {"a": 0, "b": 1, "c": 2}


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_tokenizer_is_saved_plain(tmp_path: Path, family: str) -> None:
    tokenizer = tiny_tokenizer(family)
    tokenizer.backend_tokenizer.enable_padding(length=8)
    tokenizer.backend_tokenizer.enable_truncation(8)
    model = free_model(HeadSpec("none"), family)
    save_model(tmp_path, model, tokenizer, provenance=PROVENANCE)
    saved = json.loads((tmp_path / "tokenizer.json").read_text())
    assert saved["padding"] is None and saved["truncation"] is None
    plain = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert len(plain("a " * 20).input_ids) == 22
    assert plain.model_max_length == (16 if family in ROBERTA_LIKE else free_shape(family).num_positions)
    assert tokenizer.backend_tokenizer.padding is not None  # the caller's own is left alone


def test_saving_is_whole_or_not_at_all(tmp_path: Path) -> None:
    save_free(tmp_path / "model", HeadSpec("none"))
    before = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}

    class Unwritable(transformers.PreTrainedTokenizerFast):
        def save_pretrained(self, *of: object, **how: object) -> None:
            raise OSError("disk full")

    tokenizer = Unwritable(tokenizer_object=tiny_tokenizer().backend_tokenizer)
    with pytest.raises(OSError, match="disk full"):
        save_model(tmp_path / "model", free_model(HeadSpec("masked_lm")), tokenizer, provenance=PROVENANCE)
    assert {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_dtype_is_kept(tmp_path: Path) -> None:
    model = free_model(HeadSpec("none")).to(torch.bfloat16)
    save_model(tmp_path, model, tiny_tokenizer(), provenance=PROVENANCE)
    assert {tensor.dtype for tensor in load_file(tmp_path / "model.safetensors").values()} == {torch.bfloat16}
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "bfloat16"


def test_one_class_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="a single_label head must have at least 2 labels, got"):
        save_free(tmp_path / "model", HeadSpec("single_label", ("only",)))
    assert not (tmp_path / "model").exists()


def test_a_loaded_model_saved_again_is_the_same_folder(tmp_path: Path) -> None:
    first = load_model(save_tiny(tmp_path / "stock", "bert", "token"))
    save_model(tmp_path / "a", first.model, first.tokenizer, provenance=first.provenance)
    second = load_model(tmp_path / "a")
    save_model(tmp_path / "b", second.model, second.tokenizer, provenance=second.provenance)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name
