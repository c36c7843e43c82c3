"""What exporting needs to know. No torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from cutbert.options import option
from cutbert.settings import METHOD, RUN, ThreadSettings, out_mistakes

LayoutName = Literal[
    "default", "transformers.js", "sentence-transformers", "optimum", "fastembed", "tei", "triton", "openvino"
]
# `default`: of these all that serve the model; their files go together.
TOGETHER: tuple[LayoutName, ...] = ("transformers.js", "sentence-transformers", "optimum", "fastembed")
BOTH = {"default", "transformers.js"}  # whose loader takes float32 or int8 by where it runs
INT8 = {"tei"}  # whose loader takes one file and is for CPUs


@dataclass(frozen=True, kw_only=True)
class ExportSettings(ThreadSettings):
    """What to write, where, and how much int8 may cost."""

    GROUP = METHOD

    layouts: tuple[LayoutName, ...] = field(
        default=(),
        metadata=option(
            "Lay the new folder out for a loader; default: for those that share one. --onnx, --int8 choose the files.",
            flag="--for",
            is_common=True,
        ),
    )
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
    trim_vocab: bool = field(
        default=False,
        metadata=option("Leave out tokens that the training texts and common text do not use; with --out."),
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

    @property
    def wants_float(self) -> bool:
        """Whether a file in float32 is written: asked for, or a loader's own choice where neither kind is."""
        return self.onnx or (not self.int8 and bool(set(self.layouts) - INT8))

    @property
    def wants_int8(self) -> bool:
        """Whether a file in int8 is written; as `wants_float`."""
        return self.int8 or (not self.onnx and bool(set(self.layouts) & (INT8 | BOTH)))

    def missing(self) -> Iterable[str]:
        if not (self.onnx or self.int8 or self.stock or self.layouts):
            yield "export must have one of --onnx, --int8, --for and --stock, got none"

    def conflicts(self) -> Iterable[str]:
        if not self.wants_int8:
            for name in self.given("max_drop", "gate", "calibration"):
                yield f"{'--no-gate' if name == '--gate' else name} must come with --int8"
        if self.is_given("calibration_samples") and self.calibration != "static":
            yield "--calibration-samples must come with --calibration static"
        for name in (*(["--for"] if self.layouts else []), *self.given("stock", "trim_vocab")):
            if self.out is None:
                yield f"{name} must come with --out: it writes a whole model folder"
        yield from layout_mistakes(self)
        yield from out_mistakes(self.out)


def layout_mistakes(settings: ExportSettings) -> Iterable[str]:
    """Yield what is wrong with the layouts asked for together, and with the files they are to have."""
    names = set(settings.layouts)
    if "openvino" in names and not settings.wants_float:
        yield "--for openvino must come with --onnx: OpenVINO's converter takes float32"
    if names == {"openvino"} and settings.int8:
        yield "--for openvino alone must come without --int8: none of its files is in int8"
    if names == {"tei"} and settings.onnx and settings.int8:
        yield "--for tei alone must come with --onnx or with --int8, got both: it reads one file"
    if "tei" in names and settings.wants_int8:
        for name in sorted(names & {"default", "sentence-transformers", "optimum"}):
            yield (
                f"--for tei must be alone or with --onnx beside {name}: tei's int8 is the model.onnx of the folder "
                f"itself, and {name} would take it for its own"
            )
