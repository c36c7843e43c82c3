"""The page of evidence: claims with their verdicts as tables and a picture, where records come from, what they cost."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import base_size_tables
from claim_rows import PAPERS
from claims import Claim, Notes, labelled
from everything import JOBS, least, time_text
from findings import fit_gaps
from planned_rows import as_planned
from results import (
    CANNOT_TELL,
    CONTRADICTED,
    NOT_RUN,
    NOT_SHOWN,
    SHOWN,
    Gap,
    has_record,
    is_faulty,
    limit_title,
    link_to,
    minutes_of,
    read_record,
    remarks_on,
    rival_minutes_of,
    table,
)

VERDICTS = (SHOWN, NOT_SHOWN, CONTRADICTED, CANNOT_TELL, NOT_RUN)
FURTHER = {
    "fit_more": "Tasks that `fit` was not developed on",
    "fit_limits": "Other limits",
    "fit_base": "The 12 layers of all-mpnet-base-v2",
    "fit_base_quarter": "The same at a quarter, again",
}
OF_PIECES = ("base_size", "pilots", "distillation")  # have tables on the page, and no claim or not one alone
COLORS = {SHOWN: "#009e73", NOT_SHOWN: "#0072b2", CONTRADICTED: "#d55e00", CANNOT_TELL: "#777777"}


def papers() -> dict[str, list[Claim]]:
    """Return the claims of each paper and ours, each as the best run decides it."""
    return {paper: [as_planned(claim) for claim in claims] for paper, claims in PAPERS.items()}


def claims_table() -> str:
    """Return every claim with what was run, what came out and the verdict, a table for each paper."""
    head = ["claim", "what we ran", "what came out", "verdict"]
    notes, parts = Notes(), []
    for paper, claims in papers().items():
        rows = [claim.row(notes) for claim in claims]
        parts.append(f"### {paper}\n\n{table(head, rows, text_columns=4)}")
    return "\n".join([*parts, notes.text])


def glance_table() -> str:
    """Return how many claims have which verdict, a line for each paper."""
    counts = {paper.partition(",")[0]: Counter(claim.verdict for claim in claims) for paper, claims in papers().items()}
    rows = [[name, *(str(found[verdict]) for verdict in VERDICTS)] for name, found in counts.items()]
    total = sum(counts.values(), Counter[str]())
    return table(["claims of", *VERDICTS], [*rows, ["all", *(str(total[verdict]) for verdict in VERDICTS)]])


def all_claims() -> list[Claim]:
    return [claim for claims in papers().values() for claim in claims]


def fit_line() -> str:
    """Return how fit was run and the verdicts on it, then a line for each further record of it."""
    first = " ".join(filter(None, [runs_line(), remarks_on("fit"), verdicts_on("fit")]))
    return "\n".join([first, *(f"- {further_fit(name)}" for name in FURTHER if has_record(name)), ""])


def verdicts_line() -> str:
    """Return whether `fit` beats plain layers: one sentence while no claim of it is decided, else the verdicts."""
    claims = [claim for claim in all_claims() if claim.is_of_fit and "beats plain layers" in claim.name]
    if {claim.verdict for claim in claims} <= {CANNOT_TELL, NOT_RUN}:
        return (
            "Whether `fit` beats plain layers (whole layers kept and distilled by the same code in the same time) is "
            "not decided: [what was run](docs/evidence.md#claims).\n"
        )
    decided = [claim for claim in claims if claim.verdict not in (CANNOT_TELL, NOT_RUN)]
    return " ".join(f"{claim.name}: **{claim.verdict}**." for claim in decided) + "\n"


def base_size() -> str:
    """Return the table of the papers' size for README, how its methods differ, and whether `fit` beats plain layers."""
    return f"{base_size_tables.short_table().rstrip()} {verdicts_line()}"


def runs_line() -> str:
    """Return how fit was run."""
    seeds = seeds_in("fit")
    return f"Runs of {minutes_of('fit')}, " + (
        "one seed: the next may say otherwise."
        if seeds == 1
        else f"{seeds} seeds, each with a teacher of its own; ± is the standard deviation over them."
    )


def further_fit(name: str) -> str:
    """Return what fit takes in another record less its rivals, with the verdicts."""
    seeds, parts = seeds_in(name), []
    for rival, title in (("layers", "plain layers"), ("uncut", "the teacher in int8")):
        if gaps := fit_gaps(rival, name)():
            parts.append(f"`fit` less {title}: {', '.join(labelled(gap, '') for gap in gaps)}.")
    time, rival = minutes_of(name), rival_minutes_of(name)
    times = time if time == rival else f"{time}, of plain layers {rival}"
    how = f"{FURTHER[name]} (`{name}`): runs of {times}, {seeds} seed{'s' * (seeds > 1)}."
    return " ".join(filter(None, [how, *parts, taken(name), remarks_on(name), verdicts_on(name)]))


def taken(name: str) -> str:
    """Return which networks fit and plain layers took in a record, with the steps they were trained for."""
    parts, kinds = [], set()
    for cell in read_record(name)["cells"]:
        kinds |= {entry["kind"] for entry in cell["leaderboards"]["fit"] if entry["chosen"]}
        for limit, row in enumerate(cell["compared"]):
            title = limit_title(name, cell["task"], limit)
            seed = f", seed {cell['seed']}" if seeds_in(name) > 1 else ""
            networks = [
                f"`{row[side]['name']}` ({row[side]['steps']:,})"
                for side in ("fit", "layers")
                if side in row and not is_faulty(name, cell["task"], limit, side)
            ]
            parts.append(f"{title}{seed} {' beside '.join(networks)}")
    alike = " `fit` took plain layers too." if kinds == {"layers"} else ""
    return f"Taken, with their steps: {', '.join(parts)}.{alike}"


def seeds_in(name: str) -> int:
    return len({cell["seed"] for cell in read_record(name)["cells"]})


def verdicts_on(*names: str) -> str:
    """Return a sentence for each claim that rests on records, in their order."""
    claims = [claim for name in names for claim in all_claims() if name in claim.records]
    return " ".join(f"{claim.name}: **{claim.verdict}**." for claim in claims)


def sources_table() -> str:
    """Return where each record that a claim, a line on fit or a table of the page rests on comes from."""
    names = dict.fromkeys(name for claim in all_claims() if claim.findings for name in claim.records)
    names |= dict.fromkeys(filter(has_record, [*FURTHER, *OF_PIECES]))
    rows = []
    for name in names:
        record = read_record(name)
        steps, rows_read = record.get("steps"), record.get("max_train_samples")
        rows.append(
            [
                link_to(name),
                f"`{record['commit'][:8]}`",
                f"`{record['command']}`" + (f"<br>{record['note']}" if "note" in record else ""),
                ", ".join(map(str, record["seeds"])),
                f"{steps:,}" if isinstance(steps, int) else "—",
                f"{rows_read:,}" if rows_read else "see command",
            ]
        )
    return table(["record", "commit", "command", "seeds", "steps", "training rows"], rows, text_columns=4)


def cost_table() -> str:
    """Return what makes every record again, with its hours by its own options or by the records there are."""
    rows = [[f"`{job.name}`", "—" if job.hours is None else f"{least([job])}{time_text(job.hours)}"] for job in JOBS]
    known = [job.hours for job in JOBS if job.hours is not None]
    unknown = [f"`{job.name}`" for job in JOBS if job.hours is None]
    return (
        table(["job", "time"], rows)
        + f"\nTogether {least(JOBS)}{sum(known):.0f} hours, and {', '.join(unknown)}, of which there is no record.\n"
    )


def shown_gaps() -> Iterator[tuple[str, Claim, Gap]]:
    """Yield the differences that have an interval, with their label and claim, in the page's order."""
    for claim in all_claims():
        for found in claim.findings:
            if isinstance(found, Gap) and found.low is not None and found.high is not None:
                task = labelled(found, claim.mark).removesuffix(found.text).strip()
                yield task.replace("`", ""), claim, found


def fingerprint() -> str:
    """Return a hash of everything the picture shows; the picture carries it."""
    shown = [(task, claim.name, claim.verdict_on(gap), claim.floor, gap) for task, claim, gap in shown_gaps()]
    return hashlib.sha256(repr(shown).encode()).hexdigest()


def draw(path: Path) -> None:
    """Write the picture: each difference with its interval and a dot for each seed, coloured by its own verdict."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    matplotlib.rcParams["svg.hashsalt"], matplotlib.rcParams["svg.fonttype"] = "cutbert", "none"
    entries = list(shown_gaps())
    figure = Figure(figsize=(9, 0.2 * (len(entries) + len({claim.name for _, claim, _ in entries})) + 1))
    figure.set_layout_engine("constrained")
    FigureCanvasSVG(figure)
    panel, y, names, last = figure.subplots(), 0.0, [], ""
    for task, claim, gap in entries:
        if claim.name != last:
            names.append((y, claim.name.replace("`", "")))
            last, y = claim.name, y - 1
        color = COLORS[claim.verdict_on(gap)]
        panel.plot([100 * (gap.low or 0), 100 * (gap.high or 0)], [y, y], color=color, linewidth=2)
        panel.plot(
            [100 * each for each in gap.by_seed], [y] * len(gap.by_seed), "o", color=color, markersize=3, alpha=0.6
        )
        panel.plot([100 * gap.mean], [y], "|", color=color, markersize=10, markeredgewidth=2)
        panel.plot([100 * claim.floor], [y], "|", color="black", markersize=6)
        names.append((y, f"\u2003\u2003{task}"))
        y -= 1
    panel.axvline(0, color="#999999", linewidth=0.8)
    panel.set_yticks([at for at, _ in names], [name for _, name in names], fontsize=8, ha="left")
    panel.tick_params(axis="y", length=0, pad=360)
    panel.set_ylim(y, 1)
    panel.set_xlabel("dev, points: ours less what it is compared with", fontsize=9)
    for verdict, color in COLORS.items():
        panel.plot([], [], color=color, linewidth=2, label=verdict)
    figure.legend(loc="outside upper right", ncols=len(COLORS), fontsize=8, frameon=False)
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None, "Description": fingerprint()})


def is_drawn(path: Path) -> bool:
    return path.is_file() and fingerprint() in path.read_text(encoding="utf-8")
