"""Masked-LM training as a verb: from weights, from scratch, interrupted, refused; its folder loads elsewhere."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tiny_task import command_words, tiny_task, tiny_text, weights

import cutbert
import cutbert.hub
from cutbert.api.table import VERBS
from cutbert.cli.main import main
from cutbert.errors import InputError
from cutbert.folders.load import load_model
from cutbert.shape.head import HeadSpec
from cutbert.shape.paper_shapes import PAPER_SHAPES
from cutbert.shape.shape import EncoderShape, LayerShape
from kills import killed_before
from tiny_runs import SHAPE, save_tiny, tiny_model

KEYS = {"out", "loss", "perplexity", "tokens", "seconds", "tokens_per_s"}
IDS = torch.tensor([[2, 5, 4, 7, 3], [2, 9, 4, 5, 3]])


@pytest.fixture
def text(tmp_path: Path) -> dict[str, Any]:
    """Options that name 41 sequences to train on and a held-out file."""
    return tiny_text(tmp_path)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A tiny pre-trained model without a masked-LM head."""
    return save_tiny(tmp_path / "base", tiny_model(HeadSpec("pooler")))


def test_from_weights(base: Path, text: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["pretrain", str(base), "--out", str(tmp_path / "run"), *command_words(text)]
    assert main([*words, "--json"]) == 0
    out, err = capsys.readouterr()
    result = json.loads(out.splitlines()[-1])
    assert result.keys() == KEYS and result["perplexity"] == pytest.approx(math.exp(result["loss"]))
    assert "has no masked-LM head: a new one is trained with the rest" in err and "new, untrained: cls.pred" in err
    assert "41 sequences of 17 tokens to train on" in err
    folder = tmp_path / "run" / "model"
    stock = transformers.BertForMaskedLM.from_pretrained(folder)
    with torch.no_grad():
        wanted = stock(IDS).logits
    torch.testing.assert_close(load_model(folder).model(IDS).logits.detach(), wanted, atol=1e-5, rtol=1e-5)
    provenance = json.loads((folder / "cutbert.json").read_text())
    assert provenance["commands"][-1].startswith("cutbert pretrain ") and provenance["scores"]["loss"] == result["loss"]
    assert set(provenance["data"]) == {text["train"], text["dev"]}
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["stage"] == "pretrain" and lines[-1]["masked_lm"] > 0
    assert main(words) == 0 and "of the masked tokens of held-out text" in capsys.readouterr().out


def test_the_result_is_fine_tuned(base: Path, text: dict[str, Any], tmp_path: Path) -> None:
    run = cutbert.pretrain(base, out=tmp_path / "mlm", **text)
    tuned = cutbert.finetune(run.path, out=tmp_path / "tuned", **tiny_task(tmp_path))
    assert 0 <= tuned["score"] <= 1
    notes = load_model(run.path, HeadSpec("single_label", ("a", "b"))).notes
    assert any(note.startswith("new, untrained: pooler.dense") for note in notes)
    again = cutbert.pretrain(run.path, out=tmp_path / "again", **text)
    assert not load_model(run.path, HeadSpec("masked_lm")).has_new_head and again["loss"] < run["loss"]


@pytest.mark.parametrize("is_stock", [True, False])
def test_from_scratch(
    is_stock: bool, base: Path, text: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stock = EncoderShape.uniform(
        hidden_size=12, num_layers=2, num_heads=2, intermediate_size=8, vocab_size=18, num_positions=20
    )
    shape = stock if is_stock else replace(stock, layers=(*stock.layers, LayerShape(3, 2, 5, 0)))
    (tmp_path / "shape.json").write_text(json.dumps(shape.to_json()))
    options = {**text, "from_scratch": tmp_path / "shape.json"}
    run = cutbert.pretrain(base, out=tmp_path / "run", **options)
    assert "the tokenizer has 15 tokens, the shape 18 rows: some are never used" in capsys.readouterr().err
    folder = run.path / "model"
    model = transformers.AutoModelForMaskedLM.from_pretrained(folder)
    assert type(model).__name__ == ("BertForMaskedLM" if is_stock else "CutbertForMaskedLM")
    assert load_model(folder).model.shape == shape
    provenance = json.loads((folder / "cutbert.json").read_text())
    assert provenance["base_model"] == f"none: new weights, with the tokenizer of {base}"
    other = cutbert.pretrain(base, out=tmp_path / "other", **{**options, "seed": 1})
    assert other["loss"] != run["loss"]


def test_ended_after_training_it_goes_on_and_knows_its_tokens(base: Path, text: dict[str, Any], tmp_path: Path) -> None:
    whole = cutbert.pretrain(base, out=tmp_path / "whole", **text)
    with killed_before(tmp_path / "run" / "model"):
        cutbert.pretrain(base, out=tmp_path / "run", **text)
    resumed = cutbert.pretrain(base, out=tmp_path / "run", **text)
    assert resumed["loss"] == whole["loss"] and resumed["tokens"] == whole["tokens"] > 0 < resumed["tokens_per_s"]
    wanted = weights(whole.path / "model")
    assert all(torch.equal(weight, wanted[name]) for name, weight in weights(resumed.path / "model").items())
    assert not (resumed.path / "checkpoint").exists()


def test_whole_words_and_a_held_out_share(base: Path, text: dict[str, Any], tmp_path: Path) -> None:
    del text["dev"]
    run = cutbert.pretrain(base, out=tmp_path / "run", whole_word=True, mask_probability=0.3, **text)
    assert run["loss"] > 0 and run["tokens"] == 37 * 17  # of 41 sequences 4 are held out


def test_mistakes_come_together_and_nothing_is_made(base: Path, tmp_path: Path) -> None:
    (tmp_path / "shape.json").write_text(json.dumps(replace(SHAPE, num_positions=9).to_json()))
    with pytest.raises(InputError) as caught:
        cutbert.pretrain(
            base,
            out=tmp_path / "run",
            train=tmp_path / "no.txt",
            from_scratch=tmp_path / "shape.json",
            token_table="rows",
            epochs=-1.0,
            sequence_length=10,
        )
    found = caught.value.mistakes
    assert len(found) == 4 and found[0].startswith("--epochs must be at least 0")
    assert found[1].startswith("--token-table must be dense or frozen for masked LM")
    assert found[2] == f"--sequence-length must be at most 9, the positions of {tmp_path}/shape.json, got 10"
    assert found[3] == f"--train {tmp_path}/no.txt: no such file"
    with pytest.raises(InputError, match=r"--sequence-length must be at most 128, the positions of .*base, got 129"):
        cutbert.pretrain(base, out=tmp_path / "run", **{**tiny_text(tmp_path), "sequence_length": 129})
    assert not (tmp_path / "run").exists()


def test_a_shape_must_hold_the_tokenizer(base: Path, text: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "shape.json").write_text(json.dumps(replace(SHAPE, vocab_size=14).to_json()))
    with pytest.raises(InputError, match="ids of the tokenizer must lie below vocab_size 14, got 14"):
        cutbert.pretrain(base, out=tmp_path / "run", from_scratch=tmp_path / "shape.json", **text)
    assert not (tmp_path / "run").exists()


def test_an_architecture_of_the_paper_is_refused_where_it_cannot_be(
    base: Path, text: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="--from-paper must be one of 99M"):
        cutbert.pretrain(base, out=tmp_path / "run", from_paper="98M", **text)
    wanted = r"--sequence-length must be at most 512, the positions of --from-paper 43M, got 600"
    with pytest.raises(InputError, match=wanted):
        cutbert.pretrain(base, out=tmp_path / "run", from_paper="43M", **{**text, "sequence_length": 600})
    assert not (tmp_path / "run").exists()


def test_an_architecture_of_the_paper_is_trained(
    base: Path, text: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = replace(SHAPE, layers=SHAPE.layers[:1])
    monkeypatch.setitem(PAPER_SHAPES, "33M", small)
    cutbert.pretrain(base, out=tmp_path / "run", from_paper="33M", **text)
    assert load_model(tmp_path / "run").model.shape == small


def test_options_have_their_defaults() -> None:
    names = {option.name: option for option in VERBS["pretrain"].options().values()}
    assert "default 128." in names["--sequence-length"].help and "default 0.15." in names["--mask-probability"].help
    assert "--max-length" not in names and "--task" not in names
