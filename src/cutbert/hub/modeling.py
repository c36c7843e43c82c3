"""Our networks as transformers classes: one PreTrainedModel per kind of head, registered with the Auto classes."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedModel,
    initialization,
)
from transformers.modeling_outputs import (
    BaseModelOutputWithPooling,
    MaskedLMOutput,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from transformers.utils.generic import ModelOutput, can_return_tuple

from cutbert.errors import ModelError
from cutbert.folders.config import PROBLEM_TYPES, CutbertConfig
from cutbert.model.heads import MaskedLMHead
from cutbert.model.losses import task_loss
from cutbert.model.task_model import TaskModel, TaskOutput
from cutbert.shape.head import HeadSpec
from cutbert.shape.stock_config import KINDS_BY_PROBLEM


class CutbertPreTrainedModel(PreTrainedModel):
    """A TaskModel as a PreTrainedModel; subclasses choose the head and the outputs.

    The masked-LM decoder is the token table itself, not a second parameter, so no weights need tying.
    """

    config_class = CutbertConfig
    base_model_prefix = "cutbert"
    main_input_name = "input_ids"
    accepts_loss_kwargs = False
    _no_split_modules: ClassVar[list[str]] = ["EncoderLayer"]
    _supports_sdpa = True

    def __init__(self, config: CutbertConfig) -> None:
        super().__init__(config)
        spec = self.head_of(config)
        config.head = spec.to_json()
        self.model = TaskModel(config.encoder_shape, config.encoder_style, spec)
        self.post_init()

    @staticmethod
    def head_of(config: CutbertConfig) -> HeadSpec:
        """Return the head that this class adds to a config's encoder."""
        raise NotImplementedError

    def get_input_embeddings(self) -> nn.Module:
        return self.model.encoder.embeddings.token

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        self.model.encoder.embeddings.token = value

    def resize_token_embeddings(self, new_num_tokens: int | None = None, *args: Any, **kwargs: Any) -> nn.Module:
        """Raise for another size: the vocabulary is part of the shape."""
        if new_num_tokens not in (None, self.config.vocab_size):
            raise ModelError(f"vocab_size of a cutbert model must stay {self.config.vocab_size}, got {new_num_tokens}")
        return self.get_input_embeddings()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.LayerNorm):
            initialization.ones_(module.weight)
            if module.bias is not None:
                initialization.zeros_(module.bias)
        elif isinstance(module, MaskedLMHead):
            initialization.zeros_(module.bias)
        else:
            super()._init_weights(module)

    def run(
        self,
        input_ids: Tensor | None,
        attention_mask: Tensor | None,
        token_type_ids: Tensor | None,
        output_attentions: bool | None,
    ) -> TaskOutput:
        """Run the network; raise for inputs and outputs it does not support."""
        if input_ids is None:
            raise ModelError("a cutbert model must be given input_ids, got none")
        if output_attentions or (output_attentions is None and self.config.output_attentions):
            raise ModelError("a cutbert model keeps no attention weights: output_attentions must be off")
        return self.model(input_ids, attention_mask, token_type_ids)

    def loss(self, output: TaskOutput, labels: Tensor | None) -> Tensor | None:
        """Return the loss of the head's kind, or None without labels."""
        if labels is None or output.logits is None:
            return None
        if self.model.head_spec.kind == "single_label" and labels.is_floating_point():
            raise ModelError("labels of a single_label head must be integer ids, got floats; set problem_type")
        return task_loss(self.model.head_spec, output.logits, labels)

    def states(self, output: TaskOutput, wanted: bool | None) -> tuple[Tensor, ...] | None:
        """Return all hidden states where the call asks for them, or, if it does not say, the config."""
        return output.hidden_states if (self.config.output_hidden_states if wanted is None else wanted) else None


class CutbertModel(CutbertPreTrainedModel):
    """The encoder, with BERT's pooler where the config has one."""

    @staticmethod
    def head_of(config: CutbertConfig) -> HeadSpec:
        return HeadSpec("pooler" if config.head_spec.kind == "pooler" else "none")

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
    ) -> BaseModelOutputWithPooling:
        output = self.run(input_ids, attention_mask, token_type_ids, output_attentions)
        return BaseModelOutputWithPooling(
            last_hidden_state=output.hidden_states[-1],
            pooler_output=output.pooled,
            hidden_states=self.states(output, output_hidden_states),
        )


class CutbertWithLabels(CutbertPreTrainedModel):
    """A network whose forward takes labels and returns loss and logits, in the subclass's own output class."""

    output_class: ClassVar[type[ModelOutput]]

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
    ) -> ModelOutput:
        output = self.run(input_ids, attention_mask, token_type_ids, output_attentions)
        return self.output_class(
            loss=self.loss(output, labels),
            logits=output.logits,
            hidden_states=self.states(output, output_hidden_states),
        )


class CutbertForSequenceClassification(CutbertWithLabels):
    """One output per label for a text or a pair; problem_type is single_label, multi_label or regression."""

    output_class = SequenceClassifierOutput

    @staticmethod
    def head_of(config: CutbertConfig) -> HeadSpec:
        if config.problem_type is None:
            config.problem_type = PROBLEM_TYPES["regression" if config.num_labels == 1 else "single_label"]
        return HeadSpec(KINDS_BY_PROBLEM[config.problem_type], config.labels)


class CutbertForTokenClassification(CutbertWithLabels):
    """One output per label for each token."""

    output_class = TokenClassifierOutput

    @staticmethod
    def head_of(config: CutbertConfig) -> HeadSpec:
        return HeadSpec("token", config.labels)


class CutbertForMaskedLM(CutbertWithLabels):
    """Logits of the whole vocabulary at every position."""

    output_class = MaskedLMOutput

    @staticmethod
    def head_of(config: CutbertConfig) -> HeadSpec:
        return HeadSpec("masked_lm")


class CutbertForQuestionAnswering(CutbertPreTrainedModel):
    """Logits of each token as the start and as the end of the answer."""

    @staticmethod
    def head_of(config: CutbertConfig) -> HeadSpec:
        return HeadSpec("span")

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
    ) -> QuestionAnsweringModelOutput:
        output = self.run(input_ids, attention_mask, token_type_ids, output_attentions)
        labels = None
        if start_positions is not None and end_positions is not None:
            labels = torch.stack((start_positions.flatten(), end_positions.flatten()), dim=-1)
        assert output.logits is not None
        start_logits, end_logits = output.logits.unbind(-1)
        return QuestionAnsweringModelOutput(
            loss=self.loss(output, labels),
            start_logits=start_logits.contiguous(),
            end_logits=end_logits.contiguous(),
            hidden_states=self.states(output, output_hidden_states),
        )


def register() -> None:
    """Register our config and classes with transformers' Auto classes; may be called more than once."""
    AutoConfig.register(CutbertConfig.model_type, CutbertConfig, exist_ok=True)
    for auto, ours in (
        (AutoModel, CutbertModel),
        (AutoModelForSequenceClassification, CutbertForSequenceClassification),
        (AutoModelForTokenClassification, CutbertForTokenClassification),
        (AutoModelForQuestionAnswering, CutbertForQuestionAnswering),
        (AutoModelForMaskedLM, CutbertForMaskedLM),
    ):
        auto.register(CutbertConfig, ours, exist_ok=True)
