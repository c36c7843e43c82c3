"""What docs/log.md shows out of the records, a block for each topic."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from findings import FINETUNE_STEPS
from page_tables import weak_line
from results import HALF, TASKS, THIRD, WEAK_TASKS, Gap, cut, kept, kept_gap, listed, read_record, score, since, table

SHOWN_KEPT = {
    "importance-6": "6 (1), healed though nothing is gone",
    "importance-4": "4 (0.79), importance",
    "importance-3": "3 (0.68), importance",
    "gradual-3": "3, importance, gradual",
    "cka-3": "3, CKA",
    "even-3": "3, even",
    "layers-3": "four layers, distilled (0.67)",
    "thin-3": "all layers, thinner feed-forwards (0.68)",
    "importance-2": "2 (0.58), importance",
    "importance-0": "0 (0.37)",
}


def family_lines() -> str:
    """Return what families scored."""
    record = read_record("family_sst2")
    short, networks = record["subnets_in_short"], {each["name"]: each for each in record["networks"]}
    lines = [
        f"- SST-2, all rows, one seed (`family_sst2`): teacher {100 * networks['teacher']['score']:.1f}, mean of the "
        f"grid's twelve {short['whole_points'] + short['mean_minus_whole_points']:.1f}, worst "
        f"{short['whole_points'] + short['worst_minus_whole_points']:.1f} (`{short['worst']}`), `w0.25-d0.5` "
        f"{100 * networks['w0.25-d0.5']['score']:.1f}. Dev's {record['dev_rows']} rows do not tell these apart."
    ]
    for task in ("cola", "mrpc"):
        record = read_record(f"family_{task}")
        short, networks = record["subnets_in_short"], {each["name"]: each for each in record["networks"]}
        shown = ", ".join(
            f"`{name}` {score(networks[name]['scores'])}" for name in ("w0.5-d1.0", "w0.25-d1.0", "w1.0-d0.5")
        )
        lines.append(
            f"- {WEAK_TASKS[task]}, three seeds (`family_{task}`): teacher {score(networks['teacher']['scores'])}, "
            f"mean of twelve {short['whole_points'] + short['mean_minus_whole_points']:.1f}, {shown}, smallest "
            f"{score(networks['w0.25-d0.5']['scores'])}."
        )
    return "\n".join([*lines, "", weak_line()])


def cut_lines() -> str:
    """Return what schubert's cuts scored, beyond what the page of evidence shows."""
    means = {
        (each["budget"], each["variant"], each["rival"]): Gap.read("mean", each["mean"]).text.replace(
            " (seeds not recorded)", ""
        )
        for each in read_record("cuts_mean_family")["runs"]
    }
    more = {each["name"]: each["minus"] for each in read_record("more_sentences_cuts")["networks"]}
    scores = "; ".join(
        f"{name} {score(cut(task, 'all', HALF)['scores'])} and {score(cut(task, 'all', THIRD)['scores'])}"
        for task, name in WEAK_TASKS.items()
    )
    hidden = sorted(
        {shape["hidden_size"] for task in TASKS for b in (HALF, THIRD) for shape in cut(task, "all", b)["shapes"]}
    )
    lines = [
        f"- All dimensions (a half, 35 %): {scores}. The hidden size is {' or '.join(map(str, hidden))} of 384: "
        "whether cutting hidden units helps was not tested.",
        f"- On 1,655 other sentences of SST-2 (`more_sentences_cuts`): the half minus three layers "
        f"{Gap.read('sst2', more['fakv-0.5']['layers-0.5']).text}, 35 % minus two layers "
        f"{Gap.read('sst2', more['fakv-0.35']['layers-0.35']).text}.",
        "- Beside `dynabert` families of the same teachers and steps, CoLA and MRPC, mean difference "
        f"(`cuts_mean_family`): at a half {means[HALF, 'fakv', 'family_at_equal_latency']}; at 35 % "
        f"{means[THIRD, 'fakv', 'family_at_equal_macs']} at equal multiply-adds, "
        f"{means[THIRD, 'fakv', 'family_at_equal_latency']} at no more latency.",
    ]
    return "\n".join([*lines, ""])


def gamma_table() -> str:
    """Return cuts by the strength of the L1 price beside the default price, with their unequal total parameters."""
    networks: dict[str, dict[str, Mapping[str, Any]]] = {}
    for each in read_record("schubert_gamma")["networks"]:
        if each["step"] == "cut":  # the last round of each is its result
            networks.setdefault(each["own"]["cut.price"], {})[each["group"]["data"]] = each
    rows = []
    for price, found in networks.items():
        title = f"default, rounds: {price[-1]}" if price.startswith("ours") else f"L1, `--gamma {price}`, rounds: 3"
        cells = [
            f"{100 * fmean(each['select_scores']):.1f} / {100 * each['score']:.1f} ({each['params'] / 1e6:.1f})"
            for each in (found["sst2"], found["cola"])
        ]
        rows.append([title, *cells])
    return table(["price", "SST-2, 4,000 rows: select / dev (M parameters)", "CoLA: the same"], rows)


def cut_sizes_table() -> str:
    """Return what closing and cutting hidden units does, nothing healed."""
    rows = [
        [str(each["kept"])]
        + [f"{100 * each[f'{way}_score']:.1f}, {each[f'{way}_kl']:.3f}" for way in ("zeroed", "cut", "settled")]
        for each in read_record("cut_sizes")["hidden"]
    ]
    sizes = {each["dim"]: each for each in read_record("cut_sizes")["sizes"]}
    odd = [each["odd_by_even"] for each in sizes.values()]
    return (
        table(["hidden units of 384", "closed", "cut, norms as they are", "cut, norms rescaled"], rows)
        + f"\nSizes that are no multiple of 8 take {min(odd):.2f} to {max(odd):.2f} of the time at batch 1. In batches "
        f"189 hidden units take {sizes['h']['odd_by_even_in_batches']:.2f} of the time of 192, all odd sizes together "
        f"{sizes['all']['odd_by_even_in_batches']:.2f}.\n"
    )


def rescaled_line() -> str:
    """Return for which numbers of hidden units rescaled norms bring the cut network nearer, and for which not."""
    found = read_record("cut_sizes")["hidden"]
    gains = {each["kept"]: round(each["cut_kl"], 3) - round(each["settled_kl"], 3) for each in found}
    better = [str(kept) for kept, gain in gains.items() if gain > 0]
    worse = [str(kept) for kept, gain in gains.items() if gain < 0]
    return (
        f"Not healed (one seed, SST-2), that brings the KL to the uncut model down a little at {listed(better)} of 384 "
        f"hidden units, and up at {listed(worse)} (`cut_sizes`).\n"
    )


def text_table() -> str:
    """Return networks cut on plain text."""
    titles = {
        "uncut": "uncut",
        "fakv": "gates, `--dims f,a,k,v`",
        "all": "gates, all",
        "layers": "three layers, distilled",
    }
    networks = {each["name"]: each for each in read_record("text_cuts")["networks"]}
    rows = [
        [title, f"{each['perplexity']:.1f}", f"{100 * each['masked_accuracy']:.1f}", f"{100 * each['task_score']:.1f}"]
        for title, each in ((title, networks[name]) for name, title in titles.items())
    ]
    return table(["network", "perplexity", "masked accuracy", "SST-2 after fine-tuning"], rows)


def undivided_table() -> str:
    """Return every network of undivided's records."""
    records = {task: read_record(f"undivided_{task}") for task in TASKS}
    rows = [["teacher", *(score(record["teacher"]["scores"]) for record in records.values())]]
    for variant, title in SHOWN_KEPT.items():
        there = [any(run["variant"] == variant for run in record["runs"]) for record in records.values()]
        cells = [score(kept(task, variant)["scores"]) if has else "—" for task, has in zip(TASKS, there, strict=True)]
        rows.append([title, *cells])
    return table(["feed-forwards kept (multiply-adds)", *WEAK_TASKS.values()], rows)


def undivided_lines() -> str:
    """Return what else was measured of fewer feed-forwards."""
    more = {each["name"]: each["minus"] for each in read_record("more_sentences_undivided")["networks"]}
    unhealed = [fmean(kept(task, "importance-3")["unhealed_scores"]) for task in TASKS]
    patterns = sorted({each for task in TASKS for each in kept(task, "importance-3")["patterns"]})
    ranking = read_record("ffn_ranking")["correlations"]
    rho = {name: f"{each['rho']:+.2f} [{each['low']:+.2f}, {each['high']:+.2f}]" for name, each in ranking.items()}
    families = [
        f"{WEAK_TASKS[task]} {name} kept {Gap.read(task, found, [found['difference']]).text}"
        for task in ("sst2", "cola")
        for name, variant in (("three", "importance-3"), ("none", "importance-0"))
        for run in read_record(f"undivided_{task}_family")["runs"]
        if run["variant"] == variant
        for found in (run["minus_family_at_equal_macs"],)
    ]
    whole = {name: kept_gap(task, "importance-6", "teacher").text for task, name in WEAK_TASKS.items()}
    rte = read_record("undivided_rte")["teacher"]["scores"][0]
    lines = [
        f"- Unhealed, three kept by importance score {', '.join(f'{100 * each:.1f}' for each in unhealed)}: broken.",
        f"- Importance keeps the feed-forwards of the lower layers: {', '.join(f'`{each}`' for each in patterns)}.",
        "- On 1,655 other sentences of SST-2 (`more_sentences_undivided`): three by importance less the teacher "
        f"{Gap.read('sst2', more['importance-3']['teacher']).text}, less four layers "
        f"{Gap.read('sst2', more['importance-3']['layers-3']).text}, where dev has "
        f"{kept_gap('sst2', 'importance-3', 'layers').text}.",
        f"- Healing although nothing is gone, less the teacher: "
        f"{', '.join(f'{name} {gap}' for name, gap in whole.items())}.",
        f"- RTE says nothing: its teacher has {100 * rte:.1f}, near chance (`undivided_rte`).",
        "- Each feed-forward removed alone (`ffn_ranking`): rank correlation with the loss on select, unhealed, of "
        f"importance {rho['importance_and_loss_unhealed']}, of CKA's change {rho['cka_and_loss_unhealed']}.",
        "- Less `dynabert`'s best at no more multiply-adds (`undivided_sst2_family`, `undivided_cola_family`): "
        f"{'; '.join(families)}.",
    ]
    return "\n".join([*lines, ""])


def depth_table() -> str:
    """Return dev by depth, with the probe's choice."""
    rows = []
    for task, found in read_record("depth")["tasks"].items():
        title = TASKS.get(task, task.upper())
        rows.append(
            [
                f"{title} ({found['metric']}), {found['max_train_samples']:,}",
                " ".join(f"{100 * each:.1f}" for each in found["scores"]),
                str(found["chosen_depth"]),
            ]
        )
    regret = read_record("depth")["mean_regret"]
    ranked = ", ".join(f"`{name}` {100 * each:.1f}" for name, each in sorted(regret.items(), key=lambda pair: pair[1]))
    return (
        table(["task (metric), most training rows", "dev, 1 to 6 layers", "probe's choice"], rows)
        + f"\nMean regret below the best depth on dev: {ranked}.\n"
    )


def search_lines() -> str:
    """Return what else was measured of search."""
    means = [
        value
        for task in TASKS
        for cost in read_record(f"search_{task}")["mean_difference_points"].values()
        for value in cost.values()
    ]
    cells = [
        [each["at"][cost][share]["difference_points"] for each in read_record(f"search_{task}")["searches"]]
        for task in TASKS
        for cost in ("macs", "latency_ms")
        for share in ("0.5", "0.3333", "0.25")
    ]
    apart = max(max(each) - min(each) for each in cells)
    trained = read_record("search_sst2_trained")["searches"][0]["at"]["macs"]
    errors = {
        each["backend"]: each["error"]["median_percent"] for each in read_record("latency_prediction")["backends"]
    }
    lines = [
        f"- Searched less grid, mean of 18 cells: {fmean(means):+.2f} points; the seeds of one cell are up to "
        f"{apart:.1f} apart.",
        "- `--train-steps 300`, SST-2, one seed (`search_sst2_trained`): within an eighth "
        f"{100 * trained['0.125']['searched']['score']:.1f}, within a sixteenth "
        f"{100 * trained['0.0625']['searched']['score']:.1f}; from a half to a quarter the grid's stay the best on "
        "select.",
        "- Predicted latency of 24 random networks, median error (`latency_prediction`): "
        f"{', '.join(f'`{name}` {each:.1f} %' for name, each in errors.items())}.",
    ]
    return "\n".join([*lines, ""])


def backend_lines() -> str:
    """Return shares of the matrix rate, and parity."""
    shares = {
        (each["backend"], each["length"]): each["share_of_matrix_rate"]["median_share"]
        for each in read_record("runtime_rate")["passes"]
    }
    rates = "; ".join(
        f"`{name}` {shares[name, 32]:.2f} and {shares[name, 128]:.2f}"
        for name in ("onnx", "onnx-int8", "torch", "torch-bf16")
    )
    products = [
        sum(each["share"] for each in profile["operators"] if "MatMul" in each["name"])
        for profile in read_record("runtime_rate")["profiles"]
        if profile["backend"] == "onnx-int8"
    ]
    apart = read_record("onnx_parity")["alone"]["max_abs_diff"]
    lines = [
        f"- Share of the fastest matrix product seen, batch 32, one thread, 32 and 128 tokens (`runtime_rate`): "
        f"{rates}.",
        f"- In int8 the products with weights take {products[0]:.2f} and {products[1]:.2f} of a pass, the rest is "
        "float32 (`runtime_rate`).",
        f"- ONNX beside torch on 1,000 rows: at most {1e6 * apart:.1f} millionths apart (`onnx_parity`).",
        *(f"- {words}" for words in [since("runtime_rate", "onnx_parity")] if words),
    ]
    return "\n".join([*lines, ""])


def speed_lines() -> str:
    """Return seconds, rates and memory of training."""
    record = read_record("step_time")
    step = {name: each["step"]["median_s"] for name, each in record["variants"].items()}
    amx = record["variants"]["ours_default"]["share_of_matrix_rate"]["median_share"]
    avx = read_record("step_time_avx512_bf16")["variants"]["ours_default"]["share_of_matrix_rate"]["median_share"]
    peaks = {
        name: each["training_peak"]["median_bytes"] / 2**20
        for name, each in read_record("training_memory")["by_subnets_per_step"].items()
    }
    finetuned = [
        f"{each['layers']} x {each['hidden_size']} at {each['mean_length_tokens']:.0f} tokens a text in "
        f"{each['dtype']} {each['times_faster_than_plain']['median_ratio']:.2f} times faster "
        f"({each['times_faster_than_plain']['min_ratio']:.2f} to {each['times_faster_than_plain']['max_ratio']:.2f}), "
        f"{100 * each['share_of_time_in_products']['median_share']:.0f} % of it in products"
        for name in FINETUNE_STEPS
        for each in read_record(name)["networks"].values()
    ]
    analysis = read_record("analysis_memory")
    speed = read_record("mlm_speed")["speed"]["median_tokens_per_s"]
    lines = [
        f"- A step of the released code's recipe (12 subnets, float32, padded to 128 tokens) takes "
        f"{step['release_12']:.1f} s on two cores with AMX, ours with the same 12 subnets {step['ours_12']:.2f} s, our "
        f"default {step['ours_default']:.2f} s (`step_time`). The parts are not measured one by one: ours trains in "
        f"bf16 and without padding (the batches have {record['mean_length_tokens']:.0f} tokens a text on average), and "
        "the default trains 4 subnets a step, not 12. So none of this is a speed-up of the same computation.",
        f"- A step of the default reaches {100 * amx:.0f} % of the matrix rate with AMX, {100 * avx:.0f} % on a "
        "processor with AVX-512 BF16, before batches in blocks (`step_time`, `step_time_avx512_bf16`).",
        f"- A fine-tuning step beside a loop over transformers' own class (the same dtype, rows of like length, "
        f"dynamic padding), processor time: {'; '.join(finetuned)} "
        f"({', '.join(f'`{name}`' for name in FINETUNE_STEPS)}).",
        f"- Peak memory with {', '.join(peaks)} subnets a step: {', '.join(f'{each:,.0f}' for each in peaks.values())} "
        "MiB (`training_memory`).",
        *reader_lines(),
        f"- `analyze` of {analysis['texts']:,} texts with {analysis['layers']} layers of hidden size "
        f"{analysis['hidden_size']}, one thread: {analysis['peak_bytes'] / 2**30:.2f} GiB, "
        f"{analysis['seconds'] / 60:.0f} minutes (`analysis_memory`).",
        f"- Masked-LM training of MiniLM's shape, one thread with AVX-512 BF16: {speed:,.0f} tokens a second "
        "(`mlm_speed`).",
    ]
    return "\n".join([*lines, ""])


def reader_lines() -> list[str]:
    """Return what training a reader held at most, by command and stage, where that is measured."""
    reader = read_record("training_memory").get("reader")
    if not reader:
        return []
    shown = [
        f"`{verb}` {', '.join(f'{stage} {peak / 1e9:.2f}' for stage, peak in stages.items())}"
        for verb, stages in reader["peak_bytes"].items()
    ]
    return [
        f"- A reader of {reader['questions']} questions, scored on {reader['eval_questions']}: GB held at most by the "
        f"end of each stage: {'; '.join(shown)} (`training_memory`)."
    ]


def reliability_lines() -> str:
    """Return what kills and full disks left behind, over all verbs, and how predict's memory grows with its rows."""
    killed, full, memory = read_record("kills"), read_record("full_disk"), read_record("predict_memory")
    peaks: dict[tuple[str, str], list[float]] = {}
    for each in sorted(memory["files"], key=lambda each: each["rows"]):
        peaks.setdefault((each["backend"], each["format"]), []).append(each["peak"]["median_bytes"] / 1e6)
    rows = sorted({each["rows"] for each in memory["files"]})
    growth = {
        backend: max(of[-1] - of[0] for (name, _), of in peaks.items() if name == backend) for backend, _ in peaks
    }
    words = ", ".join(f"{mb:.0f} MB on {backend}" for backend, mb in growth.items())
    counts = {name: count for name, count in killed["by_command"].items() if count}
    lines = [
        f"- {killed['kills']} SIGKILLs of {len(counts)} commands on tiny models, at random moments and before random "
        f"changes of a file, each resumed by the same command: {killed['lost']} commands lost something or differ from "
        f"an unkilled one, {killed['left_over']} left something over (`kills`).",
        f"- {full['cases']} runs of {len(full['verbs'])} commands on a disk with room for some more pages or files: "
        f"{full['failed']} ended otherwise than with one line and exit code 2, left something, or did not finish once "
        "there was room (`full_disk`).",
        f"- `predict` of {rows[-1]:,} rows holds little more than of {rows[0]:,}, in the worst of "
        f"{len({name for _, name in peaks})} formats {words} (`predict_memory`).",
    ]
    return "\n".join([*lines, ""])
