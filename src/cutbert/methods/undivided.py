"""Undivided Attention (Sridhar and Sarah 2020, 2012.11881): attention layers without their own feed-forward (the
"intermediate layer" of BERT).

The paper's own way comes first: a pattern of sub-layers, trained from scratch. Then ours: cut the feed-forwards out of
a trained model, at once or one after the other, and heal it. Which ones go is in `undivided_choice`; CKA and probes, by
which the paper judges, are in `cutbert.analysis`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from cutbert.data.settings import DataSettings
from cutbert.data.text_settings import TextSettings
from cutbert.data.tokens import Tokens
from cutbert.errors import InputError, Mistakes
from cutbert.methods.pretrain import measure_and_save
from cutbert.methods.undivided_choice import Removal, check_removal, choose_removal, layers_with_ffn, without
from cutbert.methods.undivided_settings import UndividedSettings
from cutbert.model.task_model import TaskModel
from cutbert.shape.pattern import (
    feed_forward_layers,
    pattern_of,
    shape_of_pattern,
    with_equal_params,
    with_feed_forwards,
)
from cutbert.shape.shape import EncoderShape
from cutbert.shape.source import Models
from cutbert.shape.subnet import Subnet
from cutbert.surgery.extract import extract
from cutbert.train.loop import Stage, TrainingStep, train_stage
from cutbert.train.progress import say
from cutbert.train.run_folder import RunFolder
from cutbert.train.settings import StagePlan, TrainSettings
from cutbert.work.distill import DistillStep, LossWeights, SubnetAt
from cutbert.work.finetune import check_teacher, ensure_finetuned, train_on_labels
from cutbert.work.inputs import Inputs, NewShape, check_inputs
from cutbert.work.objective import Objective
from cutbert.work.plans import FINAL, FROM_SCRATCH, heal_plan
from cutbert.work.run import Scored, carry_out, latency_settings, score_and_save, score_whole, store_networks
from cutbert.work.text_objective import TextObjective, check_halves


def undivided(
    models: Models,
    data: DataSettings | TextSettings,
    train: TrainSettings,
    settings: UndividedSettings,
    run: RunFolder,
) -> dict[str, Any]:
    """Train a masked LM of few feed-forwards from scratch, or remove them from a trained model and heal it.

    Args:
        models: the model, fine-tuned first where its head does not fit the task, and with a masked-LM head on plain
            text; a teacher. From scratch the model gives tokenizer and style alone.
        data: the task or the text; from scratch the text.
        train: training flags of the training from scratch, or of the healing.
        settings: which feed-forwards stay, and how the others go.
        run: opened run folder; receives model/ (the result), rounds/ (the networks before it), front.json.

    Returns:
        The result with the keys out, pattern, removed, metric, teacher, subnets (the network as the removal left it,
        healed, the result last), seconds; where the choice was measured, chosen_by and choice_scores. From scratch:
        out, pattern, metric, subnets (the one network), loss, perplexity, tokens, seconds, tokens_per_s.

    Raises:
        InputError: mistakes in settings, models, shape or data, all together, before anything is made.

    Source:
        Sridhar and Sarah 2020 (2012.11881) train such networks from scratch. Cutting them from a trained model,
        healing, and everything about both is our choice.
    """
    if settings.from_scratch is not None:
        return train_from_scratch(models, data, train, settings, run)
    plan = heal_plan(isinstance(data, TextSettings)).overridden(train if settings.heal else replace(train, epochs=0.0))
    check_method = partial(check_healing, settings, plan)
    inputs = check_inputs(models, data, settings, train=train, check_method=check_method)
    return carry_out(inputs, train, run, partial(cut_and_heal, settings=settings, plan=plan, train=train, run=run))


# The paper: a pattern of sub-layers, trained from scratch


def train_from_scratch(
    models: Models,
    data: DataSettings | TextSettings,
    train: TrainSettings,
    settings: UndividedSettings,
    run: RunFolder,
) -> dict[str, Any]:
    """Train a masked LM of new weights, with fewer feed-forwards than a given shape, as `pretrain` does.

    Source:
        Sridhar and Sarah 2020 (2012.11881). The same text and steps for every pattern are the user's to give.

    The pattern becomes a shape here; `hub.load.new_loaded` makes random weights of it while the run is prepared.
    """
    mistakes, new = Mistakes(), None
    with mistakes.collect():
        settings.check()
        whole = NewShape.of_file(str(settings.from_scratch)).made_as(models.model)
        new = replace(whole, shape=shape_with_pattern(settings, whole.shape))
    inputs: Inputs | None = None
    with mistakes.collect():
        inputs = check_inputs(models, data, None, train=train, new=new)
    mistakes.check(InputError)
    assert inputs is not None

    def method(objective: Objective) -> None:
        check_halves(objective)
        assert isinstance(objective, TextObjective)
        network = objective.loaded.model
        pattern = pattern_of(network.shape)
        say(f"sub-layers: {pattern}", shown=objective.engine.is_main)
        with run.timing("train"):
            position = train_on_labels(objective, network, FROM_SCRATCH.overridden(train), train, run)
        entry = score_whole(run, objective, network, f"ffn{pattern.count('F')}")
        if objective.engine.is_main:
            shown = {"pattern": pattern, "metric": objective.metric, "subnets": [entry.to_json()]}
            run.finish(
                {"out": str(run.path), **shown, **measure_and_save(objective, position, run), "seconds": run.seconds}
            )

    return carry_out(inputs, train, run, method)


def shape_with_pattern(settings: UndividedSettings, whole: EncoderShape) -> EncoderShape:
    """Return a shape with feed-forwards only where the settings keep them; without such a setting, the shape itself.

    With --equal-params attention layers are added up to the whole shape's own number of parameters.

    Raises:
        ShapeError: the pattern does not fit the shape.
    """
    if settings.pattern is not None:
        shape = shape_of_pattern(whole, settings.pattern)
    elif not settings.ways:
        shape = whole
    else:
        shape = with_feed_forwards(whole, layers_with_ffn(settings, whole))
    return with_equal_params(whole, pattern_of(shape)) if settings.equal_params else shape


# Ours: cut from a trained model, and heal


@dataclass(frozen=True, eq=False)
class Healing:
    """One removal and its healing.

    Args:
        objective: what the network is for; holds the uncut model.
        removal: what goes.
        make_step: the training step, given which part of the network is trained when.
        tokens: the rows that steps are made on.
        plan: of the healing; of no epochs for none.
        settings, train: as given.
        run: the run's folder.
    """

    objective: Objective
    removal: Removal
    make_step: Callable[[SubnetAt], TrainingStep]
    tokens: Tokens
    plan: StagePlan
    settings: UndividedSettings
    train: TrainSettings
    run: RunFolder

    @property
    def uncut(self) -> TaskModel:
        return self.objective.loaded.model


def cut_and_heal(
    objective: Objective, settings: UndividedSettings, plan: StagePlan, train: TrainSettings, run: RunFolder
) -> None:
    """Choose what goes, remove it, heal the rest and store the result."""
    check_halves(objective)
    ensure_finetuned(objective, train, run)
    with run.timing("choose"):
        removal = choose_removal(objective, settings, train.seed, run)
    teacher, tokens = objective.teacher_and_tokens()
    teacher = teacher.for_training(tokens, plan, train, run.path / "checkpoint")
    is_text = objective.inputs.is_text

    def make_step(subnet_at: SubnetAt) -> TrainingStep:
        # Masked LM: the true tokens take the place of the teacher's logits (our choice); its states are compared.
        has_teacher = settings.hidden_weight > 0 or not is_text
        return DistillStep(
            objective.losses,
            teacher if has_teacher else None,
            LossWeights.of(settings),
            uses_labels=is_text,
            subnet_at=subnet_at,
        )

    healing = Healing(objective, removal, make_step, tokens, plan, settings, train, run)
    pattern = pattern_of(without(healing.uncut.shape, removal.order).shape_in(healing.uncut.shape))
    announce(healing, pattern)
    networks = remove_and_heal(healing)
    result: dict[str, Any] = {"pattern": pattern, "removed": removal.order}
    if removal.scores:
        result |= {"chosen_by": settings.chosen_by, "choice_scores": removal.scores}
    store_networks(run, objective, networks, latency_settings(train, settings.backend), result)


def announce(healing: Healing, pattern: str) -> None:
    """Tell the user what goes, and what is left as it is."""
    is_main, order = healing.objective.engine.is_main, healing.removal.order
    say(f"sub-layers: {pattern_of(healing.uncut.shape)} becomes {pattern}", shown=is_main)
    if not order:
        say("no feed-forward is removed", shown=is_main)
    elif not healing.plan.epochs:
        say("the network is not healed: what the removal broke stays broken", shown=is_main)


def remove_and_heal(healing: Healing) -> list[Scored]:
    """Return the networks of a removal with their scores: as it left the network, healed, trained on; the result last.

    Where nothing is removed, the unhealed network equals the uncut model and is left out if anything is trained.
    """
    run, objective, order = healing.run, healing.objective, healing.removal.order
    heals, trains_last = healing.plan.epochs > 0, healing.settings.final_epochs > 0
    name = f"ffn{len(feed_forward_layers(healing.uncut.shape)) - len(order)}"
    model, networks = extract(healing.uncut, without(healing.uncut.shape, order)), []
    trains, steps = heals or trains_last, 0
    if order or not trains:
        networks.append(score_and_save(run, objective, model, f"{name}-unhealed", is_last=not trains))
    if heals:
        with run.timing("heal"):
            model, steps = healed(healing)
        networks.append(score_and_save(run, objective, model, name, is_last=not trains_last))
    if trains_last:
        model = copy.deepcopy(model)
        plan = replace(FINAL.overridden(healing.train), epochs=healing.settings.final_epochs, first_step=steps)
        with run.timing("final"):
            train_on_labels(objective, model, plan, healing.train, run)
        networks.append(score_and_save(run, objective, model, f"{name}-final", is_last=True))
    return networks


def healed(healing: Healing) -> tuple[TaskModel, int]:
    """Return the network after the removal and its healing, which share one stage and one learning-rate schedule, and
    the steps they took.

    What goes first is cut out; what goes later is left out of the steps from its moment on, and cut out at the end.
    """
    rounds = rounds_of(healing.removal.order, healing.settings)
    model = extract(healing.uncut, without(healing.uncut.shape, rounds[0] if rounds else ()))
    schedule = RemovalSchedule.of(model.shape, rounds, healing.settings.removal_share)
    stage = Stage(healing.plan, healing.tokens, healing.make_step(schedule))
    steps = train_stage(model, stage, healing.objective.engine, healing.train, healing.run).step
    last = schedule.subnets[-1]
    return model if last is None else extract(model, last), steps


def rounds_of(order: tuple[int, ...], settings: UndividedSettings) -> list[tuple[int, ...]]:
    """Return the feed-forwards that go together, in order; the earlier rounds have one more where they differ."""
    count = 1 if settings.removal == "sudden" else min(settings.removal_rounds or len(order), len(order))
    if not order:
        return []
    size, more = divmod(len(order), count)
    ends = [(i + 1) * size + min(i + 1, more) for i in range(count)]
    return [order[start:end] for start, end in zip([0, *ends], ends, strict=False)]


@dataclass(frozen=True)
class RemovalSchedule:
    """What is trained as a removal goes on: a subnet from each moment on.

    Args:
        moments: shares of the steps at which the subnets begin, rising from 0.
        subnets: what is trained from each moment on; None for all.

    Source:
        Our choice: the rounds come at even distances within the first part of the steps. Separate healings, each with
        a learning rate that starts again, would undo each other, as measured for schuBERT's rounds.
    """

    moments: tuple[float, ...]
    subnets: tuple[Subnet | None, ...]

    @classmethod
    def of(cls, shape: EncoderShape, rounds: list[tuple[int, ...]], share: float) -> RemovalSchedule:
        """Return the schedule after the first round, which is cut out at once.

        Args:
            shape: of that network.
            rounds: all of them.
            share: of the steps, in which the rounds come.
        """
        moments: list[float] = [0.0]
        subnets: list[Subnet | None] = [None]
        gone: list[int] = []
        for number, layers in enumerate(rounds[1:], start=1):
            gone += layers
            moments.append(share * number / len(rounds))
            subnets.append(without(shape, gone))
        return cls(tuple(moments), tuple(subnets))

    def __call__(self, progress: float) -> Subnet | None:
        """Return what is trained after a share of the steps."""
        begun = sum(moment <= progress for moment in self.moments)
        return self.subnets[begun - 1]


def check_healing(settings: UndividedSettings, plan: StagePlan, inputs: Inputs) -> None:
    """Raise unless the model has the feed-forwards that stay and the teacher the task's labels; all together."""
    mistakes = Mistakes()
    with mistakes.collect():
        check_teacher(inputs, settings.logit_weight)
    with mistakes.collect():
        check_removal(settings, inputs.model.shape)
    if settings.removal == "gradual" and not plan.epochs:
        mistakes.add("--removal gradual must come with healing, got --epochs 0")
    mistakes.check(InputError)
