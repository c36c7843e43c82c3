"""How the result of each verb looks to people, made of its --json object."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from cutbert.api.study_views import analyze_view, depth_view
from cutbert.fronts.leaderboard import LeaderboardEntry
from cutbert.fronts.leaderboard_view import kind_lines, leaderboard_table, select_words
from cutbert.fronts.view import conditions_line, front_view, noise_warning, spread_lines, timing_lines
from cutbert.table import Table, View, millions, number, pairs, points

BAR = 10
SIZES = {"heads": "num_heads", "key dim": "key_dim", "value dim": "value_dim", "neurons": "intermediate_size"}


def cost_view(data: Mapping[str, Any]) -> View:
    return (pairs({name: f"{value:,}" for name, value in data.items()}),)


def fit_view(data: Mapping[str, Any]) -> View:
    """Return what was given up for what, everything that was tried, and where the models are."""
    entries = [LeaderboardEntry.from_json(each) for each in data["leaderboard"]]
    places = [f"{each['limit']}: {each['out']}" for each in data["models"]]
    time = f"{data['seconds']:.0f} s of {data['time_limit_s']:.0f}"
    select = select_words(data.get("select_is_dev", False))
    page = data.get("report", f"cutbert report {data['out']} --out page.html")
    return (
        data["verdict"],
        leaderboard_table(entries),
        f"{data['metric']} on dev in points with its 95 % interval; * chosen, on {select}",
        *kind_lines(entries),
        *data.get("notes", ()),
        *timing_lines(data),
        pairs({"models": ", ".join(places), "time": time, "page": page}),
    )


def finetune_view(data: Mapping[str, Any]) -> View:
    """Return what a fine-tuning reached."""
    values = {data["metric"]: f"{points(data['score'])} on dev, {points(data['select_score'])} on select"}
    values |= {name: points(value) for name, value in data["metrics"].items() if name != data["metric"]}
    values |= {"time": f"{data['seconds']:.0f} s", "in": data["out"]}
    if data.get("select_is_dev"):
        values["mind"] = "select is the dev split itself"
    if data.get("near_chance"):
        values["beware"] = data["near_chance"]
    return (pairs(values),)


def pretrain_view(data: Mapping[str, Any]) -> View:
    """Return what masked-LM training reached."""
    return (
        pairs(
            {
                "perplexity": f"{data['perplexity']:.2f} of the masked tokens of held-out text "
                f"(loss {data['loss']:.4f})",
                "tokens": f"{data['tokens']:,} trained on, {data['tokens_per_s']:,.0f} a second",
                "time": f"{data['seconds']:.0f} s",
                "in": data["out"],
            }
        ),
    )


def schubert_view(data: Mapping[str, Any]) -> View:
    """Return the rounds beside the uncut model, and the sizes of the result by layer."""
    return (*front_view(data), "", *shape_picture(data["subnets"][-1]["shape"], data["teacher"]["shape"]))


def undivided_view(data: Mapping[str, Any]) -> View:
    """Return the networks beside the uncut model where there is one, the sub-layers, and the sizes by layer."""
    result = data["subnets"][-1]["shape"]
    is_new = "teacher" not in data
    scores = pretrain_view(data) if is_new else front_view(data)
    picture = shape_picture(result, result if is_new else data["teacher"]["shape"])
    return (*scores, "", f"sub-layers {data['pattern']}", *picture)


def shape_picture(shape: Mapping[str, Any], uncut: Mapping[str, Any]) -> View:
    """Return the sizes of each layer, each with a bar that is full where nothing was cut.

    Args:
        shape: JSON of an EncoderShape.
        uncut: JSON of the shape it was cut from, with the same number of layers.
    """
    rows = []
    for i, (layer, whole) in enumerate(zip(shape["layers"], uncut["layers"], strict=True)):
        cells = [(str(layer[size]), bar(layer[size], whole[size])) for size in SIZES.values()]
        rows.append((str(i), *(text for pair in cells for text in pair)))
    hidden, before = shape["hidden_size"], uncut["hidden_size"]
    headings = ("layer", *(heading for name in SIZES for heading in (name, "")))
    return (f"hidden size {hidden} of {before} {bar(hidden, before)}", Table(headings, tuple(rows)))


def bar(size: int, whole: int) -> str:
    """Return a bar of BAR characters, filled by the share that is left; anything left shows."""
    filled = 0 if not size else max(1, round(BAR * size / whole))
    return "#" * filled + "." * (BAR - filled)


def pick_view(data: Mapping[str, Any]) -> View:
    """Return what was picked."""
    values = {
        "picked": data["name"],
        "score": f"{points(data['score'])} on dev, {points(data['select_score'])} on select",
        "params": f"{millions(data['params'])} M",
        "MACs": f"{millions(data['macs'])} M",
    }
    if "repair" in data:
        values["repair"] = repair_line(data["repair"])
    if "latency_ms" in data:
        values["latency"] = f"{number(data['latency_ms'])} ms on {data.get('backend', 'torch')}"
        values["latency"] += "".join(f"; {line}" for line in spread_lines(data))
    values |= given_up_rows(data.get("cut_from"))
    values["loads in"] = "plain transformers" if data["stock"] else "transformers after `import cutbert.hub`"
    if data.get("select_is_dev"):
        values["mind"] = "chosen on the dev split itself, so the dev score is optimistic"
    if (warning := noise_warning(data)) is not None:
        values["beware"] = warning
    if "out" in data:
        values["in"] = data["out"]
    return (pairs(values),)


def repair_line(data: Mapping[str, Any]) -> str:
    """Return what a repair did."""
    outcome = "kept" if data["is_repaired"] else "not kept, it brought the network no closer"
    return (
        f"{outcome}; loss against the whole network on select {data['kl_before']:.4f} before, {data['kl_after']:.4f} "
        f"after; scores before {points(data['score_before'])} on dev, {points(data['select_score_before'])} on select"
    )


def given_up_rows(uncut: Mapping[str, Any] | None) -> dict[str, str]:
    """Return the uncut model beside a pick: its scores and latency, the difference, and what its int8 takes."""
    if uncut is None:
        return {}
    low_high = uncut.get("difference_interval")
    interval = f" (95 % interval {' to '.join(signed_points(each) for each in low_high)})" if low_high else ""
    rows = {
        "uncut": f"{points(uncut['score'])} on dev, {points(uncut['select_score'])} on select",
        "difference": f"{signed_points(uncut['difference'])} points on dev{interval}",
    }
    if "latency_ms" in uncut:
        rows["uncut"] += f", {number(uncut['latency_ms'])} ms"
        rows["difference"] += f", {number(uncut['latency_ratio'])} of the time"
    if "int8_latency_ms" in uncut:
        within = {True: ", within the limit already", False: ", above the limit", None: ""}
        ms = number(uncut["int8_latency_ms"])
        rows["uncut, int8"] = f"{ms} ms{within[uncut.get('int8_within_limit')]}; `cutbert export --int8` scores it"
    if "near_chance" in uncut:
        rows["beware"] = uncut["near_chance"]
    return rows


def signed_points(score: float) -> str:
    return f"{100 * score:+.2f}"


def search_view(data: Mapping[str, Any]) -> View:
    """Return the front with what the search added, and how much of the area it covers."""
    areas = data["hypervolume"]
    lines = [
        f"{data['trials']} networks scored on select; the best of these are now in the front of {data['out']}",
        f"area under the front of select score and {areas['cost']}: {areas['grid']:.4f} before, "
        f"{areas['found']:.4f} with the search (1 is a perfect score at no cost)",
        "select scores of the networks it added are optimistic, being the best of many; dev was not looked at before",
    ]
    if "latency_error" in data:
        lines.append(f"latency was predicted within {100 * data['latency_error']:.1f} % (median)")
    return (*front_view(data), *lines)


def demo_view(data: Mapping[str, Any]) -> View:
    """Return the leaderboard, and the texts that the exported file labelled."""
    rows = []
    for each in data["texts"]:
        both = " / ".join([each["text"], *([each["text_pair"]] if "text_pair" in each else [])])
        rows.append((both, *(str(each[name]) for name in ("label", "predicted"))))
    headings = ("text", "label", "predicted")
    texts = Table(headings, tuple(rows), left=headings, folded=("text",))
    took = f"{data['seconds']:.0f} s in all; the limit was {data['max_latency_ms']:.2f} ms"
    page = [f"all of it on a page that opens offline: {data['report']}"] if "report" in data else []
    return (*fit_view(data), "", texts, took, *page)


def measure_view(data: Mapping[str, Any]) -> View:
    """Return measured models side by side."""
    score = [data["metric"]] if "metric" in data else []
    costs = ("params M", "MACs M", "ms", "p95 ms", "texts/s", "peak MB", "load ms", "file MB")
    rows = [
        (
            entry["model"],
            entry["backend"],
            *([points(entry["score"])] if score else []),
            millions(entry["params"]),
            millions(entry["macs"]),
            number(entry["latency_ms"]),
            number(entry["latency_p95_ms"]),
            number(entry["throughput_per_s"]),
            millions(entry["peak_bytes"]),
            f"{entry['load_ms']:.0f}",
            millions(entry["file_bytes"]),
        )
        for entry in data["models"]
    ]
    measured = data["measured"]
    table = Table(("model", "backend", *score, *costs), tuple(rows))
    return (table, conditions_line(measured), *timing_lines(measured))


def export_view(data: Mapping[str, Any]) -> View:
    """Return what was written and how well it answers."""
    values = {}
    if "max_abs_diff" in data:
        values["largest difference to torch"] = f"{data['max_abs_diff']:.1e}"
    if "score_before" in data:
        for split, key in (("select", "select_score"), ("dev", "score")):
            values[f"{data['metric']} on {split}"] = (
                f"{points(data[f'{key}_before'])} before, {points(data[f'{key}_after'])} after"
            )
    if data.get("select_is_dev"):
        values["mind"] = "select is the dev split itself"
    values["written"] = ", ".join(data["files"])
    values |= {f"for {name}": ", ".join(files) for name, files in data.get("layouts", {}).items()}
    return (pairs(values),)


def predict_view(data: Mapping[str, Any]) -> View:
    backend = {"backend": data["backend"]} if "backend" in data else {}
    place = "standard output" if data["out"] == "-" else data["out"]
    return (pairs({"texts": data["rows"], **data.get("labels", {}), **backend, "in": place}),)


def report_view(data: Mapping[str, Any]) -> View:
    size = f"{data['bytes'] / 1000:,.0f} kB"
    return (pairs({"runs": data["runs"], "networks": data["points"], "size": size, "in": data["out"]}),)


def sweep_view(data: Mapping[str, Any]) -> View:
    """Return the runs, then the table of their scores on dev."""
    from cutbert.sweeps.table import heading, is_numeric, notes, shown, shown_columns

    headings = ("run", "status", "s", "")
    runs = tuple(
        (run["name"], run["status"], f"{run['seconds']:.0f}" if "seconds" in run else "", run.get("error", ""))
        for run in data["runs"]
    )
    states = Table(headings, runs, left=headings, folded=headings)
    rows = [row for row in data["table"] if row["split"] == "dev"]
    if not rows:
        return (states, "", "no run is finished yet")
    names = shown_columns(rows)
    scores = Table(
        tuple(map(heading, names)),
        tuple(tuple(shown(row, name) for name in names) for row in rows),
        left=tuple(heading(name) for name in names if not is_numeric(name)),
        folded=tuple(map(heading, names)),
    )
    return (states, "", scores, *notes())


VIEWS: Mapping[str, Callable[[Mapping[str, Any]], View]] = {
    "analyze": analyze_view,
    "cost": cost_view,
    "demo": demo_view,
    "depth": depth_view,
    "dynabert": front_view,
    "export": export_view,
    "finetune": finetune_view,
    "fit": fit_view,
    "front": front_view,
    "measure": measure_view,
    "pick": pick_view,
    "predict": predict_view,
    "pretrain": pretrain_view,
    "report": report_view,
    "schubert": schubert_view,
    "search": search_view,
    "sweep": sweep_view,
    "undivided": undivided_view,
}
