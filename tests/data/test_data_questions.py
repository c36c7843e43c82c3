"""Questions in SQuAD's layout: files and hub, both versions, what is refused, and how they are split."""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tiny_questions import squad, squad_text

from cutbert.data.dataset import Dataset, load_dataset
from cutbert.data.questions import AnswerSpan, Questions
from cutbert.data.settings import DataSettings
from cutbert.errors import DataError

Write = Callable[[str, str | bytes], str]


def write_squad(write: Write, folder: str, version: str = "v1.1", **options: Any) -> Path:
    write(f"{folder}/train-{version}.json", squad_text(0, 20, **options))
    return Path(write(f"{folder}/dev-{version}.json", squad_text(50, 3, **options))).parent


def questions(data: Dataset) -> tuple[Questions, Questions, Questions]:
    found = data.train, data.select, data.dev
    assert all(isinstance(each, Questions) for each in found)
    return found  # type: ignore[return-value]


@pytest.mark.parametrize("from_root", [True, False])
def test_the_official_layout(write: Write, from_root: bool) -> None:
    folder = write_squad(write, "root/SQuAD")
    data = load_dataset(DataSettings(task="squad", data_dir=folder.parent if from_root else folder))
    train, select, dev = questions(data)
    assert (data.name, data.head.kind, data.metric) == ("squad", "span", "f1")
    assert (len(train), len(select), len(dev)) == (36, 4, 6)
    assert dev.ids == ["50-0", "50-1", "51-0", "51-1", "52-0", "52-1"]
    assert dev.answers is not None and not dev.has_unanswerable
    for context, answers in zip(dev.context, dev.answers, strict=True):
        assert [context[each.start : each.start + len(each.text)] for each in answers] == [answers[0].text]
    assert list(data.files) == [str(folder / "train-v1.1.json"), str(folder / "dev-v1.1.json")]


def test_all_questions_of_a_text_lie_in_one_split(write: Write) -> None:
    folder = write_squad(write, "SQuAD", questions=3)
    train, select, _ = questions(load_dataset(DataSettings(task="squad", data_dir=folder)))
    assert len(select) == 6 and not set(train.context) & set(select.context)


def test_unanswerable_questions_belong_to_the_second_version(write: Write) -> None:
    folder = write_squad(write, "SQuAD", "v2.0", answered=False)
    _, _, dev = questions(load_dataset(DataSettings(task="squad2", data_dir=folder)))
    assert dev.has_unanswerable and dev.answers is not None
    assert [len(each) for each in dev.answers] == [1, 0] * 3
    (folder / "train-v2.0.json").rename(folder / "train-v1.1.json")
    (folder / "dev-v2.0.json").rename(folder / "dev-v1.1.json")
    place = "article 1, paragraph 1, question 2: must have an answer; --task squad2 has questions without"
    with pytest.raises(DataError, match=place):
        load_dataset(DataSettings(task="squad", data_dir=folder))


def test_parts_and_zipped_files_have_longer_names_and_two_are_too_many(write: Write) -> None:
    folder = write_squad(write, "SQuAD")
    write("SQuAD/train-part-v1.1.json.gz", gzip.compress(squad_text(0, 10).encode()))
    with pytest.raises(DataError) as caught:
        load_dataset(DataSettings(task="squad", data_dir=folder))
    names = "train-part-v1.1.json.gz, train-v1.1.json"
    assert str(caught.value) == f"{folder}: must hold one file train*v1.1.json (or .json.gz), got {names}"
    (folder / "train-v1.1.json").unlink()
    train, select, _ = questions(load_dataset(DataSettings(task="squad", data_dir=folder)))
    assert len(train) + len(select) == 20


def test_a_folder_without_the_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load_dataset(DataSettings(task="squad2", data_dir=tmp_path))
    assert str(caught.value) == (
        f"--data-dir {tmp_path}: must hold SQuAD/train-v2.0.json and SQuAD/dev-v2.0.json (or .json.gz), "
        "or be the folder that holds train-v2.0.json and dev-v2.0.json"
    )


def test_broken_files_are_named_by_place(write: Write) -> None:
    folder = write_squad(write, "SQuAD")
    broken = squad(0, 6, questions=1)
    paragraphs = broken["data"][0]["paragraphs"]
    paragraphs[0]["qas"][0]["answers"][0]["answer_start"] += 1
    paragraphs[1]["context"] = " "
    del paragraphs[2]["qas"][0]["id"]
    paragraphs[3]["qas"][0]["answers"] = None
    paragraphs[4]["qas"] = 3
    write("SQuAD/train-v1.1.json", json.dumps(broken))
    write("SQuAD/dev-v1.1.json", "[1]")
    with pytest.raises(DataError) as caught:
        load_dataset(DataSettings(task="squad", data_dir=folder))
    train, found = folder / "train-v1.1.json", list(caught.value.mistakes)
    assert found[0].startswith(f"{train}: article 1, paragraph 1, question 1: an answer must be at its answer_start")
    assert found[1:5] == [
        f"{train}: article 1, paragraph 2, question 1: 'context' must not be empty",
        f"{train}: article 1, paragraph 3, question 1: 'id' must be text, got None",
        f"{train}: article 1, paragraph 4, question 1: 'answers' must be a list, got None",
        f"{train}: article 1, paragraph 5, question 1: 'id' must be text, got None",
    ]
    assert found[5].startswith(f"{folder / 'dev-v1.1.json'}: must be JSON in SQuAD's layout, an object with 'data'")
    write("SQuAD/dev-v1.1.json", '{"data": []}')
    with pytest.raises(DataError, match=r"dev-v1.1.json: has no rows"):
        load_dataset(DataSettings(task="squad", data_dir=folder))


def test_select_and_unlabeled_files(write: Write) -> None:
    folder = write_squad(write, "SQuAD")
    select = write("select.json", squad_text(18, 4))
    more = write("more.jsonl", '{"question": "is it ?", "context": "new words"}\n')
    data = load_dataset(DataSettings(task="squad", data_dir=folder, select=select, unlabeled=(more,)))
    train, chosen, _ = questions(data)
    assert (len(train), len(chosen)) == (36, 8)
    assert data.notes == ("4 rows of train left out, because select holds the same text",)
    assert isinstance(data.unlabeled, Questions) and data.unlabeled.context == ["new words"]
    joined = train.joined(data.unlabeled)
    assert len(joined) == 37 and joined.answers is None and joined.context[-1] == "new words"
    assert set(data.files) >= {select, more}
    with pytest.raises(DataError, match=r"missing\.json: cannot be read"):
        load_dataset(DataSettings(task="squad", data_dir=folder, select="missing.json"))


def test_samples_count_questions(write: Write) -> None:
    folder = write_squad(write, "SQuAD")
    data = load_dataset(DataSettings(task="squad", data_dir=folder, max_train_samples=7, max_eval_samples=3))
    assert (len(data.train), len(data.select), len(data.dev)) == (7, 3, 3)


def test_the_hub_gives_the_same_rows(monkeypatch: pytest.MonkeyPatch, write: Write) -> None:
    folder = write_squad(write, "SQuAD", "v2.0", answered=False)
    local = questions(load_dataset(DataSettings(task="squad2", data_dir=folder)))

    def rows(name: str, split: str) -> list[dict[str, Any]]:
        part = squad(*{"train": (0, 20), "validation": (50, 3)}[split], answered=False)
        assert name == "rajpurkar/squad_v2"
        found = []
        for each in part["data"][0]["paragraphs"]:
            for asked in each["qas"]:
                answers = {key: [answer[key] for answer in asked["answers"]] for key in ("text", "answer_start")}
                found.append({**asked, "context": each["context"], "answers": answers})
        return found

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=rows))
    data = load_dataset(DataSettings(task="squad2"))
    for ours, theirs in zip(local, questions(data), strict=True):
        assert (ours.ids, ours.question, ours.context, ours.answers) == (
            theirs.ids, theirs.question, theirs.context, theirs.answers
        )  # fmt: skip
    assert list(data.files) == ["rajpurkar/squad_v2 train", "rajpurkar/squad_v2 validation"]
    assert all(len(digest) == 64 for digest in data.files.values())


def test_rows_are_taken_in_order() -> None:
    answers = [(AnswerSpan("b", 2),), ()]
    rows = Questions(["x", "y"], ["a b", "c"], ["1", "2"], answers, True, 8)
    taken = rows.take(np.array([1, 0]))
    assert (taken.question, taken.context, taken.ids) == (["y", "x"], ["c", "a b"], ["2", "1"])
    assert taken.answers == [(), (AnswerSpan("b", 2),)] and taken.stride == 8
