"""The recipes as data: the paper's values, the release's, and the user's own in their place."""

from __future__ import annotations

import pytest

from cutbert.methods.dynabert_recipes import RECIPES, DynabertRecipe, resolve_recipe
from cutbert.methods.dynabert_settings import DynabertSettings
from cutbert.train.settings import TrainSettings


def resolve(train: TrainSettings | None = None, **settings: object) -> DynabertRecipe:
    return resolve_recipe(DynabertSettings(**settings), train or TrainSettings(), 128)


def test_the_papers() -> None:
    recipe = resolve(recipe="paper")
    width, depth = recipe.stages
    for plan in (width.plan, depth.plan, recipe.final_plan):
        values = (plan.learning_rate, plan.batch_size, plan.warmup_ratio, plan.weight_decay, plan.schedule)
        assert values == (2e-5, 32, 0.0, 0.0, "linear")
        assert (plan.dropout, plan.token_table, plan.pad_to) == (0.1, "dense", None)
    assert (width.plan.epochs, depth.plan.epochs, recipe.final_plan.epochs) == (3.0, 3.0, 0.0)
    assert len({width.plan.name, depth.plan.name, recipe.final_plan.name}) == 3
    assert (width.teacher, width.all_depths, width.logit_weight, width.hidden_weight) == ("model", False, 1.0, 0.1)
    assert (depth.teacher, depth.all_depths, depth.logit_weight, depth.hidden_weight) == ("width", True, 1.0, 1.0)
    assert width.teacher_width == "full" and depth.teacher_width == "same"
    assert (recipe.layer_rule, recipe.subnets_per_step, recipe.temperature) == ("paper", 0, 1.0)
    assert not (recipe.stock or recipe.mean_over_layers or recipe.reruns_teacher)
    assert not (recipe.counts_padding or recipe.skips_regression_logits)


def test_the_releases_differs_in_what_the_code_did() -> None:
    paper, release = resolve(recipe="paper"), resolve(recipe="release")
    assert release.stages[1].teacher_width == "full" and release.layer_rule == "release"
    assert release.precision == "float32" and release.reruns_teacher
    assert release.counts_padding and release.skips_regression_logits
    assert {stage.plan.pad_to for stage in release.stages} == {release.final_plan.pad_to} == {128}
    assert (release.stock, release.subnets_per_step) == (paper.stock, paper.subnets_per_step)
    for ours, theirs in zip(release.stages, paper.stages, strict=True):
        assert (ours.teacher, ours.logit_weight, ours.hidden_weight) == (
            theirs.teacher,
            theirs.logit_weight,
            theirs.hidden_weight,
        )


def test_our_own_trains_stock_shapes_and_some_subnets_per_step() -> None:
    recipe = resolve()
    assert recipe.stock and recipe.subnets_per_step > 1 and recipe.layer_rule == "paper"
    assert recipe.stages[0].teacher == "model" and not recipe.counts_padding


@pytest.mark.parametrize("name", RECIPES)
def test_what_the_user_gives_comes_first(name: str) -> None:
    train = TrainSettings(
        epochs=0.5,
        batch_size=7,
        learning_rate=0.1,
        warmup_ratio=0.3,
        weight_decay=0.2,
        schedule="cosine",
        dropout=0.4,
        token_table="rows",
        precision="bf16",
    )
    recipe = resolve(
        train,
        recipe=name,
        logit_weight=0.0,
        hidden_weight=0.25,
        temperature=2.0,
        teacher_width="same",
        layer_rule="release",
        stock=False,
        subnets_per_step=0,
        final_epochs=1.5,
    )
    for plan in [stage.plan for stage in recipe.stages] + [recipe.final_plan]:
        values = (plan.batch_size, plan.learning_rate, plan.warmup_ratio, plan.weight_decay, plan.schedule)
        assert values == (7, 0.1, 0.3, 0.2, "cosine")
        assert (plan.dropout, plan.token_table) == (0.4, "rows")
    assert {stage.plan.epochs for stage in recipe.stages} == {0.5} and recipe.final_plan.epochs == 1.5
    assert {(stage.logit_weight, stage.hidden_weight) for stage in recipe.stages} == {(0.0, 0.25)}
    assert (recipe.temperature, recipe.layer_rule, recipe.stock) == (2.0, "release", False)
    assert (recipe.subnets_per_step, recipe.precision) == (0, "bf16")
    assert all(stage.teacher_width == "same" for stage in recipe.stages if stage.teacher == "width")
