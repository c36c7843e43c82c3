"""Undivided Attention end to end on tiny models: removed, healed, resumed, new, used by other verbs, refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tiny_task import command_words, time_by_macs, tiny_task, tiny_text, weights

import cutbert
import cutbert.hub
from cutbert.cli.main import main
from cutbert.errors import InputError
from cutbert.files import read_json
from cutbert.folders.load import load_model
from cutbert.fronts.pick import given_up
from cutbert.shape.cost import cost_of
from cutbert.shape.head import HeadSpec
from cutbert.shape.pattern import pattern_of, with_feed_forwards
from cutbert.shape.shape import EncoderShape
from cutbert.shape.subnet import Subnet
from cutbert.surgery.extract import extract
from kills import killed_as_it_says
from known_times import take_known_memory, take_known_times
from tiny_runs import HEAD, SHAPE, save_tiny, tiny_model

IDS = torch.tensor([[2, 5, 4, 7, 3], [2, 9, 4, 5, 3]])


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return tiny_task(tmp_path_factory.mktemp("task"))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny(tmp_path_factory.mktemp("teacher") / "model"))


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny(tmp_path_factory.mktemp("masked") / "model", tiny_model(HeadSpec("masked_lm"))))


@pytest.fixture
def text(tmp_path: Path) -> dict[str, Any]:
    return tiny_text(tmp_path)


@pytest.fixture(autouse=True)
def quick_latency(monkeypatch: pytest.MonkeyPatch) -> None:
    time_by_macs(monkeypatch)


def names(run: cutbert.api.Run) -> list[str]:
    return [entry.name for entry in run.front]


@pytest.mark.parametrize(
    ("options", "pattern", "removed"),
    [
        ({"ffn_every": 2}, "AAFA", [0, 2]),
        ({"pattern": "AFAAF"}, "AFAAF", [1]),
        ({"ffn_keep": [2, 0]}, "AFAAF", [1]),
        ({"num_ffn": 2}, "AAFAF", [0]),
        ({"num_ffn": 0}, "AAA", [0, 1, 2]),
        ({"num_ffn": 1, "removal": "gradual"}, "AAAF", [0, 1]),
    ],
)
def test_what_is_asked_for_stays(
    teacher: str, tmp_path: Path, task: dict[str, Any], options: dict[str, Any], pattern: str, removed: list[int]
) -> None:
    run = cutbert.undivided(teacher, out=tmp_path / "run", **task, **options)
    data = run.to_json()
    assert {"out", "metric", "teacher", "subnets", "seconds"} <= data.keys()
    assert (data["pattern"], data["removed"]) == (pattern, removed)
    count = pattern.count("F")
    assert names(run) == [f"ffn{count}-unhealed", f"ffn{count}"]
    assert [entry.folder for entry in run.front] == [f"rounds/ffn{count}-unhealed", None]
    model = load_model(run.path).model
    assert pattern_of(model.shape) == pattern and model.shape == tuple(run.front)[-1].shape
    assert sum(p.numel() for p in model.parameters()) == data["subnets"][-1]["params"]
    assert all(entry.latency_ms for entry in run.front)
    told = read_json(run.path / "model" / "cutbert.json")
    assert told["cut_from"] == given_up(run.path, run.front, tuple(run.front)[-1])
    assert told["latency"]["latency_ms"] == data["subnets"][-1]["latency_ms"]
    assert "## Latency" in (run.path / "model" / "README.md").read_text(encoding="utf-8")


def test_the_unhealed_network_is_the_uncut_one_without_these(
    teacher: str, tmp_path: Path, task: dict[str, Any]
) -> None:
    run = cutbert.undivided(teacher, out=tmp_path / "run", ffn_keep=[1], **task)
    uncut = load_model(teacher).model
    subnet = Subnet.full(with_feed_forwards(SHAPE, [1]))
    got = load_model(run.path / "rounds" / "ffn1-unhealed").model
    for ours, theirs in zip(got(IDS).hidden_states, uncut(IDS, subnet=subnet).hidden_states, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)
    healed, raw = load_model(run.path).model.state_dict(), extract(uncut, subnet).state_dict()
    assert any(not torch.equal(healed[name], raw[name]) for name in raw)


def distance(model: Any, teacher: Any) -> float:
    pairs = zip(model(IDS).hidden_states, teacher(IDS).hidden_states, strict=True)
    return sum(float((ours - theirs).detach().square().mean()) for ours, theirs in pairs)


@pytest.mark.parametrize("way", [{}, {"removal": "gradual"}, {"removal": "gradual", "removal_rounds": 2}])
def test_healing_brings_the_hidden_states_back(
    teacher: str, tmp_path: Path, task: dict[str, Any], way: dict[str, Any]
) -> None:
    options = {**task, "epochs": 12.0, "learning_rate": 5e-3}
    run = cutbert.undivided(teacher, out=tmp_path / "run", num_ffn=0, **way, **options)
    uncut = load_model(teacher).model
    before, after = (load_model(run.path / name).model for name in ("rounds/ffn0-unhealed", "model"))
    assert distance(after, uncut) < 0.5 * distance(before, uncut)


def test_importance_chooses_where_nothing_else_is_said(teacher: str, tmp_path: Path, task: dict[str, Any]) -> None:
    runs = [
        cutbert.undivided(teacher, out=tmp_path / str(way), num_ffn=1, heal=False, **way, **task)
        for way in ({}, {"choose": "importance"})
    ]
    assert runs[0]["choice_scores"] == runs[1]["choice_scores"] and len(runs[0]["choice_scores"]) == 3
    assert runs[0]["chosen_by"] == "importance"


def test_a_gradual_removal_takes_as_many_steps(teacher: str, tmp_path: Path, task: dict[str, Any]) -> None:
    steps = {}
    for removal in ("sudden", "gradual"):
        run = cutbert.undivided(teacher, out=tmp_path / removal, num_ffn=0, removal=removal, **task)
        lines = [json.loads(line) for line in (run.path / "log.jsonl").read_text().splitlines()]
        steps[removal] = max(line.get("step", 0) for line in lines)
    assert steps["sudden"] == steps["gradual"] == 6


def test_gradual_with_one_to_remove_is_sudden(teacher: str, tmp_path: Path, task: dict[str, Any]) -> None:
    runs = [
        cutbert.undivided(teacher, out=tmp_path / way, num_ffn=2, removal=way, **task) for way in ("sudden", "gradual")
    ]
    ours, theirs = (weights(run.path / "model") for run in runs)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_no_healing_and_a_last_training(
    teacher: str, tmp_path: Path, task: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    bare = cutbert.undivided(teacher, out=tmp_path / "bare", num_ffn=1, heal=False, **task)
    assert names(bare) == ["ffn1-unhealed"] and (bare.path / "model").is_dir()
    assert "the network is not healed: what the removal broke stays broken" in capsys.readouterr().err
    none = cutbert.undivided(teacher, out=tmp_path / "none", num_ffn=1, **{**task, "epochs": 0.0})
    assert names(none) == ["ffn1-unhealed"]
    tuned = cutbert.undivided(teacher, out=tmp_path / "tuned", num_ffn=1, heal=False, final_epochs=1.0, **task)
    assert names(tuned) == ["ffn1-unhealed", "ffn1-final"]
    both = cutbert.undivided(teacher, out=tmp_path / "both", num_ffn=1, final_epochs=1.0, **task)
    assert names(both) == ["ffn1-unhealed", "ffn1", "ffn1-final"]
    assert not all(
        torch.equal(weight, weights(both.path / "rounds" / "ffn1")[name])
        for name, weight in weights(both.path / "model").items()
    ), "the healed network before it is stored as it was"
    whole = cutbert.undivided(teacher, out=tmp_path / "whole", num_ffn=3, **task)
    assert names(whole) == ["ffn3"] and "no feed-forward is removed" in capsys.readouterr().err


@pytest.mark.parametrize("options", [{"num_ffn": 1}, {"num_ffn": 0, "removal": "gradual", "choose": "importance"}])
def test_a_stopped_run_ends_with_the_same_bits(
    teacher: str, tmp_path: Path, task: dict[str, Any], options: dict[str, Any]
) -> None:
    options = {**task, **options, "final_epochs": 1.0, "checkpoint_seconds": 0.0}
    whole = cutbert.undivided(teacher, out=tmp_path / "whole", **options)
    for moment in ("heal: 4/6", "final: 1/6"):
        with killed_as_it_says(moment):
            cutbert.undivided(teacher, out=tmp_path / "parts", **options)
    parts = cutbert.undivided(teacher, out=tmp_path / "parts", **options)
    for entry in whole.front:
        got, wanted = (weights(run.path / (entry.folder or "model")) for run in (parts, whole))
        assert all(torch.equal(got[key], wanted[key]) for key in wanted)
    assert parts["removed"] == whole["removed"] and not (parts.path / "checkpoint").exists()


@pytest.mark.parametrize("count", [1, 0])
def test_other_verbs_work_on_it(teacher: str, tmp_path: Path, task: dict[str, Any], count: int) -> None:
    und = cutbert.undivided(teacher, out=tmp_path / "und", num_ffn=count, **task)
    shape = load_model(und.path).model.shape
    assert cutbert.cost(und.path)["params"] == und["subnets"][-1]["params"]
    tuned = cutbert.finetune(und.path, out=tmp_path / "tuned", **task)
    assert load_model(tuned.path).model.shape == shape
    family = cutbert.dynabert(
        und.path, out=tmp_path / "family", width_mult=(1.0, 0.5), depths=[3, 1], importance_samples=8, **task
    )
    assert family.front.teacher.shape == shape and len(family.front) >= 4
    cut = cutbert.schubert(und.path, out=tmp_path / "cut", budget="macs=0.6", gate_steps=3, multiple_of=1, **task)
    assert cut.front.teacher.shape == shape
    if not count:
        with pytest.raises(InputError, match="--budget macs must be at least"):
            cutbert.schubert(und.path, out=tmp_path / "none", budget="macs=0.6", dims=["f"], **task)
    picked = cutbert.pick(und.path, max_params=und["subnets"][-1]["params"])
    picked.save_pretrained(tmp_path / "small")
    stock = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "small")
    assert type(stock).__name__ == "CutbertForSequenceClassification"
    (tmp_path / "texts.tsv").write_text("text\ngood film\nbad\n")
    cutbert.predict(und.path, input=tmp_path / "texts.tsv", text="text", out=tmp_path / "labels.tsv", threads=1)


def test_it_is_measured_beside_others(
    teacher: str, tmp_path: Path, task: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # real times
    take_known_memory(monkeypatch)
    und = cutbert.undivided(teacher, out=tmp_path / "und", num_ffn=0, **task)
    ours, theirs = cutbert.measure(und.path, teacher, rounds=1, length=5, threads=1)["models"]
    assert ours["macs"] < theirs["macs"] and ours["latency_ms"] > 0 and ours["file_bytes"] < theirs["file_bytes"]


def test_it_can_be_divided_further_and_cut_by_latency(
    teacher: str, tmp_path: Path, task: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = cutbert.undivided(teacher, out=tmp_path / "first", num_ffn=2, **task)
    second = cutbert.undivided(first.path, out=tmp_path / "second", num_ffn=1, **task)
    assert (first["pattern"], second["pattern"]) == ("AAFAF", "AAAF")
    with pytest.raises(InputError, match="feed-forwards to keep must be of layers 1, 2, got 0"):
        cutbert.undivided(first.path, out=tmp_path / "third", ffn_keep=[0], **task)
    take_known_times(monkeypatch, lambda shape, length: cost_of(shape, HEAD, length).macs / 1e6)
    cut = cutbert.schubert(
        second.path, out=tmp_path / "cut", budget="latency_ms=0.95", gate_steps=2, multiple_of=1, **task
    )
    (entry,) = cut.front
    assert entry.latency_ms <= 0.95 * cut.front.teacher.latency_ms


def test_on_plain_text(masked: str, tmp_path: Path, text: dict[str, Any], task: dict[str, Any]) -> None:
    options = {**text, "objective": "mlm", "num_ffn": 1}
    run = cutbert.undivided(masked, out=tmp_path / "run", **options)
    assert names(run) == ["ffn1-unhealed", "ffn1"] and run["metric"] == "masked_accuracy"
    gradual = cutbert.undivided(
        masked, out=tmp_path / "gradual", removal="gradual", hidden_weight=0.0, choose="importance", **options
    )
    assert len(gradual["removed"]) == 2
    tuned = cutbert.finetune(run.path, out=tmp_path / "tuned", **task)
    assert pattern_of(load_model(tuned.path).model.shape) == run["pattern"]


def test_healing_on_text_brings_the_hidden_states_back(masked: str, tmp_path: Path, text: dict[str, Any]) -> None:
    options = {**text, "objective": "mlm", "num_ffn": 0, "epochs": 10.0, "learning_rate": 5e-3}
    run = cutbert.undivided(masked, out=tmp_path / "run", **options)
    uncut = load_model(masked).model
    before, after = (load_model(run.path / name).model for name in ("rounds/ffn0-unhealed", "model"))
    assert distance(after, uncut) < 0.5 * distance(before, uncut)
    lines = [json.loads(line) for line in (run.path / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["hidden"] > 0 < lines[-1]["masked_lm"]


@pytest.mark.parametrize(
    ("options", "pattern"),
    [
        ({"ffn_every": 2}, "AAFA"),
        ({"pattern": "AAFAAF"}, "AAFAAF"),
        ({"num_ffn": 1, "equal_params": True}, "AAAAF"),
        ({"num_ffn": 3}, "AFAFAF"),
    ],
)
def test_from_scratch(
    teacher: str, tmp_path: Path, text: dict[str, Any], options: dict[str, Any], pattern: str
) -> None:
    file = tmp_path / "shape.json"
    file.write_text(json.dumps(SHAPE.to_json()))
    run = cutbert.undivided(teacher, out=tmp_path / "run", from_scratch=file, **text, **options)
    keys = {"out", "pattern", "metric", "subnets", "loss", "perplexity", "tokens", "seconds", "tokens_per_s"}
    assert run.to_json().keys() == keys
    shape = load_model(run.path).model.shape
    assert pattern_of(shape) == run["pattern"] == pattern
    assert EncoderShape.from_json(run["subnets"][-1]["shape"]) == shape
    if "equal_params" in options:
        assert cost_of(shape).params <= cost_of(SHAPE).params
    if pattern == "AFAFAF":
        other = cutbert.pretrain(teacher, out=tmp_path / "other", from_scratch=file, **text)
        assert other["loss"] == run["loss"], "with every feed-forward it is what pretrain makes"


def test_from_scratch_a_shape_file_may_have_its_own_pattern(teacher: str, tmp_path: Path, text: dict[str, Any]) -> None:
    file = tmp_path / "shape.json"
    file.write_text(json.dumps(with_feed_forwards(SHAPE, (1,)).to_json()))
    run = cutbert.undivided(teacher, out=tmp_path / "run", from_scratch=file, **text)
    assert run["pattern"] == "AAFA" == pattern_of(load_model(run.path).model.shape)
    with pytest.raises(InputError, match="got --ffn-every and --num-ffn"):
        cutbert.undivided(teacher, out=tmp_path / "no", from_scratch=file, ffn_every=1, num_ffn=1, **text)


def test_on_the_command_line(
    teacher: str, tmp_path: Path, task: dict[str, Any], text: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["undivided", teacher, "--out", str(tmp_path / "run"), "--ffn-keep", "2,0", *command_words(task)]
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert "sub-layers AFAAF" in out and "ffn2-unhealed" in out and "sub-layers: AFAFAF becomes AFAAF" in err
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["removed"] == [1]
    file = tmp_path / "shape.json"
    file.write_text(json.dumps(SHAPE.to_json()))
    words = ["undivided", teacher, "--from-scratch", str(file), "--pattern", "AAFA", "--out", str(tmp_path / "new")]
    assert main([*words, *command_words(text)]) == 0
    out, err = capsys.readouterr()
    assert "sub-layers AAFA" in out and "of the masked tokens of held-out text" in out


def test_another_teacher(teacher: str, tmp_path: Path, task: dict[str, Any]) -> None:
    other = save_tiny(tmp_path / "other", tiny_model(seed=3))
    run = cutbert.undivided(teacher, out=tmp_path / "run", num_ffn=1, teacher=str(other), **task)
    assert read_json(run.path / "run.json")["facts"]["other_weights"]
    with pytest.raises(InputError, match="must have a head with the labels neg, pos"):
        three = save_tiny(tmp_path / "three", tiny_model(HeadSpec("single_label", ("a", "b", "c"))))
        cutbert.undivided(teacher, out=tmp_path / "no", num_ffn=1, teacher=str(three), **task)


@pytest.mark.parametrize(
    ("verb", "options"), [("undivided", {"num_ffn": 1}), ("schubert", {"budget": "macs=0.5"}), ("dynabert", {})]
)
def test_logits_must_count_where_states_do_not_match(
    teacher: str, tmp_path: Path, task: dict[str, Any], verb: str, options: dict[str, Any]
) -> None:
    half = Subnet(Subnet.full(SHAPE).layers, SHAPE.hidden_size // 2)
    narrow = save_tiny(tmp_path / "narrow", extract(tiny_model(), half))
    with pytest.raises(InputError, match=r"--logit-weight must be above 0 with --teacher .* nothing but logits"):
        out = tmp_path / "no"
        getattr(cutbert, verb)(teacher, out=out, teacher=str(narrow), logit_weight=0.0, **options, **task)
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "must have one of --ffn-every, --pattern, --ffn-keep and --num-ffn, got none"),
        ({"ffn_every": 4}, r"--ffn-every must lie in 1\.\.3, the model's layers, got 4"),
        ({"num_ffn": 4}, r"--num-ffn must lie in 0\.\.3, the model's feed-forwards, got 4"),
        ({"num_ffn": 4, "choose": "importance"}, r"--num-ffn must lie in 0\.\.3"),
        ({"pattern": "AFA"}, "--pattern must have one A for each attention layer of the model, 3, got 2 in 'AFA'"),
        ({"ffn_keep": [3]}, "feed-forwards to keep must be of layers 0, 1, 2, got 3"),
        ({"num_ffn": 1, "removal": "gradual", "epochs": 0.0}, "--removal gradual must come with healing, got --epochs"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_made(
    teacher: str, tmp_path: Path, task: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        cutbert.undivided(teacher, out=tmp_path / "run", **{**task, **options})
    assert not (tmp_path / "run").exists()


def test_text_roads_refuse_what_they_cannot_do(teacher: str, masked: str, tmp_path: Path, text: dict[str, Any]) -> None:
    out = tmp_path / "run"
    with pytest.raises(InputError, match="--final-epochs is for --objective task"):
        cutbert.undivided(masked, out=out, objective="mlm", num_ffn=1, final_epochs=1.0, **text)
    with pytest.raises(InputError, match="must start from a model with a masked-LM head"):
        cutbert.undivided(teacher, out=out, objective="mlm", num_ffn=1, **text)
    file = tmp_path / "shape.json"
    file.write_text(json.dumps(SHAPE.to_json()))
    with pytest.raises(InputError, match=r"no\.json"):
        cutbert.undivided(teacher, out=out, from_scratch=tmp_path / "no.json", num_ffn=1, **text)
    uneven = replace(SHAPE, layers=(*SHAPE.layers, replace(SHAPE.layers[0], num_heads=2)))
    file.write_text(json.dumps(uneven.to_json()))
    with pytest.raises(InputError, match="--pattern with more A than layers must have a shape whose layers are all"):
        cutbert.undivided(teacher, out=out, from_scratch=file, pattern="AAAAAF", **text)
    assert not out.exists()
