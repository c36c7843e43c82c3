"""What README and the methods' pages show out of the records: the table of `fit`, its ablation, a table each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from everything import AVX2, TWO_THREADS, command
from results import (
    HALF,
    HEADS,
    TASKS,
    THIRD,
    WEAK_TASKS,
    Gap,
    cut,
    cut_gap,
    family_title,
    fit_gap,
    fit_mean,
    fit_summary,
    has_record,
    has_run,
    kept,
    kept_gap,
    limit_text,
    minutes_of,
    points,
    read_record,
    score,
    several,
    since_line,
    table,
)

TITLES = dict(zip(TASKS, HEADS, strict=True))
BASE = "base"
STUDENT_METRICS = ("spearman", "ndcg@10", "mrr@10")
LOST_POINTS = "Spearman less the uncut int8 file's, points"
EMBEDDING_GOALS: tuple[tuple[float, str, float, int, Callable[..., float]], ...] = (  # by share of the int8 latency
    (1 / 2, LOST_POINTS, -1.0, 1, lambda cut, uncut: 100 * (cut["spearman"] - uncut["spearman"])),
    (1 / 2, "NDCG@10 less its, %", -2.0, 1, lambda cut, uncut: 100 * (cut["ndcg@10"] / uncut["ndcg@10"] - 1)),
    (1 / 2, "cosine to the uncut", 0.95, 3, lambda cut, uncut: cut["cosine"]),
    (1 / 3, LOST_POINTS, -2.5, 1, lambda cut, uncut: 100 * (cut["spearman"] - uncut["spearman"])),
)


def fit_table() -> str:
    """Return what fit takes beside plain layers, for the same time, at limits of the int8 latency."""
    record = read_record("fit")
    rows = []
    for limit, share in enumerate(record["shares"]):
        tasks = [row for row in fit_summary("fit") if row["limit"] == limit]
        for row in tasks:
            cells = [mean_cell(row[name]) for name in ("uncut", "fit", "layers")]
            gaps = [gap_cell(fit_gap(row, rival)) for rival in ("uncut", "layers")]
            rows.append([TITLES[row["task"]], limit_text(share), *cells, *gaps])
        means = [f"{100 * fmean(row[name]['mean'] for row in tasks):.1f}" for name in ("uncut", "fit", "layers")]
        gaps = [gap_cell(fit_mean(limit, rival)) for rival in ("uncut", "layers")]
        rows.append(["mean", limit_text(share), *means, *gaps])
    head = ["task", "limit, share of the int8 latency", "teacher in int8", "`fit`", "plain layers"]
    return table([*head, "`fit` - teacher", "`fit` - plain layers"], rows)


def mean_cell(found: Mapping[str, Any]) -> str:
    """Return a mean in points, with its deviation over seeds and its share of the latency, where it has them."""
    spread = "" if found["spread"] is None else f" ± {100 * found['spread']:.1f}"
    return f"{100 * found['mean']:.1f}{spread}" + (f" at {found['share']:.2f}" if "share" in found else "")


def gap_cell(gap: Gap) -> str:
    """Return a difference with its interval over rows, then each seed's."""
    return f"{points(gap.mean)} [{points(gap.low)}, {points(gap.high)}] ({', '.join(map(points, gap.by_seed))})"


def ablation_table() -> str:
    """Return what each part of a small network's distillation does alone: its KL to the teacher over the base's."""
    values: dict[tuple[str, str, int], Mapping[str, Any]] = {
        (cell["variant"], cell["task"], cell["seed"]): cell
        for cell in read_record("distillation")["cells"]
        if cell["num_layers"] == 3
    }
    variants = dict.fromkeys(name for name, _, _ in values)
    shares = {name: {task: ratios(values, name, task) for task in TASKS} for name in variants}
    complete = [name for name in variants if all(shares[name].values())]
    partial = [name for name in variants if name not in complete]
    rows = []
    for names in (complete, partial):
        means = {name: fmean(fmean(each) for each in shares[name].values() if each) for name in names}
        rows += [
            [
                name,
                *(ratio_cell(each) for each in shares[name].values()),
                f"{means[name]:.2f}" if name in complete else "—",
            ]
            for name in sorted(names, key=means.__getitem__)
        ]
    return table(["changed alone", *TASKS.values(), "mean"], rows)


def ratios(values: Mapping[tuple[str, str, int], Mapping[str, Any]], name: str, task: str) -> list[float]:
    """Return the variant's KL over the base's, of each seed that has both."""
    return [
        cell["select_kl"] / values[BASE, task, seed]["select_kl"]
        for (variant, of_task, seed), cell in values.items()
        if variant == name and of_task == task and (BASE, task, seed) in values
    ]


def ratio_cell(found: list[float]) -> str:
    if not found:
        return "—"
    return f"{fmean(found):.2f}" + (f" ± {stdev(found):.2f}" if len(found) > 1 else "")


def ablation_line() -> str:
    """Return how many seeds, steps and rows the ablation has, as a sentence for the page."""
    record = read_record("distillation")
    seeds, steps = len({cell["seed"] for cell in record["cells"]}), record["variants"][BASE]["steps"]
    return f"{seeds} seed{'s' * (seeds > 1)}, 3 layers of 6, {steps} steps of 32 rows unless its name says otherwise.\n"


def cuts_table() -> str:
    """Return schubert's cuts beside layers of as many encoder parameters, for its page."""
    rows = []
    for task in TASKS:
        for budget in (HALF, THIRD):
            ours, layers = cut(task, "fakv", budget), cut(task, "layers", budget)
            cells = [f"{score(each['scores'])} ({fmean(each['latency_shares']):.2f})" for each in (ours, layers)]
            title = weak(task) if budget == HALF else ""
            rows.append([title, budget.partition("=")[2], *cells, cut_gap(task, "fakv", budget).text])
    return table(["task", "encoder parameters", "cut (latency)", "layers (latency)", "cut minus layers"], rows)


def weak(task: str) -> str:
    """Return a task's title, MRPC's with the mark of its weak teachers."""
    return TITLES[task].replace(TASKS[task], WEAK_TASKS[task])


def weak_line() -> str:
    """Return the note on MRPC's teachers."""
    ours = [s for name in ("cuts_mrpc", "undivided_mrpc") for s in read_record(name)["teacher"]["scores"]]
    better = [cell["teacher"]["score"] for cell in read_record("fit")["cells"] if cell["task"] == "mrpc"]
    well_trained = f", where the same weights at a rate of 1e-4 and four passes have {score(better)} (`fit.json`)"
    return (
        f"† MRPC's teachers are under-trained in these records: {100 * min(ours):.1f} to {100 * max(ours):.1f}"
        f"{well_trained if better else ''}. Hardly losing to them is cheap.\n"
    )


def kept_table() -> str:
    """Return undivided's networks beside their teachers and four layers, for its page."""
    rows = []
    for task in TASKS:
        ours, even, layers = (kept(task, name) for name in ("importance-3", "even-3", "layers-3"))
        cells = [f"{score(each['scores'])} ({fmean(each['latency_shares']):.2f})" for each in (ours, layers)]
        teacher = score(read_record(f"undivided_{task}")["teacher"]["scores"])
        gap = kept_gap(task, "importance-3", "teacher").text
        rows.append([weak(task), teacher, cells[0], score(even["scores"]), cells[1], gap])
    head = ["task", "teacher", "importance (latency)", "even", "four layers (latency)", "importance minus teacher"]
    return table(head, rows)


def none_kept_line() -> str:
    """Return what is lost where no feed-forward stays, and on questions where three do."""
    gaps = [kept_gap(task, "importance-0", "teacher") for task in TASKS]
    questions = read_record("undivided_squad")["runs"][0]["minus_teacher"]
    squad = Gap.read("squad", questions, [questions["difference"]])
    lost = ", ".join(f"{WEAK_TASKS[gap.task]} {gap.text}" for gap in gaps)
    return f"With all feed-forwards gone, less the teacher: {lost}. On SQuAD (F1) three kept have {squad.text}.\n"


def questions_line() -> str:
    """Return the cut for questions beside three layers."""
    ours, layers = (
        next(run for run in read_record("cuts_squad")["runs"] if run["variant"] == name and run["budget"] == HALF)
        for name in ("fakv", "layers")
    )
    cells = [f"{100 * each['score']:.1f} at {fmean(each['latency_shares']):.2f}" for each in (ours, layers)]
    return (
        f"On SQuAD (4,000 rows, one seed) half of the encoder has an F1 of {cells[0]} of the latency, three layers "
        f"{cells[1]}.\n"
    )


def dims_line() -> str:
    """Return the cuts by one dimension, with their total parameters, which differ."""
    parts = [
        f"{name} {score(run['scores'])} ({fmean(run['params']) / 1e6:.1f} million)"
        for name, variant in (("hidden units alone", "h"), ("one share for all", "uniform"), ("all", "all"))
        if has_run(read_record("cuts_cola"), variant=variant, budget=HALF)
        for run in (cut("cola", variant, HALF),)
    ]
    return (
        f"On CoLA, half of the encoder: {', '.join(parts)}. Their total parameters differ, so nothing follows about "
        "which dimension to cut first.\n"
    )


def family_table() -> str:
    """Return two members of the families of CoLA and MRPC, for dynabert's page."""
    rows = []
    for task in ("cola", "mrpc"):
        record = read_record(f"family_{task}")
        networks = {each["name"]: each for each in record["networks"]}
        whole_ms = networks["teacher"]["latency_ms"]
        cells = [
            f"{score(networks[name]['scores'])} ({networks[name]['latency_ms'] / whole_ms:.2f})"
            for name in ("w0.5-d1.0", "w0.25-d0.5")
        ]
        rows.append([weak(task), score(networks["teacher"]["scores"]), *cells])
    return table(["task", "teacher", "`w0.5-d1.0` (latency)", "`w0.25-d0.5` (latency)"], rows)


def depth_table() -> str:
    """Return the depths that were chosen beside the full model, where they are fewer, for depth's page."""
    rows = []
    for name, found in read_record("depth")["tasks"].items():
        if "chosen" in found:
            chosen = found["chosen"]
            gap = Gap.read(name, chosen["difference"])
            saved = [f"{100 * chosen[key]:.0f} %" for key in ("time_saved", "memory_saved")]
            title = TASKS.get(name, name.upper())
            rows.append([title, str(found["chosen_depth"]), gap.text, chosen["verdict"], *saved])
    return table(["task", "layers", "chosen minus full, points", "verdict", "time saved", "memory saved"], rows)


INT8_ROWS = {
    ("teacher", "torch"): "teacher",
    ("teacher", "onnx-int8"): "teacher",
    ("fewer layers", "onnx-int8"): "three layers, distilled",
    ("schubert", "onnx-int8"): "half of the encoder, of `schubert`",
    ("undivided", "onnx-int8"): "three of six feed-forwards, of `undivided`",
    ("1/2 of the multiply-adds", "onnx-int8"): "best within half of the multiply-adds, of {run}",
    ("1/8 of the multiply-adds", "onnx-int8"): "best within an eighth, of {run}",
}


def backends_table() -> str:
    """Return scores, latencies and sizes of some networks by backend, for export's page."""
    rows = []
    for task in TASKS:
        record = read_record(f"int8_{task}")
        networks = {(each["name"], each["backend"]): each for each in record["networks"]}
        for i, key in enumerate(each for each in INT8_ROWS if each in networks):
            found, title = networks[key], INT8_ROWS[key].format(run=family_title(task))
            cells = [f"{100 * found['score']:.1f}", f"{found['latency_ms']:.1f}", f"{found['file_bytes'] / 1e6:.1f}"]
            rows.append(["" if i else weak(task), title, key[1], *cells])
    records = [f"int8_{task}" for task in TASKS]
    shown = table(["task", "network", "backend", "dev", "p50 (ms)", "MB"], rows, text_columns=3)
    return f"{shown}{since_line(*records)}\n{weak_line()}"


def noise_line() -> str:
    """Return what a busy loop takes, whether it is noticed, and what `pick` takes beside it, for export's page."""
    timings = read_record("timing_noise")["timings"]
    quiet = [each for each in timings if each["load"] == "quiet"]
    loaded = [each for each in timings if each["load"] != "quiet"]
    waited = [100 * each["quality"]["waited"] for each in loaded]
    found = sum(not each["quality"]["is_quiet"] for each in loaded)
    calm = sum(each["quality"]["is_quiet"] for each in quiet)
    parts = []
    for backend in dict.fromkeys(each["backend"] for each in timings):
        first, other = ([each for each in side if each["backend"] == backend] for side in (quiet, loaded))
        usual = fmean(each["latencies"]["uncut_ms"] for each in first)
        ratios = [each["latencies"]["uncut_ms"] / usual for each in other]
        parts.append(f"`{backend}` {several(ratios, 1)} times its time in quiet, {picks(other)} for {picks(first)}")
    return (
        f"A busy loop on the same core took {several(waited, 0)} % of the time, and {found} of {len(loaded)} "
        f"measurements beside one were flagged; {calm} of {len(quiet)} in quiet were not (torch's float32 times alone "
        "differ by more than the bounds now and then). What the uncut MiniLM took beside the loop, and how many of its "
        f"layers `pick` took within half of the time in quiet: {'; '.join(parts)} (`timing_noise.json`).\n"
    )


def picks(timings: Sequence[Mapping[str, Any]]) -> str:
    """Return how many layers were picked, over measurements: "none or 1"."""
    counts = {each["picked"].removeprefix("layers ") if each["picked"] else "" for each in timings}
    return " or ".join(count or "none" for count in sorted(counts))


def stock_export_table() -> str:
    """Return ModernBERT's times beside the stock export's, for export's page."""
    rows = [
        [
            f"{each['length']}",
            {"stock float32": "the stock export, float32"}.get(each["name"], f"ours, {each['name']}"),
            f"{each['time']['median_ms']:.1f}",
            f"{each['speed']['median_ratio']:.2f}",
        ]
        for each in read_record("families")["short"]
    ]
    return table(["tokens", "file", "median (ms)", "times as fast"], rows, text_columns=2)


def window_table() -> str:
    """Return time and memory of one layer on long texts, with a window and without, for export's page."""
    measured = {(each["way"], each["length"], each["kind"]): each for each in read_record("families")["long"]}
    titles = {"torch": "torch", "training": "torch, forward and backward", "onnx": "ONNX Runtime"}
    rows = []
    for way, length in dict.fromkeys(key[:2] for key in measured):
        local, whole = (measured[way, length, kind] for kind in ("local", "global"))
        times = [f"{each['time_ms']:,.0f}" for each in (local, whole)]
        rows.append(
            [titles[way], f"{length:,}", *times, *(f"{each['memory_bytes'] / 2**20:,.0f}" for each in (local, whole))]
        )
    heads = ["with", "tokens", "window (ms)", "global (ms)", "window (MiB)", "global (MiB)"]
    return table(heads, rows, text_columns=1)


def search_table() -> str:
    """Return what searched networks gain over the grid's at equal cost, over search seeds, for search's page."""
    rows = []
    shares = ("0.5", "0.3333", "0.25")
    for task in TASKS:
        means = read_record(f"search_{task}")["mean_difference_points"]
        rows.append(
            [weak(task), *(f"{means[cost][share]:+.1f}" for cost in ("macs", "latency_ms") for share in shares)]
        )
    names = [f"{start} {share}" for start in ("MACs,", "int8 latency,") for share in ("1/2", "1/3", "1/4")]
    records = [f"search_{task}" for task in TASKS]
    minutes = [
        spent / 60 for name in records for each in read_record(name)["searches"] for spent in each["timings_s"].values()
    ]
    spent = f"\nA search took {several(minutes, 0)} minutes on one core.\n"
    return f"{table(['task, metric', *names], rows)}{spent}{since_line(*records)}\n{weak_line()}"


OPERATORS = {
    "SkipLayerNormalization": "`SkipLayerNormalization` for `Sum` and `LayerNormalization`",
    "BiasGelu": "`BiasGelu`: the bias before GELU, not in the product",
    "FastGelu": "`FastGelu`, an approximation",
    "three products": "queries, keys and values as three products",
    "attention written out": "attention of products and `Softmax`",
    "QAttention": "`QAttention` for the product and `MultiHeadAttention`",
    "one scale per weight": "one scale for each weight, not for each output channel",
}


def operators_table(name: str = "operators") -> str:
    """Return how fast other operators are in int8, for export's page."""
    timings = [each for each in read_record(name)["timings"] if each["dtype"] == "int8"]
    sizes = list(dict.fromkeys((each["batch_size"], each["length"]) for each in timings))
    speeds = {(each["variant"], each["batch_size"], each["length"]): each["speed"] for each in timings}
    rows = [[title, *(spread_cell(speeds[name, *size]) for size in sizes)] for name, title in OPERATORS.items()]
    return table(["in place of ours", *(f"{batch_size} x {length}" for batch_size, length in sizes)], rows)


def spread_cell(ratio: Mapping[str, float]) -> str:
    """Return a median with its quartiles."""
    return f"{ratio['median_ratio']:.2f} [{ratio['q1_ratio']:.2f}, {ratio['q3_ratio']:.2f}]"


def rivals_table(name: str = "rivals") -> str:
    """Return times and rates of the exported files and their rivals, for export's page; single texts first."""
    timings = read_record(name)["timings"]
    sizes = list(dict.fromkeys((each["batch_size"], each["length"]) for each in timings))
    found = {(each["name"], each["batch_size"], each["length"]): each for each in timings}
    names = dict.fromkeys(each["name"] for each in timings)
    rows = [[name, *(rival_cell(found[name, *size]) for size in sizes)] for name in names]
    heads = [
        f"{length} tokens, ms" if batch_size == 1 else f"{batch_size} x {length}, texts/s"
        for batch_size, length in sizes
    ]
    return table(["", *heads], rows)


def rival_cell(timing: Mapping[str, Any]) -> str:
    """Return a text's time, or a batch's rate, and how many times ours the time is."""
    spent, batch_size = timing["time"]["median_ms"], timing["batch_size"]
    shown = f"{spent:.2f}" if batch_size == 1 else f"{1000 * batch_size / spent:,.0f}"
    return f"{shown} ({timing['share_of_ours']['median_ratio']:.2f})"


def rivals_line(name: str = "rivals") -> str:
    """Return which rivals did not run, and by how much the quartiles of shares differ."""
    record = read_record(name)
    shares = [each["share_of_ours"] for each in record["timings"]]
    widths = sorted(each["q3_ratio"] / each["q1_ratio"] - 1 for each in shares)
    left = "; ".join(f"{name}: {reason}" for name, reason in record["left_out"].items())
    rounds, threads, processor = shares[0]["count"], record["threads_used"], record["machine"]["processor"]
    return (
        f"Processor: {processor} ({record['instructions']}), {threads} thread{'s'[: threads - 1]}, "
        f"{record['clock']}, {rounds} rounds. Quartiles of a share are {100 * widths[len(widths) // 2]:.0f} % apart in "
        f"the median, at most {100 * widths[-1]:.0f} %." + (f" Not run: {left}." if left else "") + "\n"
    )


def operators_of_avx2() -> str:
    """Return the same of a processor without AVX-512."""
    return operators_table(f"operators{AVX2}")


def rivals_of_avx2() -> str:
    """Return table and line of the rivals' run on a processor without AVX-512."""
    return rivals_of(f"rivals{AVX2}")


def rivals_of_two_threads() -> str:
    """Return table and line of the rivals' run on two threads, or how it is made."""
    if not has_record(TWO_THREADS):
        return f"Not measured yet: {command(TWO_THREADS)}.\n"
    return rivals_of(TWO_THREADS)


def rivals_of(name: str) -> str:
    """Return table and line of a run of the rivals."""
    return f"{rivals_table(name)}\n{rivals_line(name)}"


def options_table() -> str:
    """Return what ONNX Runtime's session options do to the int8 file, for export's page."""
    record = read_record("session_options")
    sizes = list(dict.fromkeys((each["batch_size"], each["length"]) for each in record["timings"]))
    found = {(each["options"], each["batch_size"], each["length"]): each for each in record["timings"]}
    rows = [
        [name, f"{load['median_ms']:.0f}", *(spread_cell(found[name, *size]["speed"]) for size in sizes)]
        for name, load in record["loads"].items()
    ]
    return table(["options", "load, ms", *(f"{batch_size} x {length}" for batch_size, length in sizes)], rows)


def batches_line() -> str:
    """Return what a token takes by the tokens of a batch, with the default options."""
    timings = [each for each in read_record("session_options")["timings"] if each["options"] == "default"]
    shown = ", ".join(
        f"{each['batch_size']} x {each['length']} "
        f"{1000 * each['time']['median_ms'] / (each['batch_size'] * each['length']):.0f}"
        for each in timings
    )
    return f"Microseconds a token with the default options: {shown}.\n"


def embedding_table() -> str:
    """Return the scores of an embedding model and of its cuts under each limit, for embedding's page."""
    record = read_record("embedding")
    (cell,) = record["cells"]
    first = cell["compared"][0]
    rows = [["uncut, float32", "", *embedding_cells(first["uncut onnx"])]]
    rows.append(["uncut, int8", "1", *embedding_cells(first["uncut onnx-int8"])])
    for share, row in zip(record["shares"], cell["compared"], strict=True):
        for name, title in (("fit", "`fit`"), ("layers", "plain layers")):
            own = row[name]
            label = f"{title}, limit {share:.2f}: {own['name']}, {own['steps']:,} steps"
            rows.append([label, f"{own['share']:.2f}", *embedding_cells(own)])
    heads = ["", "share of the int8 latency", "Spearman", "NDCG@10", "NDCG@10, uncut index", "cosine to the uncut"]
    return f"{table(heads, rows)}\nRuns of {minutes_of('embedding')}, one seed.\n"


def embedding_goals_table() -> str:
    """Return what cuts of an embedding model were to keep under each limit, what they kept, and what is missed."""
    record, rows = read_record("embedding"), []
    for share, title, wanted, digits, measure in EMBEDDING_GOALS:
        pairs = [cell["compared"][record["shares"].index(share)] for cell in record["cells"]]
        found = fmean(measure(each["fit"], each["uncut onnx-int8"]) for each in pairs)
        cells = [f"{value:.{digits}f}" for value in (wanted, found)]
        rows.append([f"{title}, limit {share:.2f}", *cells, "kept" if found >= wanted else "missed"])
    return table(["", "at least", "measured", ""], rows)


def embedding_cells(metrics: Mapping[str, float]) -> list[str]:
    """Return what vectors are scored by, in points; the cosine as it is."""
    scores = [f"{100 * metrics[name]:.1f}" for name in ("spearman", "ndcg@10", "ndcg@10_teacher_index")]
    return [*scores, f"{metrics['cosine']:.3f}"]


def student_table() -> str:
    """Return what a small embedding model scores untaught and taught by a large one, for embedding's page."""
    if not has_record("embedding_student"):
        return "Not measured yet.\n"
    record, rows = read_record("embedding_student"), []
    for cell in record["cells"]:
        for name in ("untaught", "taught"):
            own = cell[name]
            scores = [f"{100 * own[metric]:.1f}" for metric in STUDENT_METRICS]
            rows.append([f"{name}, seed {cell['seed']}", f"{own['latency_ms']:.2f}", *scores])
        gaps = [in_points(cell["differences"][metric]) for metric in STUDENT_METRICS]
        rows.append(["difference [95 %]", "", *gaps])
    return table(["", "int8, ms", "Spearman", "NDCG@10", "MRR@10"], rows)


def in_points(difference: Mapping[str, float]) -> str:
    mean, low, high = (100 * difference[name] for name in ("mean", "low", "high"))
    return f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]"


def runtime_table() -> str:
    """Return what the runtime's parts take for each text, one by one and together, for the page on it."""
    record = read_record("runtime")
    rows = []
    for each in record["models"]:
        ms = {name: f"{found['median_ms']:.2f}" for name, found in each["per_text"].items()}
        share = each["shares_of_together"]
        rest = 1 - sum(share.values())
        rows.append(
            [
                f"{name_of(each['model'])}, {each['tokens_per_text']:.1f} tokens a text",
                f"{ms['one by one']} ({each['p50_over_session']:.2f})",
                f"{ms['together']} ({each['one_by_one_over_together']:.2f})",
                f"{each['one_by_one_over_session_together']:.2f}",
                f"{share['session']:.2f}, {share['tokenizer']:.2f}, {rest:.2f}",
                ms["torch together"],
            ]
        )
    heads = ["", "one by one, ms (p50 over the bare session's)", "together, ms (times as fast)"]
    return table([*heads, "at most", "session, tokenizer, rest of together", "torch together, ms"], rows)


def serving_table() -> str:
    """Return latency and rate of the example's server, for the page on the runtime."""
    record = read_record("serving")
    rows = [
        [
            f"{each['name']}, {each['processes']} process{'es' if each['processes'] > 1 else ''}",
            str(each["clients"]),
            *(f"{each[name]:.0f}" for name in ("p50_ms", "p99_ms", "requests_per_s")),
            f"{each['server_processor_ms']:.2f}",
        ]
        for each in record["servers"]
    ]
    heads = ["server", "clients", "p50, ms", "p99, ms", "requests a second", "processor time of one, ms"]
    cores = record["machine"]["cores"]
    return f"{table(heads, rows)}\nClients and server shared {cores} core{'s' if cores > 1 else ''}.\n"


def trim_table() -> str:
    """Return what trimming a vocabulary saves and changes, for export's page."""
    rows = []
    for each in read_record("trim_vocab")["models"]:
        whole, trimmed = each["whole"], each["trimmed"]
        rows.append(
            [
                name_of(each["model"]),
                f"{whole['tokens']:,} to {trimmed['tokens']:,}",
                f"{whole['file_bytes'] / 1e6:.1f} to {trimmed['file_bytes'] / 1e6:.1f}",
                *(f"{100 * whole[key]:.1f} to {100 * trimmed[key]:.1f}" for key in ("select_score", "score")),
                f"{each['in_torch']['split_differently']['dev']:,}",
            ]
        )
    return table(["model", "tokens", "int8 file, MB", "select", "dev", "rows of dev split differently"], rows)


def name_of(folder: str) -> str:
    """Return the last part of a record's model folder."""
    return folder.rstrip("/").rpartition("/")[2]
