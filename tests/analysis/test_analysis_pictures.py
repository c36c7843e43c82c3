"""Pictures of an analysis: what they say stands inside them."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("matplotlib")

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cutbert.analysis.pictures import draw_importance, draw_map, draw_probes

NAMES = ["layer0", "layer1", "layer2"]
PROBE = {"score": 0.8, "control": 0.5, "selectivity": 0.3, "train_score": 0.9, "control_train_score": 0.6}
RESULT: dict[str, Any] = {
    "model": "runs/teacher",
    "layers": NAMES,
    "site_layers": {"attention": NAMES, "feed_forward": NAMES[1:]},
    "cka": [[1.0, 0.5, None]] * 3,
    "cka_sites": {},
    "probe": dict.fromkeys(NAMES, PROBE),
    "probe_sites": {"attention": dict.fromkeys(NAMES, PROBE)},
    "probe_embeddings": PROBE,
    "importance": {name: {"attention": 0.1, "feed_forward": 0.2, "total": 0.3} for name in NAMES},
    "metric": "masked_accuracy",
    "probe_rows": "cls",
    "probe_examples": 2000,
    "rows": "tokens",
    "kernel": "linear",
    "estimator": "minibatch",
    "split": "train",
    "num_examples": 2000,
    "num_rows": 8000,
}


@pytest.mark.parametrize(
    "draw",
    [
        lambda figure: draw_map(figure, RESULT, "layer"),
        lambda f: draw_probes(f, RESULT),
        lambda f: draw_importance(f, RESULT),
    ],
    ids=["map", "probes", "importance"],
)
def test_no_label_is_cut_off(draw: Any) -> None:
    figure = Figure(layout="constrained")
    canvas = FigureCanvasAgg(figure)
    draw(figure)
    canvas.draw()
    for axes in figure.axes:
        for label in (axes.title, axes.xaxis.label, axes.yaxis.label):
            box = label.get_window_extent()
            assert box.x0 >= 0 <= box.y0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1, label.get_text()
