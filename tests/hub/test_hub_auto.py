"""Folders of free shape are citizens of transformers: Auto classes, pipelines, save_pretrained, loss, flags."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers

import cutbert.hub
from cutbert.errors import ModelError
from cutbert.folders.config import CutbertConfig
from cutbert.folders.load import load_model
from cutbert.model.losses import task_loss
from cutbert.shape.head import HeadSpec
from tiny_free import free_model, free_shape, save_free, style_of
from tiny_stock import PREFIXES, tiny_batch

LABELS = ("bad", "good", "so so")
HEADS = {
    "none": (HeadSpec("none"), transformers.AutoModel),
    "pooler": (HeadSpec("pooler"), transformers.AutoModel),
    "single_label": (HeadSpec("single_label", LABELS), transformers.AutoModelForSequenceClassification),
    "multi_label": (HeadSpec("multi_label", LABELS), transformers.AutoModelForSequenceClassification),
    "regression": (HeadSpec("regression", ("score",)), transformers.AutoModelForSequenceClassification),
    "token": (HeadSpec("token", LABELS), transformers.AutoModelForTokenClassification),
    "span": (HeadSpec("span"), transformers.AutoModelForQuestionAnswering),
    "masked_lm": (HeadSpec("masked_lm"), transformers.AutoModelForMaskedLM),
}
IDS = torch.tensor([[2, 5, 6, 3], [2, 7, 3, 0]])
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
TARGETS = {
    "single_label": torch.tensor([2, 0]),
    "multi_label": torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]),
    "regression": torch.tensor([0.5, 2.0]),
    "token": torch.tensor([[0, 1, 2, -100], [1, 1, -100, -100]]),
    "span": torch.tensor([[1, 2], [0, 1]]),
    "masked_lm": torch.tensor([[-100, 5, -100, -100], [-100, 7, -100, -100]]),
}


def pretrained(folder: Path, kind: str) -> transformers.PreTrainedModel:
    model, info = HEADS[kind][1].from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    return model.eval()


def scores(output: transformers.utils.ModelOutput) -> torch.Tensor:
    if "start_logits" in output:
        return torch.stack((output.start_logits, output.end_logits), dim=-1)
    return output.logits


@pytest.mark.parametrize("kind", HEADS)
def test_auto_class_save_and_load_again(tmp_path: Path, kind: str) -> None:
    spec = HEADS[kind][0]
    ours = save_free(tmp_path / "free", spec)
    loaded = pretrained(tmp_path / "free", kind)
    loaded.save_pretrained(tmp_path / "again")
    transformers.AutoTokenizer.from_pretrained(tmp_path / "free").save_pretrained(tmp_path / "again")
    back = load_model(tmp_path / "again")
    assert back.model.head_spec == spec and back.model.shape == ours.shape and back.model.style == ours.style
    loaded_again = pretrained(tmp_path / "again", kind)
    for name, tensor in ours.state_dict().items():
        for each in (loaded, back, loaded_again):
            assert torch.equal(each.model.state_dict()[name], tensor)


@pytest.mark.parametrize("kind", TARGETS)
def test_loss_and_outputs(tmp_path: Path, kind: str) -> None:
    spec = HEADS[kind][0]
    ours = save_free(tmp_path, spec)
    targets = TARGETS[kind]
    named = (
        {"start_positions": targets[:, 0], "end_positions": targets[:, 1]} if kind == "span" else {"labels": targets}
    )
    model = pretrained(tmp_path, kind)
    output = model(IDS, MASK, token_type_ids=torch.zeros_like(IDS), output_hidden_states=True, **named)
    expected = ours(IDS, MASK)
    torch.testing.assert_close(scores(output), expected.logits)  # bits depend on where the weights lie in memory
    torch.testing.assert_close(output.loss, task_loss(spec, expected.logits, targets))
    assert len(output.hidden_states) == 1 + len(free_shape().layers)
    plain = model(IDS, MASK, return_dict=False)
    assert isinstance(plain, tuple)
    torch.testing.assert_close(plain[0], output.start_logits if kind == "span" else output.logits)
    assert "hidden_states" not in model(IDS, MASK)


def test_flags_of_the_config(tmp_path: Path) -> None:
    save_free(tmp_path, HeadSpec("none"))
    model = transformers.AutoModel.from_pretrained(tmp_path, output_hidden_states=True, return_dict=False)
    last, states = model(IDS)
    assert torch.equal(states[-1], last)


def test_other_head_from_a_free_folder(tmp_path: Path) -> None:
    save_free(tmp_path, HeadSpec("none"))
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path, num_labels=4)
    assert model(IDS).logits.shape == (2, 4)
    assert model.config.problem_type == "single_label_classification"
    assert model.model.encoder.layers[0].attention.norm.weight.std() > 0
    assert model.model.head.dense.weight.std() < 0.03 and model.model.head.out.bias.abs().max() == 0
    one = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path, num_labels=1)
    assert one.model.head_spec == HeadSpec("regression", ("LABEL_0",))
    masked = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path)
    assert masked.model.head.bias.abs().max() == 0 and masked.model.head.norm.weight.min() == 1


def test_encoder_of_a_folder_with_a_task_head(tmp_path: Path) -> None:
    ours = save_free(tmp_path, HeadSpec("single_label", LABELS))
    bare = transformers.AutoModel.from_pretrained(tmp_path).eval()
    assert bare.model.head is None
    assert torch.equal(bare(IDS, MASK).last_hidden_state, ours(IDS, MASK).hidden_states[-1])


def test_from_config_and_config_properties() -> None:
    config = CutbertConfig.of(free_shape(), style_of("bert"), HeadSpec("token", LABELS))
    model = transformers.AutoModelForTokenClassification.from_config(config)
    assert sum(p.numel() for p in model.parameters()) == sum(
        p.numel() for p in free_model(HeadSpec("token", LABELS)).parameters()
    )
    assert (config.vocab_size, config.hidden_size, config.num_hidden_layers) == (29, 12, 4)
    assert config.labels == LABELS and config.num_labels == 3
    again = CutbertConfig.from_dict(config.to_dict())
    assert again.encoder_shape == free_shape() and again.head_spec == HeadSpec("token", LABELS)


@pytest.mark.parametrize("family", PREFIXES)
def test_text_classification_pipeline(tmp_path: Path, family: str) -> None:
    ours = save_free(tmp_path, HeadSpec("single_label", LABELS), family)
    pipe = transformers.pipeline("text-classification", model=str(tmp_path), top_k=None)
    texts = ["a fine film", "this is a very dull film ."]
    batch = load_model(tmp_path).tokenizer(texts, padding=True, return_tensors="pt")
    expected = ours(**batch).logits.softmax(-1)
    for row, found in zip(expected, pipe(texts, batch_size=2), strict=True):
        got = {entry["label"]: entry["score"] for entry in found}
        assert got == pytest.approx(dict(zip(LABELS, row.tolist(), strict=True)), abs=1e-5)


@pytest.mark.parametrize(
    ("task", "kind", "text"),
    [
        ("token-classification", "token", "a fine film"),
        ("fill-mask", "masked_lm", "a [MASK] film"),
        ("feature-extraction", "pooler", "a fine film"),
    ],
)
def test_other_pipelines(tmp_path: Path, task: str, kind: str, text: str) -> None:
    save_free(tmp_path, HEADS[kind][0])
    assert len(transformers.pipeline(task, model=str(tmp_path))(text)) > 0


def test_question_answering_model_in_half_precision(tmp_path: Path) -> None:
    save_free(tmp_path, HeadSpec("span"))
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert model(IDS).start_logits.dtype == torch.bfloat16


def test_what_is_refused(tmp_path: Path) -> None:
    save_free(tmp_path, HeadSpec("single_label", LABELS))
    model = pretrained(tmp_path, "single_label")
    with pytest.raises(ModelError, match="output_attentions must be off"):
        model(IDS, output_attentions=True)
    with pytest.raises(ModelError, match="must be given input_ids"):
        model(attention_mask=MASK)
    with pytest.raises(ModelError, match="must be integer ids"):
        model(IDS, labels=torch.zeros(2, 3))
    with pytest.raises(ModelError, match="vocab_size of a cutbert model must stay 29, got 40"):
        model.resize_token_embeddings(40)
    with pytest.raises(ModelError, match="must have an object 'shape', got None"):
        CutbertConfig().encoder_shape  # noqa: B018
    assert model.resize_token_embeddings(29) is model.get_input_embeddings()


def test_trainer_and_gradients(tmp_path: Path) -> None:
    """The Trainer finds the labels and gets a loss that reaches every parameter."""
    save_free(tmp_path / "free", HeadSpec("single_label", LABELS))
    model = pretrained(tmp_path / "free", "single_label")
    rows = [{**{k: v[0] for k, v in tiny_batch("bert").items()}, "labels": 1} for _ in range(4)]
    args = transformers.TrainingArguments(tmp_path / "out", max_steps=1, report_to=[], use_cpu=True, learning_rate=0.1)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    transformers.Trainer(model, args, train_dataset=rows).train()
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    biases = {name for name in before if name.endswith("key.bias")}  # softmax does not feel a shift
    assert moved >= before.keys() - biases
    assert model.config.label2id == {label: i for i, label in enumerate(LABELS)}


def test_import_registers_in_a_fresh_process(tmp_path: Path) -> None:
    save_free(tmp_path, HeadSpec("single_label", LABELS))
    code = (
        "import cutbert.hub, transformers, sys; "
        "print(type(transformers.AutoModelForSequenceClassification.from_pretrained(sys.argv[1])).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "CutbertForSequenceClassification"


def test_registering_again_does_no_harm() -> None:
    cutbert.hub.register()
    assert transformers.AutoConfig.for_model("cutbert").model_type == "cutbert"
