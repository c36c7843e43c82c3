"""Every family and head: our logits equal transformers', and the way back restores the family's own folder."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file

from cutbert.folders.load import load_model
from cutbert.folders.save import save_model
from cutbert.model.task_model import TaskModel
from tiny_stock import PREFIXES, SUFFIXES, WITHOUT_SPAN, save_tiny, tiny_batch

TOLERANCE = 1e-5
FAMILIES = list(PREFIXES)
KINDS = list(SUFFIXES)


def theirs(folder: Path, family: str, kind: str) -> transformers.PreTrainedModel:
    cls = getattr(transformers, PREFIXES[family] + SUFFIXES[kind])
    model, info = cls.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    return model.eval()


def their_outputs(model: transformers.PreTrainedModel, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        output = model(**batch, output_hidden_states=True)
    found = {f"hidden {i}": state for i, state in enumerate(output.hidden_states)}
    if "start_logits" in output:
        return found | {"logits": torch.stack((output.start_logits, output.end_logits), dim=-1)}
    if "logits" in output:
        return found | {"logits": output.logits}
    return found | ({"pooled": output.pooler_output} if "pooler_output" in output else {})


def our_outputs(model: TaskModel, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        output = model(**batch)
    found = {f"hidden {i}": state for i, state in enumerate(output.hidden_states)}
    if output.logits is not None:
        return found | {"logits": output.logits}
    return found | ({"pooled": output.pooled} if output.pooled is not None else {})


def check_same(ours: dict[str, torch.Tensor], other: dict[str, torch.Tensor], real: torch.Tensor) -> None:
    """Compare everything; what is per token at real tokens only."""
    assert ours.keys() == other.keys()
    for name, tensor in ours.items():
        assert tensor.shape == other[name].shape, name
        where = real if tensor.dim() == 3 else slice(None)
        assert (tensor[where] - other[name][where]).abs().max() < TOLERANCE, name


@pytest.mark.parametrize(
    ("family", "kind"),
    [pair for pair in itertools.product(FAMILIES, KINDS) if pair not in itertools.product(WITHOUT_SPAN, ["span"])],
)  # of which there is no class
def test_parity_and_round_trip(tmp_path: Path, family: str, kind: str) -> None:
    folder, batch = save_tiny(tmp_path / "stock", family, kind), tiny_batch(family)
    stock, loaded = theirs(folder, family, kind), load_model(folder)
    assert loaded.notes == ()
    assert batch["attention_mask"].min() == 0
    expected = their_outputs(stock, batch)
    check_same(our_outputs(loaded.model, batch), expected, batch["attention_mask"].bool())

    save_model(tmp_path / "again", loaded.model, loaded.tokenizer, provenance=loaded.provenance)
    again = theirs(tmp_path / "again", family, kind)
    for name, tensor in their_outputs(again, batch).items():
        assert torch.equal(tensor, expected[name]), name
    first, second = load_file(folder / "model.safetensors"), load_file(tmp_path / "again/model.safetensors")
    assert second.keys() == first.keys()
    assert all(torch.equal(tensor, first[name]) for name, tensor in second.items())
    for key in ("id2label", "problem_type", "architectures", "pad_token_id", "bos_token_id", "eos_token_id"):
        if key != "id2label" or loaded.model.head_spec.labels:
            assert getattr(again.config, key) == getattr(stock.config, key), key
