"""Writes what README and docs show out of the records, and docs/evidence.svg; --check compares them.

A page shows a result between two comments that name it. Outside of these, pages of results have no figure of their own.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import base_size_tables
import equal_cost
import evidence
import fit_pieces
import log_tables
import page_tables
from results import has_record, read_first_from

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PICTURE = DOCS / "evidence.svg"
BEGIN, END = "<!-- {name}: python benchmarks/figures.py -->", "<!-- end of {name} -->"
RESULT_SECTIONS = ("What we measured", "How good it is", "Results")
UNITS = "points?|ms|s|seconds|minutes|hours|[kKMG]i?B|times"
NUMBERS = "two|three|four|five|six|seven|eight|nine|ten|eleven|twelve"
FIGURE = re.compile(
    rf"(?<![\w.])[-+]?\d+\.\d+(?![\w.]*\d)|(?<![\w.,-])[-+]?\d[\d,]* (?:%|(?:{UNITS})\b)"
    rf"|\b(?:all|(?:{NUMBERS}) of) (?:{NUMBERS})\b"
)
BLOCKS: dict[Path, dict[str, Callable[[], str]]] = {
    ROOT / "README.md": {"base-size": evidence.base_size},
    DOCS / "fit.md": {"fit": page_tables.fit_table, "fit-verdict": evidence.fit_line},
    DOCS / "evidence.md": {
        "glance": evidence.glance_table,
        "claims": evidence.claims_table,
        "weak": page_tables.weak_line,
        "base-size": base_size_tables.long_table,
        "int8": equal_cost.int8_table,
        "latency": equal_cost.latency_table,
        "parameters": equal_cost.parameter_table,
        "ablation": page_tables.ablation_table,
        "ablation-size": page_tables.ablation_line,
        "pilots": fit_pieces.pilots_table,
        "pilots-run": fit_pieces.pilots_line,
        "race": fit_pieces.race_table,
        "repair": fit_pieces.repair_table,
        "int8-training": fit_pieces.int8_lines,
        "sources": evidence.sources_table,
        "cost": evidence.cost_table,
    },
    DOCS / "dynabert.md": {"family": page_tables.family_table, "weak": page_tables.weak_line},
    DOCS / "schubert.md": {
        "cuts": page_tables.cuts_table,
        "weak": page_tables.weak_line,
        "questions": page_tables.questions_line,
        "dims": page_tables.dims_line,
        "rescaled": log_tables.rescaled_line,
    },
    DOCS / "undivided.md": {
        "kept": page_tables.kept_table,
        "weak": page_tables.weak_line,
        "none-kept": page_tables.none_kept_line,
    },
    DOCS / "depth.md": {"chosen": page_tables.depth_table},
    DOCS / "embedding.md": {
        "embedding": page_tables.embedding_table,
        "embedding-goals": page_tables.embedding_goals_table,
        "student": page_tables.student_table,
    },
    DOCS / "export.md": {
        "noise": page_tables.noise_line,
        "int8": page_tables.backends_table,
        "rivals": page_tables.rivals_table,
        "rivals-run": page_tables.rivals_line,
        "rivals-two-threads": page_tables.rivals_of_two_threads,
        "rivals-avx2": page_tables.rivals_of_avx2,
        "operators": page_tables.operators_table,
        "operators-avx2": page_tables.operators_of_avx2,
        "options": page_tables.options_table,
        "batches": page_tables.batches_line,
        "stock-export": page_tables.stock_export_table,
        "windows": page_tables.window_table,
        "trim": page_tables.trim_table,
    },
    DOCS / "index.md": {"runtime": page_tables.runtime_table, "serving": page_tables.serving_table},
    DOCS / "search.md": {"gains": page_tables.search_table, "more": log_tables.search_lines},
    DOCS / "log.md": {
        "families": log_tables.family_lines,
        "cuts": log_tables.cut_lines,
        "gamma": log_tables.gamma_table,
        "sizes": log_tables.cut_sizes_table,
        "rescaled": log_tables.rescaled_line,
        "text": log_tables.text_table,
        "undivided": log_tables.undivided_table,
        "undivided-more": log_tables.undivided_lines,
        "depth": log_tables.depth_table,
        "search": log_tables.search_lines,
        "backends": log_tables.backend_lines,
        "speed": log_tables.speed_lines,
        "reliability": log_tables.reliability_lines,
    },
}


def split_page(text: str, name: str) -> tuple[str, str, str]:
    """Return a page's text before a block, the block, and the text after it."""
    begin, end = BEGIN.format(name=name), END.format(name=name)
    before, rest = text.split(f"{begin}\n")
    shown, after = rest.split(end)
    return f"{before}{begin}\n", shown, f"{end}{after}"


def written(page: Path) -> str:
    """Return a page as it must be."""
    text = page.read_text(encoding="utf-8")
    for name, make in BLOCKS[page].items():
        before, _, after = split_page(text, name)
        text = before + make() + after
    return text


def own_figures(page: Path) -> list[str]:
    """Return the figures of a page's prose on results: outside of blocks, code and links.

    Prose is on results in sections of results, and in any paragraph that names a record's file. Figures are decimals,
    whole numbers with a unit, and counts in words ("all twelve", "four of six"); whole numbers alone are settings.
    """
    text = page.read_text(encoding="utf-8")
    for name in BLOCKS.get(page, ()):
        before, _, after = split_page(text, name)
        text = before + after
    found = []
    for section in re.split(r"^## ", re.sub(r"```.*?```", "", text, flags=re.DOTALL), flags=re.MULTILINE):
        is_of_results = page.name in ("evidence.md", "log.md") or section.startswith(RESULT_SECTIONS)
        for paragraph in re.split(r"\n\s*\n", section):
            if is_of_results or any(has_record(name) for name in re.findall(r"`(\w+)\.json`", paragraph)):
                found += FIGURE.findall(re.sub(r"`[^`]*`|\]\([^)]*\)|95 %", "", paragraph))
    return found


def mistakes() -> list[str]:
    """Return what differs from the records, and which pages have figures of their own."""
    found = [f"{page.name}: not what the records say" for page in BLOCKS if page.read_text("utf-8") != written(page)]
    for page in (ROOT / "README.md", *sorted(DOCS.glob("*.md"))):
        figures = own_figures(page)
        found += [f"{page.name}: {', '.join(figures)} must come from a record"] if figures else []
    return found + ([] if evidence.is_drawn(PICTURE) else [f"{PICTURE.name}: not what the records say"])


def placed(page: Path, folder: Path | None) -> Path:
    return page if folder is None else folder / page.name


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where something differs")
    parser.add_argument("--records", type=Path, help="folder of records that stand for those of the same name")
    parser.add_argument("--out", type=Path, help="folder to write the pages to, and leave those that are there")
    args = parser.parse_args(argv)
    if args.records:
        read_first_from(args.records)
    if args.check:
        found = mistakes()
        print("\n".join([*found, *(["run python benchmarks/figures.py"] if found else [])]), file=sys.stderr)
        return 1 if found else 0
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
    for page in BLOCKS:
        placed(page, args.out).write_text(written(page), encoding="utf-8")
    if not evidence.is_drawn(placed(PICTURE, args.out)):
        evidence.draw(placed(PICTURE, args.out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
