"""Scoring keeps each subnet's dev outputs whole, and does none twice."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cutbert.data.tokens import Tokens
from cutbert.errors import DataError
from cutbert.fronts.score import label_scores, score_points, whole_point
from cutbert.model.task_model import TaskModel
from cutbert.shape.cost import cost_of
from cutbert.shape.subnet import Subnet
from cutbert.surgery.extract import extract
from cutbert.train.evaluate import Scores, predict_logits
from cutbert.train.run_folder import RunFolder
from tiny_runs import HEAD, SHAPE, tiny_grid, tiny_model, tiny_tokens


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.open(tmp_path, "dynabert", {})


def test_entries_match_the_networks_cut_out(run: RunFolder) -> None:
    model, select, dev = tiny_model(), tiny_tokens(seed=1), tiny_tokens(seed=2)
    points = [whole_point(SHAPE), *tiny_grid()]
    entries = score_points(run, model, points, select=select, dev=dev, metric="accuracy")
    assert [entry.name for entry in entries] == [point.name for point in points]
    for entry in entries:
        small = extract(model, entry.subnet)
        assert entry.shape == small.shape
        assert entry.params == sum(parameter.numel() for parameter in small.parameters())
        assert entry.macs == cost_of(small.shape, HEAD).macs
        for tokens, found in ((dev, entry.score), (select, entry.select_score)):
            assert found == np.mean(predict_logits(small, tokens).argmax(1) == tokens.labels)
        assert entry.metrics["accuracy"] == entry.score


def test_predictions_hold_dev_row_by_row(run: RunFolder) -> None:
    model, dev = tiny_model(), tiny_tokens(seed=2)
    (entry,) = score_points(run, model, [tiny_grid()[1]], select=dev, dev=dev, metric="accuracy")
    stored = json.loads((run.path / "predictions" / f"{entry.name}.json").read_text())
    logits = np.array(stored["logits"], dtype=np.float32)
    np.testing.assert_array_equal(logits, predict_logits(model, dev, subnet=entry.subnet))
    assert stored["labels"] == dev.labels.tolist() and stored["classes"] == list(HEAD.labels)
    assert stored["score"] == stored["select_score"]


def test_a_killed_scoring_goes_on(run: RunFolder) -> None:
    model, dev, points = tiny_model(), tiny_tokens(seed=2), list(tiny_grid())
    seen: list[Subnet] = []

    def stop(entry: object) -> None:
        if len(list((run.path / "predictions").iterdir())) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score_points(run, model, points, select=dev, dev=dev, metric="accuracy", on_point=stop)

    def watched(model: TaskModel, subnet: Subnet, tokens: Tokens) -> Scores:
        seen.append(subnet)
        return label_scores(model, subnet, tokens, "accuracy")

    entries = score_points(run, model, points, select=dev, dev=dev, metric="accuracy", scores_of=watched)
    assert seen == [point.subnet for point in points[2:]] and len(entries) == len(points)


def test_predictions_of_another_subnet_are_not_taken(run: RunFolder) -> None:
    model, dev, (first, second, *_) = tiny_model(), tiny_tokens(seed=2), tiny_grid()
    score_points(run, model, [first], select=dev, dev=dev, metric="accuracy")
    (entry,) = score_points(run, model, [replace(second, name=first.name)], select=dev, dev=dev, metric="accuracy")
    assert entry.subnet == second.subnet
    stored = json.loads((run.path / "predictions" / f"{first.name}.json").read_text())
    assert stored["subnet"] == second.subnet.to_json()


def test_only_the_first_process_writes(run: RunFolder) -> None:
    run.is_writer = False
    dev = tiny_tokens(seed=2)
    score_points(run, tiny_model(), [tiny_grid()[0]], select=dev, dev=dev, metric="accuracy")
    assert not (run.path / "predictions").exists()


def test_rows_without_labels_are_refused(run: RunFolder) -> None:
    dev = tiny_tokens()
    with pytest.raises(DataError, match="the select rows must have labels to be scored against, got none"):
        score_points(run, tiny_model(), tiny_grid(), select=replace(dev, labels=None), dev=dev, metric="accuracy")
