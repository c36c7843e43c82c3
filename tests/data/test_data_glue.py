"""Named tasks: the official layouts, the folder or the root, the hub, and the real files."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cutbert.data.dataset import Dataset, load_dataset
from cutbert.data.settings import DataSettings
from cutbert.data.tasks import TASKS
from cutbert.errors import DataError

Write = Callable[[str, str | bytes], str]

# For each task: header, a row with {label} {a} {b}, label names in files in id order.
OFFICIAL: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "sst2": ("sentence\tlabel\n", "{a}\t{label}\n", ("0", "1")),
    "cola": ("", "gj04\t{label}\t*\t{a}\n", ("0", "1")),
    "mrpc": ("\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n", "{label}\t1\t2\t{a}\t{b}\n", ("0", "1")),
    "stsb": (
        "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore\n",
        "0\tg\tf\t2012\t1\tnone\tnone\t{a}\t{b}\t{label}\n",
        ("0.000", "5.000", "3.800"),
    ),
    "qqp": ("id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n", "1\t2\t3\t{a}\t{b}\t{label}\n", ("0", "1")),
    "mnli": (
        "index\tpromptID\tpairID\tgenre\tsentence1\tsentence2\tlabel1\tgold_label\n",
        "0\t1\t1n\tfiction\t{a}\t{b}\tneutral\t{label}\n",
        ("contradiction", "entailment", "neutral"),
    ),
    "qnli": ("index\tquestion\tsentence\tlabel\n", "0\t{a}\t{b}\t{label}\n", ("entailment", "not_entailment")),
    "rte": ("index\tsentence1\tsentence2\tlabel\n", "0\t{a}\t{b}\t{label}\n", ("entailment", "not_entailment")),
    "wnli": ("index\tsentence1\tsentence2\tlabel\n", "0\t{a}\t{b}\t{label}\n", ("0", "1")),
    "subj": ("sentence\tlabel\n", "{a}\t{label}\n", ("0", "1")),
}


def content(task: str, part: str, count: int) -> str:
    header, row, labels = OFFICIAL[task]
    rows = (
        row.format(a=f'{part} "left {i} ', b=f'{part} right" {i}', label=labels[i % len(labels)]) for i in range(count)
    )
    return header + "".join(rows)


def write_task(write: Write, task: str, folder: str) -> Path:
    write(f"{folder}/train.tsv", content(task, "train", 30))
    return Path(write(f"{folder}/{TASKS[task].dev_file}", content(task, "dev", 5))).parent


def check_rows(task: str, data: Dataset) -> None:
    labels = OFFICIAL[task][2]
    assert (data.name, data.metric) == (task, TASKS[task].metric)
    assert (len(data.train), len(data.select), len(data.dev)) == (27, 3, 5)
    assert data.dev.text == [f'dev "left {i} ' for i in range(5)]
    pairs = None if TASKS[task].layout.text_pair is None else [f'dev right" {i}' for i in range(5)]
    assert data.dev.text_pair == pairs
    assert data.dev.labels is not None
    if task == "stsb":
        assert (data.head.kind, data.head.labels) == ("regression", ("score",))
        assert data.dev.labels.tolist() == [np.float32(labels[i % 3]) for i in range(5)]
    else:
        assert (data.head.kind, data.head.labels) == ("single_label", labels)
        assert data.dev.labels.tolist() == [i % len(labels) for i in range(5)]


def test_all_tasks_are_tested() -> None:
    assert set(OFFICIAL) == set(TASKS)


@pytest.mark.parametrize("task", OFFICIAL)
def test_official_layout_from_the_root_and_from_the_folder(write: Write, task: str) -> None:
    folder = write_task(write, task, f"glue/{TASKS[task].folder}")
    for data_dir in (folder, folder.parent):
        data = load_dataset(DataSettings(task=task, data_dir=str(data_dir)))
        check_rows(task, data)
        assert list(data.files) == [str(folder / "train.tsv"), str(folder / TASKS[task].dev_file)]


def test_data_dir_without_the_files_is_refused(write: Write, tmp_path: Path) -> None:
    write("SST-2/train.tsv", content("sst2", "train", 30))
    with pytest.raises(DataError) as caught:
        load_dataset(DataSettings(task="sst2", data_dir=str(tmp_path)))
    assert str(caught.value) == (
        f"--data-dir {tmp_path}: must hold SST-2/train.tsv and SST-2/dev.tsv, "
        "or be the folder that holds train.tsv and dev.tsv"
    )


def test_labels_that_a_task_does_not_have_are_named(write: Write) -> None:
    folder = write_task(write, "rte", "RTE")
    write("RTE/dev.tsv", content("rte", "dev", 3).replace("\tentailment", "\tneutral"))
    with pytest.raises(DataError) as caught:
        load_dataset(DataSettings(task="rte", data_dir=str(folder)))
    assert caught.value.mistakes == tuple(
        f"{folder}/dev.tsv: row {row} (line {row + 1}): label must be one of entailment, not_entailment, got 'neutral'"
        for row in (1, 3)
    )


def test_broken_rows_are_named_and_those_of_qqp_left_out(write: Write) -> None:
    folder = write_task(write, "sst2", "SST-2")
    write("SST-2/dev.tsv", content("sst2", "dev", 3) + "torn\n")
    with pytest.raises(DataError, match=r"dev.tsv: row 4 \(line 5\): must have 2 fields, as the header row, got 1"):
        load_dataset(DataSettings(task="sst2", data_dir=str(folder)))
    folder = write_task(write, "qqp", "QQP")
    write("QQP/train.tsv", content("qqp", "train", 30) + "1\t2\t3\ttorn\n")
    data = load_dataset(DataSettings(task="qqp", data_dir=str(folder)))
    check_rows("qqp", data)
    assert data.notes == (f"{folder}/train.tsv: 1 incomplete rows left out",)


def test_unlabeled_and_select_files_of_a_task(write: Write) -> None:
    folder = write_task(write, "cola", "CoLA")
    settings: dict[str, Any] = {"task": "cola", "data_dir": str(folder)}
    unlabeled = write("test.tsv", "index\tsentence\n0\tnew\n")
    select = write("select.tsv", 'gj04\t1\t\tchosen\ngj04\t1\t\ttrain "left 4 \n')
    data = load_dataset(DataSettings(**settings, unlabeled=(unlabeled,), select=select))
    assert data.unlabeled is not None and data.unlabeled.text == ["new"]
    assert (len(data.select), len(data.train)) == (2, 29)
    named = write("named.csv", "words\nnewer\n")
    data = load_dataset(DataSettings(**settings, unlabeled=(named,), text="words"))
    assert data.unlabeled is not None and data.unlabeled.text == ["newer"]


def fake_hub(task: str) -> SimpleNamespace:
    """A stand-in for the package `datasets` that holds the rows of `content`, with labels as the hub has them."""
    columns = TASKS[task].hub_text
    labels = TASKS[task].hub_labels or TASKS[task].labels

    def rows(name: str, config: str, split: str) -> list[dict[str, Any]]:
        assert (name, config) == ("nyu-mll/glue", task)
        part, count = {"train": ("train", 30), TASKS[task].hub_dev: ("dev", 5)}[split]
        found = []
        for i in range(count):
            texts = (f'{part} "left {i} ', f'{part} right" {i}')
            label = OFFICIAL[task][2][i % len(OFFICIAL[task][2])]
            number = float(label) if task == "stsb" else labels.index(label)
            found.append({**dict(zip(columns, texts, strict=False)), "label": number, "idx": i})
        return found

    return SimpleNamespace(load_dataset=rows)


@pytest.mark.parametrize("task", [task for task in OFFICIAL if TASKS[task].hub_text])
def test_the_hub_gives_the_same_rows(monkeypatch: pytest.MonkeyPatch, write: Write, task: str) -> None:
    folder = write_task(write, task, "here")
    local = load_dataset(DataSettings(task=task, data_dir=str(folder)))
    monkeypatch.setitem(sys.modules, "datasets", fake_hub(task))
    data = load_dataset(DataSettings(task=task))
    check_rows(task, data)
    assert data.head == local.head
    assert data.select.text == local.select.text
    assert list(data.files) == [f"nyu-mll/glue {task} train", f"nyu-mll/glue {task} {TASKS[task].hub_dev}"]


def test_hub_labels_without_a_name_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"sentence": f"text {i}", "label": -1 if i == 2 else 1} for i in range(3)]
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=lambda *_, **__: rows))
    with pytest.raises(DataError, match="nyu-mll/glue sst2 train: row 3: label must be one of 0, 1, got '-1'"):
        load_dataset(DataSettings(task="sst2"))


def test_a_hub_out_of_reach_asks_for_data_dir(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: str, **__: str) -> None:
        raise ConnectionError("Couldn't reach the Hub\nand more")

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=unreachable))
    with pytest.raises(DataError) as caught:
        load_dataset(DataSettings(task="sst2"))
    assert str(caught.value) == (
        "--task sst2: nyu-mll/glue cannot be had from the hub (Couldn't reach the Hub); give --data-dir"
    )
    with pytest.raises(DataError, match="--task subj is not on the hub; give --data-dir"):
        load_dataset(DataSettings(task="subj"))


REAL = {  # rows of train and dev, and rows of the commonest label in dev, as the data's README says
    "sst2": (67349, 872, 444),
    "cola": (8551, 1043, 721),
    "mrpc": (3668, 408, 279),
    "qqp": (20000, 3496, 2218),
    "qnli": (10475, 5463, 2761),
    "rte": (2490, 277, 146),
    "wnli": (635, 71, 40),
    "stsb": (5749, 1500, None),
    "subj": (9000, 1000, 500),
}


@pytest.mark.real_data
@pytest.mark.parametrize("task", REAL)
def test_real_files(real_data: Path, task: str) -> None:
    num_train, num_dev, commonest = REAL[task]
    data = load_dataset(DataSettings(task=task, data_dir=str(real_data)))
    assert len(data.train) + len(data.select) == num_train
    assert len(data.select) == min(1000, num_train // 10)
    assert len(data.dev) == num_dev
    assert data.dev.labels is not None
    if commonest is not None:
        assert np.bincount(data.dev.labels.astype(np.int64)).max() == commonest
    assert not set(data.train.text_keys()) & set(data.select.text_keys())
    assert data.notes == ()


@pytest.mark.real_data
def test_broken_real_rows_are_found(real_data: Path, write: Write) -> None:
    lines = (real_data / "SST-2" / "train.tsv").read_bytes().split(b"\n")
    broken = sorted(random.Random(0).sample(range(2, len(lines) - 1), 30))
    for number in broken:
        lines[number] = [b"no label", b"\t1", b"a\tb\tc", b"bad \xff byte\t0"][number % 4]
    folder = Path(write("train.tsv", b"\n".join(lines))).parent
    write("dev.tsv", (real_data / "SST-2" / "dev.tsv").read_bytes())
    with pytest.raises(DataError) as caught:
        load_dataset(DataSettings(task="sst2", data_dir=str(folder)))
    found = caught.value.mistakes
    assert [mistake.split(":")[1] for mistake in found[:20]] == [f" row {n} (line {n + 1})" for n in broken[:20]]
    assert found[20:] == ("... and 10 more",)
