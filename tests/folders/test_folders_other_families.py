"""Families made of other things than BERT: what reordered and cut networks are stored as, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from test_folders_parity import check_same, our_outputs, their_outputs, theirs

import cutbert.hub  # noqa: F401
from cutbert.errors import ModelError, ShapeError
from cutbert.folders.load import load_model
from cutbert.folders.save import loads_stock, save_model
from cutbert.model.task_model import TaskModel
from cutbert.shape.folder import read_folder_shape
from cutbert.shape.head import HeadSpec
from cutbert.shape.source import find_model
from cutbert.shape.subnet import KeptLayer, Subnet
from cutbert.shape.units import Place, sizes_of
from cutbert.surgery.extract import extract, with_layers
from cutbert.surgery.rewire import permuted
from tiny_stock import save_tiny, tiny_batch


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


def check_there_and_back(folder: Path, family: str, kind: str, more: dict[str, Any]) -> None:
    """Compare a stock model with ours, and with itself when we have read and written it."""
    stock, batch = save_tiny(folder / "stock", family, kind, **more), tiny_batch(family)
    loaded = load_model(stock)
    assert loaded.notes == ()
    expected = their_outputs(theirs(stock, family, kind), batch)
    check_same(our_outputs(loaded.model, batch), expected, batch["attention_mask"].bool())
    assert loads_stock(loaded.model)
    save_model(folder / "again", loaded.model, loaded.tokenizer, provenance=loaded.provenance)
    again = their_outputs(theirs(folder / "again", family, kind), batch)
    assert all(torch.equal(again[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize(
    "more",
    [
        {"classifier_pooling": "mean"},
        {"attention_bias": True, "mlp_bias": True, "norm_bias": True, "classifier_bias": True},
        {"local_attention": 5, "global_attn_every_n_layers": 1},
        {"classifier_activation": "relu", "hidden_activation": "silu"},
        {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 77.0}}},
        {
            "position_embedding_type": "sans_pos"
        },  # as in the files of Ettin and mmBERT; the family's class reads no such key
    ],
    ids=lambda more: next(iter(more)),
)
@pytest.mark.parametrize("kind", ["single_label", "masked_lm"])
def test_every_kind_of_modernbert(tmp_path: Path, kind: str, more: dict[str, Any]) -> None:
    check_there_and_back(tmp_path, "modernbert", kind, more)


def test_a_global_layer_stays_global(tmp_path: Path) -> None:
    """The first layers are a stock model whose layers keep their kinds; without the first layer it is a free one."""
    loaded, batch = load_model(save_tiny(tmp_path / "stock", "modernbert", "token")), tiny_batch("modernbert")
    real = batch["attention_mask"].bool()
    for layers, is_stock in (((0, 1), True), ((0, 2), True), ((1, 2), False)):
        small, folder = with_layers(loaded.model, layers), tmp_path / "-".join(map(str, layers))
        assert small.shape.ingredients.is_local(1) == (layers[1] == 1) and loads_stock(small) == is_stock
        save_model(folder, small, loaded.tokenizer, provenance=loaded.provenance)
        expected = our_outputs(small, batch)
        assert torch.equal(our_outputs(load_model(folder).model, batch)["logits"], expected["logits"])
        if is_stock:
            check_same(expected, their_outputs(theirs(folder, "modernbert", "token"), batch), real)
        else:
            again = transformers.AutoModelForTokenClassification.from_pretrained(folder).eval()
            with torch.no_grad():
                assert torch.equal(again(**batch).logits, expected["logits"])


def test_the_prediction_head_of_a_masked_lm_is_kept_for_a_task(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path, "modernbert", "masked_lm", classifier_pooling="mean")
    loaded = load_model(folder, HeadSpec("single_label", ("a", "b")))
    assert loaded.notes == (
        "the checkpoint's head is masked_lm, not single_label (a, b)",
        "new, untrained: classifier",
        "left out: decoder",
    )
    assert loaded.model.pooling == "mean"
    stock = theirs(folder, "modernbert", "masked_lm")
    assert torch.equal(loaded.model.head.norm.weight, stock.head.norm.weight)


def test_a_head_that_read_the_first_token_is_new_for_the_mean(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path, "modernbert", "single_label")
    loaded = load_model(find_model(folder).reading("mean"), HeadSpec("single_label", ("name0", "name1", "name2")))
    assert loaded.notes == (
        "the checkpoint's head reads the first token, not the mean over tokens",
        "the checkpoint's head.dense reads the first token, not the mean over tokens: it is new",
        "new, untrained: head.dense, head.norm, classifier",
        "left out: classifier",
    )


def test_rotary_keys_cannot_be_cut_apart(tmp_path: Path) -> None:
    model = load_model(save_tiny(tmp_path, "modernbert")).model
    whole = model.shape.layers[0]
    message = "key_dim of layer 0 must stay 6: rotary positions turn dimensions j and j \\+ 3 .* got 4"
    with pytest.raises(ShapeError, match=message):
        extract(model, Subnet((KeptLayer(0, replace(whole, key_dim=4)),), model.shape.hidden_size))
    with pytest.raises(ShapeError, match="key_dim must stay 6"):
        model(torch.tensor([[2, 5, 3]]), subnet=Subnet((KeptLayer(0, replace(whole, key_dim=4)),), 24))
    target = replace(model.shape, layers=(replace(whole, key_dim=4), *model.shape.layers[1:]))
    with pytest.raises(ShapeError, match=message):
        sizes_of(model.shape, target, "a target")


@pytest.mark.parametrize(
    "more",
    [
        {"position_biased_input": True, "norm_rel_ebd": "none"},
        {"type_vocab_size": 2, "pooler_hidden_act": "tanh", "hidden_act": "relu"},
        {"max_relative_positions": 11, "position_buckets": 4},
    ],
    ids=lambda more: next(iter(more)),
)
@pytest.mark.parametrize("kind", ["single_label", "masked_lm"])
def test_every_kind_of_deberta(tmp_path: Path, kind: str, more: dict[str, Any]) -> None:
    check_there_and_back(tmp_path, "deberta-v2", kind, more)


@pytest.mark.parametrize(
    "more",
    [{"rope_parameters": {"rope_type": "default", "rope_theta": 77.0}}, {"hidden_act": "gelu", "type_vocab_size": 3}],
    ids=lambda more: next(iter(more)),
)
def test_every_kind_of_nomic_bert(tmp_path: Path, more: dict[str, Any]) -> None:
    check_there_and_back(tmp_path, "nomic_bert", "single_label", more)


def test_nomic_bert_by_the_names_of_its_class(tmp_path: Path) -> None:
    """Its files have other names, and queries, keys and values in one matrix; its state dict can be stored too."""
    expected = load_model(save_tiny(tmp_path / "stock", "nomic_bert", "token")).model
    model = theirs(tmp_path / "stock", "nomic_bert", "token")
    model.save_pretrained(tmp_path / "stock", save_original_format=False)
    assert "nomic_bert.layers.0.self_attn.q_proj.weight" in load_file(tmp_path / "stock/model.safetensors")
    loaded = load_model(tmp_path / "stock")
    assert loaded.notes == ()
    for name, tensor in expected.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], tensor), name


FIRST_RELEASE = {  # config.json of nomic-embed-text-v1.5, as it was before it had the names of transformers' class too
    "activation_function": "swiglu",
    "architectures": ["NomicBertModel"],
    "attn_pdrop": 0.0,
    "auto_map": {"AutoModel": "nomic-ai/nomic-bert-2048--modeling_hf_nomic_bert.NomicBertModel"},
    "causal": False,
    "embd_pdrop": 0.0,
    "initializer_range": 0.02,
    "layer_norm_epsilon": 1e-12,
    "max_trained_positions": 2048,
    "mlp_fc1_bias": False,
    "mlp_fc2_bias": False,
    "model_type": "nomic_bert",
    "n_embd": 768,
    "n_head": 12,
    "n_inner": 3072,
    "n_layer": 12,
    "n_positions": 8192,
    "pad_vocab_size_multiple": 64,
    "parallel_block": False,
    "prenorm": False,
    "qkv_proj_bias": False,
    "resid_pdrop": 0.0,
    "rotary_emb_base": 1000,
    "rotary_emb_fraction": 1.0,
    "rotary_emb_interleaved": False,
    "rotary_emb_scale_base": None,
    "rotary_scaling_factor": None,
    "scale_attn_by_inverse_layer_idx": False,
    "scale_attn_weights": True,
    "type_vocab_size": 2,
    "use_rms_norm": False,
    "vocab_size": 30528,
}


def test_the_config_of_nomic_berts_first_release_as_its_class_reads_it(tmp_path: Path) -> None:
    """transformers finds none of its sizes by their old names, and has these as defaults."""
    (tmp_path / "config.json").write_text(json.dumps(FIRST_RELEASE))
    facts, other = read_folder_shape(tmp_path), transformers.AutoConfig.from_pretrained(tmp_path)
    assert type(other) is transformers.NomicBertConfig
    (tmp_path / "config.json").write_text(json.dumps(other.to_dict()))
    assert read_folder_shape(tmp_path) == facts
    assert facts.max_tokens == other.max_position_embeddings
    (tmp_path / "config.json").write_text(json.dumps(FIRST_RELEASE | {"rotary_scaling_factor": 2}))  # beyond 2048 alone
    assert read_folder_shape(tmp_path) == facts


def test_nomic_bert_by_the_names_of_its_first_release(tmp_path: Path) -> None:
    rotary = {"rope_type": "default", "rope_theta": 77.0}
    folder, batch = (
        save_tiny(tmp_path / "stock", "nomic_bert", "token", rope_parameters=rotary),
        tiny_batch("nomic_bert"),
    )
    expected = their_outputs(theirs(folder, "nomic_bert", "token"), batch)
    sizes = {"n_embd": 24, "n_head": 4, "n_layer": 2, "n_inner": 20, "vocab_size": 29, "max_trained_positions": 16}
    more = {"rotary_emb_base": 77, "layer_norm_epsilon": 1e-5, "resid_pdrop": 0.3, "attn_pdrop": 0.2}
    config = json.loads((folder / "config.json").read_text())
    kept = {key: config[key] for key in ("id2label", "label2id", "architectures")}
    (folder / "config.json").write_text(json.dumps(FIRST_RELEASE | sizes | more | kept))
    loaded = load_model(folder)
    assert (
        loaded.notes == () and loaded.model.style.hidden_dropout == 0.3 and loaded.model.style.attention_dropout == 0.2
    )
    check_same(our_outputs(loaded.model, batch), expected, batch["attention_mask"].bool())
    save_model(tmp_path / "again", loaded.model, loaded.tokenizer, provenance=loaded.provenance)
    again = their_outputs(theirs(tmp_path / "again", "nomic_bert", "token"), batch)
    assert all(torch.equal(again[name], tensor) for name, tensor in expected.items())


def test_heads_that_nomic_bert_lacks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="the head of a nomic_bert must not be a span: the family has none"):
        load_model(save_tiny(tmp_path, "nomic_bert"), HeadSpec("span"))


def test_what_the_hub_has_of_gte(tmp_path: Path) -> None:
    """arctic-embed-m-v2.0 names code of its own, and its base as older configs do; names of weights began with new."""
    folder, batch = (
        save_tiny(tmp_path, "gte", rope_parameters={"rope_type": "default", "rope_theta": 77.0}),
        tiny_batch("gte"),
    )
    expected = their_outputs(theirs(folder, "gte", "base"), batch)
    config = json.loads((folder / "config.json").read_text())
    more = {"auto_map": {"AutoModel": "modeling_hf_alibaba_nlp_gte.GteModel"}, "position_embedding_type": "rope"}
    more |= {"layer_norm_type": "layer_norm", "logn_attention_scale": False, "rope_scaling": None, "rope_theta": 77}
    kept = {key: value for key, value in config.items() if key != "rope_parameters"}
    (folder / "config.json").write_text(json.dumps(kept | more))
    tensors = {f"new.{name}": tensor for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(tensors, folder / "model.safetensors")
    loaded = load_model(folder)
    assert loaded.notes == ()
    check_same(our_outputs(loaded.model, batch), expected, batch["attention_mask"].bool())


@pytest.mark.parametrize(
    "more", [{"type_vocab_size": 0}, {"head_dim": 4, "hidden_act": "silu"}], ids=lambda more: next(iter(more))
)
@pytest.mark.parametrize("kind", ["single_label", "masked_lm"])
def test_every_kind_of_gte(tmp_path: Path, kind: str, more: dict[str, Any]) -> None:
    if kind == "masked_lm" and "hidden_act" in more:
        more = {"head_dim": 4}  # the head of its class has GELU
    check_there_and_back(tmp_path, "gte", kind, more)


def test_what_the_hub_has_of_deberta_v3(tmp_path: Path) -> None:
    """It names no class, and has the heads of its pre-training and a table of positions that no network reads."""
    folder = save_tiny(tmp_path, "deberta-v2")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if k != "architectures"}))
    tensors = {f"deberta.{name}": tensor for name, tensor in load_file(folder / "model.safetensors").items()}
    extra = ("lm_predictions.lm_head.dense.weight", "mask_predictions.dense.bias")
    extra += ("deberta.embeddings.position_embeddings.weight",)
    save_file(tensors | {name: torch.ones(24) for name in extra}, folder / "model.safetensors")
    loaded = load_model(folder)
    assert loaded.model.head_spec == HeadSpec("none")
    left = "embeddings.position_embeddings, lm_predictions.lm_head.dense, mask_predictions.dense"
    assert loaded.notes == (f"left out: {left}",)


def edited(folder: Path, **more: object) -> Path:
    """Write other values into a config, which transformers itself would refuse."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | more))
    return folder


@pytest.mark.parametrize(
    ("family", "more", "message"),
    [
        ("mpnet", {"relative_attention_num_buckets": 16}, "relative_attention_num_buckets must be 32, .* got 16"),
        (
            "modernbert",
            {"rope_parameters": {"sliding_attention": {"rope_type": "yarn", "rope_theta": 5.0, "factor": 2.0}}},
            "rope_type of sliding_attention must be 'default', got 'yarn'",
        ),
        (
            "modernbert",
            {"rope_parameters": {"full_attention": {"rope_theta": -1}}},
            "rope_theta of full_attention must",
        ),
        ("modernbert", {"layer_types": ["full_attention", "chunked"]}, "layer_types must be 3 of full_attention and"),
        ("modernbert", {"classifier_pooling": "max"}, "classifier_pooling must be one of cls, mean, got 'max'"),
        ("modernbert", {"local_attention": 1}, "local_attention must be an integer of at least 2, got 1"),
        ("modernbert", {"mlp_bias": "no"}, "has_feed_forward_bias must be true or false, got 'no'"),
        ("deberta-v2", {"share_att_key": False}, "share_att_key must be True, as in DeBERTa-v3, got False"),
        ("deberta-v2", {"relative_attention": False}, "relative_attention must be True, as in DeBERTa-v3, got False"),
        ("deberta-v2", {"pos_att_type": "c2p"}, r"pos_att_type must be \['c2p', 'p2c'\], .* got \['c2p'\]"),
        ("deberta-v2", {"conv_kernel_size": 3}, "conv_kernel_size must be 0, as in DeBERTa-v3, got 3"),
        ("deberta-v2", {"embedding_size": 12}, "embedding_size must be 24, as in DeBERTa-v3, got 12"),
        ("deberta-v2", {"position_buckets": -1}, "position_buckets must be an integer of at least 2, got -1"),
        ("deberta-v2", {"norm_rel_ebd": "batch"}, "norm_rel_ebd must be 'layer_norm' or 'none', got 'batch'"),
        ("deberta-v2", {"max_relative_positions": "all"}, "max_relative_positions must be an integer, got 'all'"),
        ("modernbert", {"rope_parameters": [1]}, r"rope_parameters must be an object, got \[1\]"),
        ("nomic_bert", {"head_dim": "6"}, "head_dim must be an integer of at least 1, got '6'"),
        ("nomic_bert", {"head_dim": 5}, r"key_dim must be even with rotary positions, got \[5, 5\]"),
        (
            "nomic_bert",
            {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 5.0, "factor": 2.0}},
            "rope_type must be 'default', got 'dynamic'",
        ),
        ("nomic_bert", {"rope_parameters": None, "rope_theta": 0}, "rope_theta must be a number above 0, got 0"),
        (
            "nomic_bert",
            {"prenorm": True},
            "prenorm must be False, the only one that transformers' code supports, got True",
        ),
        ("nomic_bert", {"qkv_proj_bias": True}, "qkv_proj_bias must be False, .* got True"),
        ("nomic_bert", {"rotary_emb_fraction": 0.5}, "rotary_emb_fraction must be 1.0, .* got 0.5"),
        ("nomic_bert", {"rotary_emb_scale_base": 512}, "rotary_emb_scale_base must be None, .* got 512"),
        ("nomic_bert", {"n_embd": 48}, "hidden_size and n_embd must say the same, got 24 and 48"),
        (
            "nomic_bert",
            {"rope_parameters": {"rope_theta": 5.0}, "rotary_emb_base": 7},
            "rope_theta and rotary_emb_base must say the same, got 5.0 and 7",
        ),
        (
            "nomic_bert",
            {"activation_function": "gelu"},
            "activation_function must be one of swiglu, geglu, glu, got 'gelu'",
        ),
        (
            "nomic_bert",
            {"activation_function": "geglu"},
            "hidden_act and activation_function must say the same, got 'silu'",
        ),
        (
            "nomic_bert",
            {"max_position_embeddings": 8192, "rotary_scaling_factor": 2},
            r"rotary_scaling_factor must be null with more positions than .* \(8192 and 2048\), got 2",
        ),
        ("gte", {"layer_norm_type": "rms_norm"}, "layer_norm_type must be 'layer_norm', .* got 'rms_norm'"),
        ("gte", {"logn_attention_scale": True}, "logn_attention_scale must be False, .* got True"),
        (
            "gte",
            {"rope_scaling": {"type": "ntk", "factor": 2.0}},
            "rope_type must be 'default', got 'ntk'",
        ),
        ("modernbert", {"hidden_size": 12}, "key_dim must be even with rotary positions, got \\[3, 3, 3\\]"),
    ],
)
def test_what_is_refused(tmp_path: Path, family: str, more: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        read_folder_shape(edited(save_tiny(tmp_path, family), **more))


@pytest.mark.parametrize("model_type", ["albert", "t5", "longformer", "gpt2"])
def test_other_families_are_refused_by_name(tmp_path: Path, model_type: str) -> None:
    config = transformers.CONFIG_MAPPING[model_type]()
    config.save_pretrained(tmp_path)
    taken = "bert, roberta, .*mpnet, modernbert, nomic_bert, gte, deberta-v2, cutbert"
    with pytest.raises(ModelError, match=f"model_type must be one of {taken}, got '{model_type}'"):
        read_folder_shape(tmp_path)


@pytest.mark.parametrize(
    ("model_type", "reason"),
    [("eurobert", "which has RMSNorm, and keys that several heads share"), ("new", "the code of GTE's first release")],
)
def test_others_are_refused_with_their_reason(tmp_path: Path, model_type: str, reason: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    with pytest.raises(ModelError, match=f"got '{model_type}', {reason}"):
        read_folder_shape(tmp_path)
