"""How a front looks to people, made of its JSON object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

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


def notes(data: Mapping[str, Any]) -> View:
    """Return the lines that must appear below a front."""
    lines = [
        f"dev and select: {data['metric']} in points; choices are made on select",
        "* on the front: nothing else has as good a select score for as few MACs",
    ]
    if data.get("select_is_dev"):
        lines.append("choices were made on the dev split itself, so dev scores are optimistic")
    if data.get("near_chance"):
        lines.append(f"the uncut model: {data['near_chance']}")
    if data.get("measured"):
        lines.append(conditions_line(data["measured"]))
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
