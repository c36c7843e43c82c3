"""Every saved model has a card that says what it is, in words and as the hub reads them."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import ModelCard

from cutbert.folders.card import CARD, write_card
from cutbert.folders.provenance import extend_provenance
from cutbert.folders.save import save_model
from cutbert.shape.cost import cost_of
from cutbert.shape.head import HeadSpec
from tiny_free import PROVENANCE, free_model
from tiny_stock import tiny_tokenizer

HEAD = HeadSpec("single_label", ("neg", "pos"))
FACTS = {
    "task": {"task": "sst2"},
    "score_interval": [0.41, 0.595],
    "cut_from": {"params": 123456, "macs": 654321},
    "latency": {"latency_ms": 1.5, "latency_p95_ms": 2.5, "backend": "onnx", "threads": 2, "processor": "Z80"},
}
SCORES = {"accuracy": 0.5, "select_accuracy": 0.625}
KNOWN = {**PROVENANCE, "base_model": "someone/small-bert", "licence": "mit", "scores": SCORES}


def save(folder: Path, **provenance: object) -> Path:
    save_model(folder, free_model(HEAD), tiny_tokenizer(), provenance={**KNOWN, **provenance})
    return folder


def test_the_card_says_it_all(tmp_path: Path) -> None:
    text = (save(tmp_path / "m", **FACTS) / CARD).read_text()
    cost = cost_of(free_model(HEAD).shape, HEAD)
    for words in (
        "Made from `someone/small-bert` by these commands, oldest first:\n\n```\ncutbert pick\n```",
        f"| parameters | {cost.params:,} | 123,456 |",
        f"| multiply-adds at 128 tokens | {cost.macs:,} | 654,321 |",
        "| 1 | 0 | 0 | 0 | 6 |",
        "## Scores on sst2",
        "| accuracy | dev | 50.00 | 41.00 to 59.50 |",
        "| accuracy | select | 62.50 |  |",
        "Median 1.50 ms, 95th percentile 2.50 ms: one text at a time, lengths as in dev, onnx on Z80, 2 threads.",
        "import cutbert.hub",
        "AutoModelForSequenceClassification",
        "mit, as the base model.",
    ):
        assert words in text
    assert "ONNX" not in text


def test_an_interval_that_is_not_known_is_said_to_be(tmp_path: Path) -> None:
    assert "| accuracy | dev | 50.00 | not known |" in (save(tmp_path / "m") / CARD).read_text()


def test_what_was_given_up_is_said(tmp_path: Path) -> None:
    uncut = {"params": 9, "macs": 8, "score": 0.6, "select_score": 0.7, "difference": -0.1, "latency_ms": 3.0,
             "difference_interval": [-0.2, 0.015], "latency_ratio": 0.5, "int8_latency_ms": 1.25,
             "near_chance": "accuracy 60.00 is near chance: x"}  # fmt: skip
    facts = {**FACTS, "cut_from": uncut, "near_chance": "accuracy 50.00 is low"}
    text = (save(tmp_path / "m", **facts) / CARD).read_text()
    for words in (
        "The uncut model scores 60.00 points on dev and 70.00 on select: on dev this one differs by -10.00, "
        "95 % interval -20.00 to +1.50 paired over dev's rows.",
        "**The uncut model's accuracy 60.00 is near chance: x.**",
        "**This model's accuracy 50.00 is low.**",
        "The uncut model takes 3.00 ms there: a ratio of 0.50. In int8 on ONNX Runtime the uncut model takes 1.25 ms.",
    ):
        assert words in text


def test_metrics_of_select_and_dev_are_told_apart(tmp_path: Path) -> None:
    changes = {f"{key}_{when}": 0.5 for key in ("score", "select_score") for when in ("before", "after")}
    own = {**changes, "metric": "spearman", "select_score_metric": "cosine"}
    counts = {"tokens_before": 9, "tokens": 5, "bytes_saved": 4, "split_differently": {"dev": 1}}
    facts = {
        "scores": {"spearman": 0.5, "select_cosine": 0.9},
        "cut_from": {"params": 9, "macs": 8, "score": 0.6, "select_score": 1.0, "difference": -0.1},
        "trimmed_vocabulary": {**counts, **own},
    }
    text = (save(tmp_path / "m", **facts) / CARD).read_text()
    assert "The uncut model scores 60.00 points of spearman on dev and 100.00 of cosine on select: on dev" in text
    assert "changes the cosine on select: 50.00 to 50.00, the spearman on dev: 50.00 to 50.00." in text


def test_the_hub_reads_it(tmp_path: Path) -> None:
    data = ModelCard.load(save(tmp_path / "m", **FACTS) / CARD).data
    assert (data.license, data.base_model, data.pipeline_tag) == ("mit", "someone/small-bert", "text-classification")
    found = {(each.dataset_split, each.metric_type, each.metric_value, each.dataset_name) for each in data.eval_results}
    assert found == {("dev", "accuracy", 0.5, "sst2"), ("select", "accuracy", 0.625, "sst2")}


def test_what_is_not_known_is_not_said(tmp_path: Path) -> None:
    text = (save(tmp_path / "m", base_model="/some/folder/small", licence=None, scores={}) / CARD).read_text()
    assert "base_model:" not in text and "license:" not in text and "## Scores" not in text and "## Latency" not in text
    assert "whose card names none" in text and "model-index" not in text


def test_a_card_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    folder = save(tmp_path / "m")
    (folder / CARD).write_text("mine")
    write_card(folder)
    assert (folder / CARD).read_text() == "mine"


def test_facts_of_a_model_do_not_outlive_it() -> None:
    known = extend_provenance(KNOWN, facts=FACTS)
    assert extend_provenance(known, "cutbert export")["latency"] == FACTS["latency"]
    assert not FACTS.keys() & extend_provenance(known, "cutbert finetune", scores={}).keys()
