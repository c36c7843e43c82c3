"""How results look to people: tables made of the --json objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from rich.console import Group, RenderableType
from rich.table import Table

MILLION = 1_000_000


def points(value: float | None) -> str:
    """Return a fraction of 1 in points, or nothing."""
    return "" if value is None else f"{100 * value:.2f}"


def millions(value: float | None) -> str:
    return "" if value is None else f"{value / MILLION:,.1f}"


def number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def plain_table(*headings: str) -> Table:
    """Return an empty table that fits 80 columns: words to the left, numbers to the right, nothing cut off.

    A heading of two words takes two lines. Only a model's path is folded where a line is too short.
    """
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for name in headings:
        justify: Literal["left", "right"] = "left" if name in ("", "name", "model", "backend", "stock") else "right"
        table.add_column(name.replace(" ", "\n"), justify=justify, overflow="fold", no_wrap=name != "model")
    return table


def pairs_table(pairs: Mapping[str, Any]) -> Table:
    """Return names and values, a line each."""
    table = Table(show_header=False, box=None)
    for name, value in pairs.items():
        table.add_row(name, str(value))
    return table


def front_table(data: Mapping[str, Any]) -> RenderableType:
    """Return the teacher and all subnets, those on the front marked, and how they were measured."""
    table = plain_table("", "name", "dev", "select", "params M", "MACs M", "ms", "p95 ms", "texts/s", "stock")
    for entry in (data["teacher"], *data["subnets"]):
        table.add_row(
            "*" if entry["on_front"] else "",
            entry["name"],
            points(entry["score"]),
            points(entry["select_score"]),
            millions(entry["params"]),
            millions(entry["macs"]),
            number(entry.get("latency_ms")),
            number(entry.get("latency_p95_ms")),
            number(entry.get("throughput_per_s")),
            "yes" if is_stock(entry) else "",
        )
    return Group(table, *notes(data))


def notes(data: Mapping[str, Any]) -> list[str]:
    """Return the lines that must stand below a front."""
    lines = [
        f"dev and select: {data['metric']} in points; choices are made on select",
        "* on the front: nothing else has as good a select score for as few MACs",
    ]
    if data.get("select_is_dev"):
        lines.append("choices were made on the dev split itself, so dev scores are optimistic")
    if data.get("measured"):
        lines.append(conditions_line(data["measured"]))
    return lines


def conditions_line(measured: Mapping[str, Any]) -> str:
    """Return in one line what stands behind latencies."""
    lengths: Sequence[int] = measured["lengths"]
    spread = str(lengths[0]) if lengths[0] == lengths[-1] else f"{lengths[0]} to {lengths[-1]}"
    return (
        f"ms: median at batch 1, {spread} tokens, {measured['backend']} on {measured['device']}, "
        f"{measured['threads']} threads, {measured['machine']['processor']}; texts/s: batches of "
        f"{measured['throughput_batch_size']} at {measured['throughput_length']} tokens"
    )


def is_stock(entry: Mapping[str, Any]) -> bool:
    from cutbert.shape.shape import EncoderShape

    return EncoderShape.from_json(entry["shape"]).is_stock


def scores_table(data: Mapping[str, Any]) -> RenderableType:
    """Return what a fine-tuning reached."""
    pairs = {data["metric"]: f"{points(data['score'])} on dev, {points(data['select_score'])} on select"}
    pairs |= {name: points(value) for name, value in data["metrics"].items() if name != data["metric"]}
    pairs |= {"time": f"{data['seconds']:.0f} s", "in": data["out"]}
    if data.get("select_is_dev"):
        pairs["mind"] = "select is the dev split itself"
    return pairs_table(pairs)


def perplexity_table(data: Mapping[str, Any]) -> RenderableType:
    """Return what masked-LM training reached."""
    return pairs_table(
        {
            "perplexity": f"{data['perplexity']:.2f} of the masked tokens of held-out text (loss {data['loss']:.4f})",
            "tokens": f"{data['tokens']:,} trained on, {data['tokens_per_s']:,.0f} a second",
            "time": f"{data['seconds']:.0f} s",
            "in": data["out"],
        }
    )


def models_table(data: Mapping[str, Any]) -> RenderableType:
    """Return measured models side by side."""
    score = [data["metric"]] if "metric" in data else []
    names = ("params M", "MACs M", "ms", "p95 ms", "texts/s", "peak MB", "load ms", "file MB")
    table = plain_table("model", "backend", *score, *names)
    for entry in data["models"]:
        table.add_row(
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
    return Group(table, conditions_line(data["measured"]))
