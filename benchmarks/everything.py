"""Makes the records again, in a folder of their own, one command after the other, and goes on where it was stopped."""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from results import has_record, read_record

TEXT = 'grid.text=[{{name="wikitext-2", train="{data}/wikitext-2/train.txt", dev="{data}/wikitext-2/valid.txt"}}]'
RUN = "runs/{plan}/runs/{step}-data={task}-seed={seed}{more}"  # of a sweep
TASK_NAMES = ("sst2", "cola", "mrpc")
INPUTS, RECORDS = "--model {model} --data-dir {data}", "--records {records}"


@dataclass(frozen=True)
class Job:
    """What makes a record, or several.

    Args:
        name: of the job; of a study its plan's.
        commands: to run; {model}, {data} and {records} are filled in.
        former: the records there are, whose own timings say how long it took.
    """

    name: str
    commands: tuple[str, ...]
    former: tuple[str, ...] = ()

    @property
    def hours(self) -> float | None:
        """What the records there are took, by their own timings; None where there is none."""
        there = [name for name in self.former if has_record(name)]
        return sum(map(seconds, there)) / 3600 if there else None


def study(name: str, compared: str, *former: str, text: bool = False) -> Job:
    """Return the job of a plan: the sweep, and the record of what it compares."""
    plan = f"cutbert sweep benchmarks/plans/{name}.toml --out runs/{name}"
    sweep = f"{plan} --set model={{model}} --set data_dir={{data}}" + (f" --set '{TEXT}'" if text else "")
    return Job(name, (sweep, f"python benchmarks/study.py runs/{name} {compared} {RECORDS}"), former)


def of_tasks(names: str) -> tuple[str, ...]:
    return tuple(f"{names}_{task}" for task in TASK_NAMES)


def measured(script: str, options: str, *former: str) -> Job:
    """Return the job of a script; its record is called like it, or given."""
    name = script.removeprefix("measure_")
    return Job(name, (f"python benchmarks/{script}.py {options} {RECORDS}",), former or (name,))


def run_of_plan(plan: str, step: str, task: str, more: str = "", seed: int = 0) -> str:
    return RUN.format(plan=plan, step=step, task=task, more=more, seed=seed)


def int8(task: str) -> Job:
    """Return the table of backends of one task, from the runs of the family's plan."""
    run, teacher = (run_of_plan("family", step, task) for step in ("family", "teacher"))
    layers = run_of_plan("family", "layers", task, "-layers.depths=3")
    words = f"--run {run} --teacher {teacher} --layers {layers} --task {task} --data-dir {{data}} --threads 1"
    return Job(f"int8_{task}", (f"python benchmarks/measure_int8.py {words} {RECORDS}",), (f"int8_{task}",))


def searches(task: str) -> Job:
    words = f"--run {run_of_plan('family', 'family', task)} --name {task} --trials 200 --sample 400 --threads 1"
    return Job(f"search_{task}", (f"python benchmarks/measure_search.py {words} {RECORDS}",), (f"search_{task}",))


def kills(what: str, record: str) -> Job:
    words = f"{what} {INPUTS} --max-train-samples 600 --max-eval-samples 200"
    return Job(record, (f"python benchmarks/measure_kills.py {words} {RECORDS}",), (record,))


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
    return Job("serving", (*commands, f"{trimmed} {RECORDS}"), ("runtime", "serving", "trim_vocab"))


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
            f"--out runs/analysis/{task}-{name}"
            for name, other in others.items()
        ]
    return Job("representations", tuple(commands), ("analysis_sst2", "analysis_cola"))


FAMILY = f"--run {run_of_plan('family', 'family', 'sst2')} --threads 1"
SPLIT = "python benchmarks/sentence_split.py {data} runs/held-out"
PILOTS = "cutbert sweep benchmarks/plans/recipe_pilots.toml --out runs/recipe_pilots --set model={model}"
RANKING = "cutbert sweep benchmarks/plans/ffn_ranking.toml --out runs/ffn --set model={model} --set data_dir={data}"
JOBS = (
    study("family", "--against layers --against first", *of_tasks("family")),
    study("recipes", "--against family/paper --against family/default", text=True),
    Job(
        "recipe_pilots",
        (
            SPLIT,
            f"{PILOTS} --set data_dir=runs/held-out",
            f"python benchmarks/study.py runs/recipe_pilots --against family/rate-3e-4-hidden-30 {RECORDS}",
        ),
    ),
    study("cuts", "--against layers --against family --cost latency_share", *of_tasks("cuts")),
    study("dims", "--against layers --cost params"),
    study("undivided", "--against kept --against layers --against thin", *of_tasks("undivided")),
    representations(),
    study("text_cuts", "--against tuned_layers --cost params", "text_cuts", text=True),
    study("undivided_scratch", "--against tuned/12", "undivided_scratch", text=True),
    study("depth", "", *(f"depth_{task}" for task in (*TASK_NAMES, "qqp", "qnli", "rte", "wnli", "subj"))),
    study("rates", "--against teacher/usual"),
    study("schubert_gamma", "--against cut/ours-3", "schubert_gamma"),
    study("family_of_cut", "--against family --shares 0.5,0.375,0.25,0.125"),
    study("squad", "--against layers", "cuts_squad", "undivided_squad"),
    Job("ffn_ranking", (RANKING, f"python benchmarks/measure_ffn_ranking.py runs/ffn {RECORDS}"), ("ffn_ranking",)),
    measured("measure_fit", f"{INPUTS} --seeds 0,1,2 --shares 0.3333 --time 600 --threads 1"),
    measured("measure_pilots", f"{INPUTS} --threads 1"),
    *map(int8, TASK_NAMES),
    *map(searches, TASK_NAMES),
    measured("measure_step_time", INPUTS),
    measured("measure_finetune_step", f"{INPUTS} --threads 1"),
    measured("measure_training_memory", INPUTS),
    measured("measure_mlm_speed", "--threads 1"),
    measured("measure_analysis_memory", f"{INPUTS} --threads 1"),
    measured("measure_cut_sizes", f"{INPUTS} --max-train-samples 2000 --threads 1"),
    measured("measure_latency_prediction", FAMILY),
    measured("measure_runtime_rate", FAMILY),
    serving(),
    measured("measure_operators", "--model {model} --threads 1"),
    measured("measure_onnx_parity", FAMILY),
    measured("measure_rivals", "--model {model} --threads 1"),
    measured("measure_session_options", "--model {model} --threads 1"),
    measured("measure_families", "--threads 1"),
    *(kills(what, record) for what, record in (("run", "kill_resume"), ("fit", "fit_kills"), ("sweep", "sweep_kills"))),
)


def command(name: str) -> str:
    """Return how one job is made, as it stands on the page."""
    if name not in {job.name for job in JOBS}:
        raise KeyError(f"no job is called {name}")
    return f"`python benchmarks/everything.py --only {name}`"


def seconds(name: str) -> float:
    """Return what a record's own timings add up to; where it holds none, from its start to its end."""
    record = read_record(name)
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
            elif key != "peak_bytes":
                yield from totals_in(each)
    elif isinstance(value, list):
        for each in value:
            yield from totals_in(each)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="sentence-transformers/all-MiniLM-L6-v2", help="what is cut")
    parser.add_argument("--data-dir", default="glue", help="folder of the GLUE tasks and of wikitext-2")
    parser.add_argument("--records", default="runs/records", help="folder of the new records")
    parser.add_argument("--only", action="append", choices=[job.name for job in JOBS], help="a job; repeat")
    parser.add_argument("--list", action="store_true", help="print the commands and run nothing")
    args = parser.parse_args(argv)
    for job in JOBS:
        if args.only and job.name not in args.only:
            continue
        for line in job.commands:
            words = shlex.split(line.format(model=args.model, data=args.data_dir, records=args.records))
            print(shlex.join(words), flush=True)
            if not args.list:
                Path(args.records).mkdir(parents=True, exist_ok=True)
                program = [sys.executable, "-m", "cutbert"] if words[0] == "cutbert" else [sys.executable]
                subprocess.run([*program, *words[1:]], check=True)


if __name__ == "__main__":
    main()
