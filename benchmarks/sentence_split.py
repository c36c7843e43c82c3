"""Makes a copy of SST-2 whose dev set is whole sentences held out of *training*, to choose recipes on.

    python benchmarks/sentence_split.py GLUE_DIR OUT [--sentences 1500]

SST-2's training rows are phrases of its sentences, its dev rows whole sentences. A random part of training
says little about dev: short phrases, most of them inside other training rows. Here whole sentences are held
out, together with every phrase of three or more words that occurs in one of them. The task's own dev set is not read.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from pathlib import Path

from cutbert.files import replacing_folder

HEADER = "sentence\tlabel"
SHORTEST_SENTENCE = 8
SHORTEST_LEAK = 3


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--sentences", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    lines = (options.data_dir / "SST-2" / "train.tsv").read_text(encoding="utf-8").splitlines()[1:]
    rows = [tuple(line.split("\t")[0].split()) for line in lines]
    sentences = whole_sentences(rows)
    held = set(random.Random(options.seed).sample(sentences, options.sentences))
    leaks = {part for index in held for part in parts(rows[index]) if len(part) >= SHORTEST_LEAK}
    train = [line for index, line in enumerate(lines) if index not in held and rows[index] not in leaks]
    dev = [lines[index] for index in sorted(held)]
    with replacing_folder(options.out) as folder:
        task = folder / "SST-2"
        task.mkdir()
        for name, split in (("train", train), ("dev", dev)):
            (task / f"{name}.tsv").write_text("\n".join([HEADER, *split, ""]), encoding="utf-8")
    print(f"{len(sentences)} whole sentences; {len(train)} rows left to train on, {len(dev)} held out")


def whole_sentences(rows: list[tuple[str, ...]]) -> list[int]:
    """Return the rows of some length that are no part of another row."""
    inside = {part for row in rows for part in parts(row) if len(part) >= SHORTEST_SENTENCE and part != row}
    seen: set[tuple[str, ...]] = set()
    chosen = []
    for index, row in enumerate(rows):
        if len(row) >= SHORTEST_SENTENCE and row not in inside and row not in seen:
            chosen.append(index)
            seen.add(row)
    return chosen


def parts(row: tuple[str, ...]) -> set[tuple[str, ...]]:
    """Return every run of words of a row."""
    return {row[start:stop] for start in range(len(row)) for stop in range(start + 1, len(row) + 1)}


if __name__ == "__main__":
    main()
