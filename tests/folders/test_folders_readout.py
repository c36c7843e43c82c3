"""What a head of whole texts reads: what files say of it, what is given, which weights it gets, where it is stored."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import cutbert
from cutbert.errors import InputError, ModelError
from cutbert.folders.load import load_model
from cutbert.folders.save import loads_stock, save_model
from cutbert.model.task_model import TaskModel
from cutbert.shape.folder import read_folder_shape
from cutbert.shape.head import HeadSpec
from cutbert.shape.pooling import PoolingChoice
from cutbert.shape.source import find_model
from tiny_free import PROVENANCE, free_model, save_free
from tiny_stock import save_tiny, tiny_batch, tiny_tokenizer

NAMES = ("name0", "name1", "name2")
HEAD = HeadSpec("single_label", NAMES)
OTHER = HeadSpec("single_label", ("x", "y"))
NEVER = "the pooler was never trained (its bias is all zero): it is new"


def write_pooling(folder: Path, **data: Any) -> None:
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(data))


def edit_config(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def untrain(folder: Path) -> None:
    """Set the pooler's bias to zero, as transformers draws it."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors["pooler.dense.bias"].zero_()
    save_file(tensors, path, metadata={"format": "pt"})


def with_mean(model: TaskModel) -> TaskModel:
    twin = TaskModel(model.shape, replace(model.style, pooling="mean"), model.head_spec)
    twin.load_state_dict(model.state_dict())
    return twin.eval()


FLAGS = {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": False, "pooling_mode_max_tokens": False}


@pytest.mark.parametrize(
    ("pooling", "config", "found", "unknown"),
    [
        (None, {}, "cls", None),
        ({**FLAGS, "pooling_mode_mean_tokens": True, "word_embedding_dimension": 24}, {}, "mean", None),
        ({**FLAGS, "pooling_mode_cls_token": True}, {"classifier_pooling": "mean"}, "cls", None),
        ({"pooling_mode": "mean"}, {}, "mean", None),
        ({"pooling_mode": "cls"}, {}, "cls", None),
        (None, {"classifier_pooling": "mean"}, "mean", None),
        (None, {"classifier_pooling": "cls"}, "cls", None),
        (None, {"classifier_pooling": "last"}, "cls", "last"),
        ({**FLAGS, "pooling_mode_max_tokens": True}, {}, "cls", "max_tokens"),
        ({**FLAGS, "pooling_mode_cls_token": True, "pooling_mode_max_tokens": True}, {}, "cls", "cls and max_tokens"),
        ({"pooling_mode": "lasttoken"}, {}, "cls", "lasttoken"),
        (FLAGS, {}, "cls", "none"),
    ],
)
def test_auto_is_what_the_files_say(
    tmp_path: Path, pooling: dict[str, Any] | None, config: dict[str, Any], found: str, unknown: str | None
) -> None:
    save_tiny(tmp_path)
    edit_config(tmp_path, **config)
    if pooling is not None:
        write_pooling(tmp_path, **pooling)
    facts = read_folder_shape(tmp_path)
    assert (facts.style_data["pooling"], facts.unknown_pooling) == (found, unknown)
    if unknown is None:
        assert load_model(tmp_path, HEAD).model.pooling == found
        return
    message = f"this model's own pooling is '{unknown}'; give --pooling cls or mean"
    with pytest.raises(ModelError, match=message):
        load_model(tmp_path, HEAD)
    for given in ("cls", "mean"):
        assert load_model(find_model(tmp_path).reading(given), HEAD).model.pooling == given
    assert load_model(tmp_path).model.head_spec.kind == "pooler"  # nothing is read that is not known


def test_a_stock_head_reads_the_first_token_whatever_else_is_said(tmp_path: Path) -> None:
    save_tiny(tmp_path, "bert", "single_label")
    edit_config(tmp_path, classifier_pooling="mean")
    write_pooling(tmp_path, pooling_mode="mean")
    assert read_folder_shape(tmp_path).style_data["pooling"] == "cls"


def test_a_pooling_file_that_is_no_object(tmp_path: Path) -> None:
    save_tiny(tmp_path)
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text("[]")
    with pytest.raises(ModelError, match=r"1_Pooling/config\.json: must be a JSON object, got list"):
        read_folder_shape(tmp_path)


# Which weights a head gets


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_a_pooler_that_was_never_trained_is_made_new(tmp_path: Path, pooling: PoolingChoice) -> None:
    untrain(save_tiny(tmp_path))
    source = find_model(tmp_path).reading(pooling)
    first, same, other = (load_model(source, HEAD, seed=seed) for seed in (1, 1, 2))
    assert NEVER in first.notes and "new, untrained: pooler.dense, classifier" in first.notes
    weights = [each.model.head.dense.weight for each in (first, same, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    stored = load_file(tmp_path / "model.safetensors")["pooler.dense.weight"]
    assert not torch.equal(weights[0], stored)
    bare = load_model(tmp_path)  # BERT's pooler as such stays what it is
    assert bare.notes == () and torch.equal(bare.model.head.dense.weight, stored)


def test_a_pooler_of_the_first_token_is_no_use_for_a_mean(tmp_path: Path) -> None:
    save_tiny(tmp_path)
    loaded = load_model(find_model(tmp_path).reading("mean"), HEAD)
    assert "the checkpoint's pooler.dense reads the first token, not the mean over tokens: it is new" in loaded.notes
    stored = load_file(tmp_path / "model.safetensors")["pooler.dense.weight"]
    assert not torch.equal(loaded.model.head.dense.weight, stored)
    assert torch.equal(load_model(tmp_path, HEAD).model.head.dense.weight, stored)


def test_a_head_that_fits_stays_where_it_reads_the_same(tmp_path: Path) -> None:
    save_model(tmp_path, with_mean(free_model(HEAD)), tiny_tokenizer(), provenance=PROVENANCE)
    own = load_model(tmp_path, HEAD)
    assert own.model.pooling == "mean" and own.notes == () and not own.has_new_head
    assert load_model(find_model(tmp_path).reading("mean"), HEAD).notes == ()
    other = load_model(find_model(tmp_path).reading("cls"), HEAD)
    assert other.has_new_head and other.model.pooling == "cls"
    assert other.notes[0] == "the checkpoint's head reads the mean over tokens, not the first token"
    assert not torch.equal(other.model.head.dense.weight, own.model.head.dense.weight)


def test_the_dense_layer_of_a_trained_mean_goes_into_another_mean(tmp_path: Path) -> None:
    ours = with_mean(free_model(HEAD))
    save_model(tmp_path, ours, tiny_tokenizer(), provenance=PROVENANCE)
    loaded = load_model(tmp_path, OTHER)
    assert loaded.model.pooling == "mean" and torch.equal(loaded.model.head.dense.weight, ours.head.dense.weight)


# Where it is stored


def test_mean_comes_back_through_the_auto_class(tmp_path: Path) -> None:
    ours = with_mean(load_model(save_tiny(tmp_path / "stock", "bert", "single_label")).model)
    assert not loads_stock(ours) and ours.shape.is_stock
    save_model(tmp_path / "ours", ours, tiny_tokenizer(), provenance=PROVENANCE)
    assert json.loads((tmp_path / "ours" / "config.json").read_text())["model_type"] == "cutbert"
    batch = tiny_batch("bert")
    wanted = ours(**batch).logits
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "ours").eval()
    torch.testing.assert_close(theirs(**batch).logits, wanted)
    theirs.save_pretrained(tmp_path / "again")
    tiny_tokenizer().save_pretrained(tmp_path / "again")
    torch.testing.assert_close(load_model(tmp_path / "again").model(**batch).logits, wanted)
    assert "import cutbert.hub" in (tmp_path / "ours" / "README.md").read_text()


@pytest.mark.parametrize("kind", ["pooler", "none", "masked_lm", "span"])
def test_other_heads_stay_stock_and_hand_the_pooling_on(tmp_path: Path, kind: str) -> None:
    base = load_model(save_tiny(tmp_path / "stock")).model
    ours = TaskModel(base.shape, replace(base.style, pooling="mean"), HeadSpec(kind))
    assert loads_stock(ours)
    save_model(tmp_path / "ours", ours, tiny_tokenizer(), provenance=PROVENANCE)
    assert json.loads((tmp_path / "ours" / "config.json").read_text())["model_type"] == "bert"
    assert load_model(tmp_path / "ours").model.style == ours.style
    assert load_model(tmp_path / "ours", HEAD).model.pooling == "mean"


def test_mean_is_not_exported_as_stock(tmp_path: Path) -> None:
    ours = with_mean(load_model(save_tiny(tmp_path / "stock", "bert", "single_label")).model)
    save_model(tmp_path / "ours", ours, tiny_tokenizer(), provenance=PROVENANCE)
    with pytest.raises(InputError, match=r"--stock needs a head that reads the first token, .* --pooling cls"):
        cutbert.export(tmp_path / "ours", stock=True, out=tmp_path / "out", threads=1)
    save_free(tmp_path / "free", HEAD)
    with pytest.raises(InputError, match="--stock needs a shape that plain transformers holds, and this one is free"):
        cutbert.export(tmp_path / "free", stock=True, out=tmp_path / "out", threads=1)
    assert not (tmp_path / "out").exists()
