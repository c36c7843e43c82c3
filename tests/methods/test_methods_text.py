"""schuBERT and DynaBERT on plain text: budgets, splits, refusals, and that what comes out fine-tunes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_task import time_by_macs, tiny_task, tiny_text, weights
from torch.nn import functional as F

import cutbert
from cutbert.data.batches import collate_blocks
from cutbert.data.masking import Masking, masked_batch, masking_of
from cutbert.data.text import every_second
from cutbert.data.tokens import Tokens
from cutbert.errors import InputError
from cutbert.files import read_json
from cutbert.folders.load import load_model
from cutbert.methods.dynabert_recipes import RECIPES
from cutbert.methods.dynabert_steps import FamilyStep
from cutbert.model.task_model import TaskModel
from cutbert.shape.cost import cost_of
from cutbert.shape.head import IGNORED, HeadSpec
from cutbert.train.loop import StepInfo
from cutbert.train.masked_lm import StepMasks
from cutbert.train.working_copy import WorkingCopy, frozen_copy
from cutbert.work.losses import Teacher, TextLosses
from kills import killed_as_it_says
from tiny_runs import SHAPE, SPECIAL, WORDS, save_tiny, tiny_grid, tiny_model, tiny_tokenizer

MASKED_LM = HeadSpec("masked_lm")
IDS = np.random.default_rng(0).integers(len(SPECIAL), len(SPECIAL) + len(WORDS), (7, 16)).astype(np.int32)
IDS[:, 0], IDS[:, -1] = 2, 3
TOKENS = Tokens(IDS.flatten(), np.arange(0, IDS.size + 1, 16))
MASKING = masking_of(tiny_tokenizer(), "tiny", vocab_size=SHAPE.vocab_size)
CUT: dict[str, Any] = {"rounds": 2, "gate_steps": 2, "multiple_of": 1, "gate_learning_rate": 0.1}


@pytest.fixture(autouse=True)
def known_latency(monkeypatch: pytest.MonkeyPatch) -> None:
    time_by_macs(monkeypatch)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return {**tiny_text(tmp_path_factory.mktemp("text")), "objective": "mlm"}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny(tmp_path_factory.mktemp("source") / "model", tiny_model(MASKED_LM)))


def test_schubert_cuts_a_masked_lm_that_fine_tunes(source: str, text: dict[str, Any], tmp_path: Path) -> None:
    run = cutbert.schubert(source, out=tmp_path / "cut", budget="params_encoder=0.5", **CUT, **text)
    assert run["metric"] == "masked_accuracy"
    last = tuple(run.front)[-1]
    assert cost_of(last.shape).params_encoder <= 0.5 * cost_of(SHAPE).params_encoder
    assert {"masked_accuracy", "loss", "perplexity"} <= last.metrics.keys()
    small = load_model(tmp_path / "cut").model
    assert small.head_spec == MASKED_LM and small.shape == last.shape
    tuned = cutbert.finetune(tmp_path / "cut", out=tmp_path / "tuned", **tiny_task(tmp_path))
    assert load_model(tuned.path).model.shape == last.shape


def test_dynabert_makes_a_family_whose_cuts_fine_tune(source: str, text: dict[str, Any], tmp_path: Path) -> None:
    options = {"width_mult": (1.0, 0.5), "depths": [3, 1], "importance_samples": 8, **text}
    run = cutbert.dynabert(source, out=tmp_path / "family", **options)
    assert run["metric"] == "masked_accuracy" and len(run.front) > 4
    cutbert.pick(run.path, max_macs=min(entry.macs for entry in run.front), out=str(tmp_path / "small"))
    small = load_model(tmp_path / "small").model
    assert small.shape.num_layers == 1 and small.head_spec == MASKED_LM
    cutbert.finetune(tmp_path / "small", out=tmp_path / "tuned", **tiny_task(tmp_path))
    paper = cutbert.dynabert(source, out=tmp_path / "paper", recipe="paper", **{**options, "stock": False})
    stages = {line.split('"stage": "')[1].split('"')[0] for line in (paper.path / "log.jsonl").open()}
    assert stages == {"width", "width-depth"}


def test_units_are_ordered_by_importance_only_where_some_are_cut(
    source: str, text: dict[str, Any], tmp_path: Path
) -> None:
    options = {"depths": [3, 1], "importance_samples": 8, **text}
    whole = cutbert.dynabert(source, out=tmp_path / "whole", width_mult=(1.0,), **options)
    assert [entry.shape.num_layers for entry in whole.front] == [3, 1]
    assert read_json(whole.path / "run.json")["timings"].keys() >= {"rewire", "train", "score", "latency"}
    halves = cutbert.dynabert(source, out=tmp_path / "halves", width_mult=(1.0,), ffn_mult=(1.0, 0.5), **options)
    assert len(halves.front) == 4
    before, kept, ordered = (weights(path) for path in (Path(source), whole.path / "model", halves.path / "model"))
    assert all((before[name] - kept[name]).abs().max() < 0.01 for name in before)  # trained, every unit in its place
    name = next(name for name in before if name.endswith("intermediate.dense.weight"))
    nearest = [int((before[name] - neuron).abs().amax(1).argmin()) for neuron in ordered[name]]
    assert (before[name][nearest] - ordered[name]).abs().max() < 0.01
    assert sorted(nearest) == list(range(len(nearest))) != nearest


def test_a_family_of_full_width_ends_the_same_when_stopped(source: str, text: dict[str, Any], tmp_path: Path) -> None:
    options = {"width_mult": (1.0,), "depths": [3, 1], **text}
    cutbert.dynabert(source, out=tmp_path / "whole", **options)
    with killed_as_it_says("distil: 3/6"):
        cutbert.dynabert(source, out=tmp_path / "run", checkpoint_seconds=0.0, **options)
    cutbert.dynabert(source, out=tmp_path / "run", checkpoint_seconds=0.0, **options)
    wanted, found = (weights(tmp_path / name / "model") for name in ("whole", "run"))
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_the_same_command_gives_the_same_bits(source: str, text: dict[str, Any], tmp_path: Path) -> None:
    runs = [
        cutbert.schubert(source, out=tmp_path / name, budget="macs=0.7", **CUT, **text) for name in ("one", "other")
    ]
    one, other = (weights(run.path / "model") for run in runs)
    assert all(torch.equal(one[key], other[key]) for key in one)


def masked_losses(
    parts: list[np.ndarray], rows: np.ndarray, tokens: Tokens, masking: Masking
) -> tuple[TaskModel, dict[str, float]]:
    """Return the gradients of one distillation step in micro-batches, and its losses."""
    net, recipe = tiny_model(MASKED_LM), RECIPES["default"]
    teacher = Teacher(frozen_copy(tiny_model(MASKED_LM, seed=3), torch.float32))
    losses_of = TextLosses(StepMasks(tokens, masking))
    step = FamilyStep(losses_of, net, teacher, tiny_grid(), recipe.stages[0], recipe)
    work = WorkingCopy(net, torch.float32, dropout=0.0)
    work.refresh()
    totals: dict[str, float] = {}
    for part in parts:
        random = np.random.default_rng(5)
        info = StepInfo(part, len(rows), int(tokens.lengths[rows].sum()), len(rows), 0.0, random, 0, rows)
        batch = collate_blocks(tokens, part, pad_token_id=0, use_token_types=False)
        for name, value in step(work, batch, info).items():
            totals[name] = totals.get(name, 0.0) + float(value)
    work.collect()
    return net, totals


def test_the_split_of_a_distillation_step_changes_nothing() -> None:
    rows = np.arange(6)
    whole, losses = masked_losses([rows], rows, TOKENS, MASKING)
    split, parts = masked_losses([rows[::2], rows[1::2]], rows, TOKENS, MASKING)
    assert parts == pytest.approx(losses, rel=1e-4)
    for (name, one), other in zip(whole.named_parameters(), split.parameters(), strict=True):
        if one.grad is not None:
            torch.testing.assert_close(other.grad, one.grad, atol=1e-5, rtol=1e-3, msg=name)


def test_imitating_oneself_is_no_loss_and_has_no_gradient() -> None:
    """Against plain cross-entropy's twin: the KL of all logits at the masked positions."""
    rows, net, recipe = np.arange(6), tiny_model(MASKED_LM), RECIPES["default"]
    far = {}
    for name, teacher in (("self", net), ("other", tiny_model(MASKED_LM, seed=3))):
        losses_of, frozen = TextLosses(StepMasks(TOKENS, MASKING)), frozen_copy(teacher, torch.float32)
        step = FamilyStep(losses_of, net, Teacher(frozen), tiny_grid()[:1], recipe.stages[0], recipe)
        work = WorkingCopy(net, torch.float32, dropout=0.0)
        work.refresh()
        random = np.random.default_rng(5)
        info = StepInfo(rows, 6, int(TOKENS.lengths[rows].sum()), 6, 0.0, random, 0, rows)
        batch = collate_blocks(TOKENS, rows, pad_token_id=0, use_token_types=False)
        losses = step(work, batch, info)
        gradients = [weight.grad.abs().max() for weight in net.head.parameters() if weight.grad is not None]
        far[name] = (float(losses["logits"]), float(max(gradients)))
        masks = losses_of.masks(info)
        masked = masks.apply(batch, rows)
        with torch.no_grad():
            both = [
                model(masked.batch.input_ids, blocks=batch.blocks).logits[masked.positions].log_softmax(-1)
                for model in (net, teacher)
            ]
        wanted = F.kl_div(*both, reduction="sum", log_target=True) / masks.num_hidden
        assert far[name][0] == pytest.approx(float(wanted), abs=1e-5)
    assert far["self"] == pytest.approx((0.0, 0.0), abs=1e-5) and min(far["other"]) > 1e-3


def test_masked_batches_hold_their_targets_as_labels() -> None:
    batch = masked_batch(TOKENS, np.arange(4), MASKING, seed=1)
    hidden = batch.labels != IGNORED
    S = int(TOKENS.offsets[1])
    real = torch.from_numpy(np.asarray(TOKENS.ids)[: 4 * S].reshape(4, S).astype(np.int64))
    assert torch.equal(batch.labels[hidden], real[hidden]) and torch.equal(batch.input_ids[~hidden], real[~hidden])
    assert hidden.sum(1).min() >= 1
    logits = torch.randn(4, S, 20)
    assert F.cross_entropy(logits.flatten(0, 1), batch.labels.flatten(), ignore_index=IGNORED).isfinite()


def test_held_out_rows_are_halved() -> None:
    S, N = int(TOKENS.offsets[1]), len(TOKENS)
    halves = [every_second(TOKENS, first) for first in (0, 1)]
    assert len(halves[0]) + len(halves[1]) == N and abs(len(halves[0]) - len(halves[1])) <= 1
    assert np.array_equal(halves[1].ids[:S], TOKENS.ids[S : 2 * S])


@pytest.mark.parametrize(
    ("verb", "options", "message"),
    [
        ("schubert", {"budget": "macs=0.5", "teacher": "x"}, "--teacher is for --objective task"),
        ("dynabert", {"teacher": "x"}, "--teacher is for --objective task"),
        ("schubert", {"budget": "macs=0.5", "hidden_weight": 2.0}, "--hidden-weight is for --objective task"),
        ("dynabert", {"augment_rounds": 3}, "--augment-rounds is for --objective task"),
        ("dynabert", {"final_epochs": 1.0}, "--final-epochs is for --objective task"),
        ("dynabert", {"teacher_width": "full"}, "--teacher-width is for recipes of two stages"),
        ("dynabert", {"task": "sst2"}, "--task is for --objective task"),
        ("dynabert", {"objective": "task", "whole_word": True}, "--whole-word is for --objective mlm"),
        ("schubert", {"budget": "macs=0.5", "token_table": "rows"}, "--token-table must be dense or frozen"),
        ("schubert", {"budget": "macs=0.0001"}, "--budget macs must be at least"),
        (
            "schubert",
            {"budget": "macs=0.5", "objective": "clm"},
            "objective must be one of .*, got 'clm'",
        ),
    ],
)
def test_what_cannot_be_is_refused(
    source: str, text: dict[str, Any], tmp_path: Path, verb: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        getattr(cutbert, verb)(source, out=tmp_path / "run", **{**text, **options})
    assert not (tmp_path / "run").exists()


def test_a_model_without_a_masked_lm_head_is_refused(text: dict[str, Any], tmp_path: Path) -> None:
    bare = save_tiny(tmp_path / "bare")
    for verb, options in (("schubert", {"budget": "macs=0.5"}), ("dynabert", {})):
        with pytest.raises(InputError, match="--objective mlm must start from a model with a masked-LM head, got"):
            getattr(cutbert, verb)(bare, out=tmp_path / "run", **text, **options)
    assert not (tmp_path / "run").exists()
