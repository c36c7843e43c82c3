"""DynaBERT's recipes as data: the paper's (Hou et al. 2020, 2004.04037), the released code's, and ours."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from cutbert.methods.dynabert_settings import DynabertSettings, TeacherWidth
from cutbert.settings import Precision
from cutbert.shape.space import Rule
from cutbert.train.settings import StagePlan, TrainSettings
from cutbert.work.plans import DISTILLATION, FINAL

StageTeacher = Literal["model", "width"]


@dataclass(frozen=True, kw_only=True)
class DistillStage:
    """One distillation stage.

    Args:
        plan: how it is trained.
        teacher: the fine-tuned `model`, or the supernet as the `width` stage left it (the paper's DynaBERT_W).
        all_depths: whether subnets of every depth are trained, or full depth only.
        logit_weight, hidden_weight: the paper's lambda 1 and lambda 2.
        teacher_width: whether the teacher runs at the student's width or full.
    """

    plan: StagePlan
    teacher: StageTeacher
    all_depths: bool
    logit_weight: float
    hidden_weight: float
    teacher_width: TeacherWidth


@dataclass(frozen=True, kw_only=True)
class DynabertRecipe:
    """Every choice that makes one way of training a family.

    Args:
        stages: in order.
        final_plan: of the optional last fine-tuning on labels.
        layer_rule: which layers a depth keeps, how sizes are rounded, and how importance is summed.
        stock: whether stock shapes belong to the family.
        subnets_per_step: 0 for all.
        temperature: of the logit loss.
        mean_over_layers: whether the hidden loss is the mean over matched states, or their sum.
        precision: dtype of training where the user leaves it to `auto`.
        reruns_teacher: run the teacher again for each width, even where its outputs are the same.
        counts_padding: hidden losses include padding.
        skips_regression_logits: no logit loss in regression.
    """

    stages: tuple[DistillStage, ...]
    final_plan: StagePlan
    layer_rule: Rule
    stock: bool
    subnets_per_step: int
    mean_over_layers: bool
    temperature: float = 1.0
    precision: Precision = "auto"
    reruns_teacher: bool = False
    counts_padding: bool = False
    skips_regression_logits: bool = False


PAPERS = StagePlan(
    name="width",
    epochs=3.0,
    batch_size=32,
    learning_rate=2e-5,
    warmup_ratio=0.0,
    weight_decay=0.0,
    schedule="linear",
    dropout=0.1,
    token_table="dense",
)
PAPER_WIDTH = DistillStage(
    plan=PAPERS, teacher="model", all_depths=False, logit_weight=1.0, hidden_weight=0.1, teacher_width="full"
)
PAPER_DEPTH = DistillStage(
    plan=replace(PAPERS, name="width-depth"),
    teacher="width",
    all_depths=True,
    logit_weight=1.0,
    hidden_weight=1.0,
    teacher_width="same",
)
PAPER = DynabertRecipe(
    stages=(PAPER_WIDTH, PAPER_DEPTH),
    final_plan=replace(PAPERS, name="final"),
    layer_rule="paper",
    stock=False,
    subnets_per_step=0,
    mean_over_layers=False,
)
RECIPES: dict[str, DynabertRecipe] = {
    "default": DynabertRecipe(
        stages=(
            DistillStage(
                plan=DISTILLATION,
                teacher="model",
                all_depths=True,
                logit_weight=1.0,
                hidden_weight=30.0,
                teacher_width="full",
            ),
        ),
        final_plan=FINAL,
        layer_rule="paper",
        stock=True,
        subnets_per_step=4,
        mean_over_layers=True,
    ),
    "paper": PAPER,
    "release": replace(
        PAPER,
        stages=(PAPER_WIDTH, replace(PAPER_DEPTH, teacher_width="full")),
        layer_rule="release",
        precision="float32",
        reruns_teacher=True,
        counts_padding=True,
        skips_regression_logits=True,
    ),
}


def resolve_recipe(settings: DynabertSettings, train: TrainSettings, max_length: int) -> DynabertRecipe:
    """Return the named recipe with the user's own settings in place of its choices.

    Args:
        settings: names the recipe and may override its parts.
        train: training flags; None keeps the recipe's.
        max_length: the release's recipe pads every batch to it.
    """
    recipe = RECIPES[settings.recipe]
    pad_to = max_length if settings.recipe == "release" else None
    stages = []
    for stage in recipe.stages:
        is_second = stage.teacher == "width"
        stages.append(
            replace(
                stage,
                plan=replace(stage.plan.overridden(train), pad_to=pad_to),
                logit_weight=first_given(settings.logit_weight, stage.logit_weight),
                hidden_weight=first_given(settings.hidden_weight, stage.hidden_weight),
                teacher_width=settings.teacher_width or stage.teacher_width if is_second else stage.teacher_width,
            )
        )
    final = replace(recipe.final_plan.overridden(train), epochs=settings.final_epochs, min_steps=0, pad_to=pad_to)
    return replace(
        recipe,
        stages=tuple(stages),
        final_plan=final,
        layer_rule=settings.layer_rule or recipe.layer_rule,
        stock=first_given(settings.stock, recipe.stock),
        temperature=settings.temperature,
        subnets_per_step=first_given(settings.subnets_per_step, recipe.subnets_per_step),
        precision=recipe.precision if train.precision == "auto" else train.precision,
    )


def first_given(value: Any, otherwise: Any) -> Any:
    """Return a setting, or the recipe's value where it is not given."""
    return otherwise if value is None else value
