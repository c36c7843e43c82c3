"""fit end to end on a tiny task: limits kept, the same plan the same weights, stopped runs that go on, refusals."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from tiny_task import fit_quickly, measure_quickly, tiny_task, weights

import cutbert
from cutbert.bench.quality import Sized, TimingQuality
from cutbert.errors import BudgetError, DivergedError, InputError, MissingError, RunError
from cutbert.files import read_json
from cutbert.folders.load import load_model
from cutbert.folders.provenance import read_provenance
from cutbert.fronts.leaderboard import LEADERBOARD, Leaderboard
from cutbert.fronts.outputs import chance_note
from cutbert.methods import fit_plan, fit_proposals, fit_race, fit_timing
from cutbert.methods.fit import start_clock, warn_of_few_rows, without_late_gates
from cutbert.methods.fit_candidates import Candidate, Entrant, Source
from cutbert.methods.fit_cuts import Proposer, in_multiples
from cutbert.methods.fit_finalists import timed_afresh
from cutbert.methods.fit_limits import MARGIN, Target
from cutbert.methods.fit_look import check_time
from cutbert.methods.fit_parts import TaughtSource, rows_within, source_of
from cutbert.methods.fit_plan import PLAN, Clock, FitPlan, end_of, read_plan
from cutbert.methods.fit_race import Race
from cutbert.methods.fit_settings import FitSettings
from cutbert.methods.fit_teacher import TRIES, tries_for
from cutbert.methods.fit_timing import AIMED, OF_SIZES
from cutbert.methods.fit_training import steps_within
from cutbert.shape.cost import cost_of
from cutbert.shape.head import HeadSpec
from cutbert.shape.subnet import KeptLayer, Subnet
from cutbert.train.checkpoint import Position
from cutbert.train.collating import sample_batches
from cutbert.train.pace import DeadlinePace, FixedPace
from cutbert.work.plans import FINETUNE
from tiny_runs import HEAD, SHAPE, WORDS, save_tiny, tiny_model, tiny_tokens

KEYS = (
    "name", "kind", "backend", "score", "select_score", "metrics", "latency_ms", "latency_p95_ms", "throughput_per_s",
    "params", "macs", "file_bytes", "steps", "train_seconds", "within_limit", "chosen",
)  # fmt: skip
PARAMS = cost_of(SHAPE, HEAD).params


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    options = tiny_task(tmp_path_factory.mktemp("task"))
    return {name: value for name, value in options.items() if name not in ("epochs", "batch_size")}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny(tmp_path_factory.mktemp("teacher") / "model"))


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny(tmp_path_factory.mktemp("bare") / "model", tiny_model(HeadSpec("pooler"))))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    fit_quickly(monkeypatch)


def fit(model: str, out: Path, task: dict[str, Any], **options: Any) -> cutbert.api.Run:
    time = {} if "plan" in options else {"time": 600.0}
    return cutbert.fit(model, out=out, **task, **{**time, "rounds": 2, **options})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, model: str, task: dict[str, Any]) -> cutbert.api.Run:
    with pytest.MonkeyPatch.context() as patch:
        fit_quickly(patch)
        return fit(model, tmp_path_factory.mktemp("fit") / "run", task, max_params=int(0.8 * PARAMS))


@pytest.mark.slow
def test_the_time_is_kept(model: str, task: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for what other work on the machine takes away, which no plan can foresee; it may take more to begin, too."""
    monkeypatch.undo()
    measure_quickly(monkeypatch)
    begun = time.monotonic() - time.process_time()
    limit_s, options = 20.0, {"max_params": int(0.8 * PARAMS)}
    try:
        run = fit(model, tmp_path / "run", task, **options, time=limit_s)
    except BudgetError as error:
        assert "--time must be at least" in str(error)
        limit_s *= 5
        run = fit(model, tmp_path / "run", task, **options, time=limit_s)
    waited = max(0.0, time.monotonic() - time.process_time() - begun)
    assert run["time_limit_s"] == limit_s and 0.6 * limit_s <= run["seconds"] <= 1.1 * limit_s + waited


def test_the_end_has_time_for_those_that_take_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of limits to come for as many as may; alone in a race, the winner has plain layers beside it."""
    monkeypatch.undo()
    plan = FitPlan(cast(Any, SimpleNamespace(seconds=100.0)), decisions={"limit-1-candidates": 3})
    clock = Clock(plan, limit_s=1000.0, uncut_s=10.0, candidates=8, shares={"limit-1": 0.5, "limit-2": 0.25})
    assert clock.left_s == pytest.approx(900 - 10 * end_of([0.5] * 3 + [0.25] * 8))
    assert clock.left_with(1) == pytest.approx(900 - 10 * end_of([0.5] * 3 + [0.25] * 2))
    plan.decisions["limit-2-candidates"] = 1
    assert clock.left_s == pytest.approx(900 - 10 * end_of([0.5] * 3 + [0.25] * 2))
    assert end_of([0.5]) - end_of([]) > end_of([0.25]) - end_of([]) > 0


def diverging(patch: pytest.MonkeyPatch, module: str, stages: Callable[[str], bool]) -> None:
    """Let the stages of some names end as those do whose loss becomes NaN."""
    train_stage = import_module(f"cutbert.methods.{module}").train_stage

    def train(network: Any, stage: Any, *rest: Any) -> Any:
        if stages(stage.plan.name):
            raise DivergedError(f"stage {stage.plan.name}: the loss is nan")
        return train_stage(network, stage, *rest)

    patch.setattr(f"cutbert.methods.{module}.train_stage", train)


def test_a_candidate_that_diverges_stays_as_it_was(
    model: str,
    task: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It is repaired, and is served so."""
    diverging(monkeypatch, "fit_training", lambda stage: True)
    monkeypatch.setattr("cutbert.methods.fit_plan.Clock.left_with", lambda self, candidates: 60.0)  # nothing is trained
    run = fit(model, tmp_path / "run", task, max_params=int(0.8 * PARAMS))
    assert len(run["leaderboard"]) > 3 and not any(each["steps"] for each in run["leaderboard"])
    assert f"{run['chosen']} stays as it was: stage limit-1-" in capsys.readouterr().err


def test_a_teacher_that_diverges_at_one_rate_is_made_at_another(
    bare: str, task: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    diverging(monkeypatch, "fit_teacher", lambda stage: True)
    with pytest.raises(DivergedError, match="at none of the rates that were tried: give --precision float32"):
        fit(bare, tmp_path / "lost", task, max_params=int(0.8 * PARAMS))
    monkeypatch.undo()
    fit_quickly(monkeypatch)
    diverging(monkeypatch, "fit_teacher", lambda stage: stage.endswith("-1"))
    run = fit(bare, tmp_path / "run", task, max_params=int(0.8 * PARAMS))
    assert "teacher: nothing is learned at 0.0001: stage teacher-1" in capsys.readouterr().err
    assert read_plan(run.path)["teacher"][0]["number"] == 2


def test_a_winner_that_is_too_slow_when_timed_again_makes_way(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The mean of both times counts; where all are too slow, or no latency is limited, the order stays.

    So it is where the winner cannot be cut narrower.
    """
    names = ("first", "second", "third")
    part = Subnet((KeptLayer(0, SHAPE.layers[0]),), SHAPE.hidden_size)
    entrants = [Entrant(Candidate(name, "sizes", part), latency_ms=1.9, kl=0.1) for name in names]
    plan = SimpleNamespace(decide=lambda name, decide: decide())
    fitting: Any = SimpleNamespace(plan=plan)
    monkeypatch.setattr(fit_race, "narrower", lambda *parts: None)
    monkeypatch.setattr(fit_race, "loaded", lambda fitting, entrant: entrant.candidate.name)
    monkeypatch.setattr(fit_race, "timed_copy", lambda network: network)
    monkeypatch.setattr(fit_race, "keeps_aims", lambda *parts: parts[3] <= 2)
    for again, limits, wanted in (
        ((2.2, 2.0, 1.0), {"latency_ms": 2.0}, "second third first"),  # 2.05 ms
        ((2.0, 2.0, 1.0), {"latency_ms": 2.0}, "first second third"),
        ((9.0, 9.0, 9.0), {"latency_ms": 2.0}, "first second third"),
        ((9.0, 1.0, 1.0), {"params": 2.0}, "first second third"),
    ):
        monkeypatch.setattr(fit_race, "times_of", lambda *parts, again=again: dict(zip(names, again, strict=True)))
        ordered = fit_race.timed_again(fitting, Target("2 ms", "limit-1", limits, limits, 1), entrants)
        assert " ".join(each.candidate.name for each in ordered) == wanted
    monkeypatch.setattr(fit_race, "times_of", lambda *parts: {"second": 9.0})  # of another run's plan
    ordered = fit_race.timed_again(fitting, Target("2 ms", "limit-1", {"latency_ms": 2.0}, {}, 1), entrants)
    assert [each.candidate.name for each in ordered] == ["first", "third", "second"]
    said = capsys.readouterr().err
    assert said == "2 ms: second goes on in the place of first, timed again at 2.05 ms\n"


@pytest.mark.parametrize(("kl", "score", "stays"), [(0.3, 0.5, True), (0.3, 0.6, False), (0.1, 0.1, False)])
def test_a_last_training_that_harms_in_every_way_is_not_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kl: float, score: float, stays: bool
) -> None:
    part = Subnet((KeptLayer(0, SHAPE.layers[0]),), SHAPE.hidden_size)
    winner = Entrant(Candidate("won", "sizes", part), latency_ms=1.9, kl=0.2, weights="before")
    decided = {"limit-1-last-until": 9.0, "limit-1-last-steps": 50, "limit-1-last": [[0, 50]]}
    plan = SimpleNamespace(
        decide=lambda name, decide: decided[name],
        pace=lambda *parts: SimpleNamespace(num_steps=lambda position: 50),
        run=SimpleNamespace(timing=lambda name: nullcontext(), seconds=1.0),
    )
    fitting: Any = SimpleNamespace(plan=plan, folder=tmp_path)
    monkeypatch.setattr(fit_race, "trained", lambda *parts: replace(winner, kl=kl, weights="after"))
    monkeypatch.setattr(fit_race, "select_score", lambda fitting, each: 0.5 if each.weights == "before" else score)
    race = fit_race.with_last_training(fitting, Race(Target("2 ms", "limit-1", {}, {}, 1), (winner,)), 1)
    assert race.entrants[0].weights == ("before" if stays else "after")


def test_limits_look_at_a_part_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[Subnet] = []
    monkeypatch.setattr(TaughtSource, "part_logits", looks.append)
    monkeypatch.setattr(TaughtSource, "damage_by", lambda self, logits: 0.5)
    source = TaughtSource(*cast(Any, [None] * 6))
    for depth in (2, 1, 2):
        part = Subnet(tuple(KeptLayer(i, SHAPE.layers[i]) for i in range(depth)), SHAPE.hidden_size)
        assert source.damage_of(Candidate(f"under-{depth}", "layers", part)) == 0.5
    assert [len(each.layers) for each in looks] == [2, 1]


def test_the_result_is_within_the_limit_and_exported(finished: cutbert.api.Run) -> None:
    board = finished["leaderboard"]
    assert all(set(KEYS) <= set(entry) for entry in board)
    (chosen,) = [entry for entry in board if entry["chosen"]]
    assert chosen["name"] == finished["chosen"] and chosen["within_limit"]
    assert chosen["params"] <= 0.8 * PARAMS and chosen["backend"] == "onnx-int8"
    folder = finished.path / "model"
    loaded = load_model(folder).model
    assert cost_of(loaded.shape, loaded.head_spec).params == chosen["params"]
    (file,) = (folder / "onnx").glob("*.onnx")
    assert file.name.startswith("model_qint8") and file.stat().st_size == chosen["file_bytes"]
    assert [entry.to_json() for entry in finished.leaderboard] == board
    for look in (lambda: finished.front, finished.pick, lambda: cutbert.front(finished.path)):
        with pytest.raises(RunError, match=r"is a run of fit, which makes no front: its network is in .*/run/model,"):
            look()


def test_the_page_is_there(finished: cutbert.api.Run) -> None:
    text = Path(finished["report"]).read_text(encoding="utf-8")
    assert finished["chosen"] in text and finished["verdict"].partition(",")[0] in text


def test_the_uncut_model_and_the_plain_alternative_are_on_the_leaderboard(finished: cutbert.api.Run) -> None:
    board = finished["leaderboard"]
    assert [(entry["kind"], entry["backend"]) for entry in board[:2]] == [("teacher", "onnx-int8"), ("teacher", "onnx")]
    assert not board[0]["within_limit"] and not board[1]["within_limit"]
    assert any(entry["kind"] == "layers" and entry["steps"] for entry in board)
    assert {"layers", "sizes"} <= {entry["kind"] for entry in board}
    chosen = next(entry for entry in board if entry["chosen"])
    plain = [entry for entry in board if entry["kind"] == "layers" and entry["within_limit"]]
    assert all(chosen["select_score"] >= entry["select_score"] for entry in plain)


def test_the_example_of_the_model_runs_the_exported_file(finished: cutbert.api.Run) -> None:
    import subprocess
    import sys

    script = finished.path / "model" / "onnx" / "example.py"
    done = subprocess.run([sys.executable, script, "a very good film"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.split()[0] in ("neg", "pos")
    assert "tokenizer.enable_truncation(16)" in script.read_text()  # the longest input of the run; its model's is 128


def test_the_model_says_that_it_and_the_uncut_one_are_near_chance(finished: cutbert.api.Run) -> None:
    """As those of `pick` do."""
    facts, board = read_provenance(finished.path / "model"), finished.leaderboard
    for note, name in (
        (facts["near_chance"], f"limit-1-{board.chosen[0].name}-onnx-int8"),
        (facts["cut_from"]["near_chance"], "uncut-onnx-int8"),
    ):
        assert note and note == chance_note(finished.path, name, board.metric)
    assert f"the uncut model: {facts['cut_from']['near_chance']}" in board.notes


def test_a_finished_run_is_returned(finished: cutbert.api.Run, model: str, task: dict[str, Any]) -> None:
    before = (finished.path / "run.json").read_bytes()
    again = fit(model, finished.path, task, max_params=int(0.8 * PARAMS))
    assert again.to_json() == finished.to_json()
    assert (finished.path / "run.json").read_bytes() == before


def test_the_same_plan_makes_the_same_weights(
    finished: cutbert.api.Run, model: str, task: dict[str, Any], tmp_path: Path
) -> None:
    options = {"max_params": int(0.8 * PARAMS), "plan": str(finished.path)}
    again = fit(model, tmp_path / "again", task, **options)
    assert again["chosen"] == finished["chosen"]
    first, second = weights(finished.path / "model"), weights(again.path / "model")
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert read_json(again.path / "plan.json") == read_json(finished.path / "plan.json")


@pytest.mark.slow
def test_a_cluster_trains_the_same_weights(
    cluster: Any, finished: cutbert.api.Run, model: str, task: dict[str, Any], tmp_path: Path
) -> None:
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    options = {"max_params": int(0.8 * PARAMS), "plan": str(finished.path)}
    there = fit(model, tmp_path / "there", task, **options, engine="ray", ray_address=cluster.address)
    first, second = weights(finished.path / "model"), weights(there.path / "model")
    assert all(torch.equal(first[name], second[name]) for name in first)
    trained = [[(each.name, each.steps, each.kl) for each in run.leaderboard] for run in (finished, there)]
    assert trained[0] == trained[1]


def test_a_cluster_that_does_not_answer_is_refused(model: str, task: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--ray-address must be a Ray cluster that answers, got 127\.0\.0\.1:1: "):
        fit(model, tmp_path / "run", task, max_params=PARAMS, engine="ray", ray_address="127.0.0.1:1")
    assert not list(tmp_path.iterdir())


def test_a_stopped_run_exports_the_best_so_far(
    model: str, task: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("cutbert.methods.fit.train_winners", stop)
        with pytest.raises(KeyboardInterrupt):
            fit(model, tmp_path / "run", task, max_params=int(0.8 * PARAMS))
    (file,) = (tmp_path / "run" / "model" / "onnx").glob("model_qint8*.onnx")
    (chosen,) = Leaderboard.load(tmp_path / "run").chosen
    assert chosen.file_bytes == file.stat().st_size and chosen.within_limit
    with pytest.raises(RunError, match="is not finished"):
        cutbert.open_run(tmp_path / "run")
    assert fit(model, tmp_path / "run", task, max_params=int(0.8 * PARAMS))["chosen"]


def test_a_run_stopped_in_each_part_goes_on_to_the_same_weights(
    finished: cutbert.api.Run, model: str, task: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"max_params": int(0.8 * PARAMS), "plan": str(finished.path)}

    def stop(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    for part in ("race", "train_winners", "finish"):
        with monkeypatch.context() as patch:
            patch.setattr(f"cutbert.methods.fit.{part}", stop)
            with pytest.raises(KeyboardInterrupt):
                fit(model, tmp_path / "run", task, **options)
    run = fit(model, tmp_path / "run", task, **options)
    first, second = weights(finished.path / "model"), weights(run.path / "model")
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not (run.path / "checkpoint").exists()


def test_noise_at_the_end_is_refused_and_nothing_is_lost(
    model: str, task: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end alone names its networks with their backend."""

    def judge(times: Any, waited: Any, sizes: Mapping[str, Sized]) -> TimingQuality:
        is_end = any(" on " in each.label for each in sizes.values())
        return TimingQuality(problems=problems if is_end else ())

    monkeypatch.setattr("cutbert.bench.latency.judge", judge)
    options: dict[str, Any] = {"max_params": int(0.8 * PARAMS), "require_quiet": True}
    problems: tuple[str, ...] = ("noise",)
    with pytest.raises(MissingError, match=r"--require-quiet: .* not to be trusted: noise \(timed 3 times\); stop"):
        fit(model, tmp_path / "run", task, **options)
    assert not (tmp_path / "run" / LEADERBOARD).exists()
    plan = read_json(tmp_path / "run" / PLAN)
    problems = ()
    run = fit(model, tmp_path / "run", task, **options)
    assert run["quality"]["is_quiet"] and run.leaderboard.measured["quality"] == run["quality"]
    assert read_json(tmp_path / "run" / PLAN) == plan  # all was decided, and is not decided again


def test_a_model_without_a_head_is_fine_tuned(bare: str, task: dict[str, Any], tmp_path: Path) -> None:
    run = fit(bare, tmp_path / "run", task, max_params=int(0.9 * PARAMS), kinds="layers", candidates=1)
    assert (run.path / "teacher" / "model.safetensors").is_file()
    tried = read_json(run.path / "plan.json")["teacher"]
    assert tried[0]["learning_rate"] == 1e-4 and 0 <= tried[0]["select_score"] <= 1


def test_with_a_teacher_a_model_without_a_head_imitates_it_first(
    bare: str, model: str, task: dict[str, Any], tmp_path: Path
) -> None:
    run = fit(bare, tmp_path / "run", task, max_params=int(0.9 * PARAMS), kinds="layers", candidates=1, teacher=model)
    assert len(read_json(run.path / "plan.json")["teacher"]) == 1
    labels = read_json(run.path / "predictions" / "uncut-onnx.json")["labels"]
    assert len(labels) == 18


def test_several_limits_make_several_models(model: str, task: dict[str, Any], tmp_path: Path) -> None:
    shares = [0.9, 0.8]  # of what the run itself measures: another one's milliseconds may be half of them
    run = fit(model, tmp_path / "run", task, max_latency_share=shares, candidates=3, kinds=["layers", "sizes"])
    assert [Path(each["out"]).name for each in run["models"]] == ["model", "model-limit-2"]
    assert all((Path(each["out"]) / "onnx").is_dir() for each in run["models"])
    chosen = run.leaderboard.chosen
    assert [entry.limit for entry in chosen] == [each["limit"] for each in run["models"]]
    limits = run.leaderboard.limits["max_latency_ms"]
    assert all(entry.latency_ms <= limit for entry, limit in zip(chosen, limits, strict=True))


def test_a_limit_that_nothing_keeps_in_the_end_does_not_take_the_other_models(
    model: str, task: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"max_latency_share": [0.95, 0.9], "candidates": 1, "kinds": ["layers"]}
    kept: list[str] = []
    monkeypatch.setattr("cutbert.methods.fit_end.choose", lambda *args: {key: 0 for key in kept})
    with pytest.raises(BudgetError) as caught:
        fit(model, tmp_path / "run", task, **options)
    assert len(caught.value.mistakes) == 2 and all(
        "keeps it as measured at the end; " in each and "The same command measures again" in each
        for each in caught.value.mistakes
    )
    assert Leaderboard.load(tmp_path / "run").entries and not (tmp_path / "run" / "model").exists()
    kept.append("limit-2")
    run = fit(model, tmp_path / "run", task, **options)
    (made,) = run["models"]
    assert (Path(made["out"]) / "onnx").is_dir()
    assert [note for note in run["notes"] if "no network that was made keeps it" in note] == [
        caught.value.mistakes[0].partition(";")[0]
    ]


@pytest.mark.parametrize("backend", ["onnx", "torch"])
def test_other_backends_serve(backend: str, model: str, task: dict[str, Any], tmp_path: Path) -> None:
    options = {"max_params": int(0.8 * PARAMS), "backend": backend, "kinds": ["layers"], "candidates": 2}
    run = fit(model, tmp_path / "run", task, **options)
    board = run["leaderboard"]
    assert [(entry["kind"], entry["backend"]) for entry in board[:2]] == [
        ("teacher", backend),
        ("teacher", "onnx-int8"),
    ]
    assert len(board) > 2 and all(entry["kind"] == "layers" and entry["backend"] == backend for entry in board[2:])
    assert not board[1]["chosen"] and board[1]["file_bytes"] < board[0]["file_bytes"]
    assert "uncut, int8" in Path(run["report"]).read_text(encoding="utf-8")
    files = sorted(path.name for path in (run.path / "model").glob("onnx/*.onnx"))
    assert files == (["model.onnx"] if backend == "onnx" else [])


def test_rows_without_labels_and_dev_as_select(model: str, task: dict[str, Any], tmp_path: Path) -> None:
    more = tmp_path / "more.txt.csv"
    more.write_text("text\n" + "\n".join(f"a {word} film and not {word}" for word in WORDS) + "\n", encoding="utf-8")
    given = {**task, "select": "dev", "unlabeled": str(more)}
    run = fit(model, tmp_path / "run", given, max_params=int(0.8 * PARAMS), kinds=["layers"], candidates=2)
    assert "* chosen, on dev itself" in repr(run)
    assert run["select_is_dev"] and run["leaderboard"][0]["select_score"] == run["leaderboard"][0]["score"]


def test_max_drop_alone_takes_the_fastest_that_is_close(model: str, task: dict[str, Any], tmp_path: Path) -> None:
    run = fit(model, tmp_path / "run", task, max_drop=100.0, candidates=2, kinds=["layers", "sizes"])
    board = run["leaderboard"]
    chosen = next(entry for entry in board if entry["chosen"])
    assert [each["limit"] for each in run["models"]] == ["--max-drop 100"]
    cuts = [entry["latency_ms"] for entry in board if entry["kind"] != "teacher" and entry["within_limit"]]
    assert chosen["kind"] != "teacher" or all(ms >= board[0]["latency_ms"] for ms in cuts)
    none = fit(model, tmp_path / "none", task, max_drop=0.0, candidates=2, kinds=["layers", "sizes"])
    chosen, uncut = next(entry for entry in none["leaderboard"] if entry["chosen"]), none["leaderboard"][0]
    assert chosen["select_score"] >= uncut["select_score"] or chosen["kind"] == "teacher"


def test_a_student_runs_in_the_race(model: str, task: dict[str, Any], tmp_path: Path) -> None:
    student = str(save_tiny(tmp_path / "student", tiny_model(HeadSpec("pooler"), seed=5)))
    run = fit(model, tmp_path / "run", task, max_params=int(0.8 * PARAMS), student=student, kinds=["student", "layers"])
    assert {"student", "layers"} <= {entry["kind"] for entry in run["leaderboard"]}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "fit must have a limit: one of --max-latency-ms, --max-latency-share, --max-params"),
        ({"max_params": 10}, "--max-params must be at least [0-9,]+, what the smallest network"),
        ({"max_params": int(0.8 * PARAMS), "kinds": ["student"]}, "--kinds student must come with --student"),
        ({"max_params": int(0.8 * PARAMS), "plan": "nowhere"}, "--plan must be a run of fit, got nowhere"),
        ({"max_latency_ms": [2.0, 2.0]}, "--max-latency-ms must differ, got 2, 2"),
        ({"max_params": int(0.8 * PARAMS), "plan": "nowhere", "time": 9.0}, "--time must not be given with --plan"),
        ({"max_latency_ms": -1.0}, "--max-latency-ms must be above 0"),
        ({"max_params": int(0.8 * PARAMS), "epochs": 2.0}, "--epochs must not be given: fit plans it"),
        ({"max_params": int(0.8 * PARAMS), "time": 0.01}, "--time must be at least .* s here"),
        ({"max_latency_ms": 1e-6}, "--max-latency-ms must be at least .*the uncut model: .* ms on onnx-int8"),
    ],
)
def test_mistakes_are_refused_and_leave_nothing(
    options: dict[str, Any], message: str, model: str, task: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        fit(model, tmp_path / "run", task, **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("wrong", ["labels", "tokenizer"])
def test_a_student_must_have_the_labels_and_a_tokenizer(
    wrong: str, model: str, task: dict[str, Any], tmp_path: Path
) -> None:
    head = HeadSpec("single_label", ("a", "b", "c")) if wrong == "labels" else HeadSpec("pooler")
    student = save_tiny(tmp_path / "student", tiny_model(head))
    if wrong == "tokenizer":
        (student / "tokenizer.json").unlink()
    message = {"labels": "must have no head, or one with the labels neg, pos", "tokenizer": "must hold a tokenizer"}[
        wrong
    ]
    with pytest.raises(InputError, match=f"--student .*: .*{message}"):
        fit(model, tmp_path / "run", task, max_params=int(0.8 * PARAMS), student=str(student))
    assert not (tmp_path / "run").exists()


def test_a_plan_must_be_one(model: str, task: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with pytest.raises(RunError, match=r"which has no plan\.json"):
        fit(model, tmp_path / "run", task, max_params=int(0.8 * PARAMS), plan=str(tmp_path / "other"))


def test_a_plan_must_be_of_the_same_model_data_and_limits(
    finished: cutbert.api.Run, bare: str, model: str, task: dict[str, Any], tmp_path: Path
) -> None:
    """Its times and steps are of these alone."""
    given: dict[str, Any] = {"max_params": int(0.8 * PARAMS), "plan": str(finished.path)}
    with pytest.raises(RunError, match=r"--plan .* must be a run of the same model: its weights differ"):
        fit(bare, tmp_path / "run", task, **given)
    with pytest.raises(RunError) as raised:
        fit(
            model, tmp_path / "run", {**task, "train": task["select"], "select": task["train"]}, **given, backend="onnx"
        )
    assert "must be a run with the same --backend: onnx here, onnx-int8 there" in str(raised.value)
    with pytest.raises(RunError, match=r"with the same --max-params: \d+ here, \d+ there"):
        fit(model, tmp_path / "run", task, **{**given, "max_params": int(0.9 * PARAMS)})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("decisions", "message"),
    [
        ([], "must be a JSON object, got list"),
        (
            {"look": {}},
            "with table, tokenizer_ms, build_s, row_ms, bytes_per_param, step_s as cutbert writes them",
        ),
        ({"at_once": 0}, "at_once must be a whole number of at least 1, got 0"),
        ({"time_limit_s": None}, "time_limit_s must be a number of at most 100,000,000, above 0, got None"),
        ({"time_limit_s": 1e300}, "time_limit_s must be a number of at most 100,000,000, above 0, got 1e[+]300"),
        ({"limit-1-round-1": -1}, "limit-1-round-1 must be a whole number in 0..1,000,000,000, got -1"),
        ({"limit-1-last-steps": 10**18}, "limit-1-last-steps must be a whole number in 0..1,000,000,000, got 1000"),
        ({"limit-1-last": [[0, 10**18]]}, "limit-1-last must be changes from step 0 on"),
        ({"limit-1-until": 1e200}, "limit-1-until must be a number of at most 100,000,000, got 1e[+]200"),
        ({"teacher": [1]}, "teacher must be a list of JSON objects"),
        ({"limit-1-until": "soon"}, "limit-1-until must be a number of at most 100,000,000, got 'soon'"),
        ({"limit-1-ms": {"thin-1": 0}}, "limit-1-ms must be a JSON object of numbers above 0"),
        ({"limit-1-last": []}, "limit-1-last must be changes from step 0 on"),
        ({"limit-1-last": [[3, 20]]}, "limit-1-last must be changes from step 0 on"),
        ({"limit-1-last": [[0, 20, 1]]}, "limit-1-last must be changes from step 0 on"),
    ],
)
def test_decisions_of_a_plan_are_checked(tmp_path: Path, decisions: Any, message: str) -> None:
    (tmp_path / PLAN).write_text(json.dumps(decisions))
    with pytest.raises(RunError, match=message):
        read_plan(tmp_path)


def test_fit_runs_in_one_process(
    model: str, task: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="fit must run in one process"):
        fit(model, tmp_path / "run", task, max_params=int(0.8 * PARAMS))


# Candidates


def proposer(limit: float, kinds: tuple[str, ...] = ("layers", "sizes", "undivided")) -> Proposer:
    """Return a proposer for a share of the uncut encoder's parameters; damage is the number of units that went."""
    source = Source.of(tiny_model(), batches())
    whole = cost_of(SHAPE).params_encoder

    def load(shape: Any) -> float:
        return cost_of(shape).params_encoder / (limit * whole)

    def damage(candidate: Any) -> float:
        return whole - cost_of(source.cut(candidate).shape).params_encoder

    return Proposer(source, load, damage, kinds)


def batches(count: int = 24) -> list[Any]:
    return sample_batches(tiny_model(), tiny_tokens(24), count, 0, torch.device("cpu"))


@pytest.mark.parametrize("limit", [0.7, 0.4, 0.2])
def test_all_candidates_fit_and_differ(limit: float) -> None:
    propose = proposer(limit)
    candidates = propose()
    assert candidates
    for each in candidates:
        network = propose.source.cut(each)
        assert propose.load(network.shape) <= (1.15 if each.kind == "layers" else 1)
        assert each == type(each).from_json(json.loads(json.dumps(each.to_json())))
    assert len({each.subnet for each in candidates}) == len(candidates)


def test_whole_layers_are_the_most_that_fit() -> None:
    propose = proposer(0.7)
    names = [each.name for each in propose() if each.kind == "layers"]
    assert propose.most_layers == 2
    assert {"layers-0-1", "layers-1-2", "layers-0-2"} < set(names)
    assert {len(each.layers) for each in propose() if each.kind == "layers"} == {1, 2}


@pytest.mark.parametrize("limit", [0.7, 0.45, 0.3])
def test_sizes_use_what_a_limit_leaves(limit: float) -> None:
    """No cut sub-layer could have one head or MULTIPLE neurons more."""
    propose = proposer(limit, ("sizes",))
    candidates = propose()
    assert candidates
    for each in candidates:
        layers = {kept.index: kept.shape for kept in each.subnet.layers}
        grown = list(propose.one_step(layers, propose.load(each.subnet.shape_in(SHAPE)), 1))
        assert all(step.load > 1 for step in grown)
        assert len(grown) == sum(
            0 < getattr(layers[i], name) < getattr(SHAPE.layers[i], name)
            for i in layers
            for name in ("num_heads", "intermediate_size")
        )


@pytest.mark.parametrize("factor", [0.8, 0.95, 1.2])  # of what is predicted, that networks take
def test_sizes_use_the_limit_by_what_they_take(monkeypatch: pytest.MonkeyPatch, factor: float) -> None:
    propose = proposer(0.45, ("layers", "sizes"))
    fitting: Any = SimpleNamespace(
        plan=SimpleNamespace(decide=lambda name, decide: decide()),
        costs=SimpleNamespace(numbers=lambda shape: {"latency_ms": MARGIN * propose.load(shape)}),
        part_of=lambda candidate: SimpleNamespace(source=propose.source),
    )
    asked = []

    def taken_ms(candidate: Any) -> float:
        return factor * MARGIN * propose.load(candidate.subnet.shape_in(SHAPE))

    def load_before(candidate: Any) -> float:
        return propose.load(before[candidate.name].subnet.shape_in(SHAPE))

    def measured(fitting: Any, target: Target, candidates: Any) -> dict[str, float]:
        asked.append(len(candidates))
        return {each.name: taken_ms(each) for each in candidates}

    def sized_by(candidate: Any, factor: float) -> Any:
        return replace(propose, load=lambda shape: factor * propose.load(shape)).again(candidate)

    monkeypatch.setattr(fit_timing, "measured", measured)
    limit = {"latency_ms": 1.0}
    candidates, times = fit_timing.timed(fitting, Target("1 ms", "limit-1", limit, limit, 1), propose(), sized_by)
    assert [each.name for each in candidates] == [each.name for each in propose()]
    assert times == {each.name: taken_ms(each) for each in candidates}
    before = {each.name: each for each in propose()}
    assert all(each == before[each.name] for each in candidates if each.kind == "layers")
    sizes = [each for each in candidates if each.kind == "sizes"]
    if factor < 1:  # larger, or as they were where a step more would break the limit
        assert all(propose.load(each.subnet.shape_in(SHAPE)) >= load_before(each) for each in sizes)
    changed = [each for each in sizes if each != before[each.name]]
    assert bool(changed) == (factor != 0.95) and all(times[each.name] <= OF_SIZES for each in changed)
    assert asked[0] == len(candidates) and asked[1:] in ([], [len(changed)])


def test_sizes_that_break_the_limit_as_timed_again_are_sized_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine slows down between both timings: only what cannot be thinner is out."""
    propose = proposer(0.45, ("sizes",))
    fitting: Any = SimpleNamespace(
        plan=SimpleNamespace(decide=lambda name, decide: decide()),
        costs=SimpleNamespace(numbers=lambda shape: {"latency_ms": MARGIN * propose.load(shape)}),
        part_of=lambda candidate: SimpleNamespace(source=propose.source),
    )
    factors = [1.1, 1.5]  # of what is predicted, timing by timing

    def taken_ms(candidate: Any, factor: float) -> float:
        return factor * MARGIN * propose.load(candidate.subnet.shape_in(SHAPE))

    def measured(fitting: Any, target: Target, candidates: Any) -> dict[str, float]:
        factor = factors.pop(0)
        return {each.name: taken_ms(each, factor) for each in candidates}

    def sized_by(candidate: Any, factor: float) -> Any:
        return replace(propose, load=lambda shape: factor * propose.load(shape)).again(candidate)

    monkeypatch.setattr(fit_timing, "measured", measured)
    limit = {"latency_ms": 1.0}
    target = Target("1 ms", "limit-1", limit, limit, 1)
    candidates, times = fit_timing.timed(fitting, target, propose(), sized_by)
    assert [each.name for each in candidates] == [each.name for each in propose()] and not factors
    thin, resized = candidates
    assert thin == propose()[0] and times[thin.name] == taken_ms(thin, 1.1)
    assert times[resized.name] == AIMED and taken_ms(resized, 1.5) <= AIMED


@pytest.mark.parametrize(("first", "keeps"), [(0.9, True), (0.98, True), (1.02, False), (1.2, False)])
def test_whole_layers_that_break_the_limit_by_little_are_timed_again(
    monkeypatch: pytest.MonkeyPatch, first: float, keeps: bool
) -> None:
    propose = proposer(0.45, ("layers",))
    fitting: Any = SimpleNamespace(
        plan=SimpleNamespace(decide=lambda name, decide: decide()),
        costs=SimpleNamespace(numbers=lambda shape: {"latency_ms": MARGIN * propose.load(shape)}),
        part_of=lambda candidate: SimpleNamespace(source=propose.source),
    )
    left = [first, 0.92]  # of the limit, that every candidate takes, timing by timing
    monkeypatch.setattr(fit_timing, "measured", lambda *parts: dict.fromkeys([e.name for e in parts[2]], left.pop(0)))
    target = Target("1 ms", "limit-1", {"latency_ms": 1.0}, {"latency_ms": 1.0}, 1)
    candidates, times = fit_timing.timed(fitting, target, propose(), lambda candidate, factor: pytest.fail())
    assert candidates == propose() and {each.kind for each in candidates} == {"layers"}
    twice = first in (0.98, 1.02)
    assert len(left) == (0 if twice else 1)
    assert set(times.values()) == {(first + 0.92) / 2 if twice else first}
    assert all(fit_timing.keeps_aims(fitting, target, each, times[each.name]) == keeps for each in candidates)


def test_sizes_are_not_timed_again_where_no_latency_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    propose = proposer(0.45, ("sizes",))
    fitting: Any = SimpleNamespace(plan=SimpleNamespace(decide=lambda name, decide: decide()))
    monkeypatch.setattr(fit_timing, "measured", lambda *parts: {each.name: 1.0 for each in parts[2]})
    limit = {"params": 1.0}
    candidates, _ = fit_timing.timed(
        fitting, Target("the limit", "limit-1", limit, limit, 1), propose(), lambda candidate, factor: pytest.fail()
    )
    assert candidates == propose()


@pytest.mark.parametrize("share", [1.02, 0.98])  # of the parameters of one whole layer
def test_gates_are_learned_where_nothing_else_is_predicted_to_fit(
    monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    """A layer somewhat above the limit is proposed, since predictions may be too high; parameters are not predicted."""
    source = Source.of(tiny_model(), batches(1))
    fitting: Any = SimpleNamespace(
        own=SimpleNamespace(source=source, damage_of=lambda candidate: 0.0),
        parts={},
        part_of=lambda candidate: SimpleNamespace(source=source),
        costs=SimpleNamespace(numbers=lambda shape: {"params": cost_of(shape, HEAD).params}),
        settings=FitSettings(max_params=1, kinds=("layers", "gates")),
    )
    needed = []
    monkeypatch.setattr(fit_proposals, "by_gates", lambda *parts, is_needed: needed.append(is_needed) or [])
    limits = {"params": share * cost_of(SHAPE.with_layers(SHAPE.layers[:1], [0]), HEAD).params}
    candidates, _ = fit_proposals.proposals(fitting, Target("the limit", "limit-1", limits, limits, 1))
    assert candidates and {each.kind for each in candidates} == {"layers"} and needed == [share < 1]


@pytest.mark.parametrize(("plan", "named"), [(None, "^run/plan.json"), ("other", "^--plan other")])
def test_a_plan_of_other_candidates_is_named(plan: str | None, named: str) -> None:
    kept = SimpleNamespace(run=SimpleNamespace(path=Path("run")), decide=lambda name, decide: {"others": 1.0})
    fitting: Any = SimpleNamespace(plan=kept, settings=SimpleNamespace(plan=plan))
    with pytest.raises(RunError, match=f"{named} must be of the same model, data and limits: it timed others"):
        fit_timing.timed(fitting, Target("1 ms", "limit-1", {}, {}, 1), proposer(0.7)(), lambda candidate, factor: None)


def test_kinds_say_what_is_proposed() -> None:
    assert {each.kind for each in proposer(0.7, ("sizes",))()} == {"sizes"}
    assert {each.kind for each in proposer(0.7, ("undivided",))()} == {"undivided"}


def test_sizes_are_multiples() -> None:
    assert [in_multiples(size, 1536) for size in (0, 1, 100, 1535, 1536, 2000)] == [0, 64, 128, 1536, 1536, 1536]
    assert in_multiples(5, 32) == 32


# Pace


def test_a_pace_plans_again_when_the_machine_slows_down(tmp_path: Path) -> None:
    left = [100.0]
    pace = DeadlinePace(tmp_path / "pace.json", 100, lambda: left[0])
    assert pace.num_steps(Position(0)) == 100
    left[0] = 60.0  # at twice a second there is time for 30 more
    assert pace.num_steps(Position(20, seconds=40.0)) == 50
    assert pace.changes == [(0, 100), (20, 50)]
    resumed = DeadlinePace(tmp_path / "pace.json", 999, lambda: math.inf)
    assert resumed.num_steps(Position(10)) == 100 and resumed.num_steps(Position(20)) == 50
    fixed = FixedPace(pace.changes)
    assert [fixed.num_steps(Position(step)) for step in (0, 19, 20, 49)] == [100, 100, 50, 50]


def test_a_pace_is_that_of_the_second_half_of_the_steps(tmp_path: Path) -> None:
    pace = DeadlinePace(tmp_path / "pace.json", 200, lambda: 90.0)
    for step, seconds in ((0, 0.0), (20, 40.0), (40, 50.0)):  # slow at first
        pace.num_steps(Position(step, seconds=seconds))
    assert pace.num_steps(Position(60, seconds=60.0)) == 60 + 180


def test_a_pace_only_gets_shorter_near_its_end(tmp_path: Path) -> None:
    pace = DeadlinePace(tmp_path / "pace.json", 100, lambda: 1000.0)
    pace.num_steps(Position(0))
    assert pace.num_steps(Position(80, seconds=80.0)) == 100
    assert pace.num_steps(Position(40, seconds=40.0)) == 1040


def test_gates_need_time_unless_they_are_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    settings = FitSettings(max_drop=1.0)
    assert without_late_gates(settings, 599.0).kinds == ("layers", "sizes", "undivided", "student")
    assert "they need --time 10m or more, or --kinds gates, which may name" in capsys.readouterr().err
    with_student = FitSettings(max_drop=1.0, student=("small",), kinds=FitSettings().kinds)  # all named: the default
    assert "gates" not in without_late_gates(with_student, 599.0).kinds
    assert "or --kinds gates,student, which may name others too, but not all" in capsys.readouterr().err
    advised: dict[str, Any] = {"kinds": ("gates", "student"), "student": ("small",)}
    assert not list(FitSettings(max_drop=1.0, **advised).conflicts())
    for given in ({"max_bytes": 10**6}, {"max_params": 10**6}, {"kinds": ("gates",)}, advised):
        settings = FitSettings(max_drop=1.0, **given)
        assert without_late_gates(settings, 60.0) is settings
    assert without_late_gates(FitSettings(max_drop=1.0), 600.0).kinds == FitSettings().kinds
    two = FitSettings(max_latency_ms=(2.0, 1.0))
    assert "gates" not in without_late_gates(two, 1199.0).kinds and "gates" in without_late_gates(two, 1200.0).kinds
    assert "they need --time 20m or more" in capsys.readouterr().err


def test_a_time_without_room_for_a_teacher_is_refused() -> None:
    """Of texts so long that the fewest steps of fine-tuning take most of the time."""
    given: dict[str, Any] = {"spent_s": 6.0, "network_s": 0.1, "shares": [0.5]}
    check_time(FitSettings(time=200.0), 1.0, 150.0, **given)
    with pytest.raises(
        BudgetError, match=r"must be at least \d+ s here, to look, and to fine-tune, .* got 100 s"
    ) as error:
        check_time(FitSettings(time=100.0), 1.0, 150.0, **given)
    assert str(error.value).endswith("; 150 s of it are 20 steps of fine-tuning, see --max-length")


@pytest.mark.parametrize(("step_s", "num_steps"), [(0.1, 7), (1.9, 5), (5.0, 2)])
def test_slow_steps_are_timed_few_times(monkeypatch: pytest.MonkeyPatch, step_s: float, num_steps: int) -> None:
    now, steps = [0.0], []

    class Trainer:
        view = SimpleNamespace(close=lambda: None)

        def __init__(self, *parts: Any) -> None: ...

        def step(self) -> None:
            steps.append(now[0])
            now[0] += step_s

    monkeypatch.setattr(fit_plan, "Trainer", Trainer)
    monkeypatch.setattr(fit_plan, "time", SimpleNamespace(monotonic=lambda: now[0]))
    rest: Any = [None] * 4
    assert fit_plan.seconds_per_step(cast(Any, None), FINETUNE, *rest) == pytest.approx(step_s)
    assert len(steps) == num_steps


@pytest.mark.parametrize(("seconds", "steps"), [(8.0, 2), (40.0, 10), (100.0, 30)])
def test_the_teachers_first_answers_are_counted(monkeypatch: pytest.MonkeyPatch, seconds: float, steps: int) -> None:
    """Two candidates of 1 and 2 s a step, and 1 s for the teacher on each of 10 batches."""
    part = SimpleNamespace(teacher_batch_s=1.0, batches_left=10)
    fitting: Any = SimpleNamespace(at_once=1, part_of=lambda candidate: part)
    entrants: Any = [SimpleNamespace(candidate=SimpleNamespace(student=None), seconds=each) for each in (1.0, 2.0)]
    monkeypatch.setattr("cutbert.methods.fit_training.speed_of", lambda fitting, entrant: entrant.seconds)
    assert steps_within(fitting, entrants, seconds) == steps


def test_a_winner_near_its_limit_is_timed_in_several_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The median of its shares of the uncut latency counts; others, and those far from their limits, stay."""
    targets = [Target(f"{ms} ms", f"limit-{i}", {"latency_ms": ms}, {}, i) for i, ms in enumerate((2.0, 1.0), 1)]
    names = [("uncut", None), ("near", targets[0]), ("out", targets[0]), ("far", targets[1])]
    served: Any = [SimpleNamespace(name=name, target=target) for name, target in names]
    loads = iter([{0: 5.0, 1: 2.4}, {0: 4.0, 1: 1.8}])
    asked: list[set[int]] = []
    monkeypatch.setattr(
        "cutbert.methods.fit_finalists.times_of_files", lambda fitting, files: asked.append(set(files)) or next(loads)
    )
    found = timed_afresh(cast(Any, None), served, {0: 4.0, 1: 2.1, 2: 1.9, 3: 0.5})
    assert asked == [{0, 1}] * 2 and found == {1: pytest.approx((2.4 / 5) / (2.1 / 4))}
    assert timed_afresh(cast(Any, None), served, {0: 4.0, 1: 1.5, 2: 1.9, 3: 0.5}) == {}


def test_it_is_said_that_fewer_candidates_take_part(capsys: pytest.CaptureFixture[str]) -> None:
    model = SimpleNamespace(shape=SHAPE, head_spec=HEAD)
    objective: Any = SimpleNamespace(dev=range(100), select_is_dev=True, loaded=SimpleNamespace(model=model))
    look = {"build_s": 8.0, "row_ms": 0.0}  # the end takes 32 s, and 5.6 s for a candidate of half the latency
    plan: Any = SimpleNamespace(decisions={"look": look}, run=SimpleNamespace(seconds=0.0))
    settings = FitSettings(max_drop=1.0, candidates=8)
    assert start_clock(objective, settings, plan, 130.0, {"limit-1": 0.5}).candidates == 2
    assert (
        "2 of --candidates 8 take part: to export, score and time more would take over 35 %" in capsys.readouterr().err
    )
    assert start_clock(objective, settings, plan, 1000.0, {"limit-1": 0.5}).candidates == 8
    assert "take part" not in capsys.readouterr().err


def test_few_rows_are_said_with_the_option_that_takes_more(capsys: pytest.CaptureFixture[str]) -> None:
    for kind, more in (("span", "--unlabeled adds texts of their kind"), ("embedding", "more texts in --train help")):
        data: Any = SimpleNamespace(train=range(999), unlabeled=None, head=HeadSpec(kind))
        warn_of_few_rows(data)
        assert f"999 rows are few to imitate on: {more}" in capsys.readouterr().err
    data.train = range(1000)
    warn_of_few_rows(data)
    assert not capsys.readouterr().err


def test_long_texts_are_judged_by_fewer_rows() -> None:
    assert rows_within(100, np.full(50, 10), 2) == 10
    assert rows_within(100, np.full(50, 60), 2) == 2 and rows_within(100, np.full(3, 10), 2) == 3
    assert rows_within(100, np.full(1, 200), 2) == 1


def test_repair_reads_some_texts_however_long_and_is_left_out_for_one() -> None:
    sizes: list[int] = []
    objective: Any = SimpleNamespace(
        loaded=SimpleNamespace(model=tiny_model()),
        train_tokens=SimpleNamespace(lengths=np.full(24, 8_000)),
        sample=lambda model, size, seed: sizes.append(size) or batches(1),
    )
    source = source_of(objective, 0)
    candidate = proposer(0.7)()[0]
    repaired = TaughtSource.repaired(SimpleNamespace(source=source), candidate)  # type: ignore[arg-type]
    ours, cut = repaired.state_dict(), source.cut(candidate).state_dict()
    assert sizes == [8] and all(torch.equal(ours[name], cut[name]) for name in cut)


def test_few_rows_are_passed_over_more_often() -> None:
    assert tries_for(10_000) == list(TRIES)
    assert tries_for(1_000)[0] == (1e-4, 6.25)
    assert [passes for _, passes in tries_for(90)] == [20.0, 20.0, 20.0, 40.0]


def test_settings_know_their_limits() -> None:
    assert not FitSettings().has_limit and FitSettings(max_drop=0.0).has_limit
    assert FitSettings(max_latency_ms=(2.0,)).timing(1, 0).backend == "onnx-int8"
    with pytest.raises(InputError, match="--kinds must name"):
        FitSettings(max_drop=1.0, kinds=()).check()
