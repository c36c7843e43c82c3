"""Settings of the methods. No torch."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Literal

from cutbert.bench.settings import BACKENDS_HELP, BackendName, LatencySettings
from cutbert.errors import InputError, Mistakes
from cutbert.shape.budget import LATENCY, Budget
from cutbert.shape.paper_shapes import PAPER_SHAPES, paper_shape
from cutbert.shape.space import Rule, is_mult
from cutbert.shape.units import DIMS

RecipeName = Literal["default", "paper", "release"]
TeacherWidth = Literal["same", "full"]
Augment = Literal["none", "mlm", "words"]
Dim = Literal["h", "f", "a", "k", "v"]
Objective = Literal["task", "mlm"]

TRAINS_FOR_NOTHING = "one of --logit-weight and --hidden-weight must be above 0: nothing else is trained for"


@dataclass(frozen=True, kw_only=True)
class FinetuneSettings:
    """`finetune` has no settings of its own beyond data and training."""

    def check(self) -> None:
        """Nothing to check."""


@dataclass(frozen=True, kw_only=True)
class DynabertSettings:
    """How `dynabert` makes a family; None leaves the choice to the recipe."""

    objective: Objective = field(
        default="task",
        metadata={"help": "task, or mlm: masked tokens of plain text, for a family that any task can be tuned on."},
    )
    recipe: RecipeName = field(
        default="default", metadata={"help": "default (ours), paper, or release (the published code's choices)."}
    )
    width_mult: tuple[float, ...] = field(
        default=(1.0, 0.75, 0.5, 0.25), metadata={"help": "Shares of heads and neurons kept, together."}
    )
    head_mult: tuple[float, ...] = field(
        default=(), metadata={"help": "Shares of heads kept, apart from neurons (then the grid is the product)."}
    )
    ffn_mult: tuple[float, ...] = field(default=(), metadata={"help": "Shares of neurons kept, apart from heads."})
    depth_mult: tuple[float, ...] = field(default=(1.0, 0.75, 0.5), metadata={"help": "Shares of layers kept."})
    depths: tuple[int, ...] = field(default=(), metadata={"help": "Numbers of layers kept, instead of --depth-mult."})
    layer_rule: Rule | None = field(
        default=None, metadata={"help": "Which layers stay: the paper's rule (last layer kept) or the release's."}
    )
    stock: bool | None = field(
        default=None,
        metadata={"help": "Train shapes that stock transformers loads too: all heads, thinner feed-forward."},
    )
    subnets_per_step: int | None = field(
        default=None,
        metadata={"help": "Subnets trained per step: largest, smallest and random others; 0 trains all every step."},
    )
    teacher: str | None = field(default=None, metadata={"help": "Another model with the same labels to imitate."})
    teacher_width: TeacherWidth | None = field(
        default=None, metadata={"help": "Width of the second stage's teacher: same as the student's, or full."}
    )
    logit_weight: float | None = field(default=None, metadata={"help": "Weight of the logit loss."})
    hidden_weight: float | None = field(default=None, metadata={"help": "Weight of the embedding and hidden losses."})
    temperature: float = field(default=1.0, metadata={"help": "Temperature of the logit loss."})
    final_epochs: float = field(default=0.0, metadata={"help": "Epochs of a last training on labels."})
    rewire: bool = field(
        default=True, metadata={"help": "Order heads and neurons by importance first; without, they keep their order."}
    )
    importance_samples: int = field(
        default=2048, metadata={"help": "Training rows on which importance is measured (never select or dev)."}
    )
    augment: Augment = field(
        default="none", metadata={"help": "Augmented rows for distillation: mlm, words (a word list), or none."}
    )
    augment_model: str | None = field(default=None, metadata={"help": "Masked-LM model that proposes words (mlm)."})
    augment_words: str | None = field(
        default=None, metadata={"help": "File of replacements, a line each: word, tab, candidates by spaces (words)."}
    )
    augment_candidates: int = field(default=15, metadata={"help": "Candidates per word (the paper's M)."})
    augment_probability: float = field(default=0.4, metadata={"help": "Chance of replacing a word (the paper's p)."})
    augment_rounds: int = field(default=20, metadata={"help": "Variants made of each text (the paper's N)."})

    def check(self) -> None:
        """Raise an InputError with every setting that is out of range."""
        mistakes = Mistakes()
        for name in ("width_mult", "head_mult", "ffn_mult", "depth_mult"):
            flag, wrong = f"--{name.replace('_', '-')}", [mult for mult in getattr(self, name) if not is_mult(mult)]
            mistakes.extend(f"{flag} must lie in (0, 1], got {mult}" for mult in wrong)
        mistakes.extend(f"--depths must be at least 1, got {depth}" for depth in self.depths if depth < 1)
        for name in ("logit_weight", "hidden_weight", "final_epochs"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                mistakes.add(f"--{name.replace('_', '-')} must be a number of at least 0, got {value}")
        if self.logit_weight == self.hidden_weight == 0:
            mistakes.add(TRAINS_FOR_NOTHING)
        if not 0 < self.temperature < float("inf"):
            mistakes.add(f"--temperature must be above 0, got {self.temperature}")
        if not 0 < self.augment_probability <= 1:
            mistakes.add(f"--augment-probability must lie in (0, 1], got {self.augment_probability}")
        for name in ("importance_samples", "augment_candidates", "augment_rounds"):
            if getattr(self, name) < 1:
                mistakes.add(f"--{name.replace('_', '-')} must be at least 1, got {getattr(self, name)}")
        if self.subnets_per_step is not None and self.subnets_per_step < 0:
            mistakes.add(f"--subnets-per-step must be at least 0, got {self.subnets_per_step}")
        wanted = {"mlm": "augment_model", "words": "augment_words"}.get(self.augment)
        for name in ("augment_model", "augment_words"):
            given, flag = getattr(self, name) is not None, f"--{name.replace('_', '-')}"
            if name == wanted and not given:
                mistakes.add(f"--augment {self.augment} must come with {flag}")
            if given and name != wanted:
                mistakes.add(f"{flag} must come with --augment {'mlm' if name == 'augment_model' else 'words'}")
        mistakes.check(InputError)


@dataclass(frozen=True, kw_only=True)
class SchubertSettings:
    """How `schubert` cuts a network to a budget."""

    objective: Objective = field(
        default="task", metadata={"help": "task, or mlm: masked tokens of plain text, as in the paper."}
    )
    budget: str | None = field(
        default=None,
        metadata={
            "help": "What to cut to: NAME=X, NAME one of params, params_encoder, macs, bytes, latency_ms; "
            "X below 1 is a share of the uncut model's."
        },
    )
    from_paper: str | None = field(
        default=None,
        metadata={"help": f"Cut to an architecture the paper found instead: {', '.join(PAPER_SHAPES)}."},
    )
    dims: tuple[Dim, ...] = field(
        default=("h", "f", "a", "k", "v"),
        metadata={"help": "What may go: h hidden units, f neurons, a heads, k key units, v value units."},
    )
    uniform: bool = field(
        default=False, metadata={"help": "Shrink all --dims by one share; gates only say which units stay."}
    )
    multiple_of: int | None = field(
        default=None, metadata={"help": "Sizes stay multiples of this (heads apart); 1 for any."}
    )
    recipe: Literal["ours", "paper"] = field(
        default="ours", metadata={"help": "ours, or paper: an L1 price of constant strength, several rounds."}
    )
    gamma: float | None = field(
        default=None, metadata={"help": "Strength of the L1 price of --recipe paper (the paper's gamma)."}
    )
    rounds: int | None = field(default=None, metadata={"help": "Rounds of gates, cut and healing (the paper's T)."})
    gate_steps: int | None = field(default=None, metadata={"help": "Steps that gates are trained for in a round."})
    gate_learning_rate: float = field(default=0.02, metadata={"help": "Learning rate of gates."})
    last_share: float | None = field(
        default=None, metadata={"help": "Share of the healing that comes after the last cut; the rest is spread."}
    )
    backend: BackendName = field(
        default="torch", metadata={"help": f"What --budget latency_ms is measured on: {BACKENDS_HELP}."}
    )
    length: int | None = field(
        default=None, metadata={"help": "Tokens per text for --budget latency_ms; default: lengths of the dev texts."}
    )
    teacher: str | None = field(default=None, metadata={"help": "Another model with the same labels to imitate."})
    logit_weight: float = field(default=1.0, metadata={"help": "Weight of the logit loss."})
    hidden_weight: float = field(default=30.0, metadata={"help": "Weight of the embedding and hidden losses."})
    temperature: float = field(default=1.0, metadata={"help": "Temperature of the logit loss."})

    def __post_init__(self) -> None:
        object.__setattr__(self, "dims", tuple(dim for dim in DIMS if dim in self.dims))

    @property
    def parsed_budget(self) -> Budget | None:
        """The budget; None where a named architecture is the target."""
        return None if self.budget is None else Budget.parse(self.budget)

    @property
    def is_timed(self) -> bool:
        """Whether the budget is in milliseconds."""
        return (self.budget or "").startswith(f"{LATENCY}=")

    def check(self) -> None:
        """Raise an InputError with every setting that is out of range."""
        mistakes = Mistakes()
        if (self.budget is None) == (self.from_paper is None):
            mistakes.add("schubert must have one of --budget NAME=X and --from-paper NAME")
        if self.budget is not None:
            with mistakes.collect():
                Budget.parse(self.budget)
        if self.from_paper is not None:
            with mistakes.collect():
                paper_shape(self.from_paper)
        for name in ("multiple_of", "rounds", "gate_steps"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                mistakes.add(f"--{name.replace('_', '-')} must be at least 1, got {getattr(self, name)}")
        for name in ("logit_weight", "hidden_weight"):
            if not 0 <= getattr(self, name) < float("inf"):
                mistakes.add(f"--{name.replace('_', '-')} must be a number of at least 0, got {getattr(self, name)}")
        if self.logit_weight == self.hidden_weight == 0:
            mistakes.add(TRAINS_FOR_NOTHING)
        with mistakes.collect():
            LatencySettings(backend=self.backend, length=self.length).check()
        mistakes.extend(self._without_effect())
        if self.last_share is not None and not 0 < self.last_share <= 1:
            mistakes.add(f"--last-share must lie in (0, 1], got {self.last_share}")
        for name in ("gate_learning_rate", "temperature"):
            if not 0 < getattr(self, name) < float("inf"):
                mistakes.add(f"--{name.replace('_', '-')} must be above 0, got {getattr(self, name)}")
        if not self.dims:
            mistakes.add(f"--dims must name some of {', '.join(DIMS)}, got none")
        mistakes.check(InputError)

    def _without_effect(self) -> list[str]:
        """Return a mistake for each option that was given beside one that leaves it nothing to do."""
        defaults = {each.name: each.default for each in fields(self)}
        given = {name for name, default in defaults.items() if getattr(self, name) != default}
        found = []
        if self.from_paper is not None:
            found += [
                f"--{name.replace('_', '-')} must not be given with --from-paper, which names every size"
                for name in ("dims", "uniform", "multiple_of")
                if name in given
            ]
        if not self.is_timed:
            timed = [name for name in ("backend", "length") if name in given]
            found += [f"--{name} must come with --budget latency_ms=X" for name in timed]
        if self.rounds in (None, 1) and "last_share" in given:
            found.append("--last-share must come with --rounds of at least 2")
        return found
