"""Loading: which heads are kept, what is translated, what is left out with a note, what is refused."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from cutbert.errors import ModelError
from cutbert.folders.load import load_model
from cutbert.shape.head import HeadSpec
from tiny_free import save_free
from tiny_stock import PREFIXES, save_tiny, tiny_batch, tiny_config, tiny_tokenizer

NAMES = ("name0", "name1", "name2")
Tensors = dict[str, torch.Tensor]


def edit_config(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def edit_weights(folder: Path, change: Callable[[Tensors], Tensors]) -> None:
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path, metadata={"format": "pt"})


def without(*names: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {name: tensor for name, tensor in tensors.items() if name not in names}


def logits(folder: Path, head: HeadSpec | None = None) -> torch.Tensor:
    with torch.no_grad():
        found = load_model(folder, head).model(**tiny_batch("bert")).logits
    assert found is not None
    return found


# Heads


def test_own_head_and_labels_are_kept(tmp_path: Path) -> None:
    assert load_model(save_tiny(tmp_path / "a", "bert", "multi_label")).model.head_spec == HeadSpec(
        "multi_label", NAMES
    )
    bare = load_model(save_tiny(tmp_path / "b", "electra")).model
    assert bare.head_spec == HeadSpec("none") and bare.head is None


@pytest.mark.parametrize("family", PREFIXES)
def test_outputs_are_reordered_to_the_wanted_labels(tmp_path: Path, family: str) -> None:
    save_tiny(tmp_path, family, "single_label")
    own = load_model(tmp_path)
    wanted = load_model(tmp_path, HeadSpec("single_label", ("NAME2", "name0", "Name1")))
    assert wanted.notes == ("outputs reordered to NAME2, name0, Name1",) and not wanted.has_new_head
    assert wanted.model.head_spec.labels == ("NAME2", "name0", "Name1")
    batch = tiny_batch(family)
    assert torch.allclose(wanted.model(**batch).logits, own.model(**batch).logits[:, [2, 0, 1]], atol=1e-6)


def test_names_that_differ_only_in_case_are_told_apart(tmp_path: Path) -> None:
    save_tiny(tmp_path, "bert", "single_label", id2label={0: "a", 1: "A", 2: "b"}, label2id={"a": 0, "A": 1, "b": 2})
    swapped = load_model(tmp_path, HeadSpec("single_label", ("A", "b", "a")))
    assert any("new, untrained: classifier" in note for note in swapped.notes)
    assert load_model(tmp_path, HeadSpec("single_label", ("a", "A", "b"))).notes == ()


def test_labels_without_names_are_taken_in_order(tmp_path: Path) -> None:
    labels = {i: f"LABEL_{i}" for i in range(3)}
    save_tiny(tmp_path, "bert", "single_label", id2label=labels, label2id={name: i for i, name in labels.items()})
    wanted = load_model(tmp_path, HeadSpec("single_label", ("x", "y", "z")))
    assert wanted.notes == ("the checkpoint's labels have no names; taken in order as x, y, z",)
    assert torch.equal(logits(tmp_path, HeadSpec("single_label", ("x", "y", "z"))), logits(tmp_path))


def test_regression_and_spans_need_no_names(tmp_path: Path) -> None:
    save_tiny(tmp_path / "score", "bert", "regression")
    score = load_model(tmp_path / "score", HeadSpec("regression", ("score",)))
    assert score.notes == () and score.model.head_spec.labels == ("score",)
    assert load_model(save_tiny(tmp_path / "span", "bert", "span"), HeadSpec("span")).notes == ()


def test_other_labels_make_a_new_seeded_output_on_the_old_dense_layer(tmp_path: Path) -> None:
    save_tiny(tmp_path, "bert", "single_label")
    state = torch.random.get_rng_state()
    first = load_model(tmp_path, HeadSpec("single_label", ("x", "y")), seed=1)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert first.notes == (
        "the checkpoint's head is single_label (name0, name1, name2), not single_label (x, y)",
        "new, untrained: classifier",
        "left out: classifier",
    )
    again = load_model(tmp_path, HeadSpec("single_label", ("x", "y")), seed=1)
    other = load_model(tmp_path, HeadSpec("single_label", ("x", "y")), seed=2)
    assert torch.equal(first.model.head.out.weight, again.model.head.out.weight)
    assert not torch.equal(first.model.head.out.weight, other.model.head.out.weight)
    stored = load_file(tmp_path / "model.safetensors")
    assert torch.equal(first.model.head.dense.weight, stored["bert.pooler.dense.weight"])


@pytest.mark.parametrize(
    ("family", "kind", "wanted", "left_out"),
    [
        ("bert", "base", HeadSpec("token", NAMES), "pooler.dense"),
        ("bert", "token", HeadSpec("single_label", ("x", "y", "z", "u", "v")), "classifier"),
        ("bert", "masked_lm", HeadSpec("span"), "cls.predictions, cls.predictions.transform.LayerNorm"),
        ("roberta", "base", HeadSpec("single_label", NAMES), "pooler.dense"),
        ("roberta", "single_label", HeadSpec("masked_lm"), "classifier.dense, classifier.out_proj"),
        ("electra", "masked_lm", HeadSpec("none"), "generator_lm_head"),
        ("distilbert", "span", HeadSpec("none"), "qa_outputs"),
    ],
)
def test_a_head_of_another_kind_is_left_out(
    tmp_path: Path, family: str, kind: str, wanted: HeadSpec, left_out: str
) -> None:
    loaded = load_model(save_tiny(tmp_path, family, kind), wanted)
    assert f"left out: {left_out}" in loaded.notes[-1]
    assert loaded.model.head_spec == wanted
    assert any("new, untrained" in note for note in loaded.notes) == loaded.has_new_head == (wanted.kind != "none")


def test_a_pooler_becomes_the_dense_layer_of_a_new_head(tmp_path: Path) -> None:
    loaded = load_model(save_tiny(tmp_path, "bert"), HeadSpec("single_label", NAMES))
    assert loaded.notes == (
        "the checkpoint's head is pooler, not single_label (name0, name1, name2)",
        "new, untrained: classifier",
    )
    assert torch.equal(loaded.model.head.dense.bias, load_file(tmp_path / "model.safetensors")["pooler.dense.bias"])


def test_pretraining_checkpoints(tmp_path: Path) -> None:
    bert, electra = tmp_path / "bert", tmp_path / "electra"
    transformers.BertForPreTraining(tiny_config("bert")).save_pretrained(bert)
    tiny_tokenizer("bert").save_pretrained(bert)
    loaded = load_model(bert)
    assert loaded.model.head_spec == HeadSpec("masked_lm")
    assert loaded.notes == ("left out: cls.seq_relationship, pooler.dense",)
    transformers.ElectraForPreTraining(tiny_config("electra")).save_pretrained(electra)
    tiny_tokenizer("electra").save_pretrained(electra)
    loaded = load_model(electra)
    assert loaded.model.head_spec == HeadSpec("none")
    assert loaded.notes == ("left out: discriminator_predictions.dense, discriminator_predictions.dense_prediction",)


def test_a_pooler_that_was_not_saved_is_no_head(tmp_path: Path) -> None:
    save_tiny(tmp_path, "bert")
    edit_weights(tmp_path, without("pooler.dense.weight", "pooler.dense.bias"))
    assert load_model(tmp_path).model.head_spec == HeadSpec("none")


def test_a_head_that_was_not_saved_is_new(tmp_path: Path) -> None:
    save_tiny(tmp_path, "roberta", "token")
    edit_weights(tmp_path, without("classifier.weight", "classifier.bias"))
    loaded = load_model(tmp_path)
    assert loaded.notes == ("new, untrained: classifier",) and loaded.has_new_head


def test_free_folders_keep_or_change_their_head(tmp_path: Path) -> None:
    ours = save_free(tmp_path, HeadSpec("single_label", NAMES))
    same = load_model(tmp_path, HeadSpec("single_label", NAMES[::-1]))
    assert torch.equal(same.model.head.out.weight, ours.head.out.weight.flip(0))
    other = load_model(tmp_path, HeadSpec("masked_lm"))
    assert other.notes[0].startswith("new, untrained: cls.predictions")
    assert other.notes[1] == "left out: classifier, pooler.dense"
    assert other.provenance["commands"] == ["cutbert pick"]


# Formats and old names


def test_run_folder_means_its_model(tmp_path: Path) -> None:
    save_tiny(tmp_path / "run" / "model")
    (tmp_path / "run" / "run.json").write_text("{}")
    assert load_model(tmp_path / "run").model.head_spec == HeadSpec("pooler")


def test_old_names_and_buffers(tmp_path: Path) -> None:
    save_tiny(tmp_path, "bert", "single_label")
    expected = logits(tmp_path)

    def age(tensors: Tensors) -> Tensors:
        def old(name: str) -> str:
            return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")

        buffers = {"bert.embeddings.position_ids": torch.arange(16), "bert.embeddings.token_type_ids": torch.zeros(16)}
        return {old(name): tensor for name, tensor in tensors.items()} | buffers

    edit_weights(tmp_path, age)
    assert load_model(tmp_path).notes == ()
    assert torch.equal(logits(tmp_path), expected)


def test_pickled_weights_with_a_stored_decoder(tmp_path: Path) -> None:
    save_tiny(tmp_path, "bert", "masked_lm")
    expected = logits(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["cls.predictions.decoder.weight"] = tensors["bert.embeddings.word_embeddings.weight"]
    tensors["cls.predictions.decoder.bias"] = tensors.pop("cls.predictions.bias")
    (tmp_path / "model.safetensors").unlink()
    torch.save(tensors, tmp_path / "pytorch_model.bin")
    loaded = load_model(tmp_path)
    assert loaded.notes == () and list(loaded.provenance["base_sha256"]) == ["pytorch_model.bin"]
    assert torch.equal(logits(tmp_path), expected)


def test_shards(tmp_path: Path) -> None:
    save_tiny(tmp_path, "bert", "single_label")
    expected = logits(tmp_path)
    stock = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    stock.save_pretrained(tmp_path, max_shard_size="8KB")
    assert (tmp_path / "model.safetensors.index.json").is_file()
    assert torch.equal(logits(tmp_path), expected)
    shard = next(tmp_path.glob("model-00002*"))
    shard.unlink()
    with pytest.raises(ModelError, match=f"names {shard.name}, which is not beside it"):
        load_model(tmp_path)


def test_half_precision_is_widened(tmp_path: Path) -> None:
    save_tiny(tmp_path)
    edit_weights(tmp_path, lambda tensors: {name: tensor.half() for name, tensor in tensors.items()})
    assert {tensor.dtype for tensor in load_model(tmp_path).model.parameters()} == {torch.float32}


# What is refused


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"model_type": "gpt2"},
            "must be one of bert, roberta, xlm-roberta, camembert, electra, distilbert",
        ),
        (
            {"position_embedding_type": "relative_key"},
            "position_embedding_type must be 'absolute', .* got 'relative_key'",
        ),
        ({"is_decoder": True}, "must be an encoder, got is_decoder"),
        ({"add_cross_attention": True}, "must be an encoder, got is_decoder or add_cross_attention"),
        ({"auto_map": {"AutoModel": "own.Model"}}, "must not need code from the model's own repository"),
        ({"architectures": ["BertForMultipleChoice"]}, "architectures must name Bert followed by one of"),
        ({"hidden_size": 28}, "must have the shape"),
        ({"num_hidden_layers": 3}, "weights must have encoder.layer.2.attention.self.query.weight, got none"),
        ({"num_hidden_layers": 1}, "weights must be of a bert, got encoder.layer.1.attention.output.LayerNorm.bias"),
        ({"hidden_act": "swoosh"}, "activation must be one of"),
        (
            {"vocab_size": 2**24, "intermediate_size": 2**20},
            r"weights must be of the sizes that config\.json gives, [0-9,]+ parameters without a head, got [0-9,]+",
        ),
    ],
)
def test_configs_that_are_refused(tmp_path: Path, values: dict[str, Any], message: str) -> None:
    save_tiny(tmp_path)
    edit_config(tmp_path, **values)
    with pytest.raises(ModelError, match=message):
        load_model(tmp_path)


def test_all_wrong_weights_are_named_together(tmp_path: Path) -> None:
    save_tiny(tmp_path)

    def spoil(tensors: Tensors) -> Tensors:
        tensors["encoder.gadget.weight"] = torch.zeros(1)
        del tensors["embeddings.LayerNorm.bias"]
        tensors["pooler.dense.bias"] = torch.zeros(3)
        return tensors

    edit_weights(tmp_path, spoil)
    with pytest.raises(ModelError) as caught:
        load_model(tmp_path)
    assert caught.value.mistakes == (
        "weights must have embeddings.LayerNorm.bias, got none",
        "pooler.dense.bias must have the shape (24,), got (3,)",
        "weights must be of a bert, got encoder.gadget.weight, which is not one",
    )


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    save_tiny(tmp_path)
    edit_weights(tmp_path, lambda tensors: tensors | {"pooler.dense.bias": torch.full((24,), torch.nan)})
    with pytest.raises(ModelError, match=r"pooler\.dense\.bias must have finite numbers only, got infinity or NaN"):
        load_model(tmp_path)


def test_weights_have_names(tmp_path: Path) -> None:
    save_tiny(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save({3: torch.zeros(1)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"pytorch_model\.bin: must hold tensors by name and nothing else"):
        load_model(tmp_path)


def test_weights_of_a_free_folder_are_checked_too(tmp_path: Path) -> None:
    save_free(tmp_path, HeadSpec("none"))
    edit_weights(tmp_path, lambda tensors: tensors | {"model.encoder.gadget.weight": torch.zeros(1)})
    with pytest.raises(ModelError, match=r"weights must be of a bert, got model\.encoder\.gadget\.weight"):
        load_model(tmp_path)


def test_an_untied_decoder_is_refused(tmp_path: Path) -> None:
    save_tiny(tmp_path, "bert", "masked_lm")
    edit_weights(tmp_path, lambda tensors: tensors | {"cls.predictions.decoder.weight": torch.zeros(29, 24)})
    with pytest.raises(ModelError, match="must be tied to the token table"):
        load_model(tmp_path)


def test_heads_a_family_does_not_have(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="the head of a distilbert must not be a pooler"):
        load_model(save_tiny(tmp_path / "a", "distilbert"), HeadSpec("pooler"))
    with pytest.raises(ModelError, match="activation of a roberta with a masked_lm head must be 'gelu'"):
        load_model(save_tiny(tmp_path / "b", "roberta", "masked_lm", hidden_act="relu"))


def test_broken_and_missing_weights(tmp_path: Path) -> None:
    save_tiny(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"no tensors")
    with pytest.raises(ModelError, match="weights cannot be read"):
        load_model(tmp_path)
    path.unlink()
    with pytest.raises(ModelError, match="must hold weights"):
        load_model(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(ModelError, match="must have an object 'weight_map'"):
        load_model(tmp_path)


class Shell:
    """Runs something when unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("never printed",))


def test_pickles_that_run_code_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_tiny(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    path = tmp_path / "pytorch_model.bin"
    torch.save({"bad": Shell()}, path)
    with pytest.raises(ModelError, match="weights cannot be read"):
        load_model(tmp_path)
    path.write_bytes(pickle.dumps(Shell()))
    with pytest.raises(ModelError, match="weights cannot be read"):
        load_model(tmp_path)
    torch.save({"epoch": 3}, path)
    with pytest.raises(ModelError, match="must hold tensors by name and nothing else"):
        load_model(tmp_path)
    assert "never printed" not in capsys.readouterr().out


def test_tokenizers_that_are_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    save_tiny(tmp_path, "bert")
    settings = tmp_path / "tokenizer_config.json"
    good, backend = settings.read_text(), (tmp_path / "tokenizer.json").read_text()
    settings.write_text(json.dumps({"tokenizer_class": "CanineTokenizer"}))
    with pytest.raises(ModelError, match=r"the tokenizer must be a fast one \(tokenizer.json\), got CanineTokenizer"):
        load_model(tmp_path)
    settings.write_text(json.dumps(json.loads(good) | {"auto_map": {"AutoTokenizer": ["own.Tokenizer", None]}}))
    with pytest.raises(ModelError, match="must not need code from the model's own repository"):
        load_model(tmp_path)
    settings.write_text(good)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="the tokenizer cannot be read"):
        load_model(tmp_path)
    more = json.loads(backend)
    more["model"]["vocab"]["late"] = 29
    (tmp_path / "tokenizer.json").write_text(json.dumps(more))
    with pytest.raises(ModelError, match="ids of the tokenizer must lie below vocab_size 29, got 29"):
        load_model(tmp_path)
    panics, far = json.loads(backend), json.loads(backend)
    panics["post_processor"]["special_tokens"] = {}
    far["post_processor"]["special_tokens"]["[CLS]"]["ids"] = [99]
    for hostile, message in ((panics, "no entry found for key"), (far, "its ids must lie below vocab_size 29, got 99")):
        (tmp_path / "tokenizer.json").write_text(json.dumps(hostile))
        with pytest.raises(ModelError, match=f"the tokenizer cannot be used: {message}"):
            load_model(tmp_path)
    assert "panicked" not in capfd.readouterr().err
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match="must hold a tokenizer"):
        load_model(tmp_path)


def test_padding_and_truncation_are_off(tmp_path: Path) -> None:
    save_tiny(tmp_path, "bert")
    tokenizer = tiny_tokenizer("bert")
    tokenizer.backend_tokenizer.enable_padding(length=8)
    tokenizer.backend_tokenizer.enable_truncation(8)
    tokenizer.save_pretrained(tmp_path)
    loaded = load_model(tmp_path).tokenizer
    assert [len(loaded("a " * length).input_ids) for length in (1, 20)] == [3, 22]
    assert loaded.model_max_length == 16
    assert load_model(save_tiny(tmp_path / "r", "roberta")).tokenizer.model_max_length == 16


@pytest.mark.real_weights
def test_real_weights(real_weights: Path) -> None:
    loaded = load_model(real_weights)
    assert loaded.notes == () and loaded.model.head_spec == HeadSpec("pooler")
    assert loaded.tokenizer.backend_tokenizer.padding is None and loaded.tokenizer.model_max_length == 512
    stock = transformers.AutoModel.from_pretrained(real_weights).eval()
    batch = loaded.tokenizer(["a fine film", "this one is long and dull ."], padding=True, return_tensors="pt")
    with torch.no_grad():
        ours, other = loaded.model(**batch), stock(**batch)
    real = batch["attention_mask"].bool()
    assert (ours.hidden_states[-1][real] - other.last_hidden_state[real]).abs().max() < 1e-5
    assert (ours.pooled - other.pooler_output).abs().max() < 1e-5
    assert loaded.provenance["licence"] == "apache-2.0"
