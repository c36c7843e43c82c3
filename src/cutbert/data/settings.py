"""What the user says about data: a named task or own files, the splits, the lengths, augmentation."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field, fields

from cutbert.data.tasks import QUESTION_TASKS, TASK_NAMES, TASKS
from cutbert.errors import DataError, Mistakes

OWN_FILE_OPTIONS = ("train", "dev", "label", "regression", "multi_label", "tagging")
FILE_LISTS = ("train", "dev", "unlabeled")
MAX_LENGTH = 128
MAX_LENGTH_OF_QUESTIONS = 384  # with 128 tokens shared, what Devlin et al. 2018 (1810.04805) run SQuAD with
STRIDE = 128
MAX_QUESTION_TOKENS = 64
MOST_SPECIAL_TOKENS = 4


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Which rows to train and score on.

    Either `task` (a named task, read from `data_dir` or from the hub) or own files (`train`, `dev`, `text`,
    `label`). Nothing is read here; `check` only looks at what fits together.
    """

    task: str | None = field(default=None, metadata={"help": f"A named task: {', '.join(TASK_NAMES)}."})
    data_dir: str | None = field(
        default=None, metadata={"help": "The data root or the task's own folder, in the official layout."}
    )
    train: tuple[str, ...] = field(
        default=(),
        metadata={"help": "Training file: .tsv .csv .jsonl .parquet, for tagging .conll; repeatable; globs."},
    )
    dev: tuple[str, ...] = field(default=(), metadata={"help": "Dev file, only reported on; repeatable."})
    text: str | None = field(
        default=None, metadata={"help": "Column that holds the text; of a .conll file, its number from 0."}
    )
    text_pair: str | None = field(default=None, metadata={"help": "Column that holds the second text of a pair."})
    label: str | None = field(
        default=None, metadata={"help": "Column that holds the label; of a .conll file, its number (-1: the last)."}
    )
    regression: bool = field(default=False, metadata={"help": "Labels are numbers to predict, not class names."})
    multi_label: str | None = field(
        default=None, metadata={"help": "Separator between the labels of one row; a row may have none."}
    )
    tagging: bool = field(default=False, metadata={"help": "Labels are one per word."})
    select: str | None = field(
        default=None,
        metadata={"help": "File to choose subnets on, or 'dev'; default: 10 % of training, at most 1,000 rows."},
    )
    unlabeled: tuple[str, ...] = field(
        default=(), metadata={"help": "File of texts without labels, added to distillation; repeatable."}
    )
    max_length: int | None = field(
        default=None,
        metadata={
            "help": f"Longest input in tokens; longer ones are cut. Default: {MAX_LENGTH}, "
            f"{MAX_LENGTH_OF_QUESTIONS} for question answering, where long texts become several windows."
        },
    )
    stride: int = field(
        default=STRIDE, metadata={"help": "Tokens that neighbouring windows of a text share; question answering only."}
    )
    max_train_samples: int | None = field(default=None, metadata={"help": "Train on a random part of this many rows."})
    max_eval_samples: int | None = field(
        default=None, metadata={"help": "Score on the first rows only, this many of select and of dev."}
    )

    def __post_init__(self) -> None:
        for name in FILE_LISTS:
            value = getattr(self, name)
            files: Iterable[str | os.PathLike[str]] = [value] if isinstance(value, str | os.PathLike) else value
            object.__setattr__(self, name, tuple(os.fspath(file) for file in files))
        for name in ("data_dir", "select"):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else os.fspath(value))
        for name in ("text", "label"):
            value = getattr(self, name)
            object.__setattr__(self, name, str(value) if isinstance(value, int) else value)

    @property
    def has_questions(self) -> bool:
        """Whether the task is extractive question answering."""
        return self.task in QUESTION_TASKS

    @property
    def length_limit(self) -> int:
        """Longest input in tokens: what was given, or the default of the task."""
        if self.max_length is not None:
            return self.max_length
        return MAX_LENGTH_OF_QUESTIONS if self.has_questions else MAX_LENGTH

    def check(self) -> None:
        """Refuse what does not fit together.

        Raises:
            DataError: every such mistake, together.
        """
        mistakes = Mistakes()
        if self.task is None:
            mistakes.extend(self._own_file_mistakes())
        else:
            mistakes.extend(self._task_mistakes())
        if self.length_limit < 2:
            mistakes.add(f"--max-length must be at least 2, got {self.max_length}")
        mistakes.extend(self._stride_mistakes())
        for name in ("max_train_samples", "max_eval_samples"):
            value = getattr(self, name)
            if value is not None and value < 1:
                mistakes.add(f"{option(name)} must be at least 1, got {value}")
        mistakes.check(DataError)

    def _stride_mistakes(self) -> Iterable[str]:
        if not self.has_questions:
            if self.stride != STRIDE:
                yield f"--stride is for question answering (--task {' or '.join(QUESTION_TASKS)}), got {self.stride}"
            return
        most = self.length_limit - question_limit(self.length_limit) - MOST_SPECIAL_TOKENS - 1
        if not 0 <= self.stride <= most:
            room = f"0..{most}, so that every window of --max-length {self.length_limit} tokens has new ones"
            yield (
                f"--stride must lie in {room}, got {self.stride}"
                if most >= 0
                else (f"--max-length leaves no room for a text beside its question, got {self.length_limit}")
            )

    def _task_mistakes(self) -> Iterable[str]:
        if self.task not in TASK_NAMES:
            yield f"--task must be one of {', '.join(TASK_NAMES)}, got {self.task!r}"
        defaults = {each.name: each.default for each in fields(self)}
        for name in OWN_FILE_OPTIONS:
            if getattr(self, name) != defaults[name]:
                yield f"{option(name)} is for own files and must not be given with --task"
        for name in ("text", "text_pair"):
            if getattr(self, name) is not None and not self.unlabeled:
                yield f"{option(name)} with --task names a column of --unlabeled files, and there are none"
        if self.text_pair is not None and self.task in TASKS and TASKS[self.task].layout.text_pair is None:
            yield f"--text-pair must not be given: the texts of --task {self.task} come singly"

    def _own_file_mistakes(self) -> Iterable[str]:
        named = [name for name in ("train", "dev", "text", "label") if getattr(self, name)]
        if not named:
            yield "data must be given: --task NAME, or --train FILE --dev FILE --text COLUMN --label COLUMN"
            return
        for name in ("train", "dev", "text", "label"):
            if name not in named:
                yield f"{option(name)} must be given with own files"
        columns = [value for value in (self.text, self.text_pair, self.label) if value is not None]
        if len(set(columns)) < len(columns):
            yield "--text, --text-pair and --label must name different columns"
        if self.data_dir is not None:
            yield "--data-dir goes with --task and must not be given with own files"
        if self.tagging:
            for name in ("text_pair", "regression", "multi_label"):
                if getattr(self, name):
                    yield f"{option(name)} must not be given with --tagging"
        if self.regression and self.multi_label is not None:
            yield "--regression and --multi-label must not be given together"
        if self.multi_label is not None and not self.multi_label.strip(" "):
            yield "--multi-label must be a separator other than spaces"


@dataclass(frozen=True, kw_only=True)
class AugmentSettings:
    """How many variants of a text to make, and how far from it."""

    num_candidates: int = field(default=15, metadata={"help": "M: candidates for a replaced word."})
    replace_prob: float = field(default=0.4, metadata={"help": "p: probability that a word is replaced."})
    num_rounds: int = field(
        default=20, metadata={"help": "N: rounds, each a variant of every text; the papers take 10 to 30."}
    )

    def check(self) -> None:
        """Refuse numbers outside their range.

        Raises:
            DataError: every such mistake, together.
        """
        mistakes = Mistakes()
        for name in ("num_candidates", "num_rounds"):
            if getattr(self, name) < 1:
                mistakes.add(f"{name} of augmentation must be at least 1, got {getattr(self, name)}")
        if not 0 < self.replace_prob <= 1:
            mistakes.add(f"replace_prob of augmentation must lie in (0, 1], got {self.replace_prob}")
        mistakes.check(DataError)


def question_limit(max_length: int) -> int:
    """Return the most tokens of a question in a window: 64, as BERT did, or a third of the window if that is less."""
    return min(MAX_QUESTION_TOKENS, max_length // 3)


def option(name: str) -> str:
    """Return a field's name as it is written on the command line."""
    return "--" + name.replace("_", "-")
