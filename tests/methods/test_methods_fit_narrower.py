"""Winners of `fit` that break their limit by a little are cut narrower, and keep what they have learned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_task import fit_quickly, tiny_task

import cutbert
from cutbert.folders.load import load_model
from cutbert.methods import fit_race, fit_served
from cutbert.methods.fit_candidates import Candidate, Entrant, Source
from cutbert.methods.fit_cuts import Proposer
from cutbert.methods.fit_limits import Target
from cutbert.methods.fit_narrower import SUFFIX
from cutbert.methods.fit_served import ScoredFile
from cutbert.shape.cost import cost_of
from cutbert.shape.subnet import KeptLayer, Subnet
from cutbert.train.collating import sample_batches
from tiny_runs import HEAD, SHAPE, save_tiny, tiny_model, tiny_tokens

PARAMS = cost_of(SHAPE, HEAD).params


def proposer(limit: float) -> Proposer:
    """Return what makes candidates under a share of the encoder's parameters."""
    batches = sample_batches(tiny_model(), tiny_tokens(24), 24, 0, torch.device("cpu"))
    whole = cost_of(SHAPE).params_encoder
    source = Source.of(tiny_model(), batches)
    return Proposer(
        source,
        lambda shape: cost_of(shape).params_encoder / (limit * whole),
        lambda candidate: whole - cost_of(source.cut(candidate).shape).params_encoder,
        ("layers", "sizes", "undivided"),
    )


@pytest.mark.parametrize("smaller", [0.97, 0.9, 0.7])
def test_a_narrower_network_fits_and_is_a_part_of_the_first(smaller: float) -> None:
    propose = proposer(0.6)
    tighter = replace(propose, load=lambda shape: propose.load(shape) / smaller)
    narrowed = {each.name: (each.subnet, tighter.narrowed(each.subnet)) for each in propose()}
    assert any(after is not None and after != before for before, after in narrowed.values())
    for before, after in narrowed.values():
        if after is None:
            continue
        assert tighter.fits(after) and [each.index for each in after.layers] == [each.index for each in before.layers]
        places = tuple(KeptLayer(i, kept.shape) for i, kept in enumerate(after.layers))
        Subnet(places, after.hidden_size).check_fits(before.shape_in(SHAPE))  # raises where it is no part
        for ours, theirs in zip(after.layers, before.layers, strict=True):
            assert ours.shape.has_attention == theirs.shape.has_attention
            assert ours.shape.has_feed_forward == theirs.shape.has_feed_forward


def test_nothing_is_narrow_enough_for_an_impossible_limit() -> None:
    propose = replace(proposer(0.6), load=lambda shape: 2.0)
    assert propose.narrowed(Subnet.full(SHAPE)) is None


@pytest.mark.parametrize(
    ("kind", "wanted"), [("sizes", "first-narrower second"), ("layers", "first-narrower second first")]
)
def test_a_winner_that_is_too_slow_is_cut_narrower(monkeypatch: pytest.MonkeyPatch, kind: Any, wanted: str) -> None:
    """Before its last training; whole layers stay to be shown."""
    part = Subnet((KeptLayer(0, SHAPE.layers[0]),), SHAPE.hidden_size)
    entrants = [Entrant(Candidate(name, kind, part), latency_ms=1.9, kl=0.1) for name in ("first", "second")]
    fitting: Any = SimpleNamespace(plan=SimpleNamespace(decide=lambda name, decide: decide()))
    asked = []

    def narrower(fitting: Any, target: Target, entrant: Entrant, costs: Any) -> Entrant:
        asked.append((entrant.candidate.name, costs))
        return replace(entrant, candidate=replace(entrant.candidate, name=f"{entrant.candidate.name}{SUFFIX}"))

    monkeypatch.setattr(fit_race, "narrower", narrower)
    monkeypatch.setattr(fit_race, "loaded", lambda fitting, entrant: entrant.candidate.name)
    monkeypatch.setattr(fit_race, "timed_copy", lambda network: network)
    monkeypatch.setattr(fit_race, "keeps_aims", lambda *parts: parts[3] <= 2)
    monkeypatch.setattr(fit_race, "times_of", lambda *parts: {"first": 2.2, "second": 1.0})
    limits = {"latency_ms": 2.0}
    target = Target("2 ms", "limit-1", limits, limits, 1)
    ordered = fit_race.timed_again(fitting, target, entrants)
    assert " ".join(each.candidate.name for each in ordered) == wanted
    assert asked == [("first", {"latency_ms": pytest.approx(2.05)})]
    # A run that goes on from there does not cut it again.
    assert fit_race.timed_again(fitting, target, ordered) == ordered and len(asked) == 1


def test_a_winner_beyond_its_limit_at_the_end_is_cut_narrower(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All files turn out larger than predicted, so that nothing that was made keeps the limit."""
    fit_quickly(monkeypatch)
    monkeypatch.setattr("cutbert.methods.fit_cuts.MULTIPLE", 4)
    score_served = fit_served.score_served

    def larger(fitting: Any, each: Any, *rest: Any) -> ScoredFile:
        found = score_served(fitting, each, *rest)
        return found if each.entrant is None else replace(found, file_bytes=int(1.05 * found.file_bytes))

    monkeypatch.setattr(fit_served, "score_served", larger)
    options = {name: each for name, each in tiny_task(tmp_path).items() if name not in ("epochs", "batch_size")}
    model = str(save_tiny(tmp_path / "model"))
    limit: dict[str, Any] = {"max_bytes": int(0.85 * 4 * PARAMS), "backend": "onnx", "kinds": ["sizes"]}
    run = cutbert.fit(model, out=tmp_path / "run", **options, time=600.0, rounds=2, **limit)
    narrow = next(each for each in run.leaderboard if SUFFIX in each.name)
    first = next(each for each in run.leaderboard if each.name == narrow.name.partition(SUFFIX)[0])
    assert narrow.within_limit and not first.within_limit
    assert narrow.steps == first.steps > 0 and narrow.params < first.params
    assert f"{first.name} is cut a little narrower to keep the limit" in capsys.readouterr().err
    (chosen,) = run.leaderboard.chosen
    assert chosen.within_limit and load_model(str(run.path / "model")).model.shape == chosen.shape
    if chosen == narrow:  # another may be better on select
        assert f"{narrow.name} takes the place of the race's winner, {first.name}" in " ".join(run["notes"])
