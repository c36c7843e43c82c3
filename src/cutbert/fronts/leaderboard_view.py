"""How a leaderboard looks to people: a table, and in one line what was given up for what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cutbert.fronts.view import conditions_line, timing_lines
from cutbert.shape.shape import EncoderShape
from cutbert.table import MILLION, Table, View, number, points

if TYPE_CHECKING:
    from cutbert.fronts.leaderboard import Leaderboard, LeaderboardEntry

HEADINGS = ("", "name", "kind", "backend", "steps", "score", "ms", "p95 ms", "texts/s", "MB", "within limit")
LIMIT = "made for"  # a column where there are several limits
WORDS = ("", "name", "kind", "backend", LIMIT, "within limit")
KINDS = {
    "teacher": "the uncut model",
    "layers": "whole layers left out; layers-0-3 keeps the layers 0 and 3",
    "sizes": "heads and neurons left out: in thin-3 the same share of 3 layers, in knapsack what is missed least",
    "undivided": "feed-forwards left out: of the 3 layers of undivided-3, or attentions too in sub-layers",
    "gates": "hidden units, heads and neurons left out by learned gates",
    "student": "a smaller model that was given, or some of its layers",
}
DTYPES = {"torch": "float32", "torch-bf16": "bf16", "onnx": "float32", "onnx-int8": "int8"}


def leaderboard_view(leaderboard: Leaderboard) -> View:
    """Return the verdict, everything that was tried, what was chosen marked, and how it was measured."""
    return (verdict(leaderboard), leaderboard_table(leaderboard.entries), *notes(leaderboard))


def leaderboard_table(entries: Sequence[LeaderboardEntry]) -> Table:
    """Return a row for each entry; where there are several limits also for which one it was made."""
    rows = tuple(map(leaderboard_row, entries))
    if not any(entry.limit for entry in entries):
        return Table(HEADINGS, rows, left=WORDS)
    limits = (LIMIT, *(entry.limit or "" for entry in entries))
    with_limits = ((*row[:-1], limit, row[-1]) for row, limit in zip((HEADINGS, *rows), limits, strict=True))
    headings, *rest = with_limits
    return Table(headings, tuple(rest), left=WORDS)


def leaderboard_row(entry: LeaderboardEntry) -> tuple[str, ...]:
    return (
        "*" if entry.chosen else "",
        entry.name,
        entry.kind,
        entry.backend,
        f"{entry.steps:,}",
        score_words(entry),
        number(entry.latency_ms),
        number(entry.latency_p95_ms),
        f"{entry.throughput_per_s:,.0f}",
        f"{entry.file_bytes / MILLION:,.1f}",
        "yes" if entry.within_limit else "",
    )


def score_words(entry: LeaderboardEntry) -> str:
    """Return a score in points, with its interval where it is known."""
    if entry.interval is None:
        return points(entry.score)
    low, high = entry.interval
    return f"{points(entry.score)} [{100 * low:.1f}, {100 * high:.1f}]"


def notes(leaderboard: Leaderboard) -> View:
    """Return the lines that must appear below a leaderboard."""
    scored = f"score: {leaderboard.metric} on dev in points, with its 95 % interval"
    lines = [f"{scored}; choices are made on {select_words(leaderboard.select_is_dev)}"]
    if leaderboard.own_select_metric is not None:
        lines[0] += f", by {leaderboard.own_select_metric}"
    lines += kind_lines(leaderboard.entries)
    lines.append("* chosen: " + (limit_words(leaderboard) or "no limit was given"))
    if leaderboard.select_is_dev:
        lines.append("choices were made on the dev split itself, so dev scores are optimistic")
    if leaderboard.measured:
        measured = leaderboard.measured
        lines += [conditions_line(measured), *timing_lines(measured)]
    if leaderboard.tokenizer_ms is not None:
        lines.append(f"to tokenize a text takes {leaderboard.tokenizer_ms:.2f} ms more")
    return (*lines, *leaderboard.notes)


def select_words(is_dev: bool) -> str:
    """Return the rows that choices are made on."""
    return "dev itself" if is_dev else "select, held-out rows"


def kind_lines(entries: Sequence[LeaderboardEntry]) -> list[str]:
    """Return what the kinds of cuts and their names mean."""
    kinds = dict.fromkeys(entry.kind for entry in entries)
    return [f"{kind}: {KINDS[kind]}" for kind in kinds if kind != "teacher"]


def limit_words(leaderboard: Leaderboard) -> str:
    """Return the limits as the options that set them, with what they hold on."""
    limits = leaderboard.limits.items()
    words = [f"--{name.replace('_', '-')} {listed(value)}" for name, value in limits if value not in (None, [], ())]
    return f"{' '.join(words)} on {leaderboard.backend}" if words else ""


def listed(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def verdict(leaderboard: Leaderboard) -> str:
    """Return in one line what was given up for what, for each limit.

    Speed, size and score are compared with `Leaderboard.uncut`.
    """
    chosen = leaderboard.chosen
    if not chosen:
        return nothing_words(leaderboard)
    parts = [chosen_words(leaderboard, entry) for entry in chosen]
    if len(chosen) == 1:
        return parts[0]
    return "; ".join(f"at {entry.limit}, {part}" for entry, part in zip(chosen, parts, strict=True))


def nothing_words(leaderboard: Leaderboard) -> str:
    if not leaderboard.entries:
        return "nothing was tried"
    fastest = min(leaderboard.entries, key=lambda entry: entry.latency_ms)
    return (
        f"nothing met the limits ({limit_words(leaderboard)}); the fastest was {fastest.name}, "
        f"{fastest.latency_ms:.1f} ms, {fastest.file_bytes / MILLION:.1f} MB"
    )


def chosen_words(leaderboard: Leaderboard, entry: LeaderboardEntry) -> str:
    """Return what was given up for what in one chosen network."""
    uncut, dtype = leaderboard.uncut, dtype_of(entry)
    on_dev = f"{100 * entry.score:.1f} points of {leaderboard.metric} on dev"
    if entry.kind == "teacher":
        return f"the {uncut_words(entry)} ({entry.latency_ms:.1f} ms, {on_dev}): no cut was as good and cheaper"
    if uncut is None:
        return f"{entry.name}, {dtype}: {entry.latency_ms:.1f} ms, {on_dev}"
    gain = speed_words(uncut.latency_ms, entry.latency_ms, f"the {uncut_words(uncut)}")
    is_size_limited = leaderboard.limits.get("max_bytes") or leaderboard.limits.get("max_params")
    if is_size_limited and uncut.file_bytes and entry.file_bytes:
        gain += f", {size_words(uncut.file_bytes, entry.file_bytes)},"
    loss = f"{loss_words(uncut, entry)} points of {leaderboard.metric}"
    bounds = "" if entry.difference is None else f" {bounds_words(entry.difference['low'], entry.difference['high'])}"
    return f"{cut_words(entry, uncut.shape)}, {dtype}: {gain} for {loss}{bounds} on dev"


def uncut_words(entry: LeaderboardEntry) -> str:
    return f"uncut {dtype_of(entry)} {'file' if entry.backend.startswith('onnx') else 'model'}"


def dtype_of(entry: LeaderboardEntry) -> str:
    return DTYPES.get(entry.backend, entry.backend)


def speed_words(before_ms: float, after_ms: float, than: str) -> str:
    """Return how much faster a network is than another one, and both times.

    >>> speed_words(3.9, 2.1, "the uncut int8 file")
    '1.9 times faster than the uncut int8 file (3.9 to 2.1 ms)'
    >>> speed_words(2.0, 2.04, "the uncut int8 file")
    'as fast as the uncut int8 file (2.0 to 2.0 ms)'
    >>> speed_words(1.2, 0.65, "the uncut int8 file")
    '1.8 times faster than the uncut int8 file (1.20 to 0.65 ms)'
    """
    digits = 1 if min(before_ms, after_ms) >= 1 else 2
    times = f"({before_ms:.{digits}f} to {after_ms:.{digits}f} ms)"
    said = times_words(before_ms, after_ms, "faster", "slower", "as fast")
    return f"{said} {'as' if said == 'as fast' else 'than'} {than} {times}"


def size_words(before_bytes: int, after_bytes: int) -> str:
    sizes = f"({before_bytes / MILLION:.1f} to {after_bytes / MILLION:.1f} MB)"
    return f"{times_words(before_bytes, after_bytes, 'smaller', 'larger', 'as large')} {sizes}"


def times_words(before: float, after: float, less: str, more: str, same: str) -> str:
    """Return by what factor a cost changed.

    >>> times_words(3.9, 2.1, "faster", "slower", "as fast")
    '1.9 times faster'
    """
    factor, word = max((before / after, less), (after / before, more))
    said = f"{factor:.1f}"
    return same if said == "1.0" else f"{said} times {word}"


def loss_words(uncut: LeaderboardEntry, entry: LeaderboardEntry) -> str:
    """Return the difference of the scores in points, the paired one where it is known."""
    return signed(entry.score - uncut.score if entry.difference is None else entry.difference["mean"])


def bounds_words(low: float, high: float) -> str:
    return f"[{signed(low)}, {signed(high)}]"


def signed(value: float) -> str:
    """Return a difference of fractions of 1 in points, with its sign.

    >>> signed(-0.0042), signed(0.002), signed(-0.0001)
    ('-0.4', '+0.2', '0.0')
    """
    said = f"{100 * value:+.1f}"
    return "0.0" if said in ("+0.0", "-0.0") else said


def cut_words(entry: LeaderboardEntry, uncut: EncoderShape) -> str:
    """Return what of the uncut model is left, such as "3 of 6 layers"; the name where nothing can be counted.

    Of a student, which is another model, its name and its own sizes.
    """
    if entry.kind == "student":
        count = entry.shape.num_layers
        return f"{entry.name} ({count} layer{'s' * (count > 1)} of {entry.shape.hidden_size})"
    return ", ".join(what_is_left(entry.shape, uncut)) or entry.name


def what_is_left(shape: EncoderShape, uncut: EncoderShape) -> list[str]:
    """Return, for all that a shape has less of than the uncut one, how much.

    Whatever goes with a layer that is left out is not counted again: sub-layers are named only where a kept layer
    lacks one, heads and neurons only where a kept sub-layer has fewer.
    """
    parts = []
    if shape.hidden_size < uncut.hidden_size:
        parts.append(f"hidden size {shape.hidden_size} of {uncut.hidden_size}")
    if shape.num_layers < uncut.num_layers:
        parts.append(f"{shape.num_layers} of {uncut.num_layers} layers")
    attentions = [layer.num_heads for layer in shape.layers if layer.has_attention]
    forwards = [layer.intermediate_size for layer in shape.layers if layer.has_feed_forward]
    for name, unit, sizes, whole in (
        ("attentions", "heads", attentions, [layer.num_heads for layer in uncut.layers]),
        ("feed-forwards", "neurons", forwards, [layer.intermediate_size for layer in uncut.layers]),
    ):
        if len(sizes) < shape.num_layers:
            parts.append(f"{len(sizes)} of {len(whole)} {name}")
        if any(size not in whole for size in sizes):
            parts.append(f"{sum(sizes):,} of {sum(whole):,} {unit}")
    return parts
