"""How networks are trained where the user says nothing: a plan for each kind of training. All values are our choice."""

from __future__ import annotations

from dataclasses import replace

from cutbert.train.settings import StagePlan

# A full-size model on labels.
FINETUNE = StagePlan(
    name="finetune",
    epochs=3.0,
    batch_size=32,
    learning_rate=5e-5,
    warmup_ratio=0.06,
    weight_decay=0.01,
    schedule="linear",
    dropout=0.1,
    token_table="rows",
)
# One network or a family by a teacher's outputs.
DISTILLATION = StagePlan(
    name="distil",
    epochs=2.0,
    min_steps=1000,
    batch_size=32,
    learning_rate=3e-4,
    warmup_ratio=0.06,
    weight_decay=0.01,
    schedule="linear",
    dropout=0.0,
    token_table="frozen",
)
# On labels once more, after distillation.
FINAL = replace(DISTILLATION, name="final", learning_rate=2e-5, min_steps=0)
# Masked LM. No dropout, since one pass over much text does not overfit (Lan et al. 2020, ALBERT, 1909.11942, section
# 4.8, and Geiping and Goldstein 2022, 2212.14034, drop it too), and attention is faster without.
MASKED_LM = StagePlan(
    name="pretrain",
    epochs=1.0,
    batch_size=32,
    learning_rate=1e-4,
    warmup_ratio=0.06,
    weight_decay=0.01,
    schedule="linear",
    dropout=0.0,
    token_table="dense",
)
FROM_SCRATCH = replace(MASKED_LM, learning_rate=5e-4)


def heal_plan(is_text: bool) -> StagePlan:
    """Return the plan of a cut network's recovery training: distillation on a task, masked LM on plain text."""
    return replace(MASKED_LM if is_text else DISTILLATION, name="heal")
