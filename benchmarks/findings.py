"""What came out of the runs that bear on the claims, read from their records."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from claims import FASTER, Fact, Speed, Trend
from cutbert.shape.space import kept_layers
from everything import AVX2, TWO_THREADS
from results import (
    HALF,
    TASKS,
    THIRD,
    Gap,
    Record,
    cut,
    cut_gap,
    family_gap,
    fit_gap,
    fit_mean,
    fit_summary,
    has_record,
    limit_text,
    mean_cut_gap,
    points,
    read_record,
    several,
    task_title,
)

INSTRUCTIONS = {"avx512_vnni": "AVX-512 VNNI", "avx2": "AVX2"}
BASE_RECORDS = ("fit_base", "fit_base_quarter", "base_size")  # of all-mpnet-base-v2; the last of every method


def each_task(gap: Callable[..., Gap], *words: str) -> Callable[[], list[Gap]]:
    """Return a function that computes a difference on every task."""
    return lambda: [gap(task, *words) for task in TASKS]


def slants(records: Sequence[str]) -> Callable[[], list[Trend]]:
    """Return a function that reads the feed-forwards of the learned cuts of some records."""

    def read() -> list[Trend]:
        found = []
        for name in records:
            runs = [run for run in read_record(name)["runs"] if run["variant"] in ("fakv", "all")]
            shapes = [shape for run in runs for shape in run["shapes"]]
            found.append(Trend(TASKS[name.partition("_")[2]], neurons_of(shapes), len(read_record(name)["seeds"])))
        return found

    return read


def gamma_slants() -> list[Trend]:
    """Return the same for the L1 prices, by gamma, and for our price."""
    by_price: dict[str, list[dict[str, Any]]] = {}
    for run in read_record("schubert_gamma")["runs"]:
        if "shape" in run:
            by_price.setdefault(run["name"].rpartition("=")[2], []).append(run["shape"])
    seeds = len(read_record("schubert_gamma")["seeds"])
    l1 = [Trend(f"L1, gamma {name}", neurons_of(s), seeds) for name, s in by_price.items() if "ours" not in name]
    ours = [shape for name, shapes in by_price.items() if "ours" in name for shape in shapes]
    return [*l1, Trend("our price", neurons_of(ours), seeds)]


def text_slants() -> list[Trend]:
    """Return the same for the cuts made on plain text."""
    record = read_record("text_cuts")
    shapes = [each["shape"] for each in record["networks"] if each["name"] in ("fakv", "all")]
    return [Trend("on text", neurons_of(shapes), len(record["seeds"]))]


def neurons_of(shapes: Sequence[Mapping[str, Any]]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(layer["intermediate_size"] for layer in shape["layers"]) for shape in shapes)


def heads_kept() -> list[Fact]:
    """Return how many heads the learned cuts to half of the encoder keep, of all."""
    found = []
    for task, name in TASKS.items():
        heads = [
            sum(layer["num_heads"] for layer in shape["layers"])
            for variant in ("fakv", "all")
            for shape in cut(task, variant, HALF)["shapes"]
        ]
        found.append(Fact(f"{name}: {min(heads)} to {max(heads)} of 72", holds=min(heads) >= 70))
    return found


def text_cut() -> list[Fact]:
    """Return what cuts on plain text score after fine-tuning, beside three layers."""
    networks = {each["name"]: each for each in read_record("text_cuts")["networks"]}
    layers = networks["layers"]
    return [
        Fact(
            f"{title}: SST-2 {points(networks[name]['task_score'] - layers['task_score'])} from three layers, "
            f"perplexity {networks[name]['perplexity']:.1f} beside {layers['perplexity']:.1f}"
        )
        for name, title in (("fakv", "`f,a,k,v`"), ("all", "all"))
    ]


def from_scratch() -> list[Fact]:
    """Return what masked LMs with fewer feed-forwards lose to the whole one, on held-out text and on SST-2."""
    networks = {each["name"]: each for each in read_record("undivided_scratch")["networks"]}
    whole = networks["ffn12"]
    return [
        Fact(
            f"{title}: loss {each['loss'] - whole['loss']:+.3f}, SST-2 "
            f"{points(each['task_score'] - whole['task_score'])}, "
            f"{each['tokens_per_s'] / whole['tokens_per_s']:.2f} of the tokens a second"
        )
        for title, each in (
            ("6 of 12", networks["ffn6"]),
            ("3 of 12", networks["ffn3"]),
            ("6, equal parameters", networks["ffn6-equal"]),
        )
    ]


def attention_cka() -> list[Fact]:
    """Return CKA of the attention sites of a teacher and its network with three feed-forwards, layer by layer."""
    found = []
    for task in ("sst2", "cola"):
        matrix = read_record(f"analysis_{task}")["cka_sites"]["attention"]
        found.append(Fact(f"{TASKS[task]}: {', '.join(f'{row[i]:.2f}' for i, row in enumerate(matrix))}"))
    return found


def probes() -> list[Fact]:
    """Return the largest difference of the two networks' probes, over layers."""
    found = []
    for task in ("sst2", "cola"):
        record = read_record(f"analysis_{task}")
        ours, theirs = record["probe"], record["probe_against"]
        largest = max(abs(ours[name]["score"] - theirs[name]["score"]) for name in ours)
        found.append(Fact(f"{TASKS[task]}: at most {100 * largest:.1f} apart at a layer"))
    return found


def depth_title(task: str) -> str:
    return TASKS.get(task, task.upper())


def chosen_depths() -> list[Gap]:
    """Return what the depth that was chosen before fine-tuning scores less the full model, where it is not the full."""
    return [
        Gap.read(f"{depth_title(name)}, {each['chosen_depth']} of 6", each["chosen"]["difference"])
        for name, each in read_record("depth")["tasks"].items()
        if "chosen" in each
    ]


def depth_savings() -> list[Fact]:
    """Return what the chosen depths save."""
    chosen = [each["chosen"] for each in read_record("depth")["tasks"].values() if "chosen" in each]
    time, memory = ([100 * each[name] for each in chosen] for name in ("time_saved", "memory_saved"))
    return [Fact(f"time {several(time, 0)} %, memory {several(memory, 0)} %, on {len(chosen)} tasks of 8")]


def best_depths() -> list[Gap]:
    """Return what the best depth on dev itself scores less the full model, where seeds were run."""
    return [
        Gap.read(f"{depth_title(name)}, {each['oracle_depth']} of 6", each["oracle"]["difference"])
        for name, each in read_record("depth")["tasks"].items()
        if "oracle" in each
    ]


def fit_gaps(rival: str, record: str = "fit") -> Callable[[], list[Gap]]:
    """Return a function that reads what fit takes less a rival."""
    return lambda: [fit_gap(row, rival, record) for row in fit_summary(record) if f"fit - {rival}" in row]


def fit_at_base_size() -> list[Gap]:
    """Return what `fit` scores less plain layers in every record of a model of base size, with the record's name."""
    found = []
    for name in BASE_RECORDS[:-1]:
        for row in fit_summary(name):
            title = f"{task_title(row['task'])} at {limit_text(read_record(name)['shares'][row['limit']])}"
            found.append(Gap.read(f"{title} (`{name}`)", row["fit - layers"]))
    name = BASE_RECORDS[-1]
    for task in read_record(name)["tasks"]:
        for share, under in task["under"].items():
            gap = under["fit"]["minus_plain"]
            title = f"{task_title(task['task'])} at {limit_text(float(share))} (`{name}`)"
            found.append(Gap.read(title, gap, [gap["mean"]]))
    return found


def fit_means(rival: str, record: str = "fit") -> Callable[[], list[Gap]]:
    """Return a function that reads the same, as the mean over tasks."""
    return lambda: [fit_mean(limit, rival, record) for limit in sorted({row["limit"] for row in fit_summary(record)})]


def family_beside_layers() -> list[Gap]:
    """Return a family's best no slower than the cut less three plain layers; of the family there is only the mean."""
    found = []
    for task in ("cola", "mrpc"):
        family = cut(task, "fakv", THIRD)["minus_family_at_equal_latency"]["score"]
        found.append(Gap(task, family - fmean(cut(task, "layers", HALF)["scores"]), None, None, ()))
    return found


def int8_losses() -> list[Gap]:
    """Return what int8 loses to the teacher, and three layers in int8 to their own float32; one seed, no interval."""
    found = []
    for task in TASKS:
        networks = {(each["name"], each["backend"]): each for each in read_record(f"int8_{task}")["networks"]}
        for name, title in (("teacher", "uncut"), ("fewer layers", "three layers")):
            change = networks[name, "onnx-int8"]["score"] - networks[name, "onnx"]["score"]
            found.append(Gap(f"{TASKS[task]}, {title}", change, None, None, (change,)))
    return found


def int8_times() -> list[Fact]:
    """Return the int8 latency of three layers as a share of the uncut float32 file's, beside the product of both."""
    found = []
    for task, title in TASKS.items():
        networks = read_record(f"int8_{task}")["networks"]
        ms = {(each["name"], each["backend"]): each["latency_ms"] for each in networks}
        whole = ms["teacher", "onnx"]
        both, product = ms["fewer layers", "onnx-int8"], ms["teacher", "onnx-int8"] * ms["fewer layers", "onnx"] / whole
        found.append(Fact(f"{title}: {both / whole:.2f}, the product of both {product / whole:.2f}"))
    return found


def searched() -> list[Gap]:
    """Return what searched networks gain over the grid's at equal int8 latency, over search seeds of one family."""
    found = []
    for task in TASKS:
        record = read_record(f"search_{task}")
        for share, gain in record["mean_difference_points"]["latency_ms"].items():
            by_seed = [each["at"]["latency_ms"][share]["difference_points"] / 100 for each in record["searches"]]
            found.append(Gap(f"{TASKS[task]} at {float(share):.2f}", gain / 100, None, None, tuple(by_seed)))
    return found


def embedded() -> list[Gap]:
    """Return what fit's embedding models score less plain layers under the same limit.

    The interval is over rows where the record has it; of several seeds the mean of their ends, which is no narrower
    than that of their mean.
    """
    record, found = read_record("embedding"), []
    for number, share in enumerate(record["shares"]):
        for metric, title in (("ndcg@10", "NDCG@10"), ("spearman", "STS-B")):
            rows = rows_at(record, number)
            gaps = [row["fit"][metric] - row["layers"][metric] for row in rows]
            known = [row["fit - layers"][metric] for row in rows if "fit - layers" in row]
            low, high = (fmean(each[end] for each in known) if known else None for end in ("low", "high"))
            found.append(Gap(f"{title} at {share:.2f}", fmean(gaps), low, high, tuple(gaps)))
    return found


def per_token() -> list[Gap]:
    """Return what `fit`'s taggers and readers score less the uncut ones; each is one run."""
    found = []
    for task, cells in by_task(read_record("per_token")).items():
        gaps = [cell["difference"] for cell in cells]
        mean, low, high = (fmean(each[name] for each in gaps) for name in ("mean", "low", "high"))
        took = fmean(cell["cut"]["latency_ms"] / cell["uncut"]["latency_ms"] for cell in cells)
        words = f"{task}, F1 {100 * fmean(cell['uncut']['f1'] for cell in cells):.1f} uncut, at {took:.2f}"
        found.append(Gap(words, mean, low, high, tuple(each["mean"] for each in gaps)))
    return found


def same_answers() -> list[Fact]:
    """Return whether what `predict` writes scores what `measure` says, by task."""
    found = []
    for task, cells in by_task(read_record("per_token")).items():
        written, measured = ([cell[name] for cell in cells] for name in ("predicted_f1", "measured_f1"))
        words = f"{task}: F1 {several([100 * each for each in written], 1)}"
        words += f", by `measure` {several([100 * each for each in measured], 1)}"
        found.append(Fact(words, holds=written == measured))
    return found


def by_task(record: Record) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for cell in record["cells"]:
        found.setdefault(cell["task"], []).append(cell)
    return found


def rows_at(record: Record, limit: int) -> list[Mapping[str, Any]]:
    return [cell["compared"][limit] for cell in record["cells"]]


def fastest_rivals() -> list[Speed]:
    """Return by threads, processor and size the time over our int8 file's of the fastest way that is not ours.

    Beside the fastest in the median stand others that are surely faster than ours.
    """
    by_size: dict[str, list[Speed]] = {}
    runs = {"rivals": "one thread", TWO_THREADS: "two threads", f"rivals{AVX2}": "one thread"}
    for record, threads in runs.items():
        words = f"{INSTRUCTIONS[read_record(record)['instructions']]}, {threads}"
        for each in read_record(record)["timings"]:
            if not each["name"].startswith("cutbert"):
                size = f"{words}, {each['batch_size']} x {each['length']} tokens"
                by_size.setdefault(size, []).append(speed(f"{size}, {each['name']}", each["share_of_ours"]))
    fastest = {size: min(rivals, key=lambda rival: rival.median) for size, rivals in by_size.items()}
    return [
        rival for size, rivals in by_size.items() for rival in rivals if rival == fastest[size] or rival.q3 < FASTER
    ]


def norms() -> list[Speed]:
    """Return by size how many times as fast our int8 norms are as the fused operator that stock exports use."""
    found = []
    for each in read_record("operators")["timings"]:
        if (each["dtype"], each["variant"]) == ("int8", "SkipLayerNormalization"):
            q1, median, q3 = (1 / each["speed"][f"{name}_ratio"] for name in ("q3", "median", "q1"))
            found.append(Speed(f"{each['batch_size']} x {each['length']} tokens", q1, median, q3))
    return found


def stock_exports() -> list[Speed]:
    """Return how many times as fast as the stock export ours is, both in float32, by length."""
    return [
        speed(f"{each['name']}, {each['length']} tokens", each["speed"])
        for each in read_record("families")["short"]
        if each["name"] == "float32"
    ]


FINETUNE_STEPS = tuple(name for name in ("finetune_step", "finetune_step_avx2") if has_record(name))


def training_steps() -> list[Speed]:
    """Return how many times as fast as plain transformers a fine-tuning step is, by dtype, size and rival."""
    sizes, rivals = {"short_texts": "MiniLM, short texts"}, {"plain": "a loop", "trainer": "its Trainer"}
    return [
        speed(f"{each['dtype']}, {sizes.get(name, name)}, {title}", each[key])
        for record in FINETUNE_STEPS
        for name, each in read_record(record)["networks"].items()
        for rival, title in rivals.items()
        if (key := f"times_faster_than_{rival}") in each
    ]


def speed(name: str, ratio: Mapping[str, float]) -> Speed:
    return Speed(name, ratio["q1_ratio"], ratio["median_ratio"], ratio["q3_ratio"])


def repaired() -> list[Fact]:
    """Return the KL of cut networks before and after the repair."""
    found = []
    for task, title in TASKS.items():
        if has_record(f"repair_{task}"):
            for each in read_record(f"repair_{task}")["networks"]:
                before, after = each["at"]["cut"]["kl"], each["at"]["repaired"]["kl"]
                found.append(Fact(f"{title}, {each['name']}: {before:.3f} before, {after:.3f} after"))
    return found


def full_disks() -> list[Fact]:
    """Return how many cases of a full disk went wrong."""
    record = read_record("full_disk")
    words = f"{len(record['verbs'])} commands, {record['cases']} cases, {record['failed']} failed"
    return [Fact(words, holds=record["failed"] == 0)]


def kills() -> list[Fact]:
    """Return how many kills runs survived, and whether their weights and predictions are those of whole runs."""
    given = ", given the unkilled run's `--plan`; without one its steps depend on the clock"
    found = [
        Fact(f"`{verb}`: {record['kills']} kills{more}", holds=record["all_equal"])
        for verb, record, more in (
            ("dynabert", read_record("kill_resume"), ""),
            ("fit", read_record("fit_kills"), given),
        )
    ]
    record = read_record("kills")
    words = f"{len(record['by_command'])} commands on tiny models: {record['kills']} kills"
    return [*found, Fact(words, holds=record["holds"])]


def wide(task: str) -> Gap:
    return family_gap(task, "w1.0-d1.0")


def half_width(task: str) -> Gap:
    return family_gap(task, "w0.5-d1.0")


def one_choice(*counts: int) -> str:
    """Return why plain layers by DynaBERT's rule are no fair rival, and how they fared in `fit`'s races of layers.

    Args:
        counts: how many of MiniLM's six layers they are.
    """
    parts = []
    for count in counts:
        name = "-".join(map(str, ("layers", *kept_layers(6, count / 6))))
        won = [winner == name for entered, winner in races_of_layers() if name in entered]
        parts += [f"`{name}` won {sum(won) or 'none'} of {len(won)}"] if won else []
    told = "Unfair to the layers: one choice of them alone, by DynaBERT's rule and at its rate, untuned."
    return f"{told} Of the races of `fit --kinds layers`, {', '.join(parts)}." if parts else told


def races_of_layers() -> list[tuple[set[str], str]]:
    """Return who took part in each race of plain layers in `fit`'s records, and who won.

    The winner is trained for the time that is left, so that it has the most steps, whatever was taken in the end.
    """
    found = []
    for record in ("fit", "fit_limits"):
        for cell in read_record(record)["cells"] if has_record(record) else ():
            by_limit: dict[Any, list[Mapping[str, Any]]] = {}
            for entry in cell["leaderboards"]["layers"]:
                if entry["kind"] == "layers":
                    by_limit.setdefault(entry.get("limit"), []).append(entry)
            for entries in by_limit.values():
                winner = max(entries, key=lambda each: each["steps"])
                found.append(({each["name"] for each in entries}, winner["name"]))
    return found


def cuts_with_mean(budget: str) -> Callable[[], list[Gap]]:
    """Return a function that reads cuts less layers: the mean over tasks, then each."""
    return lambda: [mean_cut_gap("fakv", budget), *(cut_gap(task, "fakv", budget) for task in TASKS)]
