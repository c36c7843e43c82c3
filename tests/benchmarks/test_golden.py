"""The golden comparison repeats a command to the bit, and names each place where an output differs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

GOLDEN = Path(__file__).parents[2] / "benchmarks" / "golden.py"


def golden(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(GOLDEN), *map(str, words), "--tiny", "--only", "finetune"]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_a_changed_weight_is_the_only_difference(tmp_path: Path) -> None:
    made = golden("make", tmp_path)
    assert made.returncode == 0 and "1 commands, failed: 0" in made.stdout, made.stderr
    path = tmp_path / "golden.json"
    kept = json.loads(path.read_text(encoding="utf-8"))
    kept["finetune"]["finetune/model/model.safetensors"] = "0" * 64
    path.write_text(json.dumps(kept), encoding="utf-8")
    compared = golden("compare", path)
    assert compared.returncode == 1
    (line,) = compared.stdout.splitlines()
    assert line.startswith('finetune | finetune/model/model.safetensors: "000')
