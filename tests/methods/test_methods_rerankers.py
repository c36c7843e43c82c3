"""A reranker through the verbs: trained from a CrossEncoder folder, scored within groups, cut, measured, exported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_task import QUICK, fit_quickly, time_by_macs

import cutbert
from cutbert.data.dataset import load_dataset
from cutbert.data.ranking import mrr, ndcg
from cutbert.folders.load import load_model
from cutbert.folders.provenance import recorded_task
from cutbert.fronts.outputs import chance_of, interval_of, stored_difference
from cutbert.methods.depth_report import compare_stored
from cutbert.model.losses import task_loss
from cutbert.shape.cost import cost_of
from cutbert.shape.head import HeadSpec
from tiny_runs import SHAPE, WORDS, save_tiny, tiny_model

HEAD = HeadSpec("regression", ("LABEL_0",))
SIGMOID = {"activation_fn": "torch.nn.modules.activation.Sigmoid"}


def pairs(folder: Path, name: str, seed: int, num_groups: int) -> str:
    """Write groups of four pairs; relevant is the first, whose texts share a word more often."""
    rng, lines = np.random.default_rng(seed), []
    for group in range(num_groups):
        query = [*rng.choice(WORDS, 3)]
        for i in range(4):
            text = [*rng.choice(WORDS, 4), *(query if i == 0 else [])]
            lines.append({"q": f"{name}{group}", "a": " ".join(query), "b": " ".join(text), "y": int(i == 0)})
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("rerank")
    model = save_tiny(folder / "cross", tiny_model(HEAD))
    (model / "config_sentence_transformers.json").write_text(json.dumps({"model_type": "CrossEncoder", **SIGMOID}))
    data: dict[str, Any] = {
        "train": pairs(folder, "train", 0, 20),
        "dev": pairs(folder, "dev", 1, 9),
        "text": "a",
        "text_pair": "b",
        "label": "y",
        "group": "q",
    }
    with pytest.MonkeyPatch.context() as patch:
        time_by_macs(patch)
        run = cutbert.dynabert(model, **data, **QUICK, width_mult=[1.0], depths=[3, 1], out=folder / "run")
    return {"folder": folder, "model": model, "data": data, "run": run}


def test_labels_of_pairs_are_learned_by_binary_cross_entropy() -> None:
    logits, relevant = torch.tensor([[2.0], [-1.0]]), torch.tensor([True, False])
    expected = -(torch.sigmoid(logits[0, 0]).log() + (1 - torch.sigmoid(logits[1, 0])).log()) / 2
    assert float(task_loss(HEAD, logits, relevant)) == pytest.approx(float(expected))
    assert float(task_loss(HEAD, logits, relevant.float())) == pytest.approx((1 + 1) / 2)


def test_a_run_is_scored_within_groups(made: dict[str, Any]) -> None:
    front = json.loads((made["folder"] / "run" / "front.json").read_text())
    assert front["metric"] == "ndcg@10"
    for entry in front["subnets"]:
        stored = json.loads((made["folder"] / "run" / "predictions" / f"{entry['name']}.json").read_text())
        logits, labels, groups = (np.array(stored[name]) for name in ("logits", "labels", "groups"))
        places = [groups == name for name in stored["ranked"]]
        assert len(places) == 9
        assert stored["ndcg@10"] == [ndcg(logits[each, 0], labels[each]) for each in places]
        means = {name: pytest.approx(float(np.mean(stored[name]))) for name in ("ndcg@10", "mrr@10")}
        assert entry["metrics"] == means and entry["score"] == means["ndcg@10"]
        assert stored["mrr@10"] == [mrr(logits[each, 0], labels[each]) for each in places]


def test_intervals_and_verdicts_draw_groups_not_rows(made: dict[str, Any]) -> None:
    files = sorted((made["folder"] / "run" / "predictions").glob("*.json"))[:2]
    one, other = (json.loads(path.read_text()) for path in files)
    low, high = interval_of(one, "ndcg@10")["score_interval"]
    assert low <= one["score"] <= high
    same, alike = stored_difference(one, one, "ndcg@10"), compare_stored([files[0]], [files[0]], "ndcg@10")
    assert same == pytest.approx({"mean": 0.0, "low": alike.low, "high": alike.high})
    assert alike.low < 0 < alike.high  # 9 groups cannot tell networks from their like
    paired = compare_stored([files[0]], [files[1]], "ndcg@10")
    assert paired.rows == 9 and paired.difference == pytest.approx(one["score"] - other["score"])
    ties = {**one, "ndcg@10": [ndcg(np.zeros(4), np.array([1, 0, 0, 0]))] * 9}
    assert "a random order gets 64.04 on these 9 groups" in str(chance_of({**ties, "score": 0.64}, "ndcg@10"))
    assert chance_of({**one, "ndcg@10": [1.0] * 9}, "ndcg@10") is None


def test_a_cut_cross_encoder_keeps_its_activation_and_its_task(made: dict[str, Any]) -> None:
    small = made["folder"] / "small"
    made["run"].pick(max_params=10**9, out=small)
    assert json.loads((small / "config.json").read_text())["sentence_transformers"] == SIGMOID
    loaded = load_model(small)
    assert loaded.model.head_spec.num_outputs == 1 and loaded.provenance["cross_encoder"] == SIGMOID
    task = recorded_task(small)
    assert task is not None and load_dataset(task).metric == "ndcg@10"
    other = load_model(small, HeadSpec("single_label", ("a", "b")))  # a new head: what was done with the old one goes
    assert other.has_new_head and "cross_encoder" not in other.provenance


def test_what_fit_takes_ranks_in_predict_as_it_was_scored(
    made: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit_quickly(monkeypatch)
    options = {"time": 600.0, "rounds": 2, "candidates": 1, "kinds": ["layers"], "backend": "onnx", "threads": 1}
    limit = int(0.9 * cost_of(SHAPE, HEAD).params)
    run = cutbert.fit(made["model"], out=tmp_path / "run", max_params=limit, max_length=16, **options, **made["data"])
    (chosen,) = run.leaderboard.chosen
    rows = [json.loads(line) for line in Path(made["data"]["dev"]).read_text().splitlines()]
    answers = cutbert.predict(run.path / "model", texts=[(row["a"], row["b"]) for row in rows], backend="onnx")
    found = []
    for group in dict.fromkeys(row["q"] for row in rows):
        own = [i for i, row in enumerate(rows) if row["q"] == group]
        found.append(ndcg(np.array([answers[i]["label"] for i in own]), np.array([rows[i]["y"] for i in own])))
    assert run["metric"] == "ndcg@10" and chosen.kind == "layers"
    assert chosen.score == pytest.approx(np.mean(found), abs=1e-6)
