"""What uniform shapes the class of each family holds: fewer layers and neurons, NomicBERT's and GTE's heads too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from test_folders_parity import check_same, our_outputs, their_outputs, theirs

from cutbert.folders.load import load_model
from cutbert.folders.save import loads_stock, save_model
from cutbert.model.task_model import TaskModel
from cutbert.shape.subnet import KeptLayer, Subnet
from cutbert.surgery.extract import extract
from tiny_stock import PREFIXES, save_tiny, tiny_batch, tiny_config

NAMES_HEAD_DIM = ("nomic_bert", "gte")


@pytest.mark.parametrize("family", PREFIXES)
def test_fewer_layers_and_neurons_load_in_the_familys_class(tmp_path: Path, family: str) -> None:
    """ModernBERT needs its first layer, whose attention alone has no LayerNorm before it; the others need none."""
    loaded, batch = load_model(save_tiny(tmp_path / "stock", family, "token")), tiny_batch(family)
    model = loaded.model
    whole, last = model.shape.layers[0], model.shape.num_layers - 1

    def kept(layers: tuple[int, ...], **sizes: int) -> TaskModel:
        layer = replace(whole, **sizes)
        return extract(model, Subnet(tuple(KeptLayer(i, layer) for i in layers), model.shape.hidden_size))

    assert loads_stock(kept((last,))) == (family != "modernbert")
    assert loads_stock(kept((0, last)))
    assert loads_stock(kept((0, last), num_heads=2)) == (family in NAMES_HEAD_DIM)
    assert not loads_stock(kept((0, last), value_dim=2))
    fewer = {"num_heads": 2} if family in NAMES_HEAD_DIM else {}
    small = kept((0, last) if family == "modernbert" else (last,), intermediate_size=7, **fewer)
    save_model(tmp_path / "small", small, loaded.tokenizer, provenance=loaded.provenance)
    expected = their_outputs(theirs(tmp_path / "small", family, "token"), batch)
    check_same(our_outputs(small, batch), expected, batch["attention_mask"].bool())
    assert load_model(tmp_path / "small").model.shape == small.shape


@pytest.mark.parametrize("family", PREFIXES)
def test_another_number_of_heads_in_a_config_only_groups_the_same_weights_otherwise(family: str) -> None:
    """So that no class holds a network that has lost heads, unless it has a `head_dim` that says so.

    MPNet's has fewer columns of biases besides.
    """
    name = "n_heads" if family == "distilbert" else "num_attention_heads"
    sizes = []
    for heads in (4, 2):
        with torch.device("meta"):
            made = getattr(transformers, f"{PREFIXES[family]}Model")(tiny_config(family, **{name: heads}))
        sizes.append({key: tuple(weight.shape) for key, weight in made.state_dict().items()})
    changed = {key for key in sizes[0] if sizes[0][key] != sizes[1][key]}
    assert changed == ({"encoder.relative_attention_bias.weight"} if family == "mpnet" else set())
