"""Makes the records again, in a folder of their own, one job after the other, and goes on where it was stopped.

What a record there answers is not run again. At the end, where nothing failed, the pages are written from the new
records and, where there is none, from those of the repository.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from results import has_record, listed, read_record

TEXT = 'grid.text=[{{name="wikitext-2", train="{data}/wikitext-2/train.txt", dev="{data}/wikitext-2/valid.txt"}}]'
RUN = "{{runs}}/{plan}/runs/{step}-data={task}-seed={seed}{more}"  # of a sweep
PLANS = Path(__file__).resolve().parent / "plans"
TASK_NAMES = ("sst2", "cola", "mrpc")
TWO_THREADS = "rivals_two_threads"
FRESH = "rte,stsb,subj,qnli"  # tasks that `fit` was not developed on
# Of MiniLM's int8 latency three and two of its six layers take a little more than 1/2 and 1/3: with these limits plain
# layers have them all the same.
ROOM_FOR_WHOLE_LAYERS = "0.57,0.39"
AVX2 = "_avx2"  # ends the names of records of a processor without AVX-512, which no job makes: it is another machine
INPUTS, RECORDS = "--model {model} --data-dir {data}", "--records {records}"
# What makes each command small, to see that it runs: of two options of a name a script of ours takes the last.
SMALL = {
    "sweep": "--set max_train_samples=32 --set max_eval_samples=16 --set epochs=1",
    "gate_steps": "--set gate_steps=2",  # of a plan with a step that takes it
    "augment_rounds": "--set augment_rounds=1",
    "analyze": "--max-train-samples 32 --num-examples 16",
    "sentence_split": "--sentences 8",
    "measure_fit": "--seeds 0 --time 20",
    "measure_base_size": "--rounds 1",
    "time": "--set time=20",
    "measure_embedding": "--texts 200 --queries 20 --time 20",
    "measure_embedding_student": "--texts 200 --queries 20 --time 20",
    "measure_per_token": "--seeds 0 --rows 60 --paragraphs 5 --time 60,60",
    "measure_pilots": "--seeds 0 --steps-share 0.01",
    "measure_ffn_ranking": "--samples 16",
    "measure_int8": "--shares 2 --rounds 1 --max-eval-samples 16",
    "measure_search": "--trials 20 --keep 2 --sample 16",
    "measure_step_time": "--rounds 1 --batches 1 --square 64",
    "measure_finetune_step": "--rounds 1 --batches 1 --base-batches 0",
    "measure_training_memory": "--steps 1 --repeats 1 --subnets 4 --questions 0",
    "measure_mlm_speed": "--rounds 1 --steps 1 --batch-size 2 --layers 1 --hidden-size 24 --square 64",
    "measure_analysis_memory": "--texts 40 --hidden-size 24 --layers 2",
    "measure_cut_sizes": "--rounds 1 --kept 16 --lengths 8",
    "measure_latency_prediction": "--subnets 2 --rounds 1",
    "measure_runtime_rate": "--batch-size 2 --lengths 8 --rounds 1 --square 64",
    "measure_runtime": "--texts 12 --repeats 1",
    "measure_serving": "--clients 2 --processes 1 --requests 5",
    "measure_operators": "--batch-sizes 1 --lengths 8 --rounds 1",
    "measure_onnx_parity": "--rows 20 --no-load-test",
    "measure_rivals": "--sizes 1x8,2x8 --rounds 1",
    "measure_session_options": "--sizes 1x8,2x8 --rounds 1",
    "measure_families": "--layers 1 --hidden-size 24 --vocab-size 30 --lengths 8 --rounds 1 --long 8",
    "measure_repair": "--rows 16 --eval-rows 16",
    "measure_timing_noise": "--backends torch --lengths 4,8 --rounds 1 --repeats 1",
    "measure_predict_memory": "--rows 5 --formats tsv,npy --hidden-size 24 --repeats 1",
    "measure_kills": "--kills 2 --epochs 0.5 --time 20 --no-ray",
}


@dataclass(frozen=True)
class Job:
    """What makes a record, or several.

    Args:
        name: of the job; of a study its plan's.
        commands: to run; {model}, {base}, {data}, {runs} and {records} are filled in.
        former: the records there are, whose own timings say how long it took.
        records: that it makes. Where all are there and nothing in them is unfinished, it is not run.
        needs: the jobs whose runs or records its commands read; they are run before it.
        times: how many times as much is planned as those records hold.
        planned_hours: that its own options give its runs; None where no option does, and the records must say it.
        is_least: whether more is planned than the records hold or the options say, so that its hours are the least.
    """

    name: str
    commands: tuple[str, ...]
    former: tuple[str, ...] = ()
    records: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    times: int = 1
    planned_hours: float | None = None
    is_least: bool = False

    @property
    def hours(self) -> float | None:
        """What its runs are given, or else what the records there are took by their timings; None where nothing is."""
        if self.planned_hours is not None:
            return self.planned_hours
        there = [name for name in self.former if has_record(name)]
        return self.times * sum(map(seconds, there)) / 3600 if there else None

    def is_answered(self, folder: Path) -> bool:
        """Return whether a folder has its records; those that are written bit by bit say themselves what is left."""
        paths = [folder / f"{name}.json" for name in self.records]
        return bool(paths) and all(path.is_file() and not is_unfinished(path) for path in paths)


def is_unfinished(path: Path) -> bool:
    record = json.loads(path.read_text(encoding="utf-8"))
    return bool(record.get("unfinished")) or "cells" in record


def study(
    name: str,
    compared: str,
    *former: str,
    text: bool = False,
    record: str = "",
    by_parameters: bool = False,
    times: int = 1,
) -> Job:
    """Return the job of a plan: the sweep, and the record of what it compares.

    Args:
        name: of the plan.
        compared: options of study.py.
        former: records of what the plan makes again.
        text: whether the plan reads wikitext-2.
        record: its name where it is not the plan's.
        by_parameters: also compare at equal parameters, in a record of its own.
        times: how many times as much is planned as the former records hold.
    """
    plan = f"cutbert sweep benchmarks/plans/{name}.toml --out {{runs}}/{name}"
    sweep = f"{plan} --set model={{model}} --set data_dir={{data}}" + (f" --set '{TEXT}'" if text else "")
    record = record or name
    gathered = {record: compared} | ({f"{name}_params": f"{compared} --cost params"} if by_parameters else {})
    studies = [
        f"python benchmarks/study.py {{runs}}/{name} --name {each} --again {words} {RECORDS}"
        for each, words in gathered.items()
    ]
    return Job(name, (sweep, *studies), former, tuple(gathered), times=times, is_least=True)


def of_tasks(names: str) -> tuple[str, ...]:
    return tuple(f"{names}_{task}" for task in TASK_NAMES)


def measured(script: str, options: str, *former: str, name: str = "", needs: str = "", is_least: bool = False) -> Job:
    """Return the job of a script; it and its record are called like it, or given."""
    name = name or script.removeprefix("measure_")
    line, needed = f"python benchmarks/{script}.py {options} {RECORDS}", (needs,) if needs else ()
    return Job(name, (line,), former or (name,), former or (name,), needed, is_least=is_least)


def fitted(
    name: str, tasks: str, shares: str, time: int, rivals: str = "", model: str = "--model {model}", more: str = ""
) -> Job:
    """Return the job of `fit` beside plain layers, three seeds each; its hours are those that the runs are given.

    Args:
        name: of the job and its record.
        tasks: by commas.
        shares: of the int8 latency that are limits, by commas.
        time: seconds of a run of `fit`.
        rivals: the shares of plain layers, which have the same time for each; empty for the same.
        model: options of what is cut.
        more: further options.
    """
    seeds = "0,1,2"
    words = (
        f"--name {name} {model} --data-dir {{data}} --tasks {tasks} --seeds {seeds} --shares {shares} {more}"
        f"--time {time} --threads 1 --work {{runs}}/{name}"
    )
    if rivals:
        words += f" --rival-shares {rivals}"
    of_both = 1 + len((rivals or shares).split(",")) / len(shares.split(","))
    hours = len(tasks.split(",")) * len(seeds.split(",")) * of_both * time / 3600
    job = measured("measure_fit", words, name=name)
    return replace(job, planned_hours=hours, is_least=True)  # teachers and timing take more


def run_of_plan(plan: str, step: str, task: str, more: str = "", seed: int = 0) -> str:
    return RUN.format(plan=plan, step=step, task=task, more=more, seed=seed)


def int8(task: str) -> Job:
    """Return the table of backends of one task, from the runs of the plans of families, cuts and feed-forwards.

    Their teachers have the same options and seed, and so the same weights.
    """
    run, teacher = (run_of_plan("family", step, task) for step in ("family", "teacher"))
    layers = run_of_plan("family", "layers", task, "-layers.depths=3")
    cut = run_of_plan("cuts", "cut", task, "-cut.budget=params_encoder=0.5-cut.dims=fakv")
    kept = run_of_plan("undivided", "kept", task, "-kept.num_ffn=3")
    words = (
        f"--run {run} --teacher {teacher} --layers {layers} --also schubert={cut} --also undivided={kept} "
        f"--task {task} --data-dir {{data}} --threads 1"
    )
    command, name = f"python benchmarks/measure_int8.py {words} --work {{runs}}/int8 {RECORDS}", f"int8_{task}"
    return Job(name, (command,), (name,), (name,), ("family", "cuts", "undivided"))


def searches(task: str) -> Job:
    run, name = run_of_plan("family", "family", task), f"search_{task}"
    words = f"--run {run} --name {task} --trials 200 --sample 400 --threads 1 --work {{runs}}/search"
    return Job(name, (f"python benchmarks/measure_search.py {words} {RECORDS}",), (name,), (name,), ("family",))


def repairs(task: str) -> Job:
    words, name = f"{INPUTS} --task {task} --threads 1", f"repair_{task}"
    return Job(name, (f"python benchmarks/measure_repair.py {words} {RECORDS}",), (name,), (name,), is_least=True)


def kills(what: str, record: str) -> Job:
    words = f"{what} {INPUTS} --max-train-samples 600 --max-eval-samples 200"
    return Job(record, (f"python benchmarks/measure_kills.py {words} {RECORDS}",), (record,), (record,))


def serving() -> Job:
    """Return the speed of runtime and server, and trimmed vocabularies: the uncut model and one of half its layers."""
    uncut, cut = run_of_plan("family", "teacher", "sst2"), run_of_plan("family", "layers", "sst2", "-layers.depths=3")
    uncut_model, cut_model = f"{uncut}/model", f"{cut}/model"
    commands = (
        *(f"cutbert export {run} --onnx --int8 --no-gate" for run in (uncut, cut)),
        f"python benchmarks/measure_runtime.py {uncut_model} {cut_model} --data-dir {{data}} --threads 1 {RECORDS}",
        f"python benchmarks/measure_serving.py --cut {cut_model} --uncut {uncut_model} --data-dir {{data}} {RECORDS}",
    )
    trimmed = f"python benchmarks/measure_trim_vocab.py {uncut_model} {cut_model} --data-dir {{data}} --threads 1"
    names = ("runtime", "serving", "trim_vocab")
    return Job("serving", (*commands, f"{trimmed} {RECORDS}"), names, names, ("family",))


def representations() -> Job:
    """Return CKA and probes of a teacher beside three kept feed-forwards, and its two controls."""
    commands = []
    for task in ("sst2", "cola"):
        others = {
            "kept": run_of_plan("undivided", "kept", task, "-kept.num_ffn=3"),
            "no-states": run_of_plan("undivided", "other_ways", task, "-other_ways.way=no-states"),
            "other-seed": run_of_plan("undivided", "teacher", task, seed=1),
        }
        teacher, rows = run_of_plan("undivided", "teacher", task), "--max-train-samples 10000 --num-examples 2000"
        commands += [
            f"cutbert analyze {teacher} --against {other} --task {task} --data-dir {{data}} {rows} "
            f"--out {{runs}}/analysis/{task}-{name}"
            for name, other in others.items()
        ]
    commands.append(f"python benchmarks/gather_analyses.py {{runs}}/analysis {RECORDS}")
    former = ("analysis_sst2", "analysis_cola")
    return Job("representations", tuple(commands), former, ("representations",), ("undivided",), is_least=True)


def base_size() -> Job:
    """Return every method on 12 layers of 768, as the plan and one interleaved timing of what it left."""
    students = "--set student.model={model} --set 'fit.student=[\"{model}\"]'"
    sweep = "cutbert sweep benchmarks/plans/base_size.toml --out {runs}/base_size --set model={base} "
    timed = "python benchmarks/measure_base_size.py {runs}/base_size --data-dir {data} --work {runs}/base_size_picked"
    commands = (f"{sweep}--set data_dir={{data}} {students}", f"{timed} --threads 1 {RECORDS}")
    return Job("base_size", commands, ("base_size",), ("base_size",), is_least=True)


FAMILY = f"--run {run_of_plan('family', 'family', 'sst2')} --threads 1"
SPLIT = "python benchmarks/sentence_split.py {data} {runs}/held-out"
PILOTS = "cutbert sweep benchmarks/plans/recipe_pilots.toml --out {runs}/recipe_pilots --set model={model}"
RANKING = "cutbert sweep benchmarks/plans/ffn_ranking.toml --out {runs}/ffn --set model={model} --set data_dir={data}"
JOBS = (
    study("dynabert_short", "--against family/rewired --against family/not-rewired"),
    study("family", "--against layers --against first --against family", *of_tasks("family")),
    study("recipes", "--against family/paper --against family/default", text=True),
    Job(
        "recipe_pilots",
        (
            SPLIT,
            f"{PILOTS} --set data_dir={{runs}}/held-out",
            f"python benchmarks/study.py {{runs}}/recipe_pilots --again --against family/rate-3e-4-hidden-30 {RECORDS}",
        ),
        records=("recipe_pilots",),
    ),
    study("cuts", "--against layers --against family --cost latency_share", *of_tasks("cuts"), by_parameters=True),
    study("dims", "--against layers --against cut/0.75-h --against cut/0.9-a --against cut/paper --cost params"),
    study("undivided", "--against kept --against layers --against thin", *of_tasks("undivided")),
    representations(),
    study(
        "text_cuts",
        "--against tuned_layers --cost params",
        "text_cuts",
        text=True,
        record="text_cuts_tuned",
        times=3 * 4,  # seeds; eight cuts for two
    ),
    study(
        "undivided_scratch",
        "--against tuned/12",
        "undivided_scratch",
        text=True,
        record="undivided_scratch_tuned",
        times=3 * 7,  # seeds; passes for one
    ),
    study(
        "depth",
        "",
        *(f"depth_{task}" for task in (*TASK_NAMES, "qqp", "qnli", "rte", "wnli", "subj")),
        record="depth_runs",
    ),
    study("rates", "--against teacher/usual"),
    study("schubert_gamma", "--against cut/ours-3", "schubert_gamma"),
    study("family_of_cut", "--against family --shares 0.5,0.375,0.25,0.125"),
    study("squad", "--against layers", "cuts_squad", "undivided_squad"),
    Job(
        "ffn_ranking",
        (RANKING, f"python benchmarks/measure_ffn_ranking.py {{runs}}/ffn {RECORDS}"),
        ("ffn_ranking",),
        ("ffn_ranking",),
    ),
    fitted("fit", "sst2,cola,mrpc", "0.5,0.3333", 480, rivals=ROOM_FOR_WHOLE_LAYERS),
    fitted("fit_more", FRESH, "0.36", 600),
    fitted("fit_limits", FRESH, "0.5,0.125", 600, rivals="0.5"),
    fitted(
        "fit_base_more",
        FRESH,
        "0.5,0.25",
        1800,
        model="--model {base} --student {model}",
        more="--passes 2 --rate 5e-5 ",
    ),
    base_size(),
    measured(
        "measure_fit_int8", "--fit {records}/fit.json --work {runs}/fit --data-dir {data} --threads 1", needs="fit"
    ),
    measured("measure_embedding", f"{INPUTS} --threads 1 --work {{runs}}/embedding"),
    measured(
        "measure_embedding_student",
        "--model {base} --student {model} --data-dir {data} --time 1200 --threads 1 --work {runs}/embedding-student",
    ),
    measured("measure_per_token", f"{INPUTS} --seeds 0,1,2 --threads 1 --work {{runs}}/per-token"),
    measured(
        "measure_pilots",
        f"{INPUTS} --threads 1 --teachers {{runs}}/fit --work {{runs}}/pilots",
        needs="fit",
        is_least=True,
    ),
    *(
        measured(
            "measure_pilots",
            f"--name {name} --model {{base}} --data-dir {{data}} --tasks cola --seeds 0 --depth 6 {words} --threads 1 "
            "--teachers {runs}/base-teachers --work {runs}/base-pilots",
            name=name,
            is_least=True,
        )
        for name, words in (
            ("pilots_base", "--variants 'as fit does it,rate 6e-4,rate 2e-4,rate 1e-4,rate 5e-5'"),
            ("pilots_base_long", "--steps-share 3 --variants 'as fit does it,rate 1e-4'"),
        )
    ),
    *map(int8, TASK_NAMES),
    *map(searches, TASK_NAMES),
    *map(repairs, TASK_NAMES),
    measured("measure_step_time", INPUTS),
    measured("measure_finetune_step", f"{INPUTS} --threads 1"),
    measured("measure_training_memory", INPUTS),
    measured("measure_mlm_speed", "--threads 1"),
    measured("measure_analysis_memory", f"{INPUTS} --threads 1"),
    measured("measure_cut_sizes", f"{INPUTS} --max-train-samples 2000 --threads 1"),
    measured("measure_latency_prediction", FAMILY, needs="family"),
    measured("measure_runtime_rate", FAMILY, needs="family"),
    serving(),
    measured("measure_operators", "--model {model} --threads 1"),
    measured("measure_onnx_parity", FAMILY, needs="family"),
    measured("measure_rivals", "--model {model} --threads 1"),
    measured("measure_rivals", f"--name {TWO_THREADS} --model {{model}} --threads 2", name=TWO_THREADS),
    measured("measure_session_options", "--model {model} --threads 1"),
    measured("measure_families", "--threads 1"),
    measured("measure_timing_noise", f"{INPUTS} --threads 1"),
    measured("measure_predict_memory", f"{INPUTS} --threads 1"),
    *(kills(what, record) for what, record in (("run", "kill_resume"), ("fit", "fit_kills"), ("sweep", "sweep_kills"))),
    Job(
        "kills",
        (f"python benchmarks/measure_kills.py verbs --kills 204 --threads 1 {RECORDS}",),
        ("kills",),
        ("kills",),
    ),
)


def with_needs(names: Collection[str]) -> list[Job]:
    """Return the jobs of some names with all that they need, in the order they are run in.

    Raises:
        KeyError: no job has a name.
    """
    by_name = {job.name: job for job in JOBS}
    wanted, asked = set[str](), list(names)
    while asked:
        if (name := asked.pop()) not in by_name:
            raise KeyError(f"no job is called {name}")
        if name not in wanted:
            wanted.add(name)
            asked += by_name[name].needs
    return [job for job in JOBS if job.name in wanted]


def command(name: str) -> str:
    """Return how one job is made, as it stands on the page: with what it needs, and the hours of all, where known."""
    jobs = with_needs([name])
    needed = [f"`{job.name}`" for job in jobs if job.name != name]
    known = [job for job in jobs if job.hours is not None]
    hours = [f"{least(jobs)}{time_text(sum(job.hours or 0 for job in jobs))}"] if known == jobs else []
    remarks = ", ".join(hours + ([f"with {listed(needed)}, which it reads"] if needed else []))
    return f"`python benchmarks/everything.py --only {name}`" + (f" ({remarks})" if remarks else "")


def least(jobs: Collection[Job]) -> str:
    """Return what stands before the hours of jobs: they may be the least."""
    return "at least " if any(job.is_least for job in jobs) else ""


def time_text(hours: float) -> str:
    return f"{hours:.1f} hours" if hours >= 1 else f"{max(1, round(60 * hours))} minutes"


def seconds(name: str) -> float:
    """Return what a record's own timings add up to; where it holds none, from its start to its end.

    A record of several methods at once holds the seconds of each run, beside every network of it.
    """
    record = read_record(name)
    if name == "base_size":
        rows = [row for task in record["tasks"] for row in task["networks"]]
        return float(sum({(row["method"], row["run_seconds"]): row["run_seconds"] for row in rows}.values()))
    totals = sum(totals_in(record))
    if totals:
        return totals
    if record.get("finished"):
        start, end = (datetime.fromisoformat(record[key]) for key in ("started", "finished"))
        return (end - start).total_seconds()
    return float(record["seconds"])


def totals_in(value: Any) -> Iterator[float]:
    """Yield every total of a run that a record holds."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            if key in ("total", "total_seconds") and isinstance(each, int | float):
                yield each
            elif key not in ("peak_bytes", "importance"):
                yield from totals_in(each)
    elif isinstance(value, list):
        for each in value:
            yield from totals_in(each)


def filled(line: str, args: argparse.Namespace) -> list[str]:
    """Return the words of a command with folders filled in; of a small one with what makes it so."""
    places = {"data": args.data_dir, "runs": args.runs, "records": args.records}
    words = shlex.split(line.format(model=args.model, base=args.model if args.smoke else args.base, **places))
    if not args.smoke:
        return words
    for kind in kinds_of(words):
        small = shlex.split(SMALL.get(kind, ""))
        words = [*(words if kind != "analyze" else without(words, small[::2])), *small]
    return words


def without(words: Sequence[str], options: Sequence[str]) -> list[str]:
    """Return the words of a command of ours without some options and their values, which it takes once.

    >>> without(["analyze", "a", "--rows", "9", "--out", "b"], ["--rows"])
    ['analyze', 'a', '--out', 'b']
    """
    dropped = {i + k for i, word in enumerate(words) if word in options for k in (0, 1)}
    return [word for i, word in enumerate(words) if i not in dropped]


def kinds_of(words: Sequence[str]) -> list[str]:
    """Return what a command is, and what of a sweep's plan can be made small."""
    kind = kind_of(words)
    if kind != "sweep":
        return [kind]
    plan = (PLANS / Path(words[2]).name).read_text(encoding="utf-8")
    found = {
        "gate_steps": '"schubert"' in plan,
        "augment_rounds": "augment_rounds" in plan,
        "time": "\ntime = " in plan,
    }
    return [kind, *(name for name, is_there in found.items() if is_there)]


def kind_of(words: Sequence[str]) -> str:
    """Return a command's verb, or its script without folder and ending."""
    return words[1] if words[0] == "cutbert" else Path(words[1]).stem


def exit_code(words: Sequence[str], args: argparse.Namespace) -> int:
    """Print a command, run it unless it is only listed, and return its exit code."""
    print(shlex.join(words), flush=True)
    if args.list:
        return 0
    Path(args.records).mkdir(parents=True, exist_ok=True)
    return run(words)


def run(words: Sequence[str]) -> int:
    """Run a command of a job and return its exit code."""
    program = [sys.executable, "-m", "cutbert"] if words[0] == "cutbert" else [sys.executable]
    return subprocess.run([*program, *words[1:]]).returncode


def pages(args: argparse.Namespace) -> list[str]:
    """Return the command that writes the pages; of a small run not those of the repository."""
    words = ["python", "benchmarks/figures.py", "--records", args.records]
    return [*words, "--out", f"{args.runs}/pages"] if args.smoke else words


def cost_of(jobs: Sequence[Job]) -> str:
    """Return what jobs take together, by the records there are, and of which there is none."""
    known = [job.hours for job in jobs if job.hours is not None]
    unknown = [job.name for job in jobs if job.hours is None]
    return f"{least(jobs)}{sum(known):.1f} hours" + (
        f", and what is not known of {', '.join(unknown)}" if unknown else ""
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="sentence-transformers/all-MiniLM-L6-v2", help="what is cut")
    parser.add_argument(
        "--base", default="sentence-transformers/all-mpnet-base-v2", help="what is cut at the papers' size"
    )
    parser.add_argument("--data-dir", default="glue", help="folder of the GLUE tasks and of wikitext-2")
    parser.add_argument("--runs", help="folder of what is computed; default runs, or runs/smoke")
    parser.add_argument("--records", help="folder of the new records; default: records in the former")
    parser.add_argument(
        "--only", action="append", choices=[job.name for job in JOBS], help="a job, with those it reads; repeat"
    )
    parser.add_argument("--list", action="store_true", help="print the commands and run nothing")
    parser.add_argument("--smoke", action="store_true", help="a few rows and steps, to see that everything runs")
    args = parser.parse_args(argv)
    args.runs = args.runs or ("runs/smoke" if args.smoke else "runs")
    args.records = args.records or f"{args.runs}/records"
    asked = with_needs(args.only or [job.name for job in JOBS])
    left = [job for job in asked if not job.is_answered(Path(args.records))]
    for job in asked:
        hours = "hours not known" if job.hours is None else f"{least([job])}{job.hours:.1f} hours"
        print(f"# {job.name}: {hours if job in left else 'answered by ' + ', '.join(job.records)}")
    print(f"# together {cost_of(left)}", flush=True)
    lines = [filled(line, args) for job in left for line in job.commands]
    failed = [words for words in lines if exit_code(words, args)]
    if not failed and exit_code(pages(args), args):
        failed = [pages(args)]
    print("".join(f"failed: {shlex.join(words)}\n" for words in failed), end="", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
