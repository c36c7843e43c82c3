"""Hostile versions of files: JSON with a value changed, and bytes cut, mixed or replaced."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

DEEP = "[" * 100_000
RAW = ("NaN", "Infinity", "-Infinity", "1e309", "1" + 400 * "0", "9" * 5000, r'"\ud800"', DEEP, "[" * 200 + "]" * 200)
# fmt: off
VALUES = (
    None, True, False, -1, 0, 1, 3, 0.5, -0.5, 1e300, 10**6, 10**9, 10**18, 10**23, "", "text", "0", "../../x",
    "/etc/passwd", "a\0b", "\x1b[31m", "a\nb", "x" * 10_000, [], {}, [[]], [None], {"a": 1}, [1, 2], ["a", "b"],
    "gelu", "mean", "teacher",
)
TEXTS = (
    b"", b" ", b"null", b"3", b"[]", b"{}", b"[1]", b'"x"', b"{", b"\xff\xfe", b"\xef\xbb\xbf{}", b"\0" * 64,
    DEEP.encode(),
    b"{" * 100_000, b'{"a":' * 50_000, b"nan", b"a = 1", b"<html>",
)
# fmt: on
PLACEHOLDER = "cutbert-placeholder"


def changed_json(text: str, draw: random.Random) -> str:
    """Return JSON with one value, key or item of it changed."""
    data = json.loads(text)
    places = list(containers(data))
    if not places:
        return draw.choice(RAW)
    parent = draw.choice(places)
    keys = list(parent) if isinstance(parent, dict) else list(range(len(parent)))
    what = draw.randrange(10)
    if not keys or what == 0:
        parent.update({draw.choice(("new", "", "\ud800", "name")): draw.choice(VALUES)}) if isinstance(
            parent, dict
        ) else parent.append(draw.choice(VALUES))
        return json.dumps(data)
    key = draw.choice(keys)
    if what == 1:
        del parent[key]
    elif what == 2 and isinstance(parent, list):
        parent.append(parent[key])
    elif what <= 4:
        raw, parent[key] = draw.choice(RAW), PLACEHOLDER
        return json.dumps(data).replace(json.dumps(PLACEHOLDER), raw)
    elif what == 5 and isinstance(parent[key], int | float):
        parent[key] *= draw.choice((-1, 2, 0.5, 1000, 10**9))
    else:
        parent[key] = draw.choice(VALUES)
    return json.dumps(data)


def changed_line(text: str, draw: random.Random) -> str:
    """Return JSON lines with one of them changed."""
    lines = text.splitlines()
    i = draw.randrange(len(lines))
    lines[i] = changed_json(lines[i], draw)
    return "\n".join(lines)


def changed_toml(text: str, draw: random.Random) -> str:
    """Return TOML with the value or the name of one line changed."""
    lines = text.splitlines()
    i = draw.choice([i for i, line in enumerate(lines) if "=" in line])
    name, _, value = (part.strip() for part in lines[i].partition("="))
    other = draw.choice(
        [str(each).lower() if isinstance(each, bool) else json.dumps(each) for each in VALUES if each is not None]
    )
    raw = draw.choice(
        (other, other, "nan", "-inf", "1e309", DEEP, '"a\\u0000b"', "1979-05-27", "9" * 5000, value + value, "")
    )
    lines[i] = draw.choice((f"{name} = {raw}", f"{name} = [{raw}]", f"{raw[:50]} = {value}", f"{name}.x = {value}"))
    return "\n".join(lines)


def containers(data: Any) -> Iterator[Any]:
    """Yield every object and list of JSON, the deep ones too."""
    if isinstance(data, dict | list):
        yield data
        for each in data.values() if isinstance(data, dict) else data:
            yield from containers(each)


def changed_bytes(data: bytes, draw: random.Random) -> bytes:
    """Return bytes cut short, with some replaced, or something else altogether."""
    what = draw.randrange(5)
    place = draw.randrange(len(data) + 1)
    if what == 0:
        return draw.choice(TEXTS)
    if what == 1:
        return data[:place]
    junk = draw.choice(
        (b"\0", b"\xff", b"\n", b"\t", b'"', b"\xed\xa0\x80", b"\x1b[2J", b"-1", b"99999999999999999999", b"\r")
    )
    if what == 2:
        return data[:place] + junk + data[place:]
    if what == 3:
        return data[:place] + junk + data[place + len(junk) :]
    return data[:place] + data[draw.randrange(len(data) + 1) :]
