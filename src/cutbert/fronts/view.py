"""How a front looks to people, made of its JSON object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cutbert.checks import COUNT, FLAG, NUMBER, Check, check_values, is_text, list_of
from cutbert.errors import Mistakes
from cutbert.shape.pooling import fits_stock
from cutbert.shape.shape import EncoderShape
from cutbert.table import Table, View, millions, number, points

HEADINGS = ("", "name", "dev", "select", "params M", "MACs M", "ms", "p95 ms", "texts/s", "stock")


def front_view(data: Mapping[str, Any]) -> View:
    """Return the uncut model and all subnets, those on the front marked, and how they were measured."""
    return (front_table([data["teacher"], *data["subnets"]]), *notes(data))


def front_table(entries: Sequence[Mapping[str, Any]]) -> Table:
    """Return a row for each network."""
    return Table(HEADINGS, tuple(map(front_row, entries)))


def front_row(entry: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        "*" if entry["on_front"] else "",
        entry["name"],
        points(entry["score"]),
        points(entry["select_score"]),
        millions(entry["params"]),
        millions(entry["macs"]),
        number(entry.get("latency_ms")),
        number(entry.get("latency_p95_ms")),
        number(entry.get("throughput_per_s")),
        "yes" if fits_stock(EncoderShape.from_json(entry["shape"]), entry.get("pooling")) else "",
    )


def metric_words(metric: str, of_select: str | None) -> str:
    """Return which metric scores which split."""
    return f"dev and select: {metric}" if of_select is None else f"dev: {metric}, select: {of_select}"


def notes(data: Mapping[str, Any]) -> View:
    """Return the lines that must appear below a front."""
    lines = [
        f"{metric_words(data['metric'], data.get('own_select_metric'))} in points; choices are made on select",
        "* on the front: nothing else has as good a select score for as few MACs",
    ]
    if data.get("select_is_dev"):
        lines.append("choices were made on the dev split itself, so dev scores are optimistic")
    if data.get("near_chance"):
        lines.append(f"the uncut model: {data['near_chance']}")
    if data.get("measured"):
        lines += [conditions_line(data["measured"]), *timing_lines(data["measured"])]
    if data.get("teacher_int8"):
        ms = number(data["teacher_int8"]["latency_ms"])
        lines.append(f"uncut, the model takes {ms} ms in int8 (onnx-int8); `cutbert export --int8` measures its score")
    return tuple(lines)


def conditions_line(measured: Mapping[str, Any]) -> str:
    """Return in one line how latencies were measured."""
    lengths: Sequence[int] = measured["lengths"]
    spread = str(lengths[0]) if lengths[0] == lengths[-1] else f"{lengths[0]} to {lengths[-1]}"
    return (
        f"ms: median at batch 1, {spread} tokens, {measured['backend']} on {measured['device']}, "
        f"{measured['threads']} threads, {measured['machine']['processor']}; texts/s: batches of "
        f"{measured['throughput_batch_size']} at {measured['throughput_length']} tokens"
    )


def timing_lines(measured: Mapping[str, Any]) -> tuple[str, ...]:
    """Return how far apart equal runs were, and a warning where the machine was not quiet; nothing where unknown."""
    warning = noise_warning(measured)
    return (*spread_lines(measured), *([] if warning is None else [f"beware: {warning}"]))


def spread_lines(measured: Mapping[str, Any]) -> tuple[str, ...]:
    """Return how far apart equal runs were, nothing where unknown."""
    quality = quality_of(measured)
    if quality is None:
        return ()
    spread, drift = (100 * (quality[name] - 1) for name in ("spread", "drift"))
    return (f"spread: the quartiles of equal runs are at most {spread:.0f} % apart, rounds {drift:.0f} %",)


def noise_warning(measured: Mapping[str, Any]) -> str | None:
    """Return what speaks against latencies, None where nothing does or nothing is known."""
    quality = quality_of(measured)
    if quality is None or quality["is_quiet"]:
        return None
    problems, times = "; ".join(quality["problems"]), 1 + quality["repeats"]
    return (
        f"the machine was not quiet when it was timed, {times} times over ({problems}); choices by ms may be wrong: "
        "measure again when nothing else runs"
    )


def quality_of(measured: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the JSON of the `bench.quality.TimingQuality` of stored latencies, None where there is no whole one."""
    quality = measured.get("quality")
    if not isinstance(quality, Mapping):
        return None
    mistakes = Mistakes()
    check_values(mistakes, "quality", quality, required=QUALITY, optional={"waited": NUMBER, "reversed": NUMBER})
    return None if mistakes.messages else quality


QUALITY: dict[str, Check] = {
    "is_quiet": FLAG,
    "spread": NUMBER,
    "drift": NUMBER,
    "repeats": COUNT,
    "problems": (list_of(is_text), "a list of texts"),
}
