"""What `analyze` needs to know, as settings without torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from cutbert.options import option
from cutbert.settings import METHOD, RUN, DeviceSettings, SeedSettings
from cutbert.shape.pooling import Pooling

Kernel = Literal["linear", "rbf"]
Estimator = Literal["minibatch", "exact", "biased"]
RowKind = Literal["tokens", "cls", "mean"]
Split = Literal["train", "select", "dev"]
Pictures = Literal["svg", "png", "none"]

BANDWIDTH = 0.8  # of the median distance: the largest, and most like the linear kernel, of Kornblith et al. 2019
MOST_AT_ONCE = 3000  # rows whose Gram matrices fit into memory, one per layer
LEAST_EXAMPLES = 8
PROBE_FOLDS = 3
SAME = 1e-6  # features that differ by less, relative to the largest, are equal up to rounding


@dataclass(frozen=True, kw_only=True)
class AnalyzeSettings(DeviceSettings, SeedSettings):
    """What is looked at, on how many texts, and where the result goes."""

    GROUP = METHOD

    against: str | None = field(
        default=None, metadata=option("Another model to compare with, of any shape.", is_common=True)
    )
    out: str | None = field(
        default=None,
        metadata=option(
            "Run folder for analysis.json and the pictures: absent, empty, or this command's own run.",
            group=RUN,
            is_common=True,
        ),
    )
    split: Split = field(default="train", metadata=option("Rows that CKA is measured on."))
    num_examples: int = field(
        default=2000,
        metadata=option("Texts of that split, drawn at random.", least=LEAST_EXAMPLES, unit="texts", is_common=True),
    )
    rows: RowKind = field(
        default="tokens",
        metadata=option("What a row of a representation is: a token, or a text by [CLS] or the mean."),
    )
    tokens_per_text: int = field(
        default=4, metadata=option("Tokens drawn per text on average, with --rows tokens.", least=1, unit="tokens")
    )
    kernel: Kernel = field(default="linear", metadata=option("Kernel of CKA."))
    bandwidth: float = field(
        default=BANDWIDTH,
        metadata=option("Width of --kernel rbf, as a fraction of the median distance.", above=0),
    )
    estimator: Estimator = field(
        default="minibatch",
        metadata=option(
            "minibatch: unbiased, any number of texts in the same memory. exact: unbiased, all rows at once. "
            "biased: Kornblith's own, all rows at once."
        ),
    )
    batch_size: int = field(
        default=128, metadata=option("Texts of a minibatch of CKA.", least=LEAST_EXAMPLES, unit="texts")
    )
    probe: Pooling = field(default="cls", metadata=option("What probes read of a text: [CLS] or the mean."))
    probe_examples: int = field(
        default=2000,
        metadata=option(
            "Training texts that probes are trained on, and at most as many of dev; 0: none.", least=0, unit="texts"
        ),
    )
    importance_samples: int = field(
        default=1024,
        metadata=option("Training rows on which importance is measured; 0: none.", least=0, unit="rows"),
    )
    pictures: Pictures | None = field(
        default=None,
        metadata=option(
            "Kind of pictures in --out; default svg, or none where matplotlib is missing, which a line says."
        ),
    )

    @property
    def rows_per_text(self) -> int:
        """Rows that a text gives CKA, on average."""
        return self.tokens_per_text if self.rows == "tokens" else 1

    @property
    def texts_at_once(self) -> int:
        """Texts of a minibatch of CKA; all of them for the estimators that are no sum over minibatches."""
        return self.batch_size if self.estimator == "minibatch" else self.num_examples

    def conflicts(self) -> Iterable[str]:
        if 0 < self.probe_examples < LEAST_EXAMPLES:
            yield f"--probe-examples must be 0 or at least {LEAST_EXAMPLES}, got {self.probe_examples}"
        if self.bandwidth != BANDWIDTH and self.kernel != "rbf":
            yield "--bandwidth must come with --kernel rbf"
        at_once = self.texts_at_once * self.rows_per_text
        if at_once > MOST_AT_ONCE:
            texts = (
                "--batch-size" if self.estimator == "minibatch" else f"with --estimator {self.estimator} --num-examples"
            )
            per_text = " times --tokens-per-text" if self.rows == "tokens" else ""
            yield f"{texts}{per_text} must be at most {MOST_AT_ONCE} rows, got {at_once}"
        if self.pictures in ("svg", "png") and self.out is None:
            yield f"--pictures {self.pictures} must come with --out"
