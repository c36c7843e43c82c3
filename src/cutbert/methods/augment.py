"""More rows to imitate on: variants of the training texts, by a masked LM or a word list."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from cutbert.data.augment import augment_rows, masked_lm_source, read_word_list, word_list_source
from cutbert.data.dataset import Dataset, Rows
from cutbert.data.settings import AugmentSettings
from cutbert.errors import ModelError
from cutbert.files import replacing_file
from cutbert.hub.load import Loaded, load_model
from cutbert.hub.source import find_source
from cutbert.methods.dynabert_settings import DynabertSettings
from cutbert.shape.folder import read_folder_shape

MASKS_PER_BATCH = 64


def check_source(settings: DynabertSettings) -> None:
    """Raise unless candidates can be had from where the settings say.

    Raises:
        ModelError: the model that proposes words has no masked-LM head.
        DataError: the word list is broken.
    """
    if settings.augment == "words":
        read_word_list(Path(str(settings.augment_words)))
    if settings.augment == "mlm":
        kind = read_folder_shape(find_source(str(settings.augment_model)).folder).head.kind
        if kind != "masked_lm":
            raise ModelError(f"--augment-model {settings.augment_model} must have a masked-LM head, got {kind}")


def augmented_rows(rows: Rows, data: Dataset, settings: DynabertSettings, seed: int, kept: Path) -> Rows:
    """Return the rows and their variants, or the rows themselves where none are asked for.

    Args:
        rows: labelled and unlabelled training rows.
        data: select and dev texts must not arise.
        settings: where candidates come from, and the paper's M, p and N.
        seed: of the run.
        kept: file the variants are kept in, so that a resumed run does not make them again.
    """
    if settings.augment == "none":
        return rows
    if not kept.exists():
        if settings.augment == "words":
            source = word_list_source(read_word_list(Path(str(settings.augment_words))))
        else:
            proposer = WordProposer(load_model(str(settings.augment_model)))
            source = masked_lm_source(proposer, proposer.tokenizer.mask_token)
        numbers = AugmentSettings(
            num_candidates=settings.augment_candidates,
            replace_prob=settings.augment_probability,
            num_rounds=settings.augment_rounds,
        )
        found = augment_rows(rows, source, numbers, seed=seed, keep_out=(data.select, data.dev))
        with replacing_file(kept) as aside:
            aside.write_text(json.dumps([found.text, found.text_pair]), encoding="utf-8")
    text, text_pair = json.loads(kept.read_text(encoding="utf-8"))
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
            logits = self.model(encoded["input_ids"], encoded["attention_mask"]).logits
            for row, ids in zip(logits, encoded["input_ids"], strict=True):
                places = (ids == self.tokenizer.mask_token_id).nonzero()
                best = row[places[0, 0]].topk(50).indices.tolist() if len(places) else []
                proposals.append(self.tokenizer.convert_ids_to_tokens(best))
        return proposals
