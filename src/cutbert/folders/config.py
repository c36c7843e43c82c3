"""The transformers config of a network of any shape: model_type cutbert."""

from __future__ import annotations

from typing import Any

from transformers import PretrainedConfig

from cutbert.errors import ModelError
from cutbert.model.style import EncoderStyle
from cutbert.shape.head import HeadSpec
from cutbert.shape.shape import EncoderShape
from cutbert.shape.stock_config import KINDS_BY_PROBLEM

# Prefix of the names of weights in our folders: the attribute with the TaskModel in each of our classes.
OUR_PREFIX = "model."
PROBLEM_TYPES = {kind: problem for problem, kind in KINDS_BY_PROBLEM.items()}


class CutbertConfig(PretrainedConfig):
    """Sizes, style and head of a network, each as the JSON of our own type.

    Args:
        shape: JSON of an EncoderShape.
        style: JSON of an EncoderStyle.
        head: JSON of a HeadSpec. A class with a task head takes its labels from id2label instead, as
            everywhere in transformers, and rewrites this field.
    """

    model_type = "cutbert"

    shape: dict[str, Any] | None = None
    style: dict[str, Any] | None = None
    head: dict[str, Any] | None = None

    @classmethod
    def of(cls, shape: EncoderShape, style: EncoderStyle, head: HeadSpec, **more: Any) -> CutbertConfig:
        """Return the config of a network."""
        return cls(shape=shape.to_json(), style=style.to_json(), head=head.to_json(), **label_values(head), **more)

    @property
    def encoder_shape(self) -> EncoderShape:
        return EncoderShape.from_json(self._given("shape"))

    @property
    def encoder_style(self) -> EncoderStyle:
        return EncoderStyle.from_json(self._given("style"))

    @property
    def head_spec(self) -> HeadSpec:
        return HeadSpec.from_json(self._given("head"))

    @property
    def labels(self) -> tuple[str, ...]:
        """Label names in id order."""
        names = self.id2label or {}
        return tuple(str(names[key]) for key in sorted(names))

    @property
    def vocab_size(self) -> int:
        return self.encoder_shape.vocab_size

    @property
    def hidden_size(self) -> int:
        return self.encoder_shape.hidden_size

    @property
    def num_hidden_layers(self) -> int:
        return self.encoder_shape.num_layers

    @property
    def initializer_range(self) -> float:
        return self.encoder_style.initializer_range

    def _given(self, name: str) -> dict[str, Any]:
        value = getattr(self, name)
        if not isinstance(value, dict):
            raise ModelError(f"a cutbert config must have an object {name!r}, got {value!r}")
        return value


def label_values(head: HeadSpec) -> dict[str, Any]:
    """Return the values of transformers' own config keys for labels and the kind of a sequence head.

    Raises:
        ModelError: a single_label head with one label, which transformers does not allow.
    """
    if head.kind == "single_label" and head.num_outputs < 2:
        raise ModelError(f"a single_label head must have at least 2 labels, got {list(head.labels)}")
    values: dict[str, Any] = {}
    if head.labels:
        values["id2label"] = dict(enumerate(head.labels))
        values["label2id"] = {label: i for i, label in enumerate(head.labels)}
    if head.kind in PROBLEM_TYPES:
        values["problem_type"] = PROBLEM_TYPES[head.kind]
    return values
