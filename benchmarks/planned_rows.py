"""The claims as the records of their plans decide them, where these are there, in the place of what was run before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from claims import Claim, Finding
from findings import fit_gaps, one_choice
from results import has_record
from studies import (
    best_on_select,
    chosen_before,
    family_beside,
    gain_of,
    int8_less_float32,
    less_heads,
    less_rival,
    less_teacher,
    loss_of,
    planned_heads,
    planned_slants,
    prices,
    represented,
    represented_probes,
    scratch_gaps,
    size_of,
    which_dimension,
    with_mean,
)

BASE_SIZE = "`fit` beats plain layers of a model of 12 layers of 768"
LAYERS, TEXT = {"against": "layers"}, {"against": "tuned_layers"}


@dataclass(frozen=True)
class Planned:
    """What a plan's record says of a claim.

    Args:
        record: of the plan.
        ran: what was run, in words.
        found: returns what came out.
        flaw: why it cannot decide all the same; empty where it can.
    """

    record: str
    ran: str
    found: Callable[[], Sequence[Finding]]
    flaw: str = ""


def as_planned(claim: Claim) -> Claim:
    """Return a claim with the first plan of its own whose record says something of it; as it is where none does."""
    for plan in PLANNED.get(claim.name, ()):
        if has_record(plan.record) and plan.found():
            ran = f"{plan.ran}; {size_of(plan.record)}"
            return replace(claim, ran=ran, records=(plan.record,), found=plan.found, flaw=plan.flaw)
    return claim


PLANNED = {
    "A family's whole network keeps its score": (
        Planned(
            "family", "`w1.0-d1.0` of a family less its teacher", less_teacher("family", "family", name="w1.0-d1.0")
        ),
    ),
    "Half the width costs little": (
        Planned("family", "`w0.5-d1.0` less the teacher", less_teacher("family", "family", name="w0.5-d1.0")),
    ),
    "Sub-networks are as good as networks made alone": (
        Planned(
            "family",
            "the family's best on select with no more multiply-adds, less layers distilled alone with states and "
            "logits in as many steps",
            family_beside("family", "family"),
            one_choice(3, 2),
        ),
        Planned(
            "dynabert_short",
            "the best on select, with no more multiply-adds, of a family of four, less layers distilled alone with "
            "states and logits; each in 200 steps of 32 rows",
            family_beside("dynabert_short", "family/rewired"),
            one_choice(3, 2),
        ),
    ),
    "Rewiring helps": (
        Planned(
            "recipes",
            "our recipe and the paper's, less the same without rewiring; the mean over a family's networks",
            loss_of("recipes", {"default-not-rewired": "family/default", "paper-not-rewired": "family/paper"}),
        ),
        Planned(
            "dynabert_short",
            "a family of four less the same without rewiring, 200 steps of 32 rows; the mean over its networks",
            loss_of("dynabert_short", {"not-rewired": "family/rewired"}),
        ),
    ),
    "Two stages and the width teacher help": (
        Planned(
            "recipes",
            "the paper's recipe less the same with a teacher of full width, and less our one stage; the mean over a "
            "family's networks",
            loss_of("recipes", {"paper-full-width-teacher": "family/paper", "default": "family/paper"}),
        ),
    ),
    "Augmentation helps": (
        Planned(
            "recipes",
            "the paper's recipe with augmented rows less without, for as many passes and for as many steps; the "
            "mean over a family's networks",
            gain_of("recipes", {"paper-augmented": "family/paper", "paper-augmented-equal-steps": "family/paper"}),
        ),
    ),
    "Learned sizes beat three layers at equal parameters, by masked LM": (
        Planned(
            "text_cuts_tuned",
            "gates and healing by masked LM on wikitext-2, half of the encoder, then tasks; less the fewest layers "
            "with no fewer parameters",
            with_mean("text_cuts_tuned", "tuned_cut", "params_encoder=0.5", "fakv", **TEXT),
        ),
    ),
    "On the mean of three tasks distilled cuts beat three layers at equal parameters": (
        Planned(
            "cuts_params",
            "`--dims f,a,k,v`, half of the encoder, less the fewest layers with no fewer parameters, distilled with "
            "hidden states in as many steps",
            with_mean("cuts_params", "cut", "params_encoder=0.5", "fakv", **LAYERS),
            one_choice(3),
        ),
    ),
    "On the mean of three tasks distilled cuts beat two layers at equal parameters": (
        Planned(
            "cuts_params",
            "the same with 35 % of the encoder",
            with_mean("cuts_params", "cut", "params_encoder=0.35", "fakv", **LAYERS),
            one_choice(2),
        ),
    ),
    "Which dimension goes first": (
        Planned(
            "dims",
            "three quarters of all parameters by the paper's recipe: hidden units alone, less neurons alone, one "
            "share for all, and all; heads alone reach no three quarters",
            which_dimension,
        ),
    ),
    "Heads alone are the worst to cut": (
        Planned(
            "dims",
            "nine tenths of all parameters by the paper's recipe: neurons alone, hidden units alone, one share for "
            "all, and all, less heads alone",
            less_heads,
        ),
    ),
    "schuBERT's cuts are better by our price than by L1": (
        Planned(
            "dims",
            "cuts of all dimensions to nine tenths and three quarters of all parameters, in three rounds: the default "
            "recipe less the paper's",
            prices,
        ),
    ),
    "Feed-forwards slant: the lower layers give up more, by our price on tasks": (
        Planned(
            "cuts",
            "neurons of cuts on tasks, by distillation and our price; rank correlation with the layer",
            planned_slants("cuts"),
        ),
    ),
    "The same by L1 and by masked LM": (
        Planned("text_cuts_tuned", "cuts on plain text", planned_slants("text_cuts_tuned", "on text")),
    ),
    "Heads are hardly pruned, by our price on tasks": (
        Planned(
            "cuts",
            "heads of the cuts to half of the encoder; as in the paper where at least 70 of 72 stay",
            planned_heads,
        ),
    ),
    "Fewer feed-forwards from scratch lose little": (
        Planned(
            "undivided_scratch_tuned",
            "12 layers of hidden size 128, wikitext-2, then SST-2; less the whole network",
            scratch_gaps,
        ),
    ),
    "Half of the feed-forwards, cut and healed, lose little": (
        Planned("undivided", "600 steps of healing, less the teacher", less_teacher("undivided", "kept", "3")),
    ),
    "Half of the feed-forwards, cut and healed, beat four whole layers": (
        Planned(
            "undivided",
            "less the best whole layers on select with no more multiply-adds, in as many steps",
            lambda: less_rival("undivided", "kept", "3", against="layers", side="no_more"),
            one_choice(4),
        ),
    ),
    "Attention hardly changes, by CKA": (
        Planned(
            "representations",
            "CKA of the attention sites, layer by layer: a teacher beside three kept feed-forwards, the same healed "
            "without states, and a teacher of another seed",
            represented,
        ),
    ),
    "Probes show little impact": (
        Planned(
            "representations",
            "probes on [CLS] after each layer, a teacher beside three kept feed-forwards and both controls",
            represented_probes,
        ),
    ),
    "int8 loses nothing, cut or not": (
        Planned(
            "fit_int8",
            "int8 less float32 of the same weights: the uncut model, and `fit`'s network and plain layers at a third "
            "of the latency, which are taken by their int8 scores on select",
            int8_less_float32,
        ),
    ),
    BASE_SIZE: (
        Planned("fit_base_more", "`fit` less `fit --kinds layers`, one core", fit_gaps("layers", "fit_base_more")),
    ),
    "Fewer layers beat the full network": (
        Planned(
            "depth_runs",
            "the best smaller depth on select, less the full model",
            best_on_select,
            "These weights have seen QQP's text, and SQuAD's, which QNLI is made of.",
        ),
    ),
    "The number of layers can be chosen before fine-tuning": (
        Planned(
            "depth_runs",
            "the probe's depth less the full model, where it kept fewer than six layers",
            chosen_before,
            "The paper's own criterion is not known to us.",
        ),
    ),
}
