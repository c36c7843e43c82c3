"""Reading files: every format gives the same rows, every mistake in a file is named by file and row."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from cutbert.data.reading import MAX_MISTAKES, RawRows, check_mistakes, expand_files, read_files
from cutbert.data.tasks import FileLayout
from cutbert.errors import DataError

Write = Callable[[str, str | bytes], str]

LAYOUT = FileLayout("text", None, "label")
TEXTS = ['plain "quoted" text', "café \x1d naïve \u2028 line", "tail ", "'tis, and more"]
LABELS = ["1", "0", "1", "0"]
TSV = "id\ttext\tlabel\n" + "".join(f"{i}\t{t}\t{y}\n" for i, (t, y) in enumerate(zip(TEXTS, LABELS, strict=True)))
CSV = (
    'label,"text",id\r\n1,"plain ""quoted"" text",0\r\n0,café \x1d naïve \u2028 line,1\r\n1,tail ,2\r\n'
    '0,"\'tis, and more",3\r\n'
)
JSONL = (
    '{"text": "plain \\"quoted\\" text", "label": 1}\n{"label": "0", "text": "café \\u001d naïve \\u2028 line"}\n'
    '{"text": "tail ", "label": 1, "more": null}\n{"text": "\'tis, and more", "label": "0"}\n'
)


def read(*names: str, layout: FileLayout = LAYOUT) -> tuple[RawRows, list[str]]:
    mistakes: list[str] = []
    return read_files([Path(name) for name in names], layout, mistakes), mistakes


def mistakes_of(name: str, layout: FileLayout = LAYOUT) -> list[str]:
    """What is wrong with a file, without its folder's name."""
    return [mistake.removeprefix(str(Path(name).parent) + "/") for mistake in read(name, layout=layout)[1]]


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.tsv", TSV),
        ("crlf.tsv", TSV.replace("\n", "\r\n")),
        ("bom.tsv", "\ufeff" + TSV),
        ("unended.tsv", TSV.rstrip("\n")),
        ("padded.tsv", TSV + "\n\r\n\n"),
        ("rows.csv", CSV),
        ("lf.csv", CSV.replace("\r\n", "\n")),
        ("bom.csv", "\ufeff" + CSV),
        ("rows.jsonl", JSONL),
        ("crlf.jsonl", "\ufeff" + JSONL.replace("\n", "\r\n")),
    ],
)
def test_formats_give_the_same_rows(write: Write, name: str, content: str, zipped: bool) -> None:
    if zipped:
        name, data = f"{name}.gz", gzip.compress(content.encode())
    rows, mistakes = read(write(name, data if zipped else content))
    assert mistakes == []
    assert rows.text == TEXTS
    assert rows.labels == LABELS


def test_parquet_gives_the_same_rows(tmp_path: Path) -> None:
    table = pyarrow.table({"text": TEXTS, "label": [1, 0, 1, 0], "a.b": TEXTS})
    pyarrow.parquet.write_table(table, tmp_path / "rows.parquet")
    rows, mistakes = read(str(tmp_path / "rows.parquet"))
    assert (rows.text, rows.labels, mistakes) == (TEXTS, LABELS, [])
    rows, mistakes = read(str(tmp_path / "rows.parquet"), layout=FileLayout("a.b", "text", None))
    assert (rows.text, rows.text_pair, rows.labels, mistakes) == (TEXTS, TEXTS, None, [])


def test_parquet_that_is_not_utf8_is_named_by_row(tmp_path: Path) -> None:
    texts = pyarrow.array([b"fine", b"caf\xe9", b"too"])
    text = pyarrow.Array.from_buffers(pyarrow.string(), 3, texts.buffers())
    pyarrow.parquet.write_table(pyarrow.table({"text": text, "label": [1, 0, 1]}), tmp_path / "rows.parquet")
    rows, mistakes = read(str(tmp_path / "rows.parquet"))
    assert rows.text == ["fine", "too"]
    assert mistakes == [f"{tmp_path / 'rows.parquet'}: row 2: must be UTF-8 text: unexpected end of data"]


def test_csv_fields_may_hold_lines_and_be_long(write: Write) -> None:
    long = "x" * 200_000
    rows, mistakes = read(write("rows.csv", f'text,label\n"two\nlines",a\n{long},b\n"c\nd",\n'))
    assert rows.text == ["two\nlines", long]
    assert mistakes[0].endswith("row 3 (line 5): column 'label' must not be empty")


def test_several_files_follow_each_other(write: Write) -> None:
    rows, mistakes = read(write("a.tsv", TSV), write("b.csv", CSV))
    assert mistakes == []
    assert rows.text == TEXTS + TEXTS
    assert rows.place(5) == f"{Path(rows.places[5][0])}: row 2 (line 3)"
    assert rows.places[5][0].endswith("b.csv")


def test_labels_of_other_types_become_text(write: Write) -> None:
    rows, mistakes = read(
        write("a.jsonl", "".join(f'{{"text": "x", "label": {y}}}\n' for y in ("true", 3, 0.5, '" a "')))
    )
    assert (rows.labels, mistakes) == (["true", "3", "0.5", "a"], [])


def test_texts_of_pairs(write: Write) -> None:
    rows, mistakes = read(write("a.tsv", "p\tq\tlabel\none\ttwo\tx\n"), layout=FileLayout("q", "p", "label"))
    assert (rows.text, rows.text_pair, rows.labels, mistakes) == (["two"], ["one"], ["x"], [])


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.tsv", "", ["a.tsv: file is empty"]),
        ("a.tsv", "\ufeff\n\n", ["a.tsv: file is empty"]),
        ("a.tsv", "text\tlabel\n", ["a.tsv: has no rows"]),
        ("a.csv", "text,label\r\n", ["a.csv: has no rows"]),
        ("a.tsv", "words\ttag\nx\t1\n", [
            "a.tsv: has no column 'text'; columns: words, tag", "a.tsv: has no column 'label'; columns: words, tag",
        ]),
        ("a.jsonl", '{"words": "x"}\n', [
            "a.jsonl: has no column 'text'; columns: words", "a.jsonl: has no column 'label'; columns: words",
        ]),
        ("a.jsonl", '{"w\\ud800": "x", "label": 1}\n', ["a.jsonl: has no column 'text'; columns: w\\ud800, label"]),
        ("a.tsv", "text\ttext\tlabel\nx\ty\t1\n", ["a.tsv: column 'text' must be there once, is there 2 times"]),
        ("a.tsv", "text\tlabel\nfine\t1\nx\nx\t1\t2\n\ny\t1\n", [
            "a.tsv: row 2 (line 3): must have 2 fields, as the header row, got 1",
            "a.tsv: row 3 (line 4): must have 2 fields, as the header row, got 3",
            "a.tsv: row 4 (line 5): must have 2 fields, as the header row, got 1",
        ]),
        ("a.csv", 'text,label\n"a, b",1\na, b,1\n\nc,1\n', [
            "a.csv: row 2 (line 3): must have 2 fields, as the header row, got 3",
            "a.csv: row 3 (line 4): must have 2 fields, as the header row, got 0",
        ]),
        ("a.csv", 'text,label\n"a" b,1\nc,1\n', [
            "a.csv: row 1 (line 2): must be quoted as RFC 4180 says: ',' expected after '\"'",
        ]),
        ("a.csv", 'text,label\na,1\n"b,1\nc,1\n', [
            "a.csv: row 2 (line 3): must be quoted as RFC 4180 says: unexpected end of data",
        ]),
        ("a.csv", '"text,label\n', ["a.csv: header row must be quoted as RFC 4180 says: unexpected end of data"]),
        ("a.tsv", "text\tlabel\n \t1\nx\t\n", [
            "a.tsv: row 1 (line 2): column 'text' must not be empty",
            "a.tsv: row 2 (line 3): column 'label' must not be empty",
        ]),
        ("a.tsv", b"text\tlabel\nfine\t1\ncaf\xe9\t1\n", [
            "a.tsv: row 2 (line 3): column 'text' must be UTF-8, got 'caf\\udce9'",
        ]),
        ("a.tsv", "text\tlabel\nx\t1\n".encode("utf-16"), ["a.tsv: header row must be UTF-8"]),
        ("a.jsonl", '{"text": "x", "label": 1}\n{"text": \n[1]\n{"label": 1}\n', [
            "a.jsonl: row 2: must be a JSON object: Expecting value: line 1 column 10 (char 9)",
            "a.jsonl: row 3: must be a JSON object",
            "a.jsonl: row 4: has no column 'text'; columns: label",
        ]),
        ("a.jsonl", '{"text": 5, "label": [1]}\n{"text": "x", "label": null}\n{"text": "x", "label": NaN}\n', [
            "a.jsonl: row 1: column 'text' must be text, got int 5",
            "a.jsonl: row 2: column 'label' must not be empty",
            "a.jsonl: row 3: column 'label' must be text or a finite number, got float nan",
        ]),
        ("a.jsonl", '{"text": "\\ud800", "label": 1}\n', [
            "a.jsonl: row 1: column 'text' must be UTF-8, got '\\ud800'",
        ]),
        ("a.tsv.gz", gzip.compress(b"text\tlabel\nx\t1\n", mtime=0)[:-9], [
            "a.tsv.gz: must be a whole gzip file: Compressed file ended before the end-of-stream marker was reached",
        ]),
        ("a.tsv.gz", b"text\tlabel\nx\t1\n", ["a.tsv.gz: must be a whole gzip file: Not a gzipped file (b'te')"]),
        ("a.txt", "x", [
            "a.txt: name must end in one of .tsv, .csv, .jsonl, .parquet (or in .gz after the first three)",
        ]),
        ("a.parquet.gz", "x", [
            "a.parquet.gz: name must end in one of .tsv, .csv, .jsonl, .parquet (or in .gz after the first three)",
        ]),
    ],
)  # fmt: skip
def test_mistakes_are_named(write: Write, name: str, content: str | bytes, expected: list[str]) -> None:
    assert mistakes_of(write(name, content)) == expected


def test_mistakes_of_headless_files_are_named(write: Write) -> None:
    layout = FileLayout("text", None, "label", header=("text", "mark", "label"))
    name = write("a.tsv", "one\t\t1\ntwo\t1\n")
    assert mistakes_of(name, layout) == ["a.tsv: row 2: must have 3 fields, as every row of this task, got 2"]


def test_mistakes_of_parquet_are_named(tmp_path: Path, write: Write) -> None:
    table = pyarrow.table({"text": ["a", None, "c"], "label": [1.0, 2.0, None]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    assert mistakes_of(str(tmp_path / "a.parquet")) == [
        "a.parquet: row 2: column 'text' must not be empty",
        "a.parquet: row 3: column 'label' must not be empty",
    ]
    pyarrow.parquet.write_table(table.slice(0, 0), tmp_path / "b.parquet")
    assert mistakes_of(str(tmp_path / "b.parquet")) == ["b.parquet: has no rows"]
    assert mistakes_of(str(tmp_path / "b.parquet"), FileLayout("words", None, None)) == [
        "b.parquet: has no column 'words'; columns: text, label"
    ]
    assert mistakes_of(write("c.parquet", "no parquet"))[0].startswith("c.parquet: must be a Parquet file: ")
    damaged = bytearray((tmp_path / "a.parquet").read_bytes())
    damaged[4:60] = bytes(56)
    assert mistakes_of(write("d.parquet", bytes(damaged)))[0].startswith("d.parquet: must be a whole Parquet file: ")


@pytest.mark.parametrize("suffix", ["tsv", "parquet"])
def test_a_file_that_is_not_there_is_named(tmp_path: Path, suffix: str) -> None:
    expected = [f"a.{suffix}: cannot be read: No such file or directory"]
    assert mistakes_of(str(tmp_path / f"a.{suffix}")) == expected


def test_only_wanted_columns_must_be_whole(write: Write) -> None:
    rows, mistakes = read(write("a.tsv", b"id\ttext\tlabel\n\xff\tx\t1\n\ty\t0\n"))
    assert (rows.text, mistakes) == (["x", "y"], [])


def test_empty_labels_are_labels_where_the_layout_says_so(write: Write) -> None:
    rows, mistakes = read(write("a.tsv", "text\tlabel\nx\t\n"), layout=FileLayout("text", None, "label", None, True))
    assert (rows.labels, mistakes) == ([""], [])


def test_incomplete_rows_are_left_out_where_the_layout_says_so(write: Write) -> None:
    layout = FileLayout("text", None, "label", skip_incomplete=True)
    name = write("a.tsv", "text\tlabel\nx\t1\ntorn\n\t1\ny\t\nz\t0\n")
    rows, mistakes = read(name, layout=layout)
    assert (rows.text, rows.left_out, mistakes) == (["x", "z"], {name: 3}, [])
    assert mistakes_of(write("b.tsv", "text\tlabel\ntorn\n"), layout) == ["b.tsv: has no rows"]


def test_many_mistakes_are_cut_short() -> None:
    check_mistakes([])
    with pytest.raises(DataError) as caught:
        check_mistakes([f"mistake {i}" for i in range(1234 + MAX_MISTAKES)])
    assert caught.value.mistakes[:2] == ("mistake 0", "mistake 1")
    assert caught.value.mistakes[MAX_MISTAKES:] == ("... and 1,234 more",)


def test_globs_are_expanded_in_order(write: Write, tmp_path: Path) -> None:
    for name in ("b.tsv", "a.tsv", "x/c.tsv", "odd[1].tsv"):
        write(name, TSV)
    mistakes: list[str] = []
    names = [f"{tmp_path}/?.tsv", f"{tmp_path}/odd[1].tsv", f"{tmp_path}/**/c.tsv", "plain.tsv"]
    paths = expand_files(names, "--train", mistakes)
    assert [path.name for path in paths] == ["a.tsv", "b.tsv", "odd[1].tsv", "c.tsv", "plain.tsv"]
    assert mistakes == []
    expand_files([f"{tmp_path}/*.csv", f"{tmp_path}/?.tsv", f"{tmp_path}/a.tsv"], "--train", mistakes)
    assert mistakes == [f"--train {tmp_path}/*.csv: no file matches", f"--train names {tmp_path}/a.tsv more than once"]
