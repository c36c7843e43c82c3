"""What exporting needs to know. No torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from cutbert.options import option
from cutbert.settings import METHOD, RUN, ThreadSettings, out_mistakes


@dataclass(frozen=True, kw_only=True)
class ExportSettings(ThreadSettings):
    """What to write, where, and how much int8 may cost."""

    GROUP = METHOD

    onnx: bool = field(default=False, metadata=option("Write onnx/model.onnx in float32.", is_common=True))
    int8: bool = field(
        default=False, metadata=option("Write onnx/model_qint8_*.onnx, where it scores well enough.", is_common=True)
    )
    stock: bool = field(
        default=False,
        metadata=option("Refuse unless plain transformers holds the model; with --out.", is_common=True),
    )
    out: str | None = field(
        default=None,
        metadata=option("New model folder; default: MODEL itself gets the files.", group=RUN, is_common=True),
    )
    max_drop: float = field(
        default=0.5,
        metadata=option("What int8 may lose of the select score; more is refused.", least=0, most=100, unit="points"),
    )
    gate: bool = field(default=True, metadata=option("Whether int8 must keep to --max-drop; --no-gate needs no data."))
    calibration: Literal["dynamic", "static"] = field(
        default="dynamic",
        metadata=option("Ranges of int8 activations: measured at run time, or fixed on training rows."),
    )
    calibration_samples: int = field(
        default=128, metadata=option("Training rows of --calibration static.", least=1, unit="rows")
    )

    def missing(self) -> Iterable[str]:
        if not (self.onnx or self.int8 or self.stock):
            yield "export must have one of --onnx, --int8 and --stock, got none"

    def conflicts(self) -> Iterable[str]:
        if not self.int8:
            for name in self.given("max_drop", "gate", "calibration"):
                yield f"{'--no-gate' if name == '--gate' else name} must come with --int8"
        if self.is_given("calibration_samples") and self.calibration != "static":
            yield "--calibration-samples must come with --calibration static"
        if self.stock and self.out is None:
            yield "--stock must come with --out: it writes a whole model folder"
        yield from out_mistakes(self.out)
