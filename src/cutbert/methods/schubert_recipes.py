"""schuBERT's recipes as data: the paper's (Khetan and Karnin 2020, 2005.06628), and ours."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from cutbert.methods.schubert_settings import SchubertSettings


@dataclass(frozen=True, kw_only=True)
class SchubertRecipe:
    """Every choice that makes one way of cutting.

    Args:
        rounds: the paper's T.
        gate_steps: steps of a round's gates, at least.
        gate_share: steps of a round's gates as a share of its healing's; None for `gate_steps` alone.
        last_share: share of the healing that comes after the last cut, the rest is spread; None for equal shares.
        multiple_of: what sizes other than heads are multiples of.
        gamma: strength of the L1 price; None for the price that follows a schedule.
        gates_norms: whether hidden gates multiply norms and projections beside the matrices.
        recalibrates_norms: whether norms are scaled and shifted for a cut of hidden units.
    """

    rounds: int
    gate_steps: int
    gate_share: float | None
    last_share: float | None
    multiple_of: int
    gamma: float | None
    gates_norms: bool
    recalibrates_norms: bool


RECIPES = {
    "default": SchubertRecipe(
        rounds=1,
        gate_steps=100,
        gate_share=None,
        last_share=0.6,
        multiple_of=8,
        gamma=None,
        gates_norms=True,
        recalibrates_norms=True,
    ),
    # Algorithm 1: gates take 1/1000, a healing 1/20 of the steps of pre-training. The paper gives neither T nor gamma:
    # 3 rounds and 0.01 (the best on select of four, benchmarks/plans/schubert_gamma.toml) are our choice, and so are at
    # least 100 steps: in fewer Adam hardly moves a gate.
    "paper": SchubertRecipe(
        rounds=3,
        gate_steps=100,
        gate_share=1 / 50,
        last_share=None,
        multiple_of=1,
        gamma=1e-2,
        gates_norms=False,
        recalibrates_norms=False,
    ),
}


def resolve_recipe(settings: SchubertSettings) -> SchubertRecipe:
    """Return the named recipe with the user's own settings in place of its choices."""
    recipe = RECIPES[settings.recipe]
    names = ("rounds", "gate_steps", "last_share", "multiple_of", "gamma")
    given: dict[str, Any] = {name: getattr(settings, name) for name in names if getattr(settings, name) is not None}
    if "gate_steps" in given:
        given["gate_share"] = None
    return replace(recipe, **given)
