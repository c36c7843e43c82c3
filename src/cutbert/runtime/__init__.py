"""Runs exported model folders with onnxruntime, tokenizers and numpy alone: `load` gives one callable for each kind.

>>> from cutbert.runtime import load
>>> model = load("small")  # doctest: +SKIP
>>> model(["a fine film", "a dull one"])  # doctest: +SKIP
[{'label': 'good', 'probabilities': {'bad': 0.02, 'good': 0.98}}, {'label': 'bad', 'probabilities': ...}]
"""

from __future__ import annotations

from cutbert.runtime.load import load
from cutbert.runtime.readers import Reader
from cutbert.runtime.runner import Model
from cutbert.runtime.taggers import Tagger
from cutbert.runtime.texts import Labeller, Scorer
from cutbert.runtime.vectors import Embedder

__all__ = ["Embedder", "Labeller", "Model", "Reader", "Scorer", "Tagger", "load"]
