"""What the user says about data: a named task or own files, the splits, the lengths, augmentation."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from cutbert.data.tasks import QUESTION_TASKS, TASK_NAMES, TASKS
from cutbert.errors import DataError, InputError
from cutbert.lengths import MOST_SPECIAL_TOKENS
from cutbert.options import option, option_name
from cutbert.settings import DATA, METHOD, MODEL, Settings, paths_as_text
from cutbert.shape.pooling import PoolingChoice

OWN_FILE_OPTIONS = ("train", "dev", "label", "regression", "multi_label", "tagging", "group")
RETRIEVAL = ("queries", "corpus", "relevant")
PAIR_TASK = "stsb"
MAX_LENGTH = 128
MAX_LENGTH_OF_QUESTIONS = 384  # with 128 tokens shared, what Devlin et al. 2018 (1810.04805) run SQuAD with
STRIDE = 128
MAX_QUESTION_TOKENS = 64
CANDIDATES = option(
    "Candidates for a replaced word (the paper's M).", least=1, ceiling=1000, flag="--augment-candidates"
)
PROBABILITY = option("Chance of replacing a word (the paper's p).", above=0, most=1, flag="--augment-probability")
ROUNDS = option(
    "Variants made of each text (the paper's N, of 10 to 30).", least=1, ceiling=1000, flag="--augment-rounds"
)


@dataclass(frozen=True, kw_only=True)
class DataSettings(Settings):
    """Which rows to train and score on.

    Either `task` (a named task, read from `data_dir` or from the hub) or own files (`train`, `text`, `label`, perhaps
    `dev`). Nothing is read here; `check` only looks at what fits together.
    """

    GROUP = DATA
    ERROR: ClassVar[type[InputError]] = DataError

    objective: Literal["task", "embedding"] = field(
        default="task",
        metadata=option(
            "task: learn the rows of a task; embedding: the vectors of MODEL, a sentence-transformers model, on plain "
            "texts.",
            group=METHOD,
            is_common=True,
        ),
    )
    task: str | None = field(default=None, metadata=option("A named task.", choices=TASK_NAMES, is_common=True))
    data_dir: str | None = field(
        default=None,
        metadata=option("The data root or the task's own folder, in the official layout.", is_common=True),
    )
    train: tuple[str, ...] = field(
        default=(),
        metadata=option(
            "Training file: .tsv .csv .jsonl .parquet, for tagging .conll, for embedding .txt too; or a glob.",
            is_common=True,
        ),
    )
    dev: tuple[str, ...] = field(
        default=(),
        metadata=option("Dev file, only reported on; default 10 % of training, at most 1,000 rows.", is_common=True),
    )
    queries: str | None = field(
        default=None, metadata=option("Queries to score an embedding model by: columns _id and text, as in BEIR.")
    )
    corpus: str | None = field(
        default=None, metadata=option("Texts that the queries search: columns _id and text, as in BEIR.")
    )
    relevant: str | None = field(
        default=None,
        metadata=option("Which texts answer which queries: columns query-id, corpus-id and score, as in BEIR."),
    )
    text: str | None = field(
        default=None,
        metadata=option("Column that holds the text; of a .conll file, its number from 0.", is_common=True),
    )
    text_pair: str | None = field(default=None, metadata=option("Column that holds the second text of a pair."))
    label: str | None = field(
        default=None,
        metadata=option("Column that holds the label; of a .conll file, its number (-1: the last).", is_common=True),
    )
    regression: bool = field(default=False, metadata=option("Labels are numbers to predict, not class names."))
    multi_label: str | None = field(
        default=None, metadata=option("Separator between the labels of one row; a row may have none.")
    )
    tagging: bool = field(default=False, metadata=option("There is one label per word."))
    group: str | None = field(
        default=None,
        metadata=option(
            "Column of a pair's group, as its query; pairs are ranked in it by one output (a reranker). Labels say how "
            "relevant a pair is."
        ),
    )
    select: str | None = field(
        default=None,
        metadata=option("File to choose subnets on, or 'dev'; default 10 % of training, at most 1,000 rows."),
    )
    pooling: PoolingChoice = field(
        default="auto",
        metadata=option(
            "What a text's head reads: the first token (cls) or the mean over tokens. auto: what the model's files "
            "say, else cls.",
            group=MODEL,
        ),
    )
    unlabeled: tuple[str, ...] = field(
        default=(), metadata=option("File of texts without labels, added to distillation; a .txt has one a line.")
    )
    max_length: int | None = field(
        default=None,
        metadata=option(
            f"Longest input; longer ones are cut. Default {MAX_LENGTH}; {MAX_LENGTH_OF_QUESTIONS} for question "
            "answering, where long texts become several windows; for embedding what MODEL's folder names.",
            least=MOST_SPECIAL_TOKENS,
            unit="tokens",
            is_common=True,
        ),
    )
    stride: int = field(
        default=STRIDE,
        metadata=option("Overlap of neighbouring windows of a text; question answering only.", least=0, unit="tokens"),
    )
    max_train_samples: int | None = field(
        default=None, metadata=option("Train on a random part of the rows, at most this many.", least=1, unit="rows")
    )
    max_eval_samples: int | None = field(
        default=None,
        metadata=option("Score on the first rows only, this many of select and of dev.", least=1, unit="rows"),
    )

    def __post_init__(self) -> None:
        for name in ("train", "dev", "unlabeled"):
            object.__setattr__(self, name, paths_as_text(getattr(self, name)))
        for name in ("data_dir", "select", *RETRIEVAL):
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
        """Longest input in tokens: what was given, or the default of the task; an embedding model may name another."""
        if self.max_length is not None:
            return self.max_length
        return MAX_LENGTH_OF_QUESTIONS if self.has_questions else MAX_LENGTH

    @property
    def judging(self) -> str:
        """Name of the option of the own files whose rows must have every label."""
        return "train" if self.train else "dev"

    @property
    def is_embedding(self) -> bool:
        """Whether vectors are learned, not labels."""
        return self.objective == "embedding"

    def missing(self) -> Iterable[str]:
        if self.is_embedding:
            if self.task is None and not self.train:
                yield "texts to learn from must be given: --train FILE (a .txt has one a line), or --task stsb"
            return
        yield from self._missing_of_task("train")

    def _missing_of_task(self, files: str) -> Iterable[str]:
        """Yield what is missing beside files to train or to score on; `files` is the name of their option."""
        if self.task is not None:
            return
        wanted = (files, "text", "label")
        absent = [name for name in wanted if not getattr(self, name)]
        if len(absent) == len(wanted):
            yield f"data must be given: --task NAME, or {option_name(files)} FILE --text COLUMN --label COLUMN"
        else:
            yield from (f"{option_name(name)} must be given with own files" for name in absent)

    def conflicts(self) -> Iterable[str]:
        if self.is_embedding:
            yield from self._embedding_mistakes()
            return
        yield from (f"{name} is for --objective embedding" for name in self.given(*RETRIEVAL))
        yield from self._own_file_mistakes() if self.task is None else self._task_mistakes()
        yield from self._stride_mistakes()
        if self.pooling != "auto" and (self.tagging or self.has_questions):
            yield f"--pooling is for labels of whole texts; a head of this data reads every token, got {self.pooling}"

    def _embedding_mistakes(self) -> Iterable[str]:
        yield from (
            f"{name} is for --objective task"
            for name in self.given("regression", "multi_label", "tagging", "group", "unlabeled", "stride", "pooling")
        )
        if self.task not in (None, PAIR_TASK):
            yield f"--task with --objective embedding must be {PAIR_TASK}, pairs with a number, got {self.task}"
        if self.task is not None:
            yield from (f"{name} must not be given with --task" for name in self.given("dev", "label"))
        elif self.data_dir is not None:
            yield "--data-dir goes with --task and must not be given with own files"
        if self.select == "dev":
            yield "--select must be a file with --objective embedding, whose choices are never made on dev"
        given, absent = self.given(*RETRIEVAL), [option_name(name) for name in RETRIEVAL if not self.is_given(name)]
        if given and absent:
            yield f"{' and '.join(given)} must come with {' and '.join(absent)}"
        if self.label is not None and (self.text is None or self.text_pair is None):
            yield "--label must come with --text and --text-pair, the columns of the texts that it is about"
        columns = [value for value in (self.text, self.text_pair, self.label) if value is not None]
        if len(set(columns)) < len(columns):
            yield "--text, --text-pair and --label must name different columns"

    def _stride_mistakes(self) -> Iterable[str]:
        if not self.has_questions:
            if self.stride != STRIDE:
                yield f"--stride is for question answering (--task {' or '.join(QUESTION_TASKS)}), got {self.stride}"
            return
        most = self.length_limit - question_limit(self.length_limit) - MOST_SPECIAL_TOKENS - 1
        if self.stride > most:
            room = f"0..{most}, so that every window of --max-length {self.length_limit} tokens has new ones"
            yield (
                f"--stride must lie in {room}, got {self.stride}"
                if most >= 0
                else f"--max-length must leave room for a text beside its question, got {self.length_limit}"
            )

    def _task_mistakes(self) -> Iterable[str]:
        for name in self.given(*OWN_FILE_OPTIONS):
            yield f"{name} is for own files and must not be given with --task"
        for name in ("text", "text_pair"):
            if getattr(self, name) is not None and not self.unlabeled:
                yield f"{option_name(name)} with --task names a column of --unlabeled files, and there are none"
        if self.text_pair is not None and self.task in TASKS and TASKS[self.task].layout.text_pair is None:
            yield f"--text-pair must not be given: the texts of --task {self.task} come singly"

    def _own_file_mistakes(self) -> Iterable[str]:
        columns = [value for value in (self.text, self.text_pair, self.label) if value is not None]
        if len(set(columns)) < len(columns):
            yield "--text, --text-pair and --label must name different columns"
        if self.data_dir is not None:
            yield "--data-dir goes with --task and must not be given with own files"
        if self.tagging:
            for name in ("text_pair", "regression", "multi_label"):
                if getattr(self, name):
                    yield f"{option_name(name)} must not be given with --tagging"
        if self.group is not None:
            if self.text_pair is None:
                yield "--group must come with --text-pair: the rows of a group are pairs, as of a query and a text"
            if self.group == self.label:
                yield "--group and --label must name different columns"
            for name in ("tagging", "multi_label"):
                if getattr(self, name):
                    yield f"{option_name(name)} must not be given with --group"
        if self.regression and self.multi_label is not None:
            yield "--regression and --multi-label must not be given together"
        if self.multi_label is not None and not self.multi_label.strip(" "):
            yield "--multi-label must be a separator other than spaces"


@dataclass(frozen=True, kw_only=True)
class ScoredData(DataSettings):
    """Which rows to score on, where nothing is learned: there need be no rows to train on."""

    def missing(self) -> Iterable[str]:
        if not self.is_embedding:
            yield from self._missing_of_task(self.judging)
        elif self.task is None and not (self.train or self.dev or self.queries):
            yield (
                "data to score vectors on must be given: --dev FILE with --text, --text-pair and --label, "
                "--task stsb, or --queries, --corpus and --relevant"
            )


@dataclass(frozen=True, kw_only=True)
class AugmentSettings(Settings):
    """How many variants of a text to make, and how far from it; options of `dynabert`."""

    GROUP = METHOD
    ERROR: ClassVar[type[InputError]] = DataError

    num_candidates: int = field(default=15, metadata=CANDIDATES)
    replace_prob: float = field(default=0.4, metadata=PROBABILITY)
    num_rounds: int = field(default=20, metadata=ROUNDS)


def question_limit(max_length: int) -> int:
    """Return the most tokens of a question in a window: 64, as BERT did, or a third of the window if that is less."""
    return min(MAX_QUESTION_TOKENS, max_length // 3)
