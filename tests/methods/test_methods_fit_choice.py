"""What fit takes of what was made, and what its limits mean, on made-up numbers."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cutbert.bench.measure_table import part_shapes, table_of
from cutbert.errors import BudgetError, InputError
from cutbert.methods.fit_candidates import Candidate, Entrant
from cutbert.methods.fit_choice import UNCUT, Drop, Finalist, choose, marked
from cutbert.methods.fit_cuts import KNAPSACK
from cutbert.methods.fit_end import limit_name, missed_words, notes_of, remove_other_models
from cutbert.methods.fit_limits import MARGIN, Costs, Target, smallest, targets_of
from cutbert.methods.fit_plan import Clock, FitPlan
from cutbert.methods.fit_proposals import in_turns, num_rounds
from cutbert.methods.fit_race import Race
from cutbert.methods.fit_settings import FitSettings
from cutbert.methods.fit_timing import LOADS, TIMING_SHARE, diverse, with_a_safe_one
from cutbert.shape.budget import LATENCY
from cutbert.shape.cost import cost_of
from cutbert.shape.subnet import KeptLayer, Subnet
from tiny_runs import HEAD, SHAPE, tiny_entry

TARGET = Target("2 ms", "limit-1", {LATENCY: 2.0}, {LATENCY: 2.0}, 1)
OTHER = Target("1 ms", "limit-2", {LATENCY: 1.0}, {LATENCY: 1.0}, 2)
NAMES = {each.key: each.name for each in (TARGET, OTHER)}


def finalist(
    name: str, kind: Any, select: float, ms: float, target: Target | None = TARGET, lost: float = 0.0
) -> Finalist:
    entry = replace(tiny_entry(name, kind, (0,), 0.8, ms), select_score=select)
    within = (target or TARGET).keeps({LATENCY: ms})
    return Finalist(replace(entry, within_limit=within), target, lambda: select + lost, 400)


def drop_to(least: float) -> Drop:
    """Return the drop from 1 that allows this score on select."""
    return Drop(100 * (1 - least), 1.0)


UNCUT_ROW = finalist("uncut", "teacher", 0.9, 4.0, None)


@pytest.mark.parametrize(
    ("racing", "expected"),
    [
        ([finalist("won", "sizes", 0.88, 1.9), finalist("out", "layers", 0.87, 1.5)], "won"),
        ([finalist("won", "sizes", 0.86, 1.9), finalist("out", "layers", 0.87, 1.5)], "out"),  # plain is better
        ([finalist("won", "sizes", 0.86, 1.9), finalist("out", "undivided", 0.87, 1.5)], "won"),
        ([finalist("won", "layers", 0.86, 1.9), finalist("out", "layers", 0.87, 1.5)], "won"),  # plain too, trained on
        ([finalist("won", "sizes", 0.88, 2.1), finalist("out", "undivided", 0.87, 1.5)], "out"),  # beyond the limit
        ([finalist("won", "sizes", 0.86, 1.9, lost=0.03), finalist("out", "undivided", 0.87, 1.5)], "out"),  # int8
        (
            [finalist("won", "sizes", 0.88, 1.9, lost=0.03), finalist("out", "undivided", 0.87, 1.5)],
            "won",
        ),  # still best
        ([finalist("won", "sizes", 0.86, 1.9, lost=0.007), finalist("out", "undivided", 0.87, 1.5)], "won"),  # chance
        ([finalist("won", "sizes", 0.88, 2.1)], None),
        ([], None),
    ],
)
def test_the_winner_is_taken_unless(racing: list[Finalist], expected: str | None) -> None:
    finalists = [UNCUT_ROW, *racing]
    chosen = choose([TARGET], finalists, None)
    assert {key: finalists[i].entry.name for key, i in chosen.items()} == (
        {} if expected is None else {"limit-1": expected}
    )


@pytest.mark.parametrize(("select", "ms", "expected"), [(0.9, 1.0, 1), (0.89, 1.0, UNCUT), (0.91, 1.95, UNCUT)])
def test_the_uncut_model_within_the_limit_gives_way_to_what_is_as_good_and_faster(
    select: float, ms: float, expected: int
) -> None:
    uncut = finalist("uncut", "teacher", 0.9, 1.9, None)
    finalists = [uncut, finalist("won", "sizes", select, ms)]
    assert choose([TARGET], finalists, None) == {"limit-1": expected}
    others = [finalist("out", "undivided", 0.89, 0.5), finalist("as good", "undivided", 0.9, 1.5)]
    assert choose([TARGET], [*finalists, *others], None) == {"limit-1": expected or 3}


def test_under_a_drop_the_fastest_that_is_good_enough_is_taken_for_each_limit() -> None:
    rungs = [replace(TARGET, key=f"limit-1-{i}", is_rung=True) for i in (1, 2)]
    others = [replace(OTHER, key="limit-2-1", is_rung=True)]
    finalists = [
        UNCUT_ROW,
        finalist("large", "sizes", 0.89, 1.8, rungs[0]),
        finalist("small", "sizes", 0.87, 1.1, rungs[1]),
        finalist("tiny", "sizes", 0.8, 0.5, others[0]),
    ]
    assert choose([*rungs, *others], finalists, drop_to(0.86)) == {"limit-1-2": 2}
    assert choose([*rungs, *others], finalists, drop_to(0.88)) == {"limit-1-1": 1}
    assert choose([*rungs, *others], finalists, drop_to(0.7)) == {"limit-1-2": 2, "limit-2-1": 3}
    finalists.append(finalist("dropped out", "layers", 0.865, 1.0, rungs[1]))
    assert choose([*rungs, *others], finalists, drop_to(0.86)) == {"limit-1-2": 4}
    free = [replace(each, limits={}) for each in rungs]
    finalists = [UNCUT_ROW, finalist("large", "sizes", 0.85, 1.8, free[0])]
    assert choose(free, finalists, drop_to(0.9)) == {"limit-1-1": UNCUT}


def test_the_uncut_model_is_listed_for_each_limit_it_answers() -> None:
    board = marked(
        [UNCUT_ROW, finalist("won", "sizes", 0.8, 1.9)],
        [TARGET, OTHER],
        {"limit-1": UNCUT, "limit-2": UNCUT},
        None,
        NAMES,
    )
    assert [(entry.name, entry.limit) for entry in board if entry.chosen] == [("uncut", "2 ms"), ("uncut", "1 ms")]


def test_the_chosen_one_has_the_limits_own_name() -> None:
    finalists = [UNCUT_ROW, finalist("won", "sizes", 0.8, 1.9), finalist("small", "sizes", 0.7, 0.9, OTHER)]
    board = marked(finalists, [TARGET, OTHER], {"limit-1": 1}, None, {"limit-1": "--max-drop 0.5"})
    assert [entry.limit for entry in board] == [None, "--max-drop 0.5", "1 ms"]


def test_what_loses_more_than_the_drop_is_not_within_the_limit() -> None:
    cuts = [finalist(str(score), "sizes", score, 1.5) for score in (0.81, 0.79, -0.01)]
    finalists = [finalist("uncut", "teacher", 0.9, 1.5, None), *cuts]
    for least, within in ((0.8, [True, False, False]), (0.0, [True, True, False]), (None, [True, True, True])):
        drop = None if least is None else drop_to(least)
        board = marked(finalists, [TARGET], {}, drop, NAMES)
        assert [entry.within_limit for entry in board] == [True, *within]


def test_of_the_uncut_model_a_drop_grants_what_chance_explains() -> None:
    free = replace(TARGET, limits={}, is_rung=True)
    finalists = [finalist("uncut", "teacher", 0.89, 4.0, None), finalist("won", "sizes", 0.89, 1.8, free)]
    assert choose([free], finalists, drop_to(0.895)) == {"limit-1": UNCUT}  # 0.5 points are 2 of 400 rows
    assert choose([free], finalists, drop_to(0.905)) == {}


def test_where_a_row_is_more_than_the_drop_only_winners_and_plain_layers_compete() -> None:
    free = replace(TARGET, limits={}, is_rung=True)
    cuts = [
        finalist("won", "sizes", 0.85, 1.8, free),
        finalist("lucky", "sizes", 0.9, 0.5, free),
        finalist("plain", "layers", 0.9, 1.5, free),
    ]
    finalists = [replace(each, num_scored=20) for each in (UNCUT_ROW, *cuts)]
    assert choose([free], finalists, Drop(0.5, 0.9)) == {"limit-1": 3}
    assert choose([free], [UNCUT_ROW, *cuts], Drop(0.5, 0.9)) == {"limit-1": 2}


def test_a_size_under_a_drop_is_named_by_the_drop() -> None:
    settings = FitSettings(max_drop=0.5, max_latency_ms=(2.0,))
    rung = replace(TARGET, is_rung=True, within="2 ms")
    rungs = [replace(rung, name=name, key=f"limit-1-{name}") for name in ("2 ms", "1.07 ms")]
    (missed,) = missed_words(settings, rungs, {})
    assert missed.startswith("--max-drop 0.5 within 2 ms: no network that was made keeps it")
    assert not missed_words(settings, rungs, {rungs[1].key: UNCUT})
    assert limit_name(settings, replace(rungs[1], limits={}, within="")) == "--max-drop 0.5"
    assert limit_name(settings, TARGET) == "2 ms"


@pytest.mark.parametrize(
    ("is_stopped", "decisions", "why"),
    [
        (False, {}, "there was no time to train"),
        (False, {"limit-2-last": [[0, 30]]}, "training made won no better on select"),
        (True, {}, "the run was stopped before training"),
    ],
)
def test_notes_are_of_what_was_taken_and_say_why_it_is_untrained(
    is_stopped: bool, decisions: dict[str, Any], why: str
) -> None:
    fitting: Any = SimpleNamespace(
        plan=SimpleNamespace(changes=dict, decisions=decisions),
        settings=FitSettings(max_latency_ms=(2.0, 1.0), student=("small",)),
    )
    candidate: Any = SimpleNamespace(name="won", kind="sizes", student=None)
    races = [Race(target, (Entrant(candidate, 1.0, 0.1, steps=steps),)) for target, steps in ((TARGET, 9), (OTHER, 0))]
    finalists = [replace(UNCUT_ROW, own_score=lambda: 2.0), finalist("out", "layers", 0.8, 1.9, lost=0.25)]
    no_student = [] if is_stopped else ["2 ms: small took no part in the race"]
    assert notes_of(fitting, finalists, races, {"limit-1": 1}, is_stopped) == [  # OTHER has no answer
        "2 ms: out loses 25.0 points of its score on select on onnx-int8",
        "2 ms: out takes the place of the race's winner, won",
        *no_student,
        f"1 ms: {why}; candidates are only repaired",
        *(each.replace("2 ms", "1 ms") for each in no_student),
    ]


def test_models_of_an_earlier_end_go(tmp_path: Path) -> None:
    for name in ("model", "model-limit-2", "model-limit-3", "teacher"):
        (tmp_path / name / "onnx").mkdir(parents=True)
    remove_other_models(tmp_path, ["model", "model-limit-3"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "model-limit-3", "teacher"]


# Limits


def costs() -> Costs:
    """Return costs by a table in which time is known, with 4 ms for the uncut model."""
    whole = cost_of(SHAPE).params_encoder
    times = {key: 0.1 + 3.9 * cost_of(each).params_encoder / whole for key, each in part_shapes(SHAPE, "afh").items()}
    return Costs(table_of(SHAPE, times, 4.0, {}), HEAD, 4.1)


def test_the_tokens_that_are_served_are_counted() -> None:
    served = replace(costs(), served_tokens={SHAPE.vocab_size: 9}).numbers(SHAPE)
    assert served["params"] == cost_of(replace(SHAPE, vocab_size=9), HEAD).params < costs().numbers(SHAPE)["params"]


def targets(**options: Any) -> list[Target]:
    return targets_of(FitSettings(**options), costs(), [SHAPE])


def test_limits_become_targets_the_loosest_first() -> None:
    first, second = targets(max_latency_ms=(1.5, 3.0), max_params=12_000)
    assert (first.name, second.name, first.key, second.key) == ("3 ms", "1.5 ms", "limit-1", "limit-2")
    assert first.limits == {LATENCY: 3.0, "params": 12_000.0} and first.aims == first.limits
    assert first.load({LATENCY: 3.0 * MARGIN, "params": 12_000}) == pytest.approx(1)
    assert first.load({LATENCY: 1.0, "params": 12_001}) > 1 and first.keeps({LATENCY: 3.0, "params": 12_000})


def test_a_limit_that_asks_for_no_cut_is_aimed_below() -> None:
    (target,) = targets(max_latency_ms=(5.0,))
    assert target.limits == {LATENCY: 5.0} and target.aims == {LATENCY: pytest.approx(0.6 * 4.0)}


def test_a_drop_is_looked_for_at_several_sizes() -> None:
    found = targets(max_drop=1.0)
    assert [each.aims[LATENCY] for each in found] == pytest.approx([0.6 * 4, 0.4 * 4, 0.25 * 4])
    assert all(each.is_rung and not each.limits for each in found) and len({each.group for each in found}) == 1
    found = targets(max_drop=1.0, max_latency_ms=(3.0,))
    assert found[0].aims[LATENCY] == 3.0 and {each.limits[LATENCY] for each in found} == {3.0}
    settings = FitSettings(max_drop=1.0, max_latency_share=(0.5,))
    found = targets_of(settings, costs(), [SHAPE])
    assert limit_name(settings, found[0]) == "--max-drop 1 within 0.5 of the uncut latency (2 ms)"
    found = targets(max_drop=1.0, max_latency_ms=(9.0,))  # the uncut model keeps it
    assert [each.aims[LATENCY] for each in found] == pytest.approx([0.6 * 4, 0.4 * 4, 0.25 * 4])


@pytest.mark.parametrize("kind", ["layers", "sizes", "undivided", "gates"])
def test_a_limit_below_the_smallest_network_names_it(kind: Any) -> None:
    (least,) = smallest([SHAPE], FitSettings(kinds=(kind,), max_drop=1.0), HEAD)
    params = cost_of(least, HEAD).params
    assert targets_of(FitSettings(kinds=(kind,), max_params=params), costs(), [SHAPE])
    with pytest.raises(BudgetError, match=f"--max-params must be at least {params:,}, what the smallest network"):
        targets_of(FitSettings(kinds=(kind,), max_params=params - 1), costs(), [SHAPE])


def test_a_smaller_student_widens_the_range() -> None:
    small = replace(SHAPE, hidden_size=8, layers=SHAPE.layers[:1])
    settings = FitSettings(kinds=("student",), student=("small",), max_params=cost_of(small, HEAD).params)
    assert targets_of(settings, costs(), [SHAPE, small])


def test_rounds_halve() -> None:
    assert [num_rounds(count) for count in range(1, 9)] == [0, 1, 1, 2, 2, 2, 2, 3]


def test_a_share_is_of_the_uncut_latency() -> None:
    uncut = costs().numbers(SHAPE)[LATENCY]
    by_share = targets(max_latency_share=(0.5, 0.75))
    assert [each.limits[LATENCY] for each in by_share] == pytest.approx([0.75 * uncut, 0.5 * uncut], rel=1e-5)
    (third,) = targets(max_latency_share=(1 / 3,))
    assert third.limits[LATENCY] <= uncut / 3 and third.name == f"0.333333 of the uncut latency ({uncut / 3:.3g} ms)"
    (whole,) = targets(max_latency_share=(1.0,))
    assert whole.keeps({LATENCY: (1 + 1e-12) * uncut})  # as it is measured at the end
    with pytest.raises(BudgetError, match=r"--max-latency-share must be at least 0\.\d+, what the smallest network"):
        targets(max_latency_share=(0.001,))


def test_limits_that_are_near_have_names_of_their_own() -> None:
    near = targets(max_latency_share=(0.5, 0.5001))
    assert len({each.name for each in near}) == 2
    for name in ("ms", "share"):
        with pytest.raises(InputError, match=f"--max-latency-{name} must differ, got 0.5, 0.5"):
            FitSettings(**{f"max_latency_{name}": (0.5, 0.5 + 1e-8)}).check()


def test_a_limit_copied_from_its_message_is_taken() -> None:
    with pytest.raises(BudgetError, match="--max-bytes must be at least") as caught:
        targets(max_bytes=1)
    least = int(re.findall(r"at least ([\d,]+)", str(caught.value))[0].replace(",", ""))
    assert targets(max_bytes=least)


def candidate(name: str, kind: Any, *layers: int) -> Candidate:
    kept = tuple(KeptLayer(i, SHAPE.layers[i]) for i in layers)
    return Candidate(name, kind, Subnet(kept, SHAPE.hidden_size))


def test_candidates_take_turns_by_sort() -> None:
    found = [
        candidate("gates", "gates", 0),
        candidate(KNAPSACK, "sizes", 0, 1),
        candidate("thin-3", "sizes", 0, 1, 2),
        candidate("thin-2", "sizes", 0, 1),
        candidate("layers-2", "layers", 2),
        candidate("layers-0", "layers", 0),
        candidate("layers-1-2", "layers", 1, 2),
        candidate("layers-0-1", "layers", 0, 1),
    ]
    damage = {each.name: 0.1 * i for i, each in enumerate(found)}
    assert [each.name for each in in_turns(found, damage)] == [
        "thin-3", "layers-0-1", KNAPSACK, "thin-2", "layers-1-2", "gates", "layers-0", "layers-2",
    ]  # fmt: skip
    students = [replace(candidate(f"of-{name}", "student", 0), student=name) for name in ("one", "two")]
    damage |= {each.name: 9.0 for each in students}
    first = [each.name for each in in_turns([*found, *students], damage)][:5]
    assert first == ["thin-3", "layers-0-1", "of-one", "of-two", KNAPSACK]  # each student has its turn


def test_fewer_candidates_are_timed_where_there_is_little_time() -> None:
    """Sizes twice, one of a shape; the first of each kind, and whole layers that fit, in any case."""

    def of_size(name: str, kind: Any, neurons: int) -> Candidate:
        layer = replace(SHAPE.layers[0], intermediate_size=neurons)
        return Candidate(name, kind, Subnet((KeptLayer(0, layer),), SHAPE.hidden_size))

    found = [of_size(f"thin-{i}", "sizes", 1 + i) for i in range(3)]
    found += [of_size(f"undivided-{i}", "undivided", 4 + i // 2) for i in range(4)]  # two pairs of a shape
    found += [candidate("layers-0", "layers", 0)]
    look = {"build_s": 1.7, "row_ms": 2.0}  # so that a file without its table takes 1 s, of a half 0.5

    def timed(limit_s: float) -> list[str]:
        plan = FitPlan(cast(Any, None), decisions={"look": look})
        shares = {"limit-1": 0.5, "limit-2": 0.2}
        clock = Clock(plan, limit_s, uncut_s=1.0, candidates=4, shares=shares, layers_share=0.7 / 1.7)
        costs = SimpleNamespace(numbers=lambda shape: {LATENCY: 0.5})
        part = SimpleNamespace(source=SimpleNamespace(shape=SHAPE))
        fitting = cast(Any, SimpleNamespace(clock=clock, costs=costs, part_of=lambda each: part))
        return [each.name for each in diverse(fitting, TARGET, found, 4)]

    names = [each.name for each in found]
    assert timed(10_000.0) == names  # 4 race: 8 are timed
    assert timed(2 * LOADS * 7.5 * 0.5 / TIMING_SHARE) == [*names[:5], "layers-0"]
    assert timed(2 * LOADS * 8.5 * 0.5 / TIMING_SHARE) == [*names[:7], "layers-0"]
    assert timed(1.0) == [*names[:2], "layers-0"]


def test_one_candidate_keeps_the_limit_surely() -> None:
    """Of those near it all may break it in the end."""
    found = [candidate(name, "layers", i) for i, name in ((0, "near"), (1, "nearer"), (0, "far"), (1, "farther"))]
    times = {"near": 1.91, "nearer": 1.81, "far": 1.5, "farther": 1.0}  # of 2 ms
    source = SimpleNamespace(source=SimpleNamespace(shape=SHAPE))
    fitting = cast(Any, SimpleNamespace(costs=SimpleNamespace(numbers=lambda shape: {}), part_of=lambda each: source))

    def names(taken: list[Candidate], able: list[Candidate]) -> list[str]:
        return [each.name for each in with_a_safe_one(fitting, TARGET, taken, able, times)]

    assert names(found[:2], found) == ["near", "far"]
    assert names(found[1:3], found) == ["nearer", "far"]
    assert names(found[:2], found[:2]) == ["near", "nearer"]


def test_a_clearly_better_one_takes_the_winners_place() -> None:
    """By more than the rows of select leave to chance: of 400 rows 3.2 points."""
    for ahead, taken in ((0.031, 1), (0.033, 2)):
        board = [
            finalist("uncut", "teacher", 0.9, 4.0, None),
            finalist("layers-0", "layers", 0.8, 1.9),
            finalist("thin-2", "sizes", 0.8 + ahead, 1.9),
        ]
        assert choose([TARGET], board, None) == {TARGET.key: taken}
