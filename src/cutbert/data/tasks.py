"""The named tasks: their files, columns, labels and metric."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FileLayout:
    """The columns of a file.

    Args:
        text: column of the text.
        text_pair: column of the second text, or None.
        label: column of the label, or None for rows without labels.
        header: names of the columns of a file without a header row; None where the first row names them.
        labels_may_be_empty: whether an empty label is valid (multi-label: no label applies).
        group: column of the group that a pair is ranked in, which may be that of a text; None where none is.
        skip_incomplete: leave out and count rows with an empty field or a wrong number of fields, instead of an error.
    """

    text: str
    text_pair: str | None
    label: str | None
    header: tuple[str, ...] | None = None
    labels_may_be_empty: bool = False
    skip_incomplete: bool = False
    group: str | None = None

    @property
    def text_columns(self) -> tuple[str, ...]:
        return (self.text,) if self.text_pair is None else (self.text, self.text_pair)

    @property
    def columns(self) -> tuple[str, ...]:
        further = [] if self.group is None or self.group in self.text_columns else [self.group]
        return (*self.text_columns, *further, *([] if self.label is None else [self.label]))


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task with a fixed layout.

    Args:
        folder: name of its folder in the GLUE root.
        layout: columns of its files.
        labels: class names in id order; one name for regression.
        metric: the primary metric.
        regression: whether labels are numbers.
        dev_file: name of the dev file.
        hub_text: text columns of the same task in `nyu-mll/glue`; empty where it does not have the task.
        hub_dev: name of the dev split on the hub.
        hub_labels: class names in the order of the hub's ids; empty where they are `labels`.
        augment_rounds: N of augmentation in the papers' release; 20 for tasks it does not name.
    """

    folder: str
    layout: FileLayout
    labels: tuple[str, ...]
    metric: str = "accuracy"
    regression: bool = False
    dev_file: str = "dev.tsv"
    hub_text: tuple[str, ...] = ("sentence1", "sentence2")
    hub_dev: str = "validation"
    hub_labels: tuple[str, ...] = ()
    augment_rounds: int = 20


BINARY = ("0", "1")
ENTAILMENT = ("entailment", "not_entailment")
COLA_HEADER = ("source", "label", "mark", "sentence")

# Official QQP files have a few rows broken by line ends inside a question; the hub's version leaves them out too.
TASKS: dict[str, Task] = {
    "sst2": Task(folder="SST-2", layout=FileLayout("sentence", None, "label"), labels=BINARY, hub_text=("sentence",)),
    "cola": Task(
        folder="CoLA",
        layout=FileLayout("sentence", None, "label", header=COLA_HEADER),
        labels=BINARY,
        metric="matthews",
        hub_text=("sentence",),
        augment_rounds=30,
    ),
    "mrpc": Task(
        folder="MRPC", layout=FileLayout("#1 String", "#2 String", "Quality"), labels=BINARY, augment_rounds=30
    ),
    "stsb": Task(
        folder="STS-B",
        layout=FileLayout("sentence1", "sentence2", "score"),
        labels=("score",),
        metric="pearson",
        regression=True,
        augment_rounds=30,
    ),
    "qqp": Task(
        folder="QQP",
        layout=FileLayout("question1", "question2", "is_duplicate", skip_incomplete=True),
        labels=BINARY,
        hub_text=("question1", "question2"),
        augment_rounds=10,
    ),
    "mnli": Task(
        folder="MNLI",
        layout=FileLayout("sentence1", "sentence2", "gold_label"),
        labels=("contradiction", "entailment", "neutral"),
        dev_file="dev_matched.tsv",
        hub_text=("premise", "hypothesis"),
        hub_dev="validation_matched",
        hub_labels=("entailment", "neutral", "contradiction"),
        augment_rounds=10,
    ),
    "qnli": Task(
        folder="QNLI",
        layout=FileLayout("question", "sentence", "label"),
        labels=ENTAILMENT,
        hub_text=("question", "sentence"),
    ),
    "rte": Task(
        folder="RTE", layout=FileLayout("sentence1", "sentence2", "label"), labels=ENTAILMENT, augment_rounds=30
    ),
    "wnli": Task(folder="WNLI", layout=FileLayout("sentence1", "sentence2", "label"), labels=BINARY),
    "subj": Task(folder="SUBJ", layout=FileLayout("sentence", None, "label"), labels=BINARY, hub_text=()),
}


@dataclass(frozen=True, kw_only=True)
class QuestionTask:
    """A task of extractive question answering, in SQuAD's own layout.

    Args:
        version: as at the end of its files' names.
        hub: its name on the hub.
        has_unanswerable: whether some questions have no answer, and a model may say so.
        folder: name of its folder in the data root.
    """

    version: str
    hub: str
    has_unanswerable: bool
    folder: str = "SQuAD"


QUESTION_TASKS: dict[str, QuestionTask] = {
    "squad": QuestionTask(version="v1.1", hub="rajpurkar/squad", has_unanswerable=False),
    "squad2": QuestionTask(version="v2.0", hub="rajpurkar/squad_v2", has_unanswerable=True),
}
TASK_NAMES = (*TASKS, *QUESTION_TASKS)
