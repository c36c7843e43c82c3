"""Finding models: folders, run folders, the hub's cache; and what is known of where they come from."""

from __future__ import annotations

import json
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub.utils import filter_repo_objects

from cutbert.errors import ModelError
from cutbert.files import file_sha256
from cutbert.folders.load import load_model
from cutbert.folders.provenance import extend_provenance, licence_in, read_provenance
from cutbert.folders.save import save_model
from cutbert.shape.source import OLD_WEIGHTS, ONNX_FILES, SMALL_FILES, find_model
from cutbert.train.predict_settings import check_predicts
from tiny_free import PROVENANCE
from tiny_stock import save_tiny

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CARD = "---\nlanguage: en\nlicense: 'apache-2.0'\n---\n# tiny\nlicense: other\n"


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub cache as the hub library lays it out, holding one tiny model, with the network off."""
    hub = tmp_path / "home" / "hub"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(hub))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    repository = hub / "models--house--tiny"
    save_tiny(repository / "snapshots" / COMMIT, "bert", "single_label")
    (repository / "snapshots" / COMMIT / "README.md").write_text(CARD)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    return repository


def test_hub_id_from_the_cache(cached: Path, tmp_path: Path) -> None:
    loaded = load_model("house/tiny")
    assert loaded.source == "house/tiny" and loaded.model.head_spec.labels == ("name0", "name1", "name2")
    weights = cached / "snapshots" / COMMIT / "model.safetensors"
    assert loaded.provenance == {
        "format_version": 1,
        "base_model": "house/tiny",
        "base_revision": COMMIT,
        "base_sha256": {"model.safetensors": file_sha256(weights)},
        "licence": "apache-2.0",
        "commands": [],
        "data": {},
        "scores": {},
    }
    assert find_model("house/tiny", COMMIT).folder == weights.parent
    save_model(tmp_path / "model", loaded.model, loaded.tokenizer, provenance=loaded.provenance)
    assert load_model(tmp_path / "model").provenance == loaded.provenance


def test_cache_in_part_is_used(cached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another tool fetched only what it needed, and the hub library knows that there is more."""

    def incomplete(*_: object, **__: object) -> str:
        raise huggingface_hub.errors.IncompleteSnapshotError("README.md is missing")

    (cached / "snapshots" / COMMIT / "README.md").unlink()
    monkeypatch.setattr("huggingface_hub.snapshot_download", incomplete)
    found = find_model("house/tiny")
    assert found.folder.name == COMMIT and found.commit == COMMIT
    assert load_model("house/tiny").provenance["licence"] is None


def test_old_weights_are_fetched_where_there_are_no_others(cached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, wanted = cached / "snapshots" / COMMIT, []

    def download(*_: object, allow_patterns: list[str], ignore_patterns: list[str], **__: object) -> str:
        wanted.append((allow_patterns, ignore_patterns))
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    find_model("house/tiny")
    (folder / "model.safetensors").unlink()
    find_model("house/tiny")
    assert wanted == [(SMALL_FILES, ["*/*"]), (SMALL_FILES, ["*/*"]), (OLD_WEIGHTS, ["*/*"])]


def test_the_pooling_of_a_sentence_transformers_repository_is_fetched(
    cached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, wanted = cached / "snapshots" / COMMIT, []

    def download(*_: object, allow_patterns: list[str], ignore_patterns: list[str], **__: object) -> str:
        wanted.append((allow_patterns, ignore_patterns))
        if allow_patterns == ["1_Pooling/config.json"]:
            (folder / "1_Pooling").mkdir()
            (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode": "mean"}')
        return str(folder)

    save_tiny(folder)
    (folder / "modules.json").write_text("[]")
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert find_model("house/tiny").facts.style_data["pooling"] == "mean"
    assert wanted == [(SMALL_FILES, ["*/*"]), (["1_Pooling/config.json"], [])]


def test_onnx_files_are_fetched_where_they_are_what_runs(cached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, wanted = cached / "snapshots" / COMMIT, []

    def download(*_: object, revision: str | None, allow_patterns: list[str], **__: object) -> str:
        wanted.append((revision, allow_patterns))
        return str(folder)

    source = find_model("house/tiny")
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    for backend in ("auto", "torch"):  # a classifier, which torch runs
        check_predicts(source, backend)
    assert not wanted
    check_predicts(source, "onnx")
    (folder / "model.safetensors").unlink()
    check_predicts(source, "auto")
    assert wanted == [(COMMIT, ONNX_FILES)] * 2
    names = ("onnx/model.onnx_data", "onnx/model_qint8_arm64.onnx", "onnx/model_O3.onnx", "model.onnx", "tf_model.h5")
    assert list(filter_repo_objects(names, allow_patterns=ONNX_FILES)) == [names[0], names[1], names[3]]


def test_what_the_hub_cannot_give(cached: Path) -> None:
    with pytest.raises(ModelError, match=r"house/other must be a folder here or .*\n?.*give a local folder"):
        load_model("house/other")
    with pytest.raises(ModelError, match="the hub gives at revision v2, got"):
        load_model("house/tiny", revision="v2")


@pytest.mark.parametrize("source", ["/no/such/folder", "./absent", "a/b/c", "two words", ""])
def test_what_is_no_hub_id(source: str) -> None:
    with pytest.raises(ModelError, match=r"a model must be a folder or a hub id, got|must hold a config.json"):
        load_model(source)


def test_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_tiny(tmp_path / "house" / "tiny")
    assert find_model("house/tiny").folder == Path("house/tiny")
    with pytest.raises(ModelError, match="a revision goes with a hub id, got revision 'main'"):
        load_model("house/tiny", revision="main")
    (tmp_path / "shape.json").write_text("{}")
    with pytest.raises(ModelError, match=r"must be a folder or a hub id, got the file shape.json"):
        load_model("shape.json")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    with pytest.raises(ModelError, match="a run must be finished"):
        load_model("run")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"must hold a config.json"):
        load_model("empty")


def test_extending_provenance() -> None:
    first = {**PROVENANCE, "data": {"train.tsv": "1"}, "scores": {"accuracy": 0.5}}
    more = extend_provenance(first, "cutbert finetune", data={"dev.tsv": "2"})
    assert more["commands"] == ["cutbert pick", "cutbert finetune"]
    assert more["data"] == {"train.tsv": "1", "dev.tsv": "2"} and more["scores"] == {"accuracy": 0.5}
    assert extend_provenance(more, scores={"accuracy": 0.9})["scores"] == {"accuracy": 0.9}
    assert first["commands"] == ["cutbert pick"] and first["data"] == {"train.tsv": "1"}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "must be a JSON object, got list"),
        ({**PROVENANCE, "format_version": 2}, "format_version must be 1, got 2"),
        ({"format_version": 1}, "must have base_model, commands, data, licence, scores"),
        ({**PROVENANCE, "commands": [3]}, r"commands must be a list of texts, got \[3\]"),
        ({**PROVENANCE, "max_length": 0}, "max_length must be a whole number above 0, got 0"),
        (
            {**PROVENANCE, "cut_from": {"difference": 0.1}},
            "cut_from must be a JSON object of the uncut model's figures",
        ),
        (
            {**PROVENANCE, "latency": {}},
            "latency must be a JSON object with latency_ms, backend, threads, processor as",
        ),
    ],
)
def test_provenance_that_is_refused(tmp_path: Path, data: object, message: str) -> None:
    (tmp_path / "cutbert.json").write_text(json.dumps(data))
    with pytest.raises(ModelError, match=message):
        read_provenance(tmp_path)


def test_licence_in_a_card(tmp_path: Path) -> None:
    assert licence_in(tmp_path) is None
    card = tmp_path / "README.md"
    for text, licence in ((CARD, "apache-2.0"), ("# none\nlicense: mit\n", None), ("---\ntags: []\n---\n", None)):
        card.write_text(text)
        assert licence_in(tmp_path) == licence
