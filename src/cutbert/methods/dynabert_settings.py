"""Settings of `dynabert`. No torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from cutbert.bench.settings import BackendSettings
from cutbert.data.settings import CANDIDATES, PROBABILITY, ROUNDS
from cutbert.methods.objective_settings import ObjectiveSettings
from cutbert.options import option, option_name
from cutbert.settings import METHOD, OF_RECIPE, DistillationSettings
from cutbert.shape.space import Rule

DynabertRecipeName = Literal["default", "paper", "release"]
TeacherWidth = Literal["same", "full"]
Augment = Literal["none", "mlm", "words"]

WORDS_FROM = {"mlm": "augment_model", "words": "augment_words"}


@dataclass(frozen=True, kw_only=True)
class DynabertSettings(ObjectiveSettings, DistillationSettings, BackendSettings):
    """How `dynabert` makes a family; None leaves the choice to the recipe."""

    GROUP = METHOD
    TASK_OPTIONS = (
        "teacher", "augment", "augment_model", "augment_words", "augment_candidates", "augment_probability",
        "augment_rounds", "final_epochs",
    )  # fmt: skip

    recipe: DynabertRecipeName = field(
        default="default",
        metadata=option("default (ours), paper, or release (the published code's choices).", is_common=True),
    )
    width_mult: tuple[float, ...] = field(
        default=(1.0, 0.75, 0.5, 0.25),
        metadata=option("Shares of heads and neurons kept, together.", above=0, most=1, is_common=True),
    )
    head_mult: tuple[float, ...] = field(
        default=(),
        metadata=option("Shares of heads kept, apart from neurons; the grid is then the product.", above=0, most=1),
    )
    ffn_mult: tuple[float, ...] = field(
        default=(), metadata=option("Shares of neurons kept, apart from heads.", above=0, most=1)
    )
    depth_mult: tuple[float, ...] = field(
        default=(1.0, 0.75, 0.5), metadata=option("Shares of layers kept.", above=0, most=1, is_common=True)
    )
    depths: tuple[int, ...] = field(
        default=(), metadata=option("Numbers of layers kept, instead of --depth-mult.", least=1, is_common=True)
    )
    layer_rule: Rule | None = field(
        default=None,
        metadata=option(
            "Which layers stay: the paper's rule (last layer kept) or the release's.", default_text=OF_RECIPE
        ),
    )
    rewire: bool = field(
        default=True,
        metadata=option(
            "Order heads and neurons by importance first. --no-rewire: heads and neurons keep their order, which "
            "shows what rewiring brings."
        ),
    )
    stock: bool | None = field(
        default=None,
        metadata=option(
            "Also train subnets that plain transformers can load: all heads, thinner feed-forward.",
            default_text=OF_RECIPE,
        ),
    )
    subnets_per_step: int | None = field(
        default=None,
        metadata=option(
            "Subnets trained per step: largest, smallest and random others; 0 trains all every step.",
            least=0,
            default_text=OF_RECIPE,
        ),
    )
    teacher_width: TeacherWidth | None = field(
        default=None,
        metadata=option("Width of the second stage's teacher: same as the student's, or full.", default_text=OF_RECIPE),
    )
    final_epochs: float = field(default=0.0, metadata=option("Epochs of a last training on labels.", least=0))
    importance_samples: int = field(
        default=2048,
        metadata=option("Training rows on which importance is measured (never select or dev).", least=1, unit="rows"),
    )
    augment: Augment = field(
        default="none", metadata=option("Augmented rows for distillation: mlm, words (a word list), or none.")
    )
    augment_model: str | None = field(
        default=None, metadata=option("Masked-LM model that proposes words (--augment mlm).")
    )
    augment_words: str | None = field(
        default=None,
        metadata=option("File of replacements (--augment words); a line: word, tab, candidates separated by spaces."),
    )
    augment_candidates: int = field(default=15, metadata=CANDIDATES)
    augment_probability: float = field(default=0.4, metadata=PROBABILITY)
    augment_rounds: int = field(default=20, metadata=ROUNDS)

    def conflicts(self) -> Iterable[str]:
        yield from super().conflicts()
        for augment, name in WORDS_FROM.items():
            is_given = getattr(self, name) is not None
            if self.augment == augment and not is_given:
                yield f"--augment {augment} must come with {option_name(name)}"
            if self.augment != augment and is_given:
                yield f"{option_name(name)} must come with --augment {augment}"
