"""Plans: what they expand to, in which order, and every mistake with its place, all together."""

from __future__ import annotations

from pathlib import Path

import pytest

from cutbert.api.sweeps import SWEPT
from cutbert.errors import InputError
from cutbert.sweeps.expand import PlannedRun, read_runs

CHAIN = """
[defaults]
data_dir = "glue"
[grid]
task = ["sst2", "mrpc"]
seed = [0, 1, 2]
[steps.small]
verb = "schubert"
model = "{teacher}"
grid.budget = ["macs=0.75", "macs=0.5"]
[steps.family]
verb = "dynabert"
model = "{small}/model"
width_mult = [1.0, 0.5]
stock = false
[steps.teacher]
verb = "finetune"
model = "bert-base-uncased"
epochs = 2
"""


def runs_of(tmp_path: Path, text: str, *sets: str) -> list[PlannedRun]:
    path = tmp_path / "plan.toml"
    path.write_text(text, encoding="utf-8")
    return read_runs(path, sets, SWEPT, Path("/out"))


def mistakes(tmp_path: Path, text: str, *sets: str) -> list[str]:
    with pytest.raises(InputError) as found:
        runs_of(tmp_path, text, *sets)
    return [each.removeprefix(f"{tmp_path}/plan.toml: ") for each in found.value.mistakes]


def one_step(options: str) -> str:
    return f'[steps.a]\nverb = "finetune"\nmodel = "m"\ntask = "sst2"\n{options}\n'


def test_every_verb_that_makes_a_run_of_a_model_is_swept() -> None:
    assert sorted(SWEPT) == ["depth", "dynabert", "finetune", "fit", "pick", "pretrain", "schubert", "undivided"]


def test_a_chain_is_a_product_in_order(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, CHAIN)
    assert [sum(run.step == step for run in runs) for step in ("teacher", "small", "family")] == [6, 12, 12]
    places = {run.name: i for i, run in enumerate(runs)}
    assert len(places) == len(runs)
    assert all(places[name] < places[run.name] for run in runs for name in run.after)
    assert runs[0].name == "teacher-task=sst2-seed=0" and runs[0].seeds == {"seed"} and runs[0].after == ()


def test_a_run_is_the_command_a_user_would_type(tmp_path: Path) -> None:
    runs = {run.name: run for run in runs_of(tmp_path, CHAIN)}
    small = runs["small-task=mrpc-seed=2-small.budget=macs=0.5"]
    assert small.words == (
        "schubert", "/out/runs/teacher-task=mrpc-seed=2",
        "--out", "/out/runs/small-task=mrpc-seed=2-small.budget=macs=0.5",
        "--data-dir", "glue", "--task", "mrpc", "--seed", "2", "--budget", "macs=0.5",
    )  # fmt: skip
    family = runs["family-task=mrpc-seed=2-small.budget=macs=0.5"]
    assert family.words[1] == f"/out/runs/{small.name}/model" and family.after == (small.name,)
    # The other step's own axis names the run, but is no option of it.
    assert family.words[-5:] == ("--width-mult", "1.0", "--width-mult", "0.5", "--no-stock")


def test_tables_in_the_grid_set_several_options(tmp_path: Path) -> None:
    text = """
        grid.data = [
            {name = "cola", task = "cola", augment_rounds = 30, augment = "mlm", augment_model = "m"},
            {name = "own", train = "a.tsv", dev = "b.tsv", text = "t", label = 0},
        ]
        [steps.teacher]
        verb = "finetune"
        model = "m"
        [steps.family]
        verb = "dynabert"
        model = "{teacher}"
    """
    teacher, own, family, _ = runs_of(tmp_path, text)
    assert teacher.options == {"task": "cola"} and family.options["augment_rounds"] == 30
    assert own.name == "teacher-data=own" and own.options["train"] == ("a.tsv",) and own.options["label"] == "0"


def test_an_option_that_a_verb_hides_is_not_given_to_it(tmp_path: Path) -> None:
    text = """
        grid.data = [{name = "cola", task = "cola", epochs = 2}]
        [steps.teacher]
        verb = "finetune"
        model = "m"
        [steps.best]
        verb = "fit"
        model = "{teacher}"
        max_params = 1000
    """
    teacher, best = runs_of(tmp_path, text)
    assert teacher.options["epochs"] == 2 and best.options == {"task": "cola", "max_params": 1000}
    with pytest.raises(InputError, match=r"steps\.best\.epochs: fit has no such option"):
        runs_of(tmp_path, f"{text}epochs = 1")


def test_a_table_in_the_grid_may_set_options_of_one_step(tmp_path: Path) -> None:
    text = """
        grid.data = [
            {name = "cola", task = "cola", epochs = 2, small = {epochs = 1.5, teacher = "{other}"}},
            {name = "mrpc", task = "mrpc", epochs = 3},
        ]
        [steps.teacher]
        verb = "finetune"
        model = "m"
        [steps.other]
        verb = "finetune"
        model = "n"
        [steps.small]
        verb = "schubert"
        model = "{teacher}"
        budget = "macs=0.5"
    """
    runs = {run.name: run for run in runs_of(tmp_path, text)}
    assert [runs[f"small-data={name}"].options["epochs"] for name in ("cola", "mrpc")] == [1.5, 3]
    assert runs["teacher-data=cola"].options["epochs"] == 2
    assert runs["small-data=cola"].after == ("other-data=cola", "teacher-data=cola")
    assert runs["small-data=mrpc"].after == ("teacher-data=mrpc",)
    nearer = {run.name: run for run in runs_of(tmp_path, text, "small.epochs=9")}
    assert nearer["small-data=cola"].options["epochs"] == 9 and nearer["teacher-data=cola"].options["epochs"] == 2
    wrong = text.replace("small = {epochs", "smal = {epochs").replace("epochs = 3", "small = {rund = 1}")
    assert mistakes(tmp_path, wrong) == [
        "grid.data.small.rund: schubert has no such option; did you mean rounds?",
        "grid.data.smal must be a step, since it is a table of options; did you mean small?",
    ]


def test_a_step_may_pick_from_a_front(tmp_path: Path) -> None:
    text = CHAIN.replace('model = "{small}/model"', 'model = "{half}"')
    text += '[steps.half]\nverb = "pick"\nmodel = "{small}"\nmax_macs = 1000\n'
    runs = {run.name: run for run in runs_of(tmp_path, text)}
    half = runs["half-task=mrpc-seed=0-small.budget=macs=0.5"]
    assert half.words == (
        "pick", f"/out/runs/{half.after[0]}", "--out", f"/out/runs/{half.name}", "--data-dir", "glue",
        "--max-macs", "1000",
    )  # fmt: skip
    assert runs[half.name.replace("half", "family")].model == f"/out/runs/{half.name}"


def test_an_axis_of_other_steps_runs_stays_where_the_model_is_set(tmp_path: Path) -> None:
    text = (
        CHAIN.replace('model = "{small}/model"', "")
        .replace(
            "stock = false", 'grid.of = [{name = "small", model = "{small}"}, {name = "teacher", model = "{teacher}"}]'
        )
        .replace("task = [", "data_dir = [")
        .replace('grid.budget = ["macs=0.75", "macs=0.5"]', 'budget = "macs=0.5"')
    )
    for sets in ((), ("model=tiny",)):
        runs = runs_of(tmp_path, text.replace("seed = [0, 1, 2]", "seed = [0]"), "task=sst2", *sets)
        assert {run.labels["family.of"] for run in runs if run.step == "family"} == {"small", "teacher"}


def test_a_step_with_its_own_value_leaves_the_axis(tmp_path: Path) -> None:
    text = CHAIN.replace("epochs = 2", "seed = 5")
    runs = runs_of(tmp_path, text)
    assert [run.name for run in runs if run.step == "teacher"] == ["teacher-task=sst2", "teacher-task=mrpc"]
    small = next(run for run in runs if run.step == "small" and run.labels["seed"] == "2")
    assert small.after == ("teacher-task=sst2",) and small.options["seed"] == 2


def test_a_step_on_text_takes_no_task(tmp_path: Path) -> None:
    text = """
        grid.task = ["sst2", "rte"]
        [steps.cut]
        verb = "schubert"
        objective = "mlm"
        model = "m"
        train = "t.txt"
        from_paper = "66M"
        [steps.tuned]
        verb = "finetune"
        model = "{cut}"
    """
    assert [run.name for run in runs_of(tmp_path, text)] == ["cut", "tuned-task=sst2", "tuned-task=rte"]


def test_a_step_may_name_its_axes(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, CHAIN + 'axes = ["task"]\n')
    assert [run.name for run in runs if run.step == "teacher"] == ["teacher-task=sst2", "teacher-task=mrpc"]
    assert sum(run.step == "small" for run in runs) == 12


def test_sets(tmp_path: Path) -> None:
    sets = ("model=tiny", "max_train_samples=64", "grid.task=['rte']", "seed=7", "small.gate_steps=3")
    runs = runs_of(tmp_path, CHAIN, *sets)
    assert [run.name for run in runs][:2] == ["teacher-task=rte", "small-task=rte-small.budget=macs=0.75"]
    assert runs[0].model == "tiny" and runs[1].model == "/out/runs/teacher-task=rte"
    assert all(run.options["max_train_samples"] == 64 and run.options["seed"] == 7 for run in runs)
    assert [run.options.get("gate_steps") for run in runs[:2]] == [None, 3]
    own = runs_of(tmp_path, CHAIN, "epochs=1", "small.epochs=9", "seed=7", "grid.task=['rte']")
    assert [run.options["epochs"] for run in own[:2]] == [1, 9]  # what is said of one step wins
    left_out = runs_of(tmp_path, CHAIN, "teacher.epochs=")
    assert "epochs" not in left_out[0].options
    assert mistakes(tmp_path, CHAIN, "teacher.seed=") == [
        "--set teacher.seed=: there is nothing in the plan to leave out"
    ]


def test_mistakes_come_together_with_their_places(tmp_path: Path) -> None:
    text = """
        defaults.epchs = 3
        other = 1
        grid.task = ["sst2", "nosuch"]
        grid.seed = 0
        needs.cores = 0
        [steps.teacher]
        verb = "finetun"
        model = "m"
        [steps.family]
        verb = "dynabert"
        model = "{techer}"
        batch_size = "many"
        out = "x"
        temperature = 0
        widths = [1.0]
        needs.gpu = 1
        [steps.9]
        verb = "finetune"
        [steps.none]
        model = "m"
    """
    assert mistakes(tmp_path, text, "family.nosuch.x=1", "noequals", "nostep.epochs=1") == [
        "--set must be NAME=VALUE, got 'noequals'",
        "--set nostep.epochs=1: must name a part of the plan (defaults, needs, grid, steps) or a step of it",
        "other must be one of defaults, needs, grid, steps",
        "needs.cores must be an integer in 1..100000, got 0",
        "grid.seed must be a list of values, got 0",
        "steps.family.needs.gpu must be one of cores, gpus, memory_gib",
        "steps.9: a step's name must be letters, digits and _, beginning with a letter",
        "steps.none.verb must be given: what the step runs",
        f"steps.teacher.verb must be one of {', '.join(SWEPT)}, got 'finetun'; did you mean finetune?",
        "steps.family.out: the sweep gives every run its folder",
        "steps.family.widths: dynabert has no such option; did you mean depths?",
        "steps.family.nosuch: dynabert has no such option",
        "steps.family.model: {techer} must name a step; did you mean teacher?",
        "steps.family.batch_size: --batch-size must be an integer, such as 15M, got 'many'",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("epochs = [1, 2]", "steps.a.epochs: --epochs takes one value, got [1, 2]; values to try one after the other"),
        ("epochs = -1", "steps.a: --epochs must be at least 0, got -1.0"),
        ("epochs = true", "steps.a.epochs: --epochs must be text or a number, got True"),
        ('allow_changed = "yes"', "steps.a.allow_changed: --allow-changed must be true or false, got 'yes'"),
        ("unlabeled = []", "steps.a.unlabeled: --unlabeled must have at least one value, got an empty list"),
        ('schedule = "up"', "steps.a.schedule: --schedule must be one of linear, cosine, constant, got 'up'"),
        ("grid.seed = [1, 1]", "steps.a.grid.seed must have values of different names, got '1' twice"),
        ("seed = 1\ngrid.seed = [1]", "steps.a.seed must not be given beside steps.a.grid, which sets it too"),
        ("grid.x = [{seed = 1}]", "steps.a.grid.x: a table among the values must have a name"),
        ("needs.gpus = -1", "steps.a.needs.gpus must be a number in 0..100000, got -1"),
        (f"needs.cores = {10**23}", "steps.a.needs.cores must be an integer in 1..100000, got 1000000000"),
        (
            f"grid.seed = {list(range(150))}\ngrid.learning_rate = {[i / 1000 for i in range(1, 101)]}",
            "steps.a: a sweep must have at most 10,000 runs, got 15,000",
        ),
        ("x = " + "[" * 100_000, "PLAN must be TOML: must be nested at most 100 deep"),
        ('train = "x.tsv"', "steps.a: --train is for own files and must not be given with --task"),
        ("axes = 3", "steps.a.axes must be a list of axes of grid, got 3"),
        ('axes = ["sed"]\n[grid]\nseed = [1]', "steps.a.axes: 'sed' is not an axis of grid; did you mean seed?"),
        ("grid = 3", "steps.a.grid must be a table, got 3"),
    ],
)
def test_each_mistake_has_its_message(tmp_path: Path, options: str, message: str) -> None:
    assert any(each.startswith(message) for each in mistakes(tmp_path, one_step(options)))


def test_plans_that_are_none(tmp_path: Path) -> None:
    assert mistakes(tmp_path, "steps = {")[0].startswith("PLAN must be TOML: ")
    assert mistakes(tmp_path, "")[0] == "steps must have at least one step: [steps.NAME] with verb and model"
    with pytest.raises(InputError, match="PLAN must be a file that can be read: No such file"):
        read_runs(tmp_path / "no.toml", (), SWEPT, Path("/out"))
    circle = one_step('[steps.b]\nverb = "finetune"\nmodel = "{c}"\n[steps.c]\nverb = "finetune"\nmodel = "{b}"')
    assert "steps must not refer to each other in a circle: b, c" in mistakes(tmp_path, circle)
    nul = one_step("").replace('"m"', r'"a\u0000b"')
    assert mistakes(tmp_path, nul) == [r"steps.a.model must be UTF-8 text without NUL, got 'a\x00b'"]
    no_model = '[steps.a]\nverb = "finetune"\ntask = "rte"'
    assert mistakes(tmp_path, no_model) == [
        "steps.a.model must be given: a model, or {STEP} for the run of another step"
    ]
    long = one_step(f'grid.data_dir = ["{"x" * 160}"]')
    assert mistakes(tmp_path, long)[0].startswith("steps.a: a run's name must be shorter than a-a.data_dir=xxx")
    assert mistakes(tmp_path, one_step(""), "epochz=3") == [
        "--set epochz: no step's verb has an option epochz; did you mean epochs?"
    ]
