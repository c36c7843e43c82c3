"""The head on top of an encoder: its kind and its labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from cutbert.errors import ShapeError
from cutbert.shape.shape import check_keys

HeadKind = Literal[
    "none", "pooler", "single_label", "multi_label", "regression", "token", "span", "masked_lm", "embedding"
]
HEAD_KINDS: tuple[HeadKind, ...] = (
    "none", "pooler", "single_label", "multi_label", "regression", "token", "span", "masked_lm", "embedding",
)  # fmt: skip
SEQUENCE_KINDS = ("single_label", "multi_label", "regression")
IGNORED = -100  # label of a token that the loss ignores: torch's default ignore_index
MOST_SHOWN = 8  # labels in a message


@dataclass(frozen=True)
class HeadSpec:
    """The kind of a head and the names of its labels.

    `none`: bare encoder. `pooler`: only BERT's pooler (dense, tanh). The three sequence kinds: a dense layer of
    hidden_size, activation, then one output per label. `token`: one output per label, for each token. `span`:
    two outputs per token, start and end. `masked_lm`: transform, LayerNorm and the tied token table with its bias.
    `embedding`: one vector for the whole text, what is read of its states (`shape.pooling`); no weights.

    Args:
        kind: one of HEAD_KINDS.
        labels: class names in id order; one name for regression; empty for kinds without labels.
        normalizes: of an embedding, whether vectors are divided by their norm.
    """

    kind: HeadKind
    labels: tuple[str, ...] = ()
    normalizes: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", tuple(self.labels))
        if self.kind not in HEAD_KINDS:
            raise ShapeError(f"head kind must be one of {', '.join(HEAD_KINDS)}, got {self.kind!r}")
        wants_labels = self.kind in (*SEQUENCE_KINDS, "token")
        if wants_labels != bool(self.labels):
            raise ShapeError(f"a head of kind {self.kind} must have {'labels' if wants_labels else 'no labels'}")

    @property
    def num_outputs(self) -> int:
        """Outputs per text or token; 2 for span, 0 where there is no output layer of fixed size."""
        return 2 if self.kind == "span" else len(self.labels)

    @property
    def has_names(self) -> bool:
        """Whether its labels were named: transformers calls others LABEL_0, LABEL_1, ..."""
        return self.labels != tuple(f"LABEL_{i}" for i in range(len(self.labels)))

    @property
    def is_sequence(self) -> bool:
        return self.kind in SEQUENCE_KINDS

    @property
    def reads_text(self) -> bool:
        """Whether it reads one state of each text, as `shape.pooling` says."""
        return self.is_sequence or self.kind == "embedding"

    @property
    def words(self) -> str:
        """The kind, and the labels where there are any, for messages."""
        return f"{self.kind} ({self.label_words})" if self.labels else self.kind

    @property
    def label_words(self) -> str:
        """The labels for messages: of many the first ones and their number; quoted where one has a comma.

        >>> HeadSpec("single_label", ("no", "yes")).label_words
        'no, yes'
        >>> HeadSpec("single_label", tuple(map(str, range(44)))).label_words
        '0, 1, 2, 3, 4, 5, 6, 7, ... (44 labels)'
        """
        shown = [repr(label) if "," in label else label for label in self.labels[:MOST_SHOWN]]
        more = len(self.labels) - len(shown)
        return ", ".join(shown) + (f", ... ({len(self.labels)} labels)" if more else "")

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "labels": list(self.labels)}

    @classmethod
    def from_json(cls, data: Any) -> HeadSpec:
        """Read a head from parsed JSON.

        Raises:
            ShapeError: keys are missing or unknown, labels are not a list of names, or do not go with the kind.
        """
        check_keys(data, "head", required=("kind", "labels"))
        labels = data["labels"]
        if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            raise ShapeError(f"labels of a head must be a list of names, got {labels!r}")
        return cls(kind=data["kind"], labels=tuple(labels))
