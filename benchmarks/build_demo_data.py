"""Writes the demo reviews, src/cutbert/demo_data/{train,select,dev}.tsv, from a fixed seed.

Run it as `python benchmarks/build_demo_data.py`. A third of the rows are said straight; the others need the order of
the words. No text occurs twice. Rows of select and dev come in three parts: the templates and words of train, words
that train lacks too, and templates worded anew.
"""

from __future__ import annotations

import random
from pathlib import Path

from demo_lexicon import BAD, BAD_NOUNS, DOMAINS, GOOD, GOOD_NOUNS, PEOPLE, Aspect, Domain
from demo_templates import COMPARISON, CONTRAST, REWORDED, STRAIGHT, TURNED, Template

SEED = 20_111
TRAIN_ROWS = 2_400
# Templates and words of train; words that train lacks too; templates worded anew.
SELECT_ROWS = (96, 156, 48)
DEV_ROWS = (160, 260, 80)
SEEN = ((STRAIGHT, 0.34), (TURNED, 0.24), (CONTRAST, 0.27), (COMPARISON, 0.15))
FRAME_SHARE = 0.2
TARGET = Path(__file__).parents[1] / "src" / "cutbert" / "demo_data"


def seen_part(words: tuple[str, ...]) -> tuple[str, ...]:
    """Return the words that train may use: all but the last."""
    return words[:-1]


def fill(template: str, domain: Domain, rng: random.Random, *, all_words: bool) -> str:
    """Return a template with every slot filled, one draw per slot."""

    def pick(words: tuple[str, ...]) -> str:
        return rng.choice(words if all_words else seen_part(words))

    aspects: list[Aspect] = rng.sample(domain.aspects if all_words else domain.aspects[:-1], 2)
    thing = pick(domain.things)
    slots = {"this": f"this {thing}", "thing": thing, "before": domain.before, "rival": pick(domain.rivals)}
    slots |= {"good": pick(GOOD), "bad": pick(BAD), "goodn": pick(GOOD_NOUNS), "badn": pick(BAD_NOUNS)}
    slots["who"] = pick(PEOPLE)
    for number, aspect in enumerate(aspects, start=1):
        slots |= {f"a{number}": aspect.name, f"good{number}": pick(aspect.good), f"bad{number}": pick(aspect.bad)}
    slots |= {name.capitalize(): text[0].upper() + text[1:] for name, text in slots.items()}
    return template.format(**slots)


def review(template: Template, label: str, rng: random.Random, *, all_words: bool) -> str:
    """Return one review: the verdict, at times with a neutral sentence before or after it."""
    domain = rng.choice(DOMAINS)
    text = fill(template.positive if label == "positive" else template.negative, domain, rng, all_words=all_words)
    if rng.random() < FRAME_SHARE:
        text = f"{rng.choice(domain.openers)} {text}"
    if rng.random() < FRAME_SHARE:
        text = f"{text} {rng.choice(domain.closers)}"
    return text


def seen_template(rng: random.Random) -> Template:
    (group,) = rng.choices([group for group, _ in SEEN], [share for _, share in SEEN])
    return rng.choice(group)


def rows(count: int, rng: random.Random, taken: set[str], *, all_words: bool, reworded: bool) -> list[tuple[str, str]]:
    """Return `count` reviews not yet taken, as many positive as negative."""
    found: list[tuple[str, str]] = []
    while len(found) < count:
        label = ("negative", "positive")[len(found) % 2]
        template = rng.choice(REWORDED) if reworded else seen_template(rng)
        text = review(template, label, rng, all_words=all_words)
        if text.lower() not in taken:
            taken.add(text.lower())
            found.append((text, label))
    return found


def held_out_rows(counts: tuple[int, int, int], rng: random.Random, taken: set[str]) -> list[tuple[str, str]]:
    """Return rows of all three parts."""
    seen, new_words, reworded = counts
    return [
        *rows(seen, rng, taken, all_words=False, reworded=False),
        *rows(new_words, rng, taken, all_words=True, reworded=False),
        *rows(reworded, rng, taken, all_words=True, reworded=True),
    ]


def write(path: Path, found: list[tuple[str, str]], rng: random.Random) -> None:
    rng.shuffle(found)
    lines = ["text\tlabel", *(f"{text}\t{label}" for text, label in found)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def build(folder: Path) -> None:
    """Write train.tsv, select.tsv and dev.tsv into a folder."""
    rng = random.Random(SEED)
    taken: set[str] = set()
    train = rows(TRAIN_ROWS, rng, taken, all_words=False, reworded=False)
    write(folder / "train.tsv", train, rng)
    for name, counts in (("select", SELECT_ROWS), ("dev", DEV_ROWS)):
        write(folder / f"{name}.tsv", held_out_rows(counts, rng, taken), rng)


if __name__ == "__main__":
    build(TARGET)
