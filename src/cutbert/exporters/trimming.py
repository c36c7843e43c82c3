"""A model whose vocabulary is cut to what its training texts use, and what that changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cutbert.data.dataset import Dataset
from cutbert.data.tokens import Tokens
from cutbert.folders.card import score_changes
from cutbert.folders.load import Loaded, output_rows
from cutbert.folders.sentence import Sentence
from cutbert.folders.trim import kept_tokens, trimmed_tokenizer
from cutbert.model.task_model import TaskModel
from cutbert.surgery.token_rows import with_token_rows
from cutbert.train.evaluate import predict_logits, score

Splits = Mapping[str, tuple[Tokens, Tokens]]
Networks = tuple[TaskModel, TaskModel]
Facts = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Trimming:
    """Which tokens of a model stay.

    Args:
        kept: their ids, rising.
        loaded: the whole model with its tokenizer.
        trimmed: the same with the tokens that stay.
    """

    kept: NDArray[np.int64]
    loaded: Loaded
    trimmed: Loaded

    @classmethod
    def of(cls, loaded: Loaded, train: Tokens, sentence: Sentence | None = None) -> Trimming:
        """Return the trimming of a model to the tokens of some texts; arguments and errors as in `tokens_that_stay`."""
        kept = tokens_that_stay(loaded, train, sentence)
        tokenizer = trimmed_tokenizer(loaded.tokenizer, kept)
        model = with_token_rows(loaded.model, kept)
        return cls(kept, loaded, replace(loaded, model=model, tokenizer=tokenizer))

    def network(self, network: TaskModel) -> TaskModel:
        """Return another network of the same vocabulary with the tokens that stay."""
        return with_token_rows(network, self.kept)

    def facts(self, dataset: Dataset, splits: Splits, networks: Networks, bytes_a_number: float) -> Facts:
        """Return what is gone and what changes.

        Args:
            dataset: the task.
            splits: its select and dev in the whole tokenizer's tokens and in the trimmed one's, by name.
            networks: the network with all tokens, and with those that stay.
            bytes_a_number: of the table, as it is served.

        Returns:
            tokens_before, tokens, bytes_saved; split_differently: by split the number of rows whose tokens changed;
            metric, select_score_metric where that is another, and score (dev) and select_score, each `_before` and
            `_after`, in torch.
        """
        head, metric, own = dataset.head, dataset.metric, dataset.own_select_metric
        columns = output_rows(networks[0].head_spec, head)[0]
        scores: Facts = {"metric": metric} | ({} if own is None else {"select_score_metric": own})
        for when, model, at in zip(("before", "after"), networks, (0, 1), strict=True):
            for key, split in (("score", "dev"), ("select_score", "select")):
                tokens = splits[split][at]
                logits = predict_logits(model, tokens)
                logits = logits if columns is None else logits[..., columns]
                scores[f"{key}_{when}"] = score(head, metric, logits, tokens).score
        before, after = self.loaded.model.shape, self.trimmed.model.shape
        rows = before.vocab_size - after.vocab_size
        return {
            "tokens_before": before.vocab_size,
            "tokens": after.vocab_size,
            "bytes_saved": int(bytes_a_number * rows * before.table_size),
            "split_differently": {name: self.num_changed(*tokens) for name, tokens in splits.items()},
            **scores,
        }

    def num_changed(self, whole: Tokens, trimmed: Tokens) -> int:
        """Return the number of rows that are split differently."""
        same = 0
        for i in np.flatnonzero(whole.lengths == trimmed.lengths):
            ours = trimmed.ids[trimmed.offsets[i] : trimmed.offsets[i + 1]]
            same += bool((self.kept[ours] == whole.ids[whole.offsets[i] : whole.offsets[i + 1]]).all())
        return len(whole) - same


def tokens_that_stay(loaded: Loaded, train: Tokens, sentence: Sentence | None = None) -> NDArray[np.int64]:
    """Return the ids of a model's tokens that stay, rising: those of some texts, and a floor of common ones.

    Args:
        loaded: the whole model with its tokenizer.
        train: the texts.
        sentence: of an embedding model: all its prompts stay whole, also those that no text has.

    Raises:
        ModelError: the tokenizer is of a kind that cannot be cut.
    """
    used, style = np.unique(train.ids), loaded.model.style
    if sentence is not None and sentence.named_prompts:
        prompts = list(sentence.named_prompts.values())
        used = np.union1d(used, np.concatenate(loaded.tokenizer(prompts)["input_ids"]).astype(np.int64))
    if style.position_offset:  # where positions are counted from the padding token's id, that must not change
        used = np.union1d(used, np.arange(style.pad_token_id + 1))
    return kept_tokens(loaded.tokenizer, np.union1d(used, [style.pad_token_id]), loaded.source)


def trim_words(facts: Mapping[str, Any]) -> str:
    """Return the sentence on what `Trimming.facts` says, for the user."""
    changed = ", ".join(f"{count:,} rows of {name}" for name, count in facts["split_differently"].items())
    return (
        f"the vocabulary has {facts['tokens']:,} of {facts['tokens_before']:,} tokens, {facts['bytes_saved']:,} bytes "
        f"less; split differently than before: {changed}; this changes the {score_changes(facts)}"
    )
