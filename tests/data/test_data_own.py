"""Own files to a data set: labels, splits, unlabelled rows, and what does not fit together."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cutbert.data.dataset import Dataset, load_dataset
from cutbert.data.settings import AugmentSettings, DataSettings
from cutbert.data.tasks import TASKS
from cutbert.errors import DataError
from cutbert.shape.head import HeadSpec

Write = Callable[[str, str | bytes], str]


def table(*rows: tuple[str, ...], header: str = "text\tlabel") -> str:
    return "\n".join([header, *("\t".join(row) for row in rows)]) + "\n"


def numbered(count: int, labels: str = "ab") -> str:
    return table(*((f"text number {i}", labels[i % len(labels)]) for i in range(count)))


@pytest.fixture
def load(write: Write) -> Callable[..., Dataset]:
    """Load own files given by their content."""

    def load_content(train: str, dev: str, **settings: Any) -> Dataset:
        names = {"train": write("train.tsv", train), "dev": write("dev.tsv", dev)}
        for name in ("select", "unlabeled"):
            if settings.get(name, "dev") != "dev":
                settings[name] = write(f"{name}.tsv", settings[name])
        return load_dataset(DataSettings(**names, **{"text": "text", "label": "label", **settings}))

    return load_content


def mistakes_of(call: Callable[[], object]) -> list[str]:
    with pytest.raises(DataError) as caught:
        call()
    return [mistake.rsplit("/", 1)[-1] for mistake in caught.value.mistakes]


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (("b", "a", "C"), ("C", "a", "b")),
        (("10", "9", "-1"), ("-1", "9", "10")),
        (("10", "9", "x"), ("10", "9", "x")),
        (("1.5", "10", "9"), ("1.5", "10", "9")),
        ((" b", "a ", "b"), ("a", "b")),
    ],
)
def test_class_ids_follow_sorted_order(
    load: Callable[..., Dataset], labels: tuple[str, ...], names: tuple[str, ...]
) -> None:
    rows = table(*((f"text {i}", label) for i, label in enumerate(labels)))
    data = load(rows, rows, select="dev")
    assert data.head == HeadSpec("single_label", names)
    assert data.train.labels is not None and data.train.labels.dtype == np.int64
    assert data.train.labels.tolist() == [names.index(label.strip()) for label in labels]
    assert (data.name, data.metric) == ("own", "accuracy")


def test_regression(load: Callable[..., Dataset]) -> None:
    rows = table(("a", "1"), ("b", "-2.5e1"), ("c", " 0.25"), header="text\trating")
    data = load(rows, rows, label="rating", regression=True, select="dev")
    assert (data.head, data.metric) == (HeadSpec("regression", ("rating",)), "pearson")
    assert data.dev.labels is not None and data.dev.labels.dtype == np.float32
    assert data.dev.labels.tolist() == [1.0, -25.0, 0.25]


def test_regression_refuses_what_is_no_number(load: Callable[..., Dataset]) -> None:
    labels = ("nan", "inf", "high", "1_000", "1e39", "2")
    rows = table(*((f"text {i}", label) for i, label in enumerate(labels)))
    assert mistakes_of(lambda: load(rows, numbered(4, "12"), regression=True)) == [
        f"train.tsv: row {i} (line {i + 1}): label must be a finite number, got {label!r}"
        for i, label in enumerate(labels[:5], 1)
    ]


def test_multi_label(load: Callable[..., Dataset]) -> None:
    rows = table(("x", "sad;angry"), ("y", ""), ("z", "glad ; sad"))
    data = load(rows, rows, multi_label=";", select="dev")
    assert (data.head, data.metric) == (HeadSpec("multi_label", ("angry", "glad", "sad")), "f1")
    assert data.train.labels is not None and data.train.labels.dtype == np.float32
    assert data.train.labels.tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 1]]


def test_multi_label_mistakes(load: Callable[..., Dataset]) -> None:
    train = table(("x", "sad;;angry"), ("y", "glad"))
    dev = table(("x", "sad;mad"))
    assert mistakes_of(lambda: load(train, dev, multi_label=";", select="dev")) == [
        "train.tsv: row 1 (line 2): no label beside ';' must be empty, got 'sad;;angry'",
        "dev.tsv: row 1 (line 2): label must be one of angry, glad, sad, got 'mad'",
    ]
    none = table(("x", ""), ("y", ""))
    assert mistakes_of(lambda: load(none, none, multi_label=";")) == [
        "column 'label' of --train must hold 1 or more different labels, got 0"
    ]


def test_labels_unseen_in_train_are_named(load: Callable[..., Dataset]) -> None:
    dev = table(("x", "a"), ("y", "c"))
    select = table(("z", "B"))
    assert mistakes_of(lambda: load(numbered(20), dev, select=select)) == [
        "dev.tsv: row 2 (line 3): label must be one of a, b, got 'c'",
        "select.tsv: row 1 (line 2): label must be one of a, b, got 'B'",
    ]
    many = table(*((f"text {i}", str(i)) for i in range(12)))
    assert mistakes_of(lambda: load(many, dev))[0].endswith(
        "label must be one of 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more, got 'a'"
    )


def test_one_class_is_refused(load: Callable[..., Dataset]) -> None:
    assert mistakes_of(lambda: load(numbered(20, "a"), numbered(2, "a"))) == [
        "column 'label' of --train must hold 2 or more different labels, got 1"
    ]
    assert mistakes_of(lambda: load(table(("x", "0.1"), ("y", "0.10")), numbered(2, "1"), regression=True)) == [
        "column 'label' of --train must hold 2 or more different numbers, got 1"
    ]


def test_mistakes_of_all_files_come_together(load: Callable[..., Dataset]) -> None:
    broken = "text\tlabel\nx\n"
    found = mistakes_of(lambda: load(broken, "text\tmark\nx\ty\n", select=broken, unlabeled="other\nx\n"))
    assert found == [
        "train.tsv: row 1 (line 2): must have 2 fields, as the header row, got 1",
        "dev.tsv: has no column 'label'; columns: text, mark",
        "select.tsv: row 1 (line 2): must have 2 fields, as the header row, got 1",
        "unlabeled.tsv: has no column 'text'; columns: other",
    ]


def test_select_is_a_tenth_and_texts_lie_on_one_side(load: Callable[..., Dataset]) -> None:
    rows = numbered(300) + numbered(100).split("\n", 1)[1]
    data = load(rows, numbered(3))
    assert (len(data.train), len(data.select), len(data.dev)) == (360, 40, 3)
    assert not set(data.train.text) & set(data.select.text)
    assert not data.select_is_dev
    again = load(rows.replace("text number", "text  number"), numbered(3))
    assert [text.split()[-1] for text in again.select.text] == [text.split()[-1] for text in data.select.text]


def test_dev_is_held_out_where_none_is_given(write: Write) -> None:
    rows = numbered(300) + numbered(100).split("\n", 1)[1]
    own: dict[str, Any] = {"text": "text", "label": "label"}
    data = load_dataset(DataSettings(train=write("train.tsv", rows), **own))
    assert (len(data.train), len(data.select), len(data.dev)) == (324, 36, 40)
    parts = [set(part.text) for part in (data.train, data.select, data.dev)]
    assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]
    assert data.notes == ("40 rows of train are held out as dev, by hash of the text, as no --dev is given",)
    # dev is what select is where dev is given: the same hashes.
    given = load_dataset(DataSettings(train=write("train.tsv", rows), dev=write("dev.tsv", numbered(3)), **own))
    assert data.dev.text == given.select.text
    many = load_dataset(DataSettings(train=write("many.tsv", numbered(20_000)), **own))
    assert (len(many.train), len(many.select), len(many.dev)) == (18_000, 1000, 1000)


def test_a_held_out_dev_beside_each_kind_of_select(write: Write) -> None:
    own: dict[str, Any] = {"train": write("train.tsv", numbered(100)), "text": "text", "label": "label"}
    on_dev = load_dataset(DataSettings(select="dev", **own))
    assert on_dev.select.text == on_dev.dev.text and len(on_dev.dev) == 10 and len(on_dev.train) == 90
    select = table(*((f"text number {i}", "a") for i in range(50)))
    beside = load_dataset(DataSettings(select=write("select.tsv", select), **own))
    assert (len(beside.train), len(beside.select), len(beside.dev)) == (45, 50, 5)
    assert not set(beside.dev.text) & set(beside.select.text)
    two = write("two.tsv", table(("x", "a"), ("y", "b")))
    assert mistakes_of(lambda: load_dataset(DataSettings(**{**own, "train": two}))) == [
        "train must have rows besides those of select and dev; give more rows, or files by --select and --dev"
    ]


def test_select_file_takes_its_texts_out_of_train(load: Callable[..., Dataset]) -> None:
    data = load(numbered(10), numbered(10), select=table(("text number 3 ", "a"), ("other", "b")))
    assert data.select.text == ["text number 3 ", "other"]
    assert data.train.text == [f"text number {i}" for i in range(10) if i != 3]
    assert data.notes == ("1 rows of train left out, because select holds the same text",)
    assert not data.select_is_dev


def test_select_dev_is_dev_and_train_is_whole(load: Callable[..., Dataset]) -> None:
    data = load(numbered(10), numbered(10), select="dev")
    assert data.select_is_dev
    assert data.select.text == data.dev.text
    assert len(data.train) == 10


def test_train_must_remain(load: Callable[..., Dataset]) -> None:
    expected = ["train must have rows besides those of select; give more rows, or another file by --select"]
    assert mistakes_of(lambda: load(numbered(6), numbered(2), select=numbered(8))) == expected
    same = table(("x", "a"), ("x", "b"))
    assert mistakes_of(lambda: load(same, same)) == expected


def test_unlabeled_rows_need_texts_only(load: Callable[..., Dataset]) -> None:
    unlabeled = "more\ttext\n1\tnew text\n2\ttext number 1\n3\ttext number 77\n"
    data = load(numbered(40), table(("text number 77", "a")), select="dev", unlabeled=unlabeled)
    assert data.unlabeled is not None
    assert data.unlabeled.text == ["new text", "text number 1"]
    assert data.unlabeled.labels is None
    assert data.notes == ("1 rows of unlabeled left out, because select or dev holds the same text",)


def test_unlabeled_texts_may_stand_one_a_line(load: Callable[..., Dataset], write: Write) -> None:
    """A file of lines has no columns, so a task of pairs refuses it."""
    lines, more = write("more.txt", "new text\n\n text number 77 \n"), write("more.tsv", "text\nother\n")
    write("train.tsv", numbered(40))
    options: dict[str, Any] = {"train": (str(Path(more).parent / "train.tsv"),), "text": "text", "label": "label"}
    data = load_dataset(DataSettings(**options, unlabeled=(lines, more)))
    assert data.unlabeled is not None and data.unlabeled.text == ["other", "new text", "text number 77"]
    rows = table(("p", "q", "a"), ("p", "r", "b"), header="one\ttwo\tlabel")
    write("train.tsv", rows)
    options |= {"text": "one", "text_pair": "two"}
    mistake = "more.txt: has no pairs; of these --unlabeled must be a file with columns"
    assert mistakes_of(lambda: load_dataset(DataSettings(**options, unlabeled=(lines,)))) == [mistake]


def test_pairs(load: Callable[..., Dataset]) -> None:
    rows = table(("p", "q", "a"), ("p", "r", "b"), header="one\ttwo\tlabel")
    data = load(rows, rows, text="one", text_pair="two", select=table(("p", "r", "b"), header="one\ttwo\tlabel"))
    assert (data.train.text, data.train.text_pair) == (["p"], ["q"])


def test_fewer_samples(load: Callable[..., Dataset]) -> None:
    whole = load(numbered(400), numbered(30))
    data = load(numbered(400), numbered(30), max_train_samples=50, max_eval_samples=7)
    assert (len(data.train), len(data.select), len(data.dev)) == (50, 7, 7)
    assert data.dev.text == whole.dev.text[:7]
    assert data.select.text == whole.select.text[:7]
    assert data.train.text != whole.train.text[:50]
    assert [text for text in whole.train.text if text in set(data.train.text)] == data.train.text
    assert load(numbered(400), numbered(30), max_train_samples=50).train.text == data.train.text
    assert len(load(numbered(400), numbered(30), max_train_samples=9999, max_eval_samples=9999).train) == 360


def test_files_are_hashed(load: Callable[..., Dataset]) -> None:
    data = load(numbered(20), numbered(3))
    hashes = {Path(name).name: digest for name, digest in data.files.items()}
    assert hashes == {
        "train.tsv": hashlib.sha256(numbered(20).encode()).hexdigest(),
        "dev.tsv": hashlib.sha256(numbered(3).encode()).hexdigest(),
    }


def test_globs_and_repeated_files(write: Write) -> None:
    names = [write(f"part{i}.tsv", numbered(10 + i)) for i in range(2)]
    more = write("more.jsonl", '{"text": "x", "label": "b"}\n')
    pattern = str(Path(names[0]).parent / "part*.tsv")
    settings = {"dev": write("dev.tsv", numbered(4)), "text": "text", "label": "label", "select": "dev"}
    data = load_dataset(DataSettings(train=(pattern, more), **settings))
    assert len(data.train) == 22
    with pytest.raises(DataError, match=r"--train and --dev must not both name .*part0.tsv"):
        load_dataset(DataSettings(**{**settings, "train": names[0], "dev": names[0]}))


OWN: dict[str, Any] = {"train": "t.tsv", "dev": "d.tsv", "text": "text", "label": "label"}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, ["data must be given: --task NAME, or --train FILE --text COLUMN --label COLUMN"]),
        ({"train": "t.tsv"}, [f"{name} must be given with own files" for name in ("--text", "--label")]),
        ({**OWN, "text_pair": "text"}, ["--text, --text-pair and --label must name different columns"]),
        ({**OWN, "data_dir": "x"}, ["--data-dir goes with --task and must not be given with own files"]),
        (
            {**OWN, "regression": True, "multi_label": ","},
            ["--regression and --multi-label must not be given together"],
        ),
        ({**OWN, "multi_label": " "}, ["--multi-label must be a separator other than spaces"]),
        (
            {**OWN, "max_length": 1, "max_train_samples": 0, "max_eval_samples": -1},
            [
                "--max-length must be at least 4, got 1",
                "--max-train-samples must be at least 1, got 0",
                "--max-eval-samples must be at least 1, got -1",
            ],
        ),
        (
            {"task": "SST-2"},
            [f"--task must be one of {', '.join(TASKS)}, squad, squad2, got 'SST-2'"],
        ),
        (
            {"task": "sst2", **OWN, "regression": True, "multi_label": ";"},
            [
                *(
                    f"{name} is for own files and must not be given with --task"
                    for name in ("--train", "--dev", "--label", "--regression", "--multi-label")
                ),
                "--text with --task names a column of --unlabeled files, and there are none",
            ],
        ),
        (
            {"task": "squad", "stride": 316, "tagging": True, "text": "q"},
            [
                "--tagging is for own files and must not be given with --task",
                "--text with --task names a column of --unlabeled files, and there are none",
                "--stride must lie in 0..315, so that every window of --max-length 384 tokens has new ones, got 316",
            ],
        ),
        (
            {"task": "squad2", "max_length": 6},
            ["--max-length must leave room for a text beside its question, got 6"],
        ),
        ({"task": "sst2", "stride": 64}, ["--stride is for question answering (--task squad or squad2), got 64"]),
        (
            {"task": "sst2", "text_pair": "b", "unlabeled": "u.tsv"},
            ["--text-pair must not be given: the texts of --task sst2 come singly"],
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], expected: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        DataSettings(**settings).check()
    assert list(caught.value.mistakes) == expected
    with pytest.raises(DataError):
        load_dataset(DataSettings(**settings))


def test_the_longest_input_follows_the_task() -> None:
    lengths = [DataSettings(task=task, max_length=n).length_limit for task in ("sst2", "squad2") for n in (None, 64)]
    assert lengths == [128, 64, 384, 64] and DataSettings().length_limit == 128
    DataSettings(task="squad", stride=315).check()


def test_settings_take_paths_and_single_names() -> None:
    settings = DataSettings(train="a.tsv", dev=[Path("b.tsv")], data_dir=Path("x"), select=Path("s.tsv"))  # type: ignore[arg-type]
    assert (settings.train, settings.dev, settings.data_dir, settings.select) == (("a.tsv",), ("b.tsv",), "x", "s.tsv")


def test_every_setting_has_help() -> None:
    for each in (*fields(DataSettings), *fields(AugmentSettings)):
        assert each.metadata["help"]


def test_select_and_dev_are_two_files(write: Write) -> None:
    rows = write("rows.tsv", "text\tlabel\na\tx\nb\ty\n")
    settings = DataSettings(train=write("train.tsv", "text\tlabel\nc\tx\nd\ty\n"), dev=rows, select=rows)
    with pytest.raises(DataError, match=r"--select and --dev must not both name .*: --select dev says so"):
        load_dataset(replace(settings, text="text", label="label"))
