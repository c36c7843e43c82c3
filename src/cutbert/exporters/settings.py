"""What exporting needs to know. No torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from cutbert.errors import InputError, Mistakes


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """What to write, where, and how much int8 may cost."""

    onnx: bool = field(default=False, metadata={"help": "Write onnx/model.onnx in float32."})
    int8: bool = field(default=False, metadata={"help": "Write onnx/model_qint8_*.onnx, where it scores well enough."})
    stock: bool = field(
        default=False, metadata={"help": "Refuse unless plain transformers holds the model; with --out."}
    )
    max_drop: float = field(
        default=0.5, metadata={"help": "Points of the select score that int8 may lose; more is refused."}
    )
    gate: bool = field(default=True, metadata={"help": "Whether int8 must keep to --max-drop; off, no data is needed."})
    calibration: Literal["dynamic", "static"] = field(
        default="dynamic",
        metadata={"help": "Ranges of int8 activations: found at run time, or fixed on training rows."},
    )
    calibration_samples: int = field(default=128, metadata={"help": "Training rows of --calibration static."})
    out: str | None = field(default=None, metadata={"help": "New model folder; default: MODEL itself gets the files."})
    threads: int | None = field(default=None, metadata={"help": "CPU threads; default all cores."})

    def check(self) -> None:
        """Raise unless there is something to write, numbers are in range and all options have an effect.

        Raises:
            InputError: all mistakes together.
        """
        mistakes = Mistakes()
        if not (self.onnx or self.int8 or self.stock):
            mistakes.add("export must be told what to write: --onnx, --int8 or --stock")
        if not 0 <= self.max_drop <= 100:
            mistakes.add(f"--max-drop must lie in 0..100 points, got {self.max_drop:g}")
        for name in ("threads", "calibration_samples"):
            value = getattr(self, name)
            if value is not None and value < 1:
                mistakes.add(f"--{name.replace('_', '-')} must be at least 1, got {value}")
        if not self.int8:
            changed = {"--max-drop": self.max_drop != 0.5, "--no-gate": not self.gate}
            changed["--calibration"] = self.calibration != "dynamic"
            mistakes.extend(f"{name} must come with --int8" for name, is_given in changed.items() if is_given)
        if self.calibration_samples != 128 and self.calibration != "static":
            mistakes.add("--calibration-samples must come with --calibration static")
        if self.stock and self.out is None:
            mistakes.add("--stock must come with --out: it writes a whole model folder")
        out = None if self.out is None else Path(self.out)
        if out is not None and out.exists() and (not out.is_dir() or any(out.iterdir())):
            mistakes.add(f"--out must be absent or an empty folder, but {out} is not")
        for parent in [] if out is None else out.parents:
            if parent.exists() and not parent.is_dir():
                mistakes.add(f"--out must lie in a folder, but {parent} is a file")
        mistakes.check(InputError)
