"""Pairs ranked in groups, from own files: labels, splits that keep a group whole, which groups count, refusals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cutbert.data.dataset import Dataset, load_dataset
from cutbert.data.ranking import ranking_scores
from cutbert.data.ranking_scorer import RankingScorer
from cutbert.data.settings import DataSettings
from cutbert.errors import DataError
from cutbert.shape.head import HeadSpec

Write = Callable[[str, str | bytes], str]
PAIRS = {"text": "query", "text_pair": "passage", "label": "label", "group": "id"}


def table(groups: range, labels: str = "100", first: str = "q") -> str:
    """Return groups of as many pairs as there are labels, pairs of different groups in turns."""
    lines = [
        f"{first}{group}\tquestion {first}{group}\tpassage {group} {i}\t{label}"
        for i, label in enumerate(labels.split() if " " in labels else labels)
        for group in groups
    ]
    return "\n".join(["id\tquery\tpassage\tlabel", *lines]) + "\n"


@pytest.fixture
def load(write: Write) -> Callable[..., Dataset]:
    def load_content(train: str, dev: str | None = None, **settings: Any) -> Dataset:
        files = {"train": write("train.tsv", train)} | ({} if dev is None else {"dev": write("dev.tsv", dev)})
        if "unlabeled" in settings:
            settings["unlabeled"] = write("unlabeled.tsv", settings["unlabeled"])
        return load_dataset(DataSettings(**files, **{**PAIRS, **settings}))

    return load_content


def test_a_group_is_never_split(load: Callable[..., Dataset]) -> None:
    data = load(table(range(60)))
    assert (data.head, data.metric) == (HeadSpec("regression", ("label",)), "ndcg@10")
    parts = [data.train, data.select, data.dev]
    names = [set(part.groups) for part in parts]
    assert sum(map(len, names)) == 60 and all(
        len(part) == 3 * len(each) for part, each in zip(parts, names, strict=True)
    )
    assert len(data.dev) == 18 and len(data.select) == 15
    assert data.train.labels.dtype == np.bool_ and data.train.labels.sum() == len(names[0])
    assert "binary cross-entropy" in data.notes[0] and "by hash of the group" in data.notes[1]
    few = load(table(range(60)), max_eval_samples=7)
    assert [few.dev.groups.count(name) for name in set(few.dev.groups)] == [3, 3]
    assert len(load(table(range(60)), max_eval_samples=1).dev) == 3


def test_groups_of_select_leave_train_and_texts_of_dev_leave_unlabeled(load: Callable[..., Dataset]) -> None:
    data = load(table(range(30)), table(range(2), first="d"), unlabeled=table(range(3), first="d"))
    assert not set(data.select.groups) & set(data.train.groups)
    assert set(data.unlabeled.text) == {"question d2"}


def test_a_group_may_be_the_text_itself_or_a_number(load: Callable[..., Dataset]) -> None:
    assert set(load(table(range(30)), group="query").dev.groups) < {f"question q{i}" for i in range(30)}
    assert set(load(table(range(30), first=""), regression=True).dev.groups) < {str(i) for i in range(30)}


@pytest.mark.parametrize(("labels", "settings"), [("3 0.5 0", {}), ("100", {"regression": True})])
def test_other_numbers_are_learned_by_squared_error(load: Callable[..., Dataset], labels: str, settings: Any) -> None:
    data = load(table(range(30), labels), **settings)
    assert data.train.labels.dtype == np.float32 and "squared error" in data.notes[0]


def test_groups_that_say_nothing_are_left_out_and_counted(load: Callable[..., Dataset]) -> None:
    dev = table(range(2), first="a") + "".join(
        table(range(count), labels, first).split("\n", 1)[1]
        for labels, first, count in (("1", "b", 1), ("00", "c", 3), ("11", "d", 2))
    )
    data = load(table(range(30)), dev)
    wanted = "dev: 2 of 8 groups are scored; left out: 1 with one row only, 3 with no relevant row, "
    assert wanted + "2 with equally relevant rows only" in data.notes
    scored = RankingScorer(data.dev.groups, data.dev.labels)(np.arange(len(data.dev), dtype=np.float32)[:, None])
    assert scored.outputs["ranked"] == ["a0", "a1"]
    assert scored.metrics == {"ndcg@10": pytest.approx(0.5), "mrr@10": pytest.approx(1 / 3)}
    assert scored.outputs["groups"] == data.dev.groups
    each = ranking_scores(np.array([0.0, 2, 1]), np.array([1, 0, 0]), [np.arange(3)])
    assert scored.outputs["mrr@10"] == each["mrr@10"] * 2
    assert RankingScorer(data.dev.groups, data.dev.labels)(np.full((len(data.dev), 1), np.nan)).metrics["mrr@10"] == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"text_pair": None}, "--group must come with --text-pair: the rows of a group are pairs"),
        ({"group": "label"}, "--group and --label must name different columns"),
        ({"multi_label": ";"}, "--multi-label must not be given with --group"),
        ({"group": "topic"}, "topic"),
        ({"train": table(range(30), "a b")}, "label must be a finite number, got 'a'"),
        ({"train": table(range(30), "1 -2")}, "with --group a label must be 0 or larger, got '-2'"),
        ({"dev": table(range(3), "2 0")}, "with --group a label must be 0 or 1, as those of --train are, got '2'"),
        (
            {"dev": table(range(4), "0 0")},
            "dev must have a group \\(--group id\\) in which some rows are more relevant",
        ),
    ],
)
def test_what_cannot_be_ranked_is_refused(load: Callable[..., Dataset], settings: Any, message: str) -> None:
    content = {"train": table(range(30)), "dev": table(range(9), first="d")}
    with pytest.raises(DataError, match=message):
        load(**{**content, **settings})
