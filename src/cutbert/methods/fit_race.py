"""Candidates of `fit` under one limit: repaired, ranked, trained in rounds of which the better half goes on.

Source:
    Successive halving: Jamieson and Talwalkar 2016 (1502.07943). Networks are ranked by their divergence from the
    teacher on select and on held-out rows without labels: accuracy on a few hundred rows is noise (our choice).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cutbert.bench.latency import time_networks
from cutbert.data.rows import Examples
from cutbert.data.tokens import Tokens
from cutbert.errors import BudgetError
from cutbert.files import read_json, write_json
from cutbert.hub.load import load_model
from cutbert.methods.fit_candidates import Candidate, Proposer, Source, student_candidates
from cutbert.methods.fit_gates import LEAST_STEPS, MOST_STEPS, chosen_by_gates, gate_plan, gated
from cutbert.methods.fit_limits import Costs, Target
from cutbert.methods.fit_plan import Clock, FitPlan, seconds_per_step
from cutbert.methods.fit_settings import FitSettings
from cutbert.methods.schubert_gates import GateOptimizer, GateView
from cutbert.model.task_model import TaskModel
from cutbert.shape.budget import LATENCY
from cutbert.shape.shape import EncoderShape
from cutbert.shape.source import ModelSource
from cutbert.shape.subnet import Subnet
from cutbert.surgery.repair import repair
from cutbert.train.checkpoint import Position, latest_checkpoint, load_weights, read_position, save_weights
from cutbert.train.evaluate import predict_logits, score, teacher_kl
from cutbert.train.loop import Stage, train_stage
from cutbert.train.pace import Pace
from cutbert.train.progress import counter, progress_bar, say
from cutbert.train.settings import TrainSettings
from cutbert.work.distill import DistillStep
from cutbert.work.losses import Teacher
from cutbert.work.objective import TaskObjective
from cutbert.work.student import OTHER_BACKBONE, SMALL, student_step

REPAIR_ROWS, REPAIR_TOKENS = 256, 6000  # at most, for least squares: more take longer and bring little
RIDGES = (0.03, 0.3, 3.0)  # where real cuts have their best one, few since each takes time
LOOK_ROWS = 128  # of select, for the damage of a part
HELD_OUT = 500  # of --unlabeled, for ranking
GATES_SHARE = 0.08  # of the time left, for gates under one limit
CLOSE = 0.02  # of a score: training to the end may still make up for it
ROUNDS_SHARE = 0.45  # of the training time; the rest is the winners'
LEAST_ROUND_STEPS = 25
LEAST_LAST_STEPS = 20
MARGIN = 0.97  # of a limit on latency, for candidates: a single measurement is noisy


@dataclass(frozen=True, eq=False)
class Part:
    """A model that candidates are cut from, with its task and its teacher: the model itself, or a student.

    Args:
        objective: the task, in the model's tokens.
        teacher: in the training dtype.
        tokens: rows to distil on.
        judged: rows that networks are ranked by: select, and rows held out of --unlabeled.
        answers: the teacher's, of each of these.
        source: what is cut.
    """

    objective: TaskObjective
    teacher: Teacher
    tokens: Tokens
    judged: tuple[Tokens, ...]
    answers: tuple[NDArray[np.float32], ...]
    source: Source

    @classmethod
    def of_model(cls, objective: TaskObjective, held_out: Sequence[Examples], seed: int) -> Part:
        """Return the model itself, with the teacher asked and the model's parts looked at."""
        teacher, tokens = objective.teacher_and_tokens()
        judged = (objective.select, *map(objective.tokenize, held_out))
        answers = tuple(objective.teacher_logits(each) for each in (objective.data.select, *held_out))
        source = source_of(objective, seed)
        return cls(objective, teacher, tokens, judged, answers, source)

    @classmethod
    def of_student(cls, model: Part, student: ModelSource, held_out: Sequence[Examples], seed: int) -> Part:
        """Return a student, which learns from the model's teacher; it may have a tokenizer of its own."""
        data, old = model.objective.data, model.objective
        loaded = load_model(student, data.head, seed=seed)
        loaded.model.to(old.engine.device)
        has_same_tokens = loaded.tokenizer.get_vocab() == old.loaded.tokenizer.get_vocab()
        own = replace(old, loaded=loaded)
        if not has_same_tokens:
            train_tokens, dev = own.tokenize(data.train), own.tokenize(data.dev)
            select = dev if data.select_is_dev else own.tokenize(data.select)
            own = replace(own, train_tokens=train_tokens, dev=dev, select=select)
        rows = data.train if data.unlabeled is None else data.train.joined(data.unlabeled)
        tokens = model.tokens if has_same_tokens else own.tokenize(rows)
        teacher = model.teacher
        if not has_same_tokens:
            teacher = replace(teacher, tokens=teacher.tokens or model.tokens, has_states=False, state_pairs=None)
        judged = (own.select, *map(own.tokenize, held_out))
        return cls(own, teacher, tokens, judged, model.answers, source_of(own, seed))

    @property
    def teacher_select(self) -> float:
        """The teacher's score on select."""
        return self.select_score_of(self.answers[0])

    def select_score(self, network: TaskModel) -> float:
        """Return a network's score on select, in float32."""
        return self.select_score_of(predict_logits(network, self.judged[0]))

    def select_score_of(self, logits: NDArray[np.float32]) -> float:
        data = self.objective.data
        return score(data.head, data.metric, logits, self.judged[0]).score

    def kl(self, network: TaskModel, rows: int | None = None) -> float:
        """Return a network's divergence from the teacher on the judged rows, or on the first of select alone."""
        head = self.objective.data.head
        if rows is not None:
            few = np.arange(min(rows, len(self.judged[0])))
            return teacher_kl(head, predict_logits(network, self.judged[0].take(few)), self.answers[0][few])
        ours = np.concatenate([predict_logits(network, tokens) for tokens in self.judged])
        return teacher_kl(head, ours, np.concatenate(self.answers))

    def repaired(self, candidate: Candidate) -> TaskModel:
        """Return a candidate's network with what the cut broke refitted."""
        network = self.source.cut(candidate)
        hidden = None if candidate.hidden is None else torch.tensor(candidate.hidden)
        batches, layers = self.source.batches, candidate.layers
        repair(self.source.model, network, batches, layers=layers, hidden=hidden, ridges=RIDGES)
        return network

    def step(self, candidate: Candidate, shape: EncoderShape) -> DistillStep:
        """Return the training step of a candidate."""
        hidden = None if candidate.hidden is None else torch.tensor(candidate.hidden)
        units = None if hidden is None else hidden.to(self.objective.engine.device)
        losses = self.objective.losses
        if candidate.student is not None:
            return student_step(losses, self.teacher, shape, OTHER_BACKBONE, is_main=False)
        return student_step(losses, self.teacher, shape, kept=candidate.layers, hidden_units=units, is_main=False)


def source_of(objective: TaskObjective, seed: int) -> Source:
    """Return an objective's model as what candidates are cut from, looked at on a few training rows without labels."""
    model = objective.loaded.model
    rows = min(REPAIR_ROWS, max(1, int(REPAIR_TOKENS / objective.train_tokens.lengths.mean())))
    return Source.of(model, objective.sample(model, rows, seed))


@dataclass(eq=False)
class Fitting:
    """What the parts of one run share.

    Args:
        objective: the task and the fine-tuned model.
        settings, train: as given.
        plan, clock, costs: of the run.
        parts: what candidates are cut from, by the student's name; None for the model itself.
    """

    objective: TaskObjective
    settings: FitSettings
    train: TrainSettings
    plan: FitPlan
    clock: Clock
    costs: Costs
    parts: dict[str | None, Part]

    @classmethod
    def of(
        cls,
        objective: TaskObjective,
        settings: FitSettings,
        train: TrainSettings,
        plan: FitPlan,
        clock: Clock,
        costs: Costs,
    ) -> Fitting:
        with plan.run.timing("propose"):
            say("looking at what each part of the model is worth")
            objective, held_out = without_held_out(objective, train.seed)
            own = Part.of_model(objective, held_out, train.seed)
            parts: dict[str | None, Part] = {None: own}
            for name in settings.student if "student" in settings.kinds else ():
                student = objective.inputs.models.others[f"student {name}"]
                parts[name] = Part.of_student(own, student, held_out, train.seed)
        return cls(objective, settings, train, plan, clock, costs, parts)

    @property
    def folder(self) -> Path:
        """Where unfinished work is kept."""
        return self.plan.run.path / "checkpoint"


def without_held_out(objective: TaskObjective, seed: int) -> tuple[TaskObjective, list[Examples]]:
    """Hold some of the rows without labels out of training; return the others' objective and these rows."""
    rows = objective.data.unlabeled
    if rows is None or len(rows) < 2:
        return objective, []
    order = np.random.default_rng(seed).permutation(len(rows))
    held_out, others = np.split(order, [min(HELD_OUT, len(rows) // 2)])
    data = replace(objective.data, unlabeled=rows.take(np.sort(others)))
    return replace(objective, data=data), [rows.take(np.sort(held_out))]


@dataclass(frozen=True)
class Entrant:
    """A candidate in the race.

    Args:
        candidate: what it is.
        latency_ms: measured before training, beside the uncut model.
        kl: to the teacher, as it is now.
        steps, seconds: trained so far.
        rounds: survived.
        weights: name of the file of its weights.
    """

    candidate: Candidate
    latency_ms: float
    kl: float
    steps: int = 0
    seconds: float = 0.0
    rounds: int = 0
    weights: str = ""

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "candidate": self.candidate.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Entrant:
        return cls(**{**data, "candidate": Candidate.from_json(data["candidate"])})


@dataclass(frozen=True)
class Race:
    """The candidates under one limit.

    Args:
        target: the limit.
        entrants: the winner first; the others in the order in which they dropped out, the last first.
    """

    target: Target
    entrants: tuple[Entrant, ...]


def race(fitting: Fitting, target: Target, number: int, count: int) -> Race:
    """Propose candidates for a limit, and train them in rounds until one is left or the time for rounds is over.

    Args:
        fitting: of the run.
        target: the limit.
        number: races before this one, which have their winners' last training to come.
        count: of all races; all get an equal share of the time.

    Raises:
        BudgetError: nothing can be proposed within the limit.
    """
    run, kept = fitting.plan.run, fitting.folder / f"{target.key}-race.json"
    if not kept.is_file():
        with run.timing("propose"):
            write_race(kept, propose(fitting, target), [])

    def end_of_rounds() -> float:
        races_left = count - number + number * (1 - ROUNDS_SHARE)
        return run.seconds + ROUNDS_SHARE * fitting.clock.left_s(ends=count) / races_left

    until = fitting.plan.decide(f"{target.key}-until", end_of_rounds)
    entrants, out = read_race(kept)
    entrants = affordable(fitting, target, entrants, until - run.seconds)
    turn = 1 + max(each.rounds for each in entrants)
    last_turn = turn - 1 + math.ceil(math.log2(len(entrants)))
    while len(entrants) > 1:
        with run.timing("rounds"):
            after = train_round(fitting, target, entrants, turn, last_turn - turn + 1, until)
            stay = max(1, len(after) // 2)
            ranked = sorted(after, key=lambda each: each.kl)
            entrants, out = ranked[:stay], [*ranked[stay:], *out]
            write_race(kept, entrants, out)
            leader = entrants[0]
            say(
                f"{target.name}, round {turn}: {len(after)} candidates, {leader.candidate.name} ahead "
                f"(KL {leader.kl:.4f} after {leader.steps:,} steps)"
            )
        turn += 1
    return Race(target, (*entrants, *out))


def read_race(kept: Path) -> tuple[list[Entrant], list[Entrant]]:
    """Return the candidates that are still in a race, and those that are out."""
    data = read_json(kept)
    return [Entrant.from_json(each) for each in data["in"]], [Entrant.from_json(each) for each in data["out"]]


def best_so_far(fitting: Fitting, target: Target) -> Race | None:
    """Return a limit with its best candidate as it is now, amid a training too; None before there is one."""
    kept = fitting.folder / f"{target.key}-race.json"
    if not kept.is_file():
        return None
    best = read_race(kept)[0][0]
    running = latest_checkpoint(fitting.folder / last_stage(target))
    if running is not None:
        done = read_position(running / "position.json")
        weights = str((running / "model").relative_to(fitting.folder))
        best = replace(best, weights=weights, steps=best.steps + done.step, seconds=best.seconds + done.seconds)
    return Race(target, (best,))


def last_stage(target: Target) -> str:
    """Return the name of the winner's last training."""
    return f"{target.key}-last"


def write_race(kept: Path, entrants: Sequence[Entrant], out: Sequence[Entrant]) -> None:
    write_json(kept, {"in": [each.to_json() for each in entrants], "out": [each.to_json() for each in out]})


# What is proposed


def propose(fitting: Fitting, target: Target) -> list[Entrant]:
    """Return the candidates under a limit, repaired and ranked by divergence from the teacher; weights are kept."""
    damage: dict[str, float] = {}
    candidates = diverse(fitting, proposals(fitting, target), damage)
    times = fitting.plan.decide(f"{target.key}-ms", lambda: measured(fitting, target, candidates))
    most = target.aims.get(LATENCY, math.inf)
    able = [each for each in candidates if times[each.name] <= most] or candidates[:1]
    entrants = []
    with progress_bar(f"{target.name}: repair", len(able)) as bar:
        advance = counter(bar)
        for each in able:
            part = fitting.parts[each.student]
            network = part.repaired(each)
            if part.kl(network, LOOK_ROWS) > damage[each.name]:
                network = part.source.cut(each)
            weights = f"{target.key}-{each.name}-start"
            save_weights(fitting.folder / f"{weights}.safetensors", network)
            entrants.append(Entrant(each, times[each.name], part.kl(network), weights=weights))
            advance()
    return sorted(entrants, key=lambda each: each.kl)


def diverse(fitting: Fitting, candidates: Sequence[Candidate], damage: dict[str, float]) -> list[Candidate]:
    """Return as many candidates as take part in a race: the best of each kind as it is cut, then the best others.

    A student is not fine-tuned: it answers by chance before training, and always takes part.

    Args:
        fitting: of the run.
        candidates: all that were proposed.
        damage: receives the divergence of each from the teacher, as it is cut, on LOOK_ROWS.
    """
    for each in candidates:
        part = fitting.parts[each.student]
        damage[each.name] = part.kl(part.source.cut(each), LOOK_ROWS)
    ranked = sorted(candidates, key=lambda each: damage[each.name])
    firsts = list({each.kind: each for each in reversed(ranked)}.values())
    students = [each for each in ranked if each.kind == "student"]
    order = {each.name: each for each in (*firsts, *students, *ranked)}
    return list(order.values())[: max(fitting.clock.candidates, len(students) + 1)]


def proposals(fitting: Fitting, target: Target) -> list[Candidate]:
    """Return the candidates of all kinds under a limit.

    Raises:
        BudgetError: there are none.
    """
    costs, settings, found = fitting.costs, fitting.settings, list[Candidate]()
    own = fitting.parts[None]

    def load(shape: EncoderShape) -> float:
        return target.load(costs.numbers(shape)) / MARGIN

    def damage(candidate: Candidate) -> float:
        return own.kl(own.source.cut(candidate), LOOK_ROWS)

    found += Proposer(own.source, load, damage, settings.kinds)()
    if "gates" in settings.kinds:
        found += by_gates(fitting, own, target, load)
    for name, part in fitting.parts.items():
        if name is not None:
            found += student_candidates(name, part.source, load)
    if not found:
        raise BudgetError(
            f"{target.name}: nothing can be made within it of the kinds {', '.join(settings.kinds)}; loosen it, or "
            "allow more --kinds"
        )
    return found


def by_gates(fitting: Fitting, part: Part, target: Target, load: Callable[[EncoderShape], float]) -> list[Candidate]:
    """Return the candidate whose sizes are chosen by gates, where there is time to train them."""
    whole = Candidate("whole", "gates", Subnet.full(part.source.shape))
    step, name = part.step(whole, part.source.shape), f"{target.key}-gates"
    plan, engine = SMALL.plan, part.objective.engine

    def planned() -> int:
        scratch = copy.deepcopy(part.source.model)
        speed = seconds_per_step(scratch, plan, part.tokens, step, engine, fitting.train)
        return min(MOST_STEPS, int(GATES_SHARE * fitting.clock.left_s(ends=1) / speed))

    steps = fitting.plan.decide(f"{name}-steps", planned)
    if steps < LEAST_STEPS:
        say(f"{target.name}: no time to learn gates")
        return []
    model = gated(part.source, load)
    stage = Stage(gate_plan(plan, name, steps), part.tokens, step, view=GateView, optimizer=GateOptimizer)
    train_stage(model, stage, engine, fitting.train, fitting.plan.run)
    return chosen_by_gates(part.source, model, load)


def measured(fitting: Fitting, target: Target, candidates: Sequence[Candidate]) -> dict[str, float]:
    """Return the latency of each candidate, timed in turn with the uncut model and brought to its first latency."""
    networks = {each.name: fitting.parts[each.student].source.cut(each) for each in candidates}
    latency = fitting.settings.timing(fitting.train.threads, fitting.train.seed)
    networks["uncut"] = fitting.objective.loaded.model
    say(f"{target.name}: timing {len(candidates)} candidates beside the uncut model")
    times = time_networks(networks, fitting.objective.lengths, replace(latency, throughput_batch_size=1))
    factor = fitting.costs.table.uncut_ms / times["uncut"].latency_ms
    return {each.name: factor * times[each.name].latency_ms for each in candidates}


# Rounds


def affordable(fitting: Fitting, target: Target, entrants: Sequence[Entrant], seconds: float) -> list[Entrant]:
    """Return the candidates that a first round has time for: the best, whole layers, students, then the others."""
    fresh = [each for each in entrants if not each.rounds]
    if len(fresh) < len(entrants):
        return list(entrants)

    def count() -> int:
        speed = step_seconds(fitting, entrants[0])
        most = min(len(entrants), fitting.clock.candidates)
        for number in range(most, 1, -1):
            rounds = math.ceil(math.log2(number))
            if seconds / rounds / number / speed >= LEAST_ROUND_STEPS:
                return number
        return 1

    number = fitting.plan.decide(f"{target.key}-candidates", count)
    plain = [each for each in entrants if each.candidate.kind == "layers"][:1]
    students = [each for each in entrants if each.candidate.kind == "student"]
    order = {each.candidate.name: each for each in (entrants[0], *plain, *students, *entrants)}
    return list(order.values())[:number]


def step_seconds(fitting: Fitting, entrant: Entrant) -> float:
    """Return the seconds of a training step of a candidate, measured on a copy."""
    part = fitting.parts[entrant.candidate.student]
    network = loaded(fitting, entrant)
    return seconds_per_step(
        network,
        SMALL.plan,
        part.tokens,
        part.step(entrant.candidate, network.shape),
        part.objective.engine,
        fitting.train,
    )


def train_round(
    fitting: Fitting, target: Target, entrants: Sequence[Entrant], number: int, rounds_left: int, until: float
) -> list[Entrant]:
    """Train every candidate for the same number of steps: what this round's share of the time allows."""
    run = fitting.plan.run

    def planned() -> int:
        speeds = [each.seconds / each.steps if each.steps else step_seconds(fitting, each) for each in entrants]
        return max(LEAST_ROUND_STEPS, int((until - run.seconds) / rounds_left / sum(speeds)))

    steps = fitting.plan.decide(f"{target.key}-round-{number}", planned)
    return [trained(fitting, target, each, f"{target.key}-{each.candidate.name}-{number}", steps) for each in entrants]


def trained(
    fitting: Fitting, target: Target, entrant: Entrant, name: str, steps: int, pace: Pace | None = None
) -> Entrant:
    """Train a candidate further, and judge it again."""
    part = fitting.parts[entrant.candidate.student]
    network = loaded(fitting, entrant)
    plan = replace(SMALL.plan, name=name, exact_steps=steps, first_step=entrant.steps)
    stage = Stage(plan, part.tokens, part.step(entrant.candidate, network.shape), pace=pace)
    position = train_stage(network, stage, part.objective.engine, fitting.train, fitting.plan.run)
    network.eval()
    return replace(
        entrant,
        kl=part.kl(network),
        steps=entrant.steps + position.step,
        seconds=entrant.seconds + position.seconds,
        rounds=entrant.rounds + 1,
        weights=name,
    )


def loaded(fitting: Fitting, entrant: Entrant) -> TaskModel:
    """Return a candidate's network as it was trained last."""
    network = fitting.parts[entrant.candidate.student].source.new(entrant.candidate)
    load_weights(fitting.folder / f"{entrant.weights}.safetensors", network)
    return network


# The winners


def train_winners(fitting: Fitting, races: list[Race]) -> None:
    """Train the winner of each race alone, on the time that is left; races are changed in place.

    Under --max-drop only the winners that may be chosen are trained: see `promising`.
    """
    chosen = promising(fitting, races)
    for count, index in enumerate(chosen):
        current = races[index]
        winner, others = current.entrants[0], current.entrants[1:]
        name = last_stage(current.target)
        kept = fitting.folder / f"{name}-entrant.json"
        if not kept.is_file():
            begun, left = fitting.plan.run.seconds, len(chosen) - count
            end = fitting.plan.decide(
                f"{name}-until",
                lambda: begun + fitting.clock.left_s(ends=len(races)) / left,  # noqa: B023
            )
            speed = winner.seconds / winner.steps if winner.steps else step_seconds(fitting, winner)
            planned = int((end - fitting.plan.run.seconds) / speed)
            if planned < LEAST_LAST_STEPS:
                say(f"{current.target.name}: no time is left to train {winner.candidate.name} further")
                continue
            pace = fitting.plan.pace(name, planned, lambda: end - fitting.plan.run.seconds)  # noqa: B023
            steps = pace.num_steps(Position())
            say(f"{current.target.name}: training {winner.candidate.name} alone, about {steps:,} steps")
            with fitting.plan.run.timing("last"):
                last = trained(fitting, current.target, winner, name, planned, pace)
            if last.kl > winner.kl:
                say(
                    f"{current.target.name}: {winner.candidate.name} stays as it was, {last.steps:,} steps were too few"
                )
                last = winner
            fitting.plan.keep_pace(name, pace)
            write_json(kept, last.to_json())
        last = Entrant.from_json(read_json(kept))
        races[index] = replace(current, entrants=(last, *others))


def promising(fitting: Fitting, races: Sequence[Race]) -> list[int]:
    """Return which races' winners are trained to the end: all; of the sizes tried under --max-drop at most two.

    These are the fastest that is close to the drop by now, and the next larger one, in case it does not get there.
    """
    if not any(each.target.is_rung for each in races):
        return list(range(len(races)))
    kept = fitting.folder / "promising.json"
    if not kept.is_file():
        scores = []
        for each in races:
            part = fitting.parts[each.entrants[0].candidate.student]
            scores.append(part.select_score(loaded(fitting, each.entrants[0])))
        allowed = fitting.parts[None].teacher_select - (fitting.settings.max_drop or 0.0) / 100 - CLOSE
        order = sorted(range(len(races)), key=lambda i: races[i].entrants[0].latency_ms)
        close = [i for i in order if scores[i] >= allowed]
        first = close[0] if close else order[-1]
        after = order[order.index(first) + 1 :][:1]
        write_json(kept, [first, *after])
    return list(read_json(kept))
