"""What `analyze` needs to know, as settings without torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from cutbert.errors import InputError, Mistakes
from cutbert.settings import check_device

Kernel = Literal["linear", "rbf"]
Estimator = Literal["minibatch", "exact", "biased"]
RowKind = Literal["tokens", "cls", "mean"]
Pooling = Literal["cls", "mean"]
Split = Literal["train", "select", "dev"]
Pictures = Literal["svg", "png", "none"]

BANDWIDTH = 0.8  # of the median distance: the largest, and most like the linear kernel, of Kornblith et al. 2019
MOST_AT_ONCE = 3000  # rows whose Gram matrices fit into memory, one per layer
LEAST_EXAMPLES = 8
PROBE_FOLDS = 3
SAME = 1e-6  # features that differ by less, relative to the largest, are equal up to rounding


@dataclass(frozen=True, kw_only=True)
class AnalyzeSettings:
    """What is looked at, on how many texts, and where the result goes."""

    against: str | None = field(default=None, metadata={"help": "Another model to compare with, of any shape."})
    out: str | None = field(
        default=None,
        metadata={"help": "Run folder for analysis.json and the pictures: absent, empty, or this command's own run."},
    )
    split: Split = field(default="train", metadata={"help": "Rows that CKA is measured on."})
    num_examples: int = field(default=2000, metadata={"help": "Texts of that split, drawn at random."})
    rows: RowKind = field(
        default="tokens",
        metadata={"help": "What a row of a representation is: a token, or a text by [CLS] or the mean."},
    )
    tokens_per_text: int = field(default=4, metadata={"help": "Tokens drawn per text on average, with --rows tokens."})
    kernel: Kernel = field(default="linear", metadata={"help": "Kernel of CKA."})
    bandwidth: float = field(
        default=BANDWIDTH, metadata={"help": "Width of --kernel rbf, as a fraction of the median distance."}
    )
    estimator: Estimator = field(
        default="minibatch",
        metadata={
            "help": "minibatch: unbiased, any number of texts in the same memory. exact: unbiased, all rows at once. "
            "biased: Kornblith's own, all rows at once."
        },
    )
    batch_size: int = field(default=128, metadata={"help": "Texts of a minibatch of CKA."})
    probe: Pooling = field(default="cls", metadata={"help": "What probes read of a text: [CLS] or the mean."})
    probe_examples: int = field(
        default=2000,
        metadata={"help": "Training texts that probes are trained on, and at most so many of dev; 0: none."},
    )
    importance_samples: int = field(
        default=1024, metadata={"help": "Training rows on which importance is measured; 0: none."}
    )
    pictures: Pictures | None = field(
        default=None,
        metadata={"help": "Kind of pictures in --out; default svg, or none where matplotlib is missing, said aloud."},
    )
    seed: int = field(default=0, metadata={"help": "Seed of the texts, the tokens, the folds and the shuffled labels."})
    device: str = field(default="auto", metadata={"help": "auto, cpu, cuda or cuda:N."})
    threads: int | None = field(default=None, metadata={"help": "CPU threads; default all cores."})

    @property
    def rows_per_text(self) -> int:
        """Rows that a text gives CKA, on average."""
        return self.tokens_per_text if self.rows == "tokens" else 1

    @property
    def texts_at_once(self) -> int:
        """Texts of a minibatch of CKA; all of them for the estimators that are no sum over minibatches."""
        return self.batch_size if self.estimator == "minibatch" else self.num_examples

    def check(self) -> None:
        """Raise an InputError with every setting that is out of range or without effect."""
        mistakes = Mistakes()
        for name, least in (
            ("num_examples", LEAST_EXAMPLES),
            ("batch_size", LEAST_EXAMPLES),
            ("tokens_per_text", 1),
            ("threads", 1),
            ("seed", 0),
            ("importance_samples", 0),
        ):
            value = getattr(self, name)
            if value is not None and value < least:
                mistakes.add(f"--{name.replace('_', '-')} must be at least {least}, got {value}")
        if 0 != self.probe_examples < LEAST_EXAMPLES:
            mistakes.add(f"--probe-examples must be 0 or at least {LEAST_EXAMPLES}, got {self.probe_examples}")
        if not 0 < self.bandwidth < float("inf"):
            mistakes.add(f"--bandwidth must be a number above 0, got {self.bandwidth}")
        if self.bandwidth != BANDWIDTH and self.kernel != "rbf":
            mistakes.add("--bandwidth must come with --kernel rbf")
        at_once = self.texts_at_once * self.rows_per_text
        if at_once > MOST_AT_ONCE:
            texts = (
                "--batch-size" if self.estimator == "minibatch" else f"with --estimator {self.estimator} --num-examples"
            )
            per_text = " times --tokens-per-text" if self.rows == "tokens" else ""
            mistakes.add(f"{texts}{per_text} must be at most {MOST_AT_ONCE} rows, got {at_once}")
        if self.pictures in ("svg", "png") and self.out is None:
            mistakes.add(f"--pictures {self.pictures} must come with --out")
        with mistakes.collect():
            check_device(self.device)
        mistakes.check(InputError)
