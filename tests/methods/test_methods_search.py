"""A search adds networks to a family's front that pick, front and measure work on; it goes on, and refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_task import tiny_task

import cutbert
from cutbert import api
from cutbert.cli.main import main
from cutbert.errors import BudgetError, InputError, RunError
from cutbert.files import read_json, write_json
from cutbert.folders.load import load_model
from cutbert.fronts.front import Front
from cutbert.shape.cost import cost_of
from cutbert.surgery.extract import extract
from cutbert.work.repaired import repair_pick
from kills import killed_as_it_says
from known_times import take_known_times
from tiny_runs import HEAD, make_run, save_tiny

QUICK = {"trials": 16, "keep": 4, "threads": 1}
FIFTHS = [count / 5 for count in range(6)]
IDS = torch.tensor([[2, 5, 6, 3]])


@pytest.fixture(scope="module", autouse=True)
def known_latency() -> Iterator[None]:
    """A network takes a millisecond for every million multiply-adds."""
    with pytest.MonkeyPatch.context() as patch:
        take_known_times(patch, lambda shape, length: cost_of(shape, HEAD, length).macs / 1e6)
        yield


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny run of dynabert, hardly trained."""
    return make_family(tmp_path_factory.mktemp("family"))


def make_family(folder: Path, *, turned: bool = False) -> Path:
    """Make a family in a folder, with dev's labels as they are or each turned into the other."""
    folder.mkdir(exist_ok=True)
    model = save_tiny(folder / "tiny")
    task = tiny_task(folder)
    if turned:
        dev = Path(task["dev"])
        dev.write_text(dev.read_text().replace("\tneg", "\tx").replace("\tpos", "\tneg").replace("\tx", "\tpos"))
    options = {**task, "width_mult": (1.0, 0.5), "depths": (3, 1)}
    cutbert.dynabert(str(model), out=str(folder / "run"), importance_samples=16, **options)
    return folder / "run"


@pytest.fixture
def run(family: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(family, tmp_path / "run"))


def new_names(run: Path, before: Path) -> list[str]:
    return [entry.name for entry in Front.load(run) if entry.name not in [each.name for each in Front.load(before)]]


def test_what_is_found_joins_the_front(run: Path, family: Path, tmp_path: Path) -> None:
    found = cutbert.search(run, **QUICK)
    assert found["trials"] == 16 and 1 <= len(found["subnets"]) <= 4
    assert {each["name"] for each in found["subnets"]} >= set(new_names(run, family)) != set()
    front, before = Front.load(run), Front.load(family)
    assert [entry.name for entry in before] == [entry.name for entry in front][: len(before)]
    for name in new_names(run, family):
        entry = front[name]
        assert entry.latency_ms and entry.search == found["search"] and entry.head_mult is None
        answers = read_json(run / "predictions" / f"{name}.json")
        assert answers["subnet"] == entry.subnet.to_json() and answers["select_score"] == entry.select_score
    assert found["hypervolume"]["found"] >= found["hypervolume"]["grid"] > 0
    name = new_names(run, family)[0]
    picked = cutbert.pick(run, max_macs=front[name].macs, min_score=front[name].select_score, out=tmp_path / "small")
    verbs = [line.split()[1] for line in read_json(tmp_path / "small" / "cutbert.json")["commands"]]
    assert picked.entry.search and verbs[-2:] == ["search", "pick"]
    in_place = load_model(run).model(IDS, subnet=picked.entry.subnet).logits
    torch.testing.assert_close(load_model(tmp_path / "small").model(IDS).logits, in_place)


def test_the_same_command_prints_what_is_stored_and_another_adds(run: Path, family: Path) -> None:
    first = cutbert.search(run, **QUICK)
    before = (run / "front.json").read_bytes()
    assert cutbert.search(run, **QUICK).to_json() == first.to_json() and (run / "front.json").read_bytes() == before
    names = new_names(run, family)
    second = cutbert.search(run, **{**QUICK, "seed": 1})
    assert second["search"] != first["search"] and new_names(run, family)[: len(names)] == names
    all_names = [entry.name for entry in Front.load(run)]
    assert len(all_names) == len(set(all_names))


def test_dev_is_not_looked_at_while_searching(tmp_path: Path) -> None:
    """Two families that differ in dev's labels alone: the same networks are found, by the same scores."""
    found, lines = [], []
    for turned in (False, True):
        family = make_family(tmp_path / str(turned), turned=turned)
        found.append(cutbert.search(family, **QUICK, sample=5)["subnets"])
        lines.append((family / "searches" / "scores-5.jsonl").read_text().splitlines())
    same = ("name", "subnet", "select_score")
    one, other = ([[each[key] for key in same] for each in subnets] for subnets in found)
    assert one == other and lines[0] == lines[1]
    assert [each["score"] for each in found[0]] != [each["score"] for each in found[1]]
    assert len(lines[0]) == 16 and all(json.loads(line)["score"] in FIFTHS for line in lines[0])
    assert all(each["select_score"] * 16 % 1 == 0 for each in found[0])


def test_a_killed_search_ends_the_same(run: Path, family: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(family, tmp_path / "other"))
    straight = cutbert.search(other, **QUICK)
    with killed_as_it_says("search: 10/16"):
        cutbert.search(run, **QUICK)
    assert (run / "front.json").read_bytes() == (family / "front.json").read_bytes()
    scores = run / "searches" / "scores-all.jsonl"
    before = scores.read_text()
    again = cutbert.search(run, **QUICK)
    assert scores.read_text().startswith(before) and len(before.splitlines()) == 10
    assert len(scores.read_text().splitlines()) == 16, "no network is scored twice"
    kept = ("name", "subnet", "select_score", "score", "macs")
    assert [[each[key] for key in kept] for each in again["subnets"]] == [
        [each[key] for key in kept] for each in straight["subnets"]
    ]


def test_trained_for_some_steps_they_have_folders_of_their_own(run: Path, family: Path, tmp_path: Path) -> None:
    found = cutbert.search(run, **{**QUICK, "keep": 2}, train_steps=3, batch_size=8, precision="float32")
    front = Front.load(run)
    assert new_names(run, family) == [each["name"] for each in found["subnets"]]
    for name in new_names(run, family):
        entry = front[name]
        assert entry.folder == f"{found['search']}/networks/{name}" and entry.subnet.num_layers == len(
            entry.shape.layers
        )
        trained = load_model(run / entry.folder).model
        assert trained.shape == entry.shape
    log = [json.loads(line) for line in (run / found["search"] / "log.jsonl").read_text().splitlines()]
    last_steps = {line["stage"]: line["step"] for line in log}
    assert last_steps == dict.fromkeys(new_names(run, family), 3)
    assert not (run / found["search"] / "checkpoint").exists()
    cutbert.pick(run, max_macs=front[new_names(run, family)[0]].macs, out=tmp_path / "small")


def test_briefly_trained_is_another_network_than_cut(run: Path, family: Path) -> None:
    found = cutbert.search(run, **{**QUICK, "keep": 1}, train_steps=2, batch_size=8, precision="float32")
    name = found["subnets"][0]["name"]
    entry = Front.load(run)[name]
    supernet, trained = load_model(run).model, load_model(run / str(entry.folder)).model
    full = api.open_run(run).front
    assert trained.head_spec == supernet.head_spec and full[name].params == entry.params
    same = [each for each in full if each.shape == entry.shape and each.folder is None]
    for each in same:
        assert not torch.equal(extract(supernet, each.subnet)(IDS).logits, trained(IDS).logits)


def test_stock_only(run: Path, family: Path) -> None:
    found = cutbert.search(run, **QUICK, space="stock")
    front = Front.load(run)
    assert new_names(run, family) and all(front[name].shape.is_stock for name in new_names(run, family))
    assert all(Front.load(run)[each["name"]].shape.is_stock for each in found["subnets"])


def test_milliseconds_by_a_table_that_stays(run: Path, family: Path) -> None:
    found = cutbert.search(run, **QUICK, max_latency_ms=1000.0)
    path = run / "latency" / "torch-1.json"
    table = path.read_bytes()
    assert found["latency_error"] >= 0 and found["hypervolume"]["cost"] == "latency_ms"
    cutbert.search(run, **{**QUICK, "seed": 2}, max_latency_ms=1000.0)
    assert path.read_bytes() == table
    data = read_json(path)
    data["measured"]["machine"]["processor"] = "another"
    write_json(path, data)
    with pytest.raises(RunError, match=r"must be measured with processor .*, got another; --remeasure measures again"):
        cutbert.search(run, **{**QUICK, "seed": 3}, max_latency_ms=1000.0)
    cutbert.search(run, **{**QUICK, "seed": 3}, max_latency_ms=1000.0, allow_changed=True)
    cutbert.search(run, **{**QUICK, "seed": 4}, max_latency_ms=1000.0, remeasure=True)
    assert read_json(path)["measured"]["machine"]["processor"] != "another"


def test_another_backend_is_kept_beside(run: Path, family: Path) -> None:
    found = cutbert.search(run, **QUICK, max_latency_ms=1000.0, backend="onnx-int8")
    assert found["measured"]["backend"] == "onnx-int8" and all(each["latency_ms"] for each in found["subnets"])
    front, names = Front.load(run), new_names(run, family)
    assert front.measured and front.measured["backend"] == "torch"
    assert all(front[name].latency_ms is None for name in names), "not measured on torch"
    assert all(entry.latency_ms for entry in front.on("onnx-int8", run))
    assert cutbert.pick(run, max_latency_ms=1000.0, backend="onnx-int8").entry.latency_ms
    assert cutbert.pick(run, max_latency_ms=1000.0).entry.name not in names


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"max_macs": 3}, BudgetError, "no network of this space fits the limits: macs must be at most 3, got"),
        ({"max_latency_ms": 1e-6}, BudgetError, "no network of this space fits the limits: latency_ms must be at most"),
        ({"min_score": 1.0}, BudgetError, "no network within the limits was found in 16 trials"),
        ({"space": "all"}, InputError, "--space must be one of free, stock, got 'all'"),
        ({"cost": "bytes"}, InputError, "--cost must be one of macs, params, latency_ms, got 'bytes'"),
    ],
)
def test_refused(run: Path, options: dict[str, Any], kind: type[InputError], message: str) -> None:
    before = (run / "front.json").read_bytes()
    with pytest.raises(kind) as caught:
        cutbert.search(run, **{**QUICK, **options})
    assert str(caught.value).startswith(message)
    assert (run / "front.json").read_bytes() == before and not (run / "latency").exists()
    assert "min_score" in options or not (run / "searches").exists()


def test_wrong_runs_and_data(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = read_json(run / "run.json")
    write_json(run / "run.json", {**record, "command": "schubert"})
    with pytest.raises(RunError, match="must be a run of dynabert, which trains subnets of one network; got one of"):
        cutbert.search(run, **QUICK)
    own = {**record["settings"], "dynabert": {"objective": "mlm"}}
    write_json(run / "run.json", {**record, "settings": own})
    with pytest.raises(RunError, match=r"must be a run on a task to be searched, got one on plain text"):
        cutbert.search(run, **QUICK)
    facts = {**record["facts"], "data": {**record["facts"]["data"], "train.tsv": "0"}}
    write_json(run / "run.json", {**record, "facts": facts})
    with pytest.raises(RunError, match=r"data files must be those of the run, got others: .*train\.tsv"):
        cutbert.search(run, **QUICK)
    make_run(tmp_path / "unfinished", is_finished=False)
    assert main(["search", str(tmp_path / "unfinished")]) == 2
    assert main(["search", str(tmp_path / "nothing"), "--trials", "few"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and all(line.startswith("cutbert: error:") for line in said)


def test_on_the_command_line(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["search", str(run), "--trials", "16", "--keep", "4", "--threads", "1"]
    assert main([*words, "--json"]) == 0
    data = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert data.keys() >= {"trials", "subnets"} and data["subnets"][0].keys() >= {"name", "shape", "macs", "latency_ms"}
    assert main(words) == 0
    assert "16 networks scored on select; the best of these are now in the front of" in capsys.readouterr().out


def test_what_a_search_keeps_can_be_repaired(run: Path, family: Path, tmp_path: Path) -> None:
    """A repaired network has weights of its own, is closer to the supernet than its subnet, and can be picked."""
    found = cutbert.search(run, **QUICK, repair=True)
    front = Front.load(run)
    repaired = [entry for entry in front if entry.name.endswith(f"-repaired-{Path(found['search']).name[:4]}")]
    assert repaired and {entry.name for entry in repaired} <= {each["name"] for each in found["subnets"]}
    for entry in repaired:
        network = load_model(run / entry.folder).model
        assert network.shape == entry.shape and entry.search == found["search"] and entry.latency_ms
        assert read_json(run / "predictions" / f"{entry.name}.json")["select_score"] == entry.select_score
    with pytest.raises(InputError, match=r"^--repair must come without --train-steps$"):
        cutbert.search(run, **QUICK, repair=True, train_steps=2)


def test_a_pick_can_be_repaired(run: Path, family: Path, tmp_path: Path) -> None:
    """The folder holds the network that was scored; the run itself is only read."""
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    plain = cutbert.pick(run, max_macs=front_macs(run), out=tmp_path / "plain").to_json()
    picked = cutbert.pick(run, max_macs=front_macs(run), repair=True, out=tmp_path / "small")
    data = picked.to_json()
    assert data["name"] == plain["name"] and data["repair"].keys() == {
        "is_repaired", "kl_before", "kl_after", "score_before", "select_score_before",
    }  # fmt: skip
    assert (data["repair"]["score_before"], data["repair"]["select_score_before"]) == (
        plain["score"], plain["select_score"],
    )  # fmt: skip
    assert data["repair"]["is_repaired"] == (data["repair"]["kl_after"] < data["repair"]["kl_before"])
    logits = [load_model(tmp_path / name).model(IDS).logits for name in ("plain", "small")]
    assert torch.equal(*logits) != data["repair"]["is_repaired"]
    facts = read_json(tmp_path / "small" / "cutbert.json")
    assert facts["scores"]["accuracy"] == data["score"] and "--repair" in facts["commands"][-1]
    assert facts["score_interval"][0] <= data["score"] <= facts["score_interval"][1]
    uncut = facts["cut_from"]
    assert uncut == data["cut_from"] and uncut["difference"] == data["score"] - Front.load(run).teacher.score
    assert uncut["difference_interval"][0] <= uncut["difference"] <= uncut["difference_interval"][1]
    assert facts["max_length"] == read_json(run / "model" / "cutbert.json")["max_length"]
    assert "loss against the whole network on select" in str(picked)
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


def front_macs(run: Path) -> int:
    """Return multiply-adds that less than the whole network keeps to."""
    return max(entry.macs for entry in Front.load(run) if entry.macs < Front.load(run).teacher.macs)


def test_what_cannot_be_repaired_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"a repaired subnet must be smaller than its network, but \S+ is all of it"):
        front = Front.load(run)
        repair_pick(run, front, front["w1.0-d1.0"], None)
    record = read_json(run / "run.json")
    write_json(run / "run.json", {**record, "settings": {**record["settings"], "data": {"sequence_length": 64}}})
    with pytest.raises(RunError, match="must be a run on a task, whose data can be read again; got one on plain text"):
        cutbert.pick(run, max_macs=front_macs(run), repair=True)
    gone = {**record["settings"]["data"], "train": [str(tmp_path / "gone.tsv")]}
    write_json(run / "run.json", {**record, "settings": {**record["settings"], "data": gone}})
    with pytest.raises(InputError, match=r"gone\.tsv"):
        cutbert.pick(run, max_macs=front_macs(run), repair=True)
