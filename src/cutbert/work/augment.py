"""More rows to distil on: variants of the training texts, by a masked LM or a word list."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from cutbert.checks import is_text, list_of
from cutbert.data.augment import augment_rows, masked_lm_source, read_word_list, word_list_source
from cutbert.data.dataset import Examples, Rows
from cutbert.data.settings import AugmentSettings
from cutbert.errors import InputError, Mistakes, RunError
from cutbert.files import read_json, replacing_file
from cutbert.folders.load import Loaded, load_model
from cutbert.methods.dynabert_settings import DynabertSettings
from cutbert.work.inputs import Inputs
from cutbert.work.objective import Objective

MASKS_PER_BATCH = 64


def check_augmentation(inputs: Inputs, settings: DynabertSettings) -> None:
    """Raise unless the task's rows can be varied, and candidates can be had from where the settings say.

    Raises:
        InputError: labels of words in a text, a model without a masked-LM head, a broken word list; all together.
    """
    mistakes = Mistakes()
    if settings.augment == "words":
        with mistakes.collect():
            read_word_list(Path(str(settings.augment_words)))
    if settings.augment == "mlm":
        source = inputs.models.others["augment_model"]
        if source.head.kind != "masked_lm":
            mistakes.add(f"--augment-model {source} must have a masked-LM head, got {source.head.kind}")
    if settings.augment != "none" and not inputs.head.is_sequence:
        mistakes.add(f"--augment must be none where labels are of words in a text, got {settings.augment}")
    mistakes.check(InputError)


def augmented_rows(
    objective: Objective, settings: DynabertSettings, seed: int, checkpoint: Path, rows: Examples
) -> Examples:
    """Return the rows and their variants, or the rows themselves where none are asked for.

    The main process makes the variants once; a resumed run and the other processes read them.

    Args:
        objective: the task; texts of its select and dev must not arise.
        settings: where candidates come from, and the paper's M, p and N.
        seed: of the run.
        checkpoint: folder that the variants are kept in.
        rows: labelled and unlabelled training rows.
    """
    if settings.augment == "none":
        return rows
    inputs = objective.inputs
    assert isinstance(rows, Rows) and inputs.dataset is not None
    keep_out = (inputs.dataset.select, inputs.dataset.dev)
    kept = checkpoint / "augmented.json"

    def make() -> None:
        if settings.augment == "words":
            candidates = word_list_source(read_word_list(Path(str(settings.augment_words))))
        else:
            proposer = WordProposer(load_model(inputs.models.others["augment_model"]))
            candidates = masked_lm_source(proposer, proposer.tokenizer.mask_token)
        numbers = AugmentSettings(
            num_candidates=settings.augment_candidates,
            replace_prob=settings.augment_probability,
            num_rounds=settings.augment_rounds,
        )
        variants = augment_rows(rows, candidates, numbers, seed=seed, keep_out=keep_out)
        with replacing_file(kept) as aside:
            aside.write_text(json.dumps([variants.text, variants.text_pair]), encoding="utf-8")

    objective.engine.make_once(kept, make)
    varied: Rows = read_json(kept, RunError, stored_rows)
    return varied


def stored_rows(data: Any) -> Rows:
    """Return rows as `augmented_rows` keeps them."""
    text, text_pair = data
    sides = [text] if text_pair is None else [text, text_pair]
    if not all(list_of(is_text)(each) and len(each) == len(text) for each in sides):
        raise RunError("must be lists of texts")
    return Rows(text, text_pair)


class WordProposer:
    """Proposes words for a mask token, best first."""

    def __init__(self, loaded: Loaded) -> None:
        self.model, self.tokenizer = loaded.model, loaded.tokenizer
        self.max_length = loaded.model.shape.num_positions - loaded.model.style.position_offset

    @torch.inference_mode()
    def __call__(self, texts: list[str]) -> list[list[str]]:
        """Return the model's 50 best tokens for the one mask of each text, word pieces left out."""
        proposals: list[list[str]] = []
        for start in range(0, len(texts), MASKS_PER_BATCH):
            encoded = self.tokenizer(
                texts[start : start + MASKS_PER_BATCH],
                padding=True,
                truncation=True,
                max_length=self.max_length,
                return_tensors="pt",
            )
            # A table of tokens may have more rows than the tokenizer has tokens: padding, which is no word.
            logits = self.model(encoded["input_ids"], encoded["attention_mask"]).logits[..., : len(self.tokenizer)]
            for row, ids in zip(logits, encoded["input_ids"], strict=True):
                places = (ids == self.tokenizer.mask_token_id).nonzero()
                best = row[places[0, 0]].topk(min(50, logits.shape[-1])).indices.tolist() if len(places) else []
                proposals.append(self.tokenizer.convert_ids_to_tokens(best))
        return proposals
