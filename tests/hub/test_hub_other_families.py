"""Families made of other things than BERT: what reordered and cut networks are stored as, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from test_hub_parity import check_same, our_outputs, their_outputs, theirs
from tiny_stock import save_tiny, tiny_batch

import cutbert.hub  # noqa: F401
from cutbert.errors import ModelError
from cutbert.hub.load import load_model
from cutbert.hub.save import loads_stock, save_model
from cutbert.model.task_model import TaskModel
from cutbert.shape.folder import read_folder_shape
from cutbert.shape.subnet import KeptLayer, Subnet
from cutbert.shape.units import Place
from cutbert.surgery.extract import extract
from cutbert.surgery.rewire import permuted


def heads_moved(model: TaskModel) -> TaskModel:
    """Put the heads of each layer in an order of its own."""
    orders = [torch.tensor([2, 0, 3, 1]), torch.tensor([1, 3, 2, 0])]
    return permuted(model, {Place("a", i): order for i, order in enumerate(orders)})


def test_reordered_heads_with_shared_biases_go_back_into_the_stock_class(tmp_path: Path) -> None:
    folder, batch = save_tiny(tmp_path / "stock", "mpnet", "single_label"), tiny_batch("mpnet")
    loaded = load_model(folder)
    moved = heads_moved(loaded.model)
    assert moved.encoder.layers[1].attention.bias_heads.tolist() == [1, 3, 2, 0]
    real = batch["attention_mask"].bool()
    expected = our_outputs(loaded.model, batch)
    check_same(our_outputs(moved, batch), expected, real)
    assert loads_stock(moved)
    save_model(tmp_path / "moved", moved, loaded.tokenizer, provenance=loaded.provenance)
    again = their_outputs(theirs(tmp_path / "moved", "mpnet", "single_label"), batch)
    for name, tensor in our_outputs(load_model(folder).model, batch).items():
        where = real if tensor.dim() == 3 else slice(None)
        torch.testing.assert_close(again[name][where], tensor[where], atol=1e-5, rtol=0)
    assert moved.encoder.layers[1].attention.bias_heads.tolist() == [1, 3, 2, 0]


def test_cut_heads_keep_their_biases(tmp_path: Path) -> None:
    loaded, batch = load_model(save_tiny(tmp_path / "stock", "mpnet", "token")), tiny_batch("mpnet")
    moved = heads_moved(loaded.model)
    whole = moved.shape.layers[0]
    kept = type(whole)(2, whole.key_dim, whole.value_dim, whole.intermediate_size)
    small = extract(moved, Subnet((KeptLayer(1, kept),), moved.shape.hidden_size))
    assert small.encoder.layers[0].attention.bias_heads.tolist() == [1, 3] and not loads_stock(small)
    save_model(tmp_path / "small", small, loaded.tokenizer, provenance=loaded.provenance)
    again = transformers.AutoModelForTokenClassification.from_pretrained(tmp_path / "small").eval()
    expected = our_outputs(small, batch)
    with torch.no_grad():
        assert torch.equal(again(**batch).logits, expected["logits"])
    assert torch.equal(our_outputs(load_model(tmp_path / "small").model, batch)["logits"], expected["logits"])


@pytest.mark.parametrize(
    ("family", "more", "message"),
    [("mpnet", {"relative_attention_num_buckets": 16}, "relative_attention_num_buckets must be 32, .* got 16")],
)
def test_what_is_refused(tmp_path: Path, family: str, more: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        read_folder_shape(save_tiny(tmp_path, family, **more))


@pytest.mark.parametrize("model_type", ["albert", "t5", "longformer", "gpt2"])
def test_other_families_are_refused_by_name(tmp_path: Path, model_type: str) -> None:
    config = transformers.CONFIG_MAPPING[model_type]()
    config.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=f"model_type must be one of bert, roberta, .*mpnet.*, got '{model_type}'"):
        read_folder_shape(tmp_path)
