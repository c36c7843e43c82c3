"""Pictures of an analysis: CKA as a heat map, probes as curves, importance as bars. Loads matplotlib.

Nothing depends on hue alone: the map's colours differ in lightness and small maps print their values, curves differ
in markers and dashes, bars in hatching.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cutbert.files import replacing_file

COLOURS = "cividis"  # made to look the same with and without colour vision (Nunez et al. 2018)
LEAST_HEIGHT = 3.6  # inches of a map: the length of its colour bar's label
MOST_PRINTED = 14  # layers on a side of a map whose values are printed
CURVES = (  # marker, dashes, colour: of the layers' outputs, attention's, the feed-forwards'
    ("o", "-", "#00204d"),
    ("s", "--", "#5c6b7a"),
    ("^", ":", "#a5812a"),
)
CONTROLS = (("x", "-.", "#777777"), ("+", (0, (1, 3)), "#777777"))
STYLE = {"svg.fonttype": "none", "svg.hashsalt": "cutbert", "font.size": 9, "axes.spines.top": False}
SITE_NAMES = {"layer": "layer output", "attention": "attention output", "feed_forward": "feed-forward output"}
Draw = Callable[[Figure], None]


def draw_all(result: Mapping[str, Any], folder: Path, kind: str) -> list[str]:
    """Draw every picture that the result has numbers for; return the names of the files written.

    Args:
        result: JSON object of an analysis.
        folder: where the files are written, each whole or not at all.
        kind: svg or png.
    """
    drawings: dict[str, Draw] = {"cka": lambda figure: draw_map(figure, result, "layer")}
    for site in result["cka_sites"]:
        drawings[f"cka_{site}"] = lambda figure, site=site: draw_map(figure, result, site)  # type: ignore[misc]
    if "probe" in result:
        drawings["probe"] = lambda figure: draw_probes(figure, result)
    if "importance" in result:
        drawings["importance"] = lambda figure: draw_importance(figure, result)
    return [save(draw, folder / f"{name}.{kind}", kind) for name, draw in drawings.items()]


def save(draw: Draw, path: Path, kind: str) -> str:
    """Draw and write one picture; the same numbers give the same bytes."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(layout="constrained")
        draw(figure)
        with replacing_file(path) as aside:
            figure.savefig(aside, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
    return path.name


def draw_map(figure: Figure, result: Mapping[str, Any], site: str) -> None:
    """Draw the CKA of one kind of site: rows are our layers, columns those of the other model, or ours again."""
    values = result["cka"] if site == "layer" else result["cka_sites"][site]
    end = "_against" if "against" in result else ""
    rows, columns = (names_of(result, site, side) for side in ("", end))
    figure.set_size_inches(2.6 + 0.45 * len(columns), max(LEAST_HEIGHT, 1.8 + 0.42 * len(rows)))
    axes = figure.add_subplot()
    shown = [[float("nan") if value is None else value for value in row] for row in values]
    image = axes.imshow(shown, cmap=COLOURS, vmin=0.0, vmax=1.0, origin="lower")
    axes.spines[:].set_visible(False)
    axes.set_xticks(range(len(columns)), columns, rotation=60, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xlabel(short(result.get("against", result["model"])))
    axes.set_ylabel(short(result["model"]))
    axes.set_title(f"CKA, {SITE_NAMES[site]}s\n{conditions(result)}", fontsize=9)
    figure.colorbar(image, ax=axes, label="CKA (1: equal up to rotation and scale)", shrink=0.85)
    if max(len(rows), len(columns)) <= MOST_PRINTED:
        print_values(axes, values)


def print_values(axes: Axes, values: Sequence[Sequence[float | None]]) -> None:
    for i, row in enumerate(values):
        for j, value in enumerate(row):
            text, is_dark = ("-", False) if value is None else (f"{round(value, 2) + 0.0:.2f}", value < 0.45)
            axes.text(j, i, text, ha="center", va="center", fontsize=7, color="white" if is_dark else "black")


def draw_probes(figure: Figure, result: Mapping[str, Any]) -> None:
    """Draw the score of the probes at each layer, beside the control with shuffled labels."""
    figure.set_size_inches(7.0, 4.4)
    axes = figure.add_subplot()
    names = ["embeddings", *max(result["layers"], result.get("layers_against", []), key=len)]
    curves = {SITE_NAMES["layer"]: by_layer(result, "probe", names)}
    if "against" in result:
        curves = {short(result["model"]): curves.pop(SITE_NAMES["layer"])}
        theirs = by_layer(result, "probe", names, end="_against")
        curves[f"{short(result['against'])} (against)"] = theirs
    else:
        for site, probes_at in result["probe_sites"].items():
            curves[SITE_NAMES[site]] = [probes_at.get(name) for name in names]
    for (label, probes), (marker, dashes, colour) in zip(curves.items(), CURVES, strict=False):
        plot(axes, probes, "score", label, marker=marker, linestyle=dashes, color=colour)
    ours = by_layer(result, "probe", names)
    labels = {"control": "control: shuffled labels", "control_train_score": "control on its own training texts"}
    for (key, label), (marker, style, colour) in zip(labels.items(), CONTROLS, strict=True):
        plot(axes, ours, key, label, marker=marker, linestyle=style, color=colour)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_xlabel("layer")
    axes.set_ylabel(f"{result['metric']} (fraction of 1),\non dev unless said otherwise")
    rows = "[CLS]" if result["probe_rows"] == "cls" else "mean of tokens"
    axes.set_title(f"linear probes of {rows}, {result['probe_examples']:,} training texts", fontsize=9)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)


def by_layer(
    result: Mapping[str, Any], key: str, names: Sequence[str], end: str = ""
) -> list[Mapping[str, float] | None]:
    """Return the probes of the embeddings and the layers, in the order of names; None where there is none."""
    probes = {"embeddings": result[f"{key}_embeddings{end}"], **result[f"{key}{end}"]}
    return [probes.get(name) for name in names]


def plot(axes: Axes, probes: Sequence[Mapping[str, float] | None], key: str, label: str, **style: Any) -> None:
    points = [(i, probe[key]) for i, probe in enumerate(probes) if probe is not None]
    axes.plot([i for i, _ in points], [value for _, value in points], label=label, markersize=5, linewidth=1.3, **style)


def draw_importance(figure: Figure, result: Mapping[str, Any]) -> None:
    """Draw the importance of each layer's sub-layers side by side."""
    names = list(result["importance"])
    figure.set_size_inches(2.4 + 0.5 * len(names), 3.6)
    axes = figure.add_subplot()
    looks = {"attention": (-0.2, "", "#00204d"), "feed_forward": (0.2, "///", "#d9b84c")}
    for site, (shift, hatch, colour) in looks.items():
        places = [i for i, name in enumerate(names) if site in result["importance"][name]]
        heights = [result["importance"][names[i]][site] for i in places]
        label = {"attention": "attention (sum over heads)", "feed_forward": "feed-forward (sum over neurons)"}[site]
        axes.bar([i + shift for i in places], heights, 0.38, label=label, hatch=hatch, color=colour, edgecolor="black")
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_xlabel(f"layer of {short(result['model'])}")
    axes.set_ylabel("first-order change, in units of the loss")
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), frameon=False)


def names_of(result: Mapping[str, Any], site: str, end: str) -> list[str]:
    return result[f"layers{end}"] if site == "layer" else result[f"site_layers{end}"][site]


def conditions(result: Mapping[str, Any]) -> str:
    """Return one line about how a map was measured."""
    rows = {"tokens": "tokens", "cls": "texts by [CLS]", "mean": "texts by their mean"}[result["rows"]]
    return f"{result['kernel']}, {result['estimator']}, {result['num_rows']:,} {rows} of {result['split']}"


def short(name: str) -> str:
    """Return the last two parts of a model's path or id."""
    return "/".join(Path(name).parts[-2:])
