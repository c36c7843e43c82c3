"""The demo reviews: short customer reviews, positive or negative, written by this project."""

from __future__ import annotations

from pathlib import Path

TRAIN_FILE = Path(__file__).with_name("train.tsv")
SELECT_FILE = Path(__file__).with_name("select.tsv")
DEV_FILE = Path(__file__).with_name("dev.tsv")
TEXT_COLUMN = "text"
LABEL_COLUMN = "label"


def read_reviews(path: Path) -> tuple[list[str], list[str]]:
    """Return the texts and the labels ("negative" or "positive") of one of the three files."""
    _, *lines = path.read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines]
    return [text for text, _ in rows], [label for _, label in rows]
