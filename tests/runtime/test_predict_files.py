"""`predict` carries columns, reads and writes the formats of each kind, and works in a pipe and on a list."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import sys
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

import cutbert
from cutbert.cli.main import main
from cutbert.data.stream import scan
from cutbert.errors import InputError, ModelError
from cutbert.exporters.folder import add_files
from cutbert.exporters.graph import build_graph
from cutbert.folders.load import load_model
from cutbert.folders.save import save_model
from cutbert.runtime import load
from cutbert.shape.head import HeadSpec
from tiny_runs import save_tiny, save_tiny_embedder, tiny_model, tiny_rows

TAGS = ("B-X", "I-X", "O")
HEADS: dict[str, HeadSpec] = {
    "labels": HeadSpec("single_label", ("neg", "pos")),
    "scores": HeadSpec("regression", ("score",)),
    "tags": HeadSpec("token", TAGS),
    "answers": HeadSpec("span"),
}
TEXTS = tiny_rows(12).text
ROWS: list[dict[str, Any]] = [
    {"id": i, "text": text, "more": more}
    for i, (text, more) in enumerate(zip(TEXTS, ["a, \"b\"", "é", "", "x"] * 3, strict=True))
]  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return a folder with float32 ONNX for each kind of answers."""
    root = tmp_path_factory.mktemp("predict")
    found = {name: save_tiny(root / name, tiny_model(head)) for name, head in HEADS.items()}
    found["vectors"] = save_tiny_embedder(root / "vectors")
    for folder in found.values():
        loaded = load_model(folder)
        add_files(folder, loaded, {"model.onnx": build_graph(loaded.model)})
    return found


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    else:
        path.write_text(
            "".join("\t".join(map(str, row)) + "\n" for row in [[*rows[0]], *(each.values() for each in rows)])
        )
    return path


def read_rows(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        return pyarrow.parquet.read_table(path).to_pylist()
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    with path.open(newline="") as file:
        quoting = csv.QUOTE_MINIMAL if path.suffix == ".csv" else csv.QUOTE_NONE
        return list(csv.DictReader(file, delimiter="," if path.suffix == ".csv" else "\t", quoting=quoting))


@pytest.mark.parametrize("given", [".tsv", ".csv", ".jsonl", ".parquet"])
def test_columns_are_carried_between_all_formats(folders: dict[str, Path], given: str, tmp_path: Path) -> None:
    path, is_typed = write_rows(tmp_path / f"in{given}", ROWS), given in (".jsonl", ".parquet")
    wanted = load(folders["labels"], threads=1, max_length=128)(TEXTS)
    for suffix in (".tsv", ".csv", ".jsonl", ".parquet"):
        out = tmp_path / f"out{suffix}"
        result = cutbert.predict(folders["labels"], input=path, text="text", out=out, threads=1)
        found = read_rows(out)
        keeps_types = is_typed and (suffix == ".jsonl" or given == suffix)
        assert [{name: row[name] for name in ROWS[0]} for row in found] == [
            {**row, "id": row["id"] if keeps_types else str(row["id"])} for row in ROWS
        ]
        assert [row["label"] for row in found] == [each["label"] for each in wanted]
        assert list(found[0]) == ["id", "text", "more", *result["columns"]]
        if suffix != ".jsonl":
            chances = [[float(row[f"probability_{name}"]) for name in ("neg", "pos")] for row in found]
            assert chances == [list(each["probabilities"].values()) for each in wanted]


def test_what_is_no_text_is_carried_too(folders: dict[str, Path], tmp_path: Path) -> None:
    rows = [{"text": "good", "a": [1, None]}, {"text": "bad", "b": {"c": "\r\n"}}]
    path, options = write_rows(tmp_path / "in.jsonl", rows), {"text": "text", "threads": 1}
    for suffix in (".csv", ".jsonl", ".parquet"):
        cutbert.predict(folders["scores"], input=path, out=tmp_path / f"out{suffix}", **options)
    found = read_rows(tmp_path / "out.jsonl")
    scores = [row.pop("label") for row in found]
    assert found == rows
    cells = [{"text": "good", "a": "[1, null]", "b": ""}, {"text": "bad", "a": "", "b": '{"c": "\\r\\n"}'}]
    assert [{**row, "label": float(row["label"])} for row in read_rows(tmp_path / "out.csv")] == [
        {**row, "label": score} for row, score in zip(cells, scores, strict=True)
    ]
    assert read_rows(tmp_path / "out.parquet")[0] == {"text": "good", "a": "[1, null]", "b": None, "label": scores[0]}
    typed = [{"text": "good", "day": date(2026, 1, 2), "size": float("nan"), "raw": b"\xff"}]
    path = write_rows(tmp_path / "typed.parquet", typed)
    for suffix in (".jsonl", ".parquet"):
        cutbert.predict(folders["scores"], input=path, out=tmp_path / f"typed-out{suffix}", **options)
    (row,) = read_rows(tmp_path / "typed-out.jsonl")
    assert row == {"text": "good", "day": "2026-01-02", "size": None, "raw": "/w==", "label": scores[0]}
    (row,) = read_rows(tmp_path / "typed-out.parquet")
    assert (row["day"], row["raw"], np.isnan(row["size"])) == (date(2026, 1, 2), b"\xff", True)
    path = write_rows(tmp_path / "lone.jsonl", [{"text": "good\rbad"}])
    cutbert.predict(folders["scores"], input=path, out=tmp_path / "lone.csv", **options)
    assert read_rows(tmp_path / "lone.csv")[0]["text"] == "good\rbad"


def test_what_cannot_be_carried_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    def refused(rows: list[dict[str, Any]], suffix: str, match: str, given: str = ".jsonl") -> None:
        path = write_rows(tmp_path / f"in{given}", rows)
        with pytest.raises(InputError, match=match):
            cutbert.predict(folders["scores"], input=path, text="text", out=tmp_path / f"out{suffix}", threads=1)
        assert not (tmp_path / f"out{suffix}").exists()

    refused([{"text": "a", "x": "b\tc"}], ".tsv", r"row 1: column 'x' has a tab or line end, which a .tsv file cannot")
    refused([{"text": "a", "label": 1, "predicted_label": 2}], ".csv", "both columns 'label' and 'predicted_label'")
    refused([{"text": "a", "x": ["\ud800"]}], ".jsonl", r"row 1: column 'x' must be UTF-8, got")
    (tmp_path / "twice.csv").write_text("text,x,x\na,b,c\n")
    with pytest.raises(InputError, match=r"twice.csv: column 'x' must be there once, is there 2 times"):
        cutbert.predict(folders["scores"], input=tmp_path / "twice.csv", text="text", out=tmp_path / "o.csv", threads=1)


def test_values_that_python_lacks_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    days = pyarrow.array([2 * 10**7], pyarrow.int32()).cast(pyarrow.date32())  # in the year 56,000
    pyarrow.parquet.write_table(pyarrow.table({"text": ["good"], "day": days}), tmp_path / "in.parquet")
    with pytest.raises(InputError, match="row 1: must hold values that Python has"):
        cutbert.predict(folders["scores"], input=tmp_path / "in.parquet", text="text", out=tmp_path / "o.csv")


@pytest.mark.parametrize("name", ["labels", "tags", "vectors"])
def test_answers_that_are_no_numbers_are_refused(folders: dict[str, Path], name: str, tmp_path: Path) -> None:
    """Weights that are finite, and too large for what is computed with them."""
    folder = shutil.copytree(folders[name], tmp_path / "model")
    loaded = load_model(folder)
    for weight in loaded.model.parameters():
        weight.data *= 1e30
    save_model(tmp_path / "large", loaded.model, loaded.tokenizer, provenance=loaded.provenance)
    add_files(folder, loaded, {"model.onnx": build_graph(loaded.model)})
    with pytest.raises(ModelError, match="must be finite, got infinity or NaN"):
        cutbert.predict(folder, texts=TEXTS, threads=1)
    if name != "vectors":  # whose modules are not in `large`
        with pytest.raises(ModelError, match="the output logits must be finite, got infinity or NaN"):
            cutbert.predict(tmp_path / "large", texts=TEXTS, threads=1)


def test_labels_that_end_a_word_are_not_written_as_conll(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "spaced", tiny_model(HeadSpec("token", ("B-x y", "O"))))
    add_files(folder, load_model(folder), {"model.onnx": build_graph(load_model(folder).model)})
    path, options = write_rows(tmp_path / "in.csv", ROWS), {"text": "text", "threads": 1}
    with pytest.raises(InputError, match=r"a .conll file cannot hold the label 'B-x y'"):
        cutbert.predict(folder, input=path, out=tmp_path / "o.conll", **options)
    assert cutbert.predict(folder, input=path, out=tmp_path / "o.jsonl", **options)["rows"] == len(ROWS)


@pytest.mark.parametrize(("name", "suffix"), [("vectors", ".npy"), ("labels", ".csv")])
def test_an_input_that_grows_meanwhile_is_refused(
    folders: dict[str, Path], name: str, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out = write_rows(tmp_path / "in.csv", ROWS), tmp_path / f"out{suffix}"

    def scanned(*args: Any) -> Any:
        found = scan(*args)
        with path.open("a") as file:
            file.write("13,good,x\n")
        return found

    monkeypatch.setattr("cutbert.train.predict.scan", scanned)
    with pytest.raises(InputError, match="--input must stay as it is while it is read: it had 12 rows, then 13"):
        cutbert.predict(folders[name], input=path, text="text", out=out, threads=1)
    assert sorted(tmp_path.iterdir()) == [path]


def test_a_terminal_acts_on_nothing_that_is_in_a_text(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    text, words = "text\nfine\x1b[2J\x9b film\n", ["--input", "-", "--format", "tsv", "--text", "text", "--out", "-"]
    for is_terminal in (False, True):
        monkeypatch.setattr(sys.stdout, "isatty", lambda is_terminal=is_terminal: is_terminal)
        code, printed, _ = piped([str(folders["scores"]), *words], text, monkeypatch, capsysbinary)
        line = printed.splitlines()[1]
        assert code == 0 and line.split("\t")[0] == (
            "fine\\x1b[2J\\x9b film" if is_terminal else "fine\x1b[2J\x9b film"
        )


def piped(
    words: list[str], text: str | bytes, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> tuple[int, str, str]:
    """Return exit code, standard output and standard error of a command that reads a text, or bytes."""
    given = text if isinstance(text, bytes) else text.encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
    code = main(["predict", *words, "--threads", "1"])
    said = capsysbinary.readouterr()
    return code, said.out.decode(), said.err.decode()


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_a_pipe_gives_what_files_give(
    folders: dict[str, Path],
    suffix: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    path, out = write_rows(tmp_path / f"in{suffix}", ROWS), tmp_path / f"out{suffix}"
    cutbert.predict(folders["labels"], input=path, text="text", out=out, threads=1)
    words = [str(folders["labels"]), "--input", "-", "--format", suffix[1:], "--text", "text", "--out", "-"]
    code, printed, said = piped([*words, "--json"], path.read_text(), monkeypatch, capsysbinary)
    assert code == 0 and printed == out.read_text()
    assert json.loads(said.splitlines()[-1]).items() >= {"out": "-", "rows": 12, "backend": "onnx"}.items()


def test_a_pipe_of_parquet_gives_lines(
    folders: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    path, out = write_rows(tmp_path / "in.parquet", ROWS), tmp_path / "out.jsonl"
    cutbert.predict(folders["labels"], input=path, text="text", out=out, threads=1)
    words = [str(folders["labels"]), "--input", "-", "--format", "parquet", "--text", "text", "--out", "-"]
    code, printed, said = piped(words, path.read_bytes(), monkeypatch, capsysbinary)
    assert code == 0 and printed == out.read_text() and "standard output" in said
    code, printed, said = piped(words, "no Parquet", monkeypatch, capsysbinary)
    assert code == 2 and not printed and "error: standard input: " in said


def test_mistakes_of_a_pipe(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    model = str(folders["vectors"])
    code, printed, said = piped(
        [model, "--input", "-", "--format", "txt", "--out", "-"], "good\nbad\n", monkeypatch, capsysbinary
    )
    vectors = [json.loads(line) for line in printed.splitlines()]
    assert code == 0 and [each["text"] for each in vectors] == ["good", "bad"] and "standard output" in said
    np.testing.assert_allclose([each["vector"] for each in vectors], load(model, threads=1)(["good", "bad"]), atol=1e-6)
    for words, text, match in (
        (["--format", "csv", "--text", "nosuch"], "text\na\n", "standard input: has no column 'nosuch'; columns: text"),
        (["--format", "csv", "--text", "text"], "", "standard input: file is empty"),
        (["--format", "csv", "--text", "text"], "text\n \n", "standard input: row 1 (line 2): column 'text' must not"),
        ([], "", "--format must be given with --input -"),
        (["--format", "csv"], "", "--text must name the column of the texts of a .csv file"),
    ):
        code, printed, said = piped([model, "--input", "-", *words, "--out", "-"], text, monkeypatch, capsysbinary)
        assert code == 2 and not printed and match in said


def test_formats_of_other_kinds(folders: dict[str, Path], tmp_path: Path) -> None:
    path = write_rows(tmp_path / "in.jsonl", ROWS)
    for name, more in (("vectors", {}), ("tags", {}), ("answers", {"text_pair": "text"})):
        given = list(zip(TEXTS, TEXTS, strict=True)) if more else TEXTS
        out = tmp_path / f"{name}.parquet"
        cutbert.predict(folders[name], input=path, text="text", out=out, threads=1, **more)
        found = read_rows(out)
        assert [row["more"] for row in found] == [row["more"] for row in ROWS]
        for row, wanted in zip(found, load(folders[name], threads=1)(given), strict=True):
            if name == "vectors":
                np.testing.assert_allclose(row["vector"], wanted, atol=1e-6)
            else:
                assert {key: row[key] for key in wanted} == wanted
    words = [{"words": text.split()} for text in TEXTS]
    path = write_rows(tmp_path / "words.jsonl", words)
    cutbert.predict(folders["tags"], input=path, text="words", out=tmp_path / "out.conll", threads=1)
    lines = [line.split(" ") for line in (tmp_path / "out.conll").read_text().split("\n") if line]
    answers = load(folders["tags"], threads=1)([each["words"] for each in words])
    assert lines == [
        [word, label] for each in answers for word, label in zip(each["words"], each["labels"], strict=True)
    ]
    for word in ("a b", "-DOCSTART-"):
        path = write_rows(tmp_path / "spaced.jsonl", [{"words": [word]}])
        with pytest.raises(InputError, match=rf"must be without spaces, and none -DOCSTART-, got '{word}'"):
            cutbert.predict(folders["tags"], input=path, text="words", out=tmp_path / "o.conll", threads=1)


def test_what_does_not_go_together_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("good\n")
    (tmp_path / "t.conll").write_text("good O\n")
    asked = {"id": "1", "question": "good"}
    (tmp_path / "t.json").write_text(
        json.dumps({"data": [{"paragraphs": [{"context": "a film", "qas": [asked] * 2}]}]})
    )
    write_rows(tmp_path / "t.csv", ROWS)
    os.mkfifo(tmp_path / "pipe.csv")
    for name, given, out, more, match in (
        ("labels", "t.txt", "o.csv", {"text": "a"}, "--text must not be given with a .txt file, which has no columns"),
        ("labels", "t.txt", "o.csv", {"text_pair": "a"}, "--text-pair must not be given with a .txt file"),
        ("labels", "t.txt", "o.csv", {"format": "txt"}, "--format must be given with --input - only"),
        ("labels", "t.xls", "o.csv", {}, r"--input must end in one of .tsv, .*, or be -, got .*t.xls"),
        (
            "labels",
            "pipe.csv",
            "o.csv",
            {"text": "a"},
            "--input must be a file, which is read twice, or -, got the pipe",
        ),
        ("labels", "t.conll", "o.csv", {"text": "0"}, "--input in CoNLL's format must be given with a tagger"),
        ("labels", "t.json", "o.csv", {}, "--input in SQuAD's format must be given with a reader"),
        ("answers", "t.json", "o.json", {}, "question 2: 'id' must be there once, got '1' again"),
        ("answers", "t.csv", "o.json", {"text": "id", "text_pair": "text"}, "the questions' ids come from a .json"),
    ):
        with pytest.raises(InputError, match=match):
            cutbert.predict(folders[name], input=tmp_path / given, out=tmp_path / out, threads=1, **more)
        assert not (tmp_path / out).exists()


def test_a_prompt_comes_before_each_text(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, given = str(folders["vectors"]), str(write_rows(tmp_path / "t.csv", ROWS))
    words = ["--input", given, "--text", "text", "--threads", "1", "--out"]
    assert main(["predict", folder, *words, str(tmp_path / "o.npy"), "--prompt", "query"]) == 0
    wanted = load(folder, threads=1)(TEXTS, prompt_name="query")
    np.testing.assert_allclose(np.load(tmp_path / "o.npy"), wanted, atol=1e-6)
    in_python = cutbert.predict(folder, texts=TEXTS, threads=1, prompt_name="query")
    np.testing.assert_allclose(in_python, wanted, atol=1e-6)
    assert np.abs(np.stack(wanted) - load(folder, threads=1)(TEXTS)).max() > 1e-3
    capsys.readouterr()
    for name, prompt, message in (
        ("vectors", "passage", "--prompt must be one of query, got 'passage'"),
        ("labels", "query", "--prompt is for embedding models, got a head of kind single_label"),
    ):
        assert main(["predict", str(folders[name]), *words, str(tmp_path / "no.jsonl"), "--prompt", prompt]) == 2
        assert message in capsys.readouterr().err and not (tmp_path / "no.jsonl").exists()
    with pytest.raises(InputError, match="--prompt must be one of query, got 'passage'"):
        cutbert.predict(folder, texts=TEXTS, prompt_name="passage")


def check_same(found: Any, wanted: Any) -> None:
    """Fail unless answers are the same, numbers but for rounding."""
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys()
        for key, each in wanted.items():
            check_same(found[key], each)
    elif isinstance(wanted, list):
        for one, other in zip(found, wanted, strict=True):
            check_same(one, other)
    elif isinstance(wanted, float | np.ndarray):
        np.testing.assert_allclose(found, wanted, atol=1e-5)
    else:
        assert found == wanted


def test_a_list_is_answered_in_python(folders: dict[str, Path]) -> None:
    pairs = list(zip(TEXTS, TEXTS[::-1], strict=True))
    for name, given in (("labels", TEXTS), ("labels", pairs), ("scores", pairs), ("answers", pairs)):
        found = cutbert.predict(folders[name], texts=given, threads=1)
        assert found == load(folders[name], threads=1)(given)
    words = [text.split() for text in TEXTS]
    assert cutbert.predict(folders["tags"], texts=words, threads=1)[3]["words"] == words[3]
    vectors = cutbert.predict(folders["vectors"], texts=tuple(TEXTS), threads=1)
    assert np.stack(vectors).shape == (12, 24)
    for name, given in (("labels", [*TEXTS, *pairs]), ("tags", words), ("answers", pairs), ("vectors", TEXTS)):
        by_torch = cutbert.predict(folders[name], texts=given, backend="torch", threads=1)
        check_same(by_torch, cutbert.predict(folders[name], texts=given, backend="onnx", threads=1))
    for given in (TEXTS, pairs):
        by_torch = cutbert.predict(folders["scores"], texts=given, backend="torch", threads=1)
        by_onnx = cutbert.predict(folders["scores"], texts=given, backend="onnx", threads=1)
        np.testing.assert_allclose([e["label"] for e in by_torch], [e["label"] for e in by_onnx], atol=1e-5)
    assert cutbert.predict(folders["labels"], texts=[]) == []
    wanted = cutbert.predict(folders["labels"], texts=TEXTS, threads=1)
    for backend in ("onnx", "torch"):
        for array in (np.array(TEXTS), iter(TEXTS)):
            found = cutbert.predict(folders["labels"], texts=array, backend=backend, threads=1)
            assert [each["label"] for each in found] == [each["label"] for each in wanted]
    for none in ({"a": "b"}, 7, b"good"):
        with pytest.raises(InputError, match=f"texts must be a list of texts, got {type(none).__name__}"):
            cutbert.predict(folders["labels"], texts=none)
    with pytest.raises(InputError, match="input 1 must be a text or a pair of texts, got 7"):
        cutbert.predict(folders["labels"], texts=["good", 7], backend="torch", threads=1)
    with pytest.raises(InputError, match="--max-length must be at most 128"):
        cutbert.predict(folders["labels"], texts=TEXTS, max_length=500)
    with pytest.raises(InputError, match="unknown argument 'out'"):
        cutbert.predict(folders["labels"], texts=TEXTS, out="o.csv")


@pytest.mark.parametrize("place", ["sentence_bert_config.json", "tokenizer_config.json"])
def test_texts_are_cut_where_the_folder_says(folders: dict[str, Path], place: str, tmp_path: Path) -> None:
    folder, text = shutil.copytree(folders["scores"], tmp_path / "scores"), "a good film and a very dull book"
    key = "max_seq_length" if place.startswith("sentence") else "model_max_length"
    data = json.loads((folder / place).read_text()) if (folder / place).is_file() else {}
    (folder / place).write_text(json.dumps({**data, key: 6}))
    wanted = load(folders["scores"], threads=1)(["a good film and"])[0]["label"]
    assert load(folder, threads=1)([text])[0]["label"] == pytest.approx(wanted, abs=1e-5)
    for backend in ("torch", "onnx"):
        found = cutbert.predict(folder, texts=[text], backend=backend, threads=1)[0]["label"]
        assert found == pytest.approx(wanted, abs=1e-5)
        whole = cutbert.predict(folder, texts=[text], backend=backend, max_length=128, threads=1)[0]["label"]
        assert whole == pytest.approx(load(folders["scores"], threads=1)([text])[0]["label"], abs=1e-5)


def test_a_cross_encoders_activation_is_applied(folders: dict[str, Path], tmp_path: Path) -> None:
    folder, raw = shutil.copytree(folders["scores"], tmp_path / "scores"), load(folders["scores"], threads=1)(TEXTS)
    config = json.loads((folder / "config.json").read_text())
    for name in ("torch.nn.modules.activation.Sigmoid", "torch.nn.modules.linear.Identity"):
        (folder / "config.json").write_text(json.dumps({**config, "sentence_transformers": {"activation_fn": name}}))
        values = np.array([each["label"] for each in raw])
        wanted = 1 / (1 + np.exp(-values)) if name.endswith("Sigmoid") else values
        for backend in ("torch", "onnx"):
            found = cutbert.predict(folder, texts=TEXTS, backend=backend, threads=1)
            np.testing.assert_allclose([each["label"] for each in found], wanted, atol=1e-5)
    own = folder / "config_sentence_transformers.json"  # sentence-transformers 6 says it there
    own.write_text(json.dumps({"model_type": "CrossEncoder", "activation_fn": "torch.nn.modules.activation.Tanh"}))
    for backend in ("torch", "onnx"):
        found = cutbert.predict(folder, texts=TEXTS, backend=backend, threads=1)
        np.testing.assert_allclose([each["label"] for each in found], np.tanh(values), atol=1e-5)
    own.unlink()
    (folder / "config.json").write_text(json.dumps({**config, "sentence_transformers": {"activation_fn": "own.Odd"}}))
    with pytest.raises(ModelError, match=r"activation_fn in config.json must be one of torch's Identity, Sigm"):
        load(folder)
